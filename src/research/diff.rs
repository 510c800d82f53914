//! Unified diffs of texts and versions, for people and for `patch`.

use std::fmt::Write as _;

use similar::TextDiff;

use super::hash::Texts;

/// Lines of context around a change, as `diff -u` shows them.
const CONTEXT_LINES: usize = 3;

/// The unified diff from `old` to `new`, empty if they are equal. `patch` turns one into the other,
/// byte for byte.
///
/// Lines end at `\n` only: a carriage return is part of its line, as it is for `diff` and `patch`.
pub fn unified(old: &str, new: &str, name_old: &str, name_new: &str) -> String {
    if old == new {
        return String::new();
    }
    let old_lines: Vec<&str> = old.split_inclusive('\n').collect();
    let new_lines: Vec<&str> = new.split_inclusive('\n').collect();
    let diff = TextDiff::from_slices(&old_lines, &new_lines);
    let mut out = format!("--- {name_old}\n+++ {name_new}\n");
    for hunk in diff.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let line: &str = change.value();
            let _ = write!(out, "{}{line}", change.tag());
            if !line.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
    out
}

/// The unified diff between two versions, one part a text that differs: `template.txt`,
/// `activation.txt`, `research.md`. Empty if all three are equal.
///
/// The version number stands where `diff` puts the time, after a tab, so `patch` run in a model's
/// folder finds the files by name.
pub fn version_diff(old: &Texts, new: &Texts, from: i32, to: i32) -> String {
    [
        ("template.txt", &old.template, &new.template),
        ("activation.txt", &old.activation, &new.activation),
        ("research.md", &old.research, &new.research),
    ]
    .into_iter()
    .map(|(name, old, new)| {
        unified(old, new, &format!("{name}\tversion {from}"), &format!("{name}\tversion {to}"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_version_diff_names_each_text_that_changed() {
        let old = Texts {
            template: "Rewrite: {{prompt}}\n".into(),
            activation: "Είσαι βοηθός.\nBe short.\n".into(),
            research: "# Light\n\nsoft\n".into(),
        };
        let new = Texts {
            activation: "Είσαι βοηθός.\nBe exact.".into(),
            research: "# Light\n\nsoft\n\n# Hands\n\nfive fingers\n".into(),
            ..old.clone()
        };
        insta::assert_snapshot!(version_diff(&old, &new, 3, 4).replace('\t', " "), @r"
        --- activation.txt version 3
        +++ activation.txt version 4
        @@ -1,2 +1,2 @@
         Είσαι βοηθός.
        -Be short.
        +Be exact.
        \ No newline at end of file
        --- research.md version 3
        +++ research.md version 4
        @@ -1,3 +1,7 @@
         # Light
         
         soft
        +
        +# Hands
        +
        +five fingers
        ");
    }

    #[test]
    fn equal_versions_have_no_diff() {
        let texts = Texts::default();
        assert_eq!(version_diff(&texts, &texts.clone(), 1, 2), "");
    }

    #[test]
    fn patch_turns_the_old_text_into_the_new_one() {
        if Command::new("patch").arg("--version").output().is_err() {
            eprintln!("SKIPPED: this machine has no `patch`, so the diff was not applied");
            return;
        }
        let long: String = (0..60).map(|n| format!("γραμμή {n}\n")).collect();
        let cases = [
            ("a\nb\nc\n".to_string(), "a\nB\nc\n".to_string()),
            ("no newline".into(), "no newline\n".into()),
            ("a\r\nb\r\n".into(), "a\r\nb\r\nc".into()),
            ("lone\rreturn\nx\n".into(), "lone\rreturn\ny\r".into()),
            (String::new(), "first\n".into()),
            (long.clone(), long.replace("γραμμή 7\n", "ἑπτά\n").replace("γραμμή 50\n", "")),
        ];
        for (old, new) in cases {
            assert_eq!(patched(&old, &unified(&old, &new, "f", "f")), new);
        }
    }

    fn patched(old: &str, diff: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, old).unwrap();
        std::fs::write(folder.path().join("d"), diff).unwrap();
        let run = Command::new("patch")
            .args(["--binary", "-i", "d", "f"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}\n{diff}", String::from_utf8_lossy(&run.stdout));
        std::fs::read_to_string(file).unwrap()
    }
}
