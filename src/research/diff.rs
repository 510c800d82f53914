//! Unified diffs of texts and versions, for people and for `patch`.

use diffy::{DiffOptions, PatchFormatter};

use super::hash::Texts;

/// Lines of context around a change, as `diff -u` shows them.
const CONTEXT_LINES: usize = 3;

/// The unified diff from `old` to `new`, empty if they are equal. `patch` turns one into the other,
/// and with `--reverse` the other into the one, byte for byte.
///
/// Lines end at `\n` only: a carriage return is part of its line, as it is for `diff` and `patch`.
pub fn unified(old: &str, new: &str, name_old: &str, name_new: &str) -> String {
    if old == new {
        return String::new();
    }
    let patch = DiffOptions::new().set_context_len(CONTEXT_LINES).create_patch(old, new);
    // An empty line of context keeps its space, as `diff -u` writes it.
    let hunks = PatchFormatter::new().suppress_blank_empty(false).fmt_patch(&patch).to_string();
    // The crate would put a name with a tab in quotes, which `patch` reads as part of the name.
    let hunks = hunks.splitn(3, '\n').nth(2).unwrap_or_default();
    format!("--- {name_old}\n+++ {name_new}\n{hunks}")
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
    use proptest::prelude::*;
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
            let diff = unified(&old, &new, "f", "f");
            assert_eq!(patched(&old, &diff, &[]), new);
            assert_eq!(patched(&new, &diff, &["--reverse"]), old);
        }
    }

    /// Few different lines, so that many are equal and hunks meet, touch and repeat; with and without
    /// an end of the last line, with Windows ends, empty lines, and lines that look like a diff's own.
    fn text() -> impl Strategy<Value = String> {
        let line = prop::sample::select(vec![
            "",
            "a",
            "b",
            "γ",
            " ",
            "-a",
            "+b",
            "-- a",
            "++ b",
            "\\ No newline",
            "@@ -1 +1 @@",
            "\r",
            "a\r",
        ]);
        (prop::collection::vec(line, 0..24), any::<bool>())
            .prop_map(|(lines, ends)| lines.join("\n") + if ends { "\n" } else { "" })
    }

    fn backwards_and_forwards(old: &str, new: &str) -> Result<(), TestCaseError> {
        let diff = unified(old, new, "f\tversion 1", "f\tversion 2");
        if old == new {
            prop_assert_eq!(diff, "");
            return Ok(());
        }
        let patch = diffy::Patch::from_str(&diff).unwrap();
        prop_assert_eq!(diffy::apply(old, &patch).unwrap(), new);
        prop_assert_eq!(diffy::apply(new, &patch.reverse()).unwrap(), old);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn every_diff_applies_and_reverses(old in text(), new in text()) {
            backwards_and_forwards(&old, &new)?;
        }

        #[test]
        fn so_does_one_of_any_two_strings(old in any::<String>(), new in any::<String>()) {
            backwards_and_forwards(&old, &new)?;
        }
    }

    proptest! {
        // Each case starts two processes.
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn the_program_patch_reads_every_diff_alike(old in text(), new in text()) {
            let is_there = Command::new("patch").arg("--version").output().is_ok();
            // To `patch`, an empty file and none are the same.
            if is_there && old != new && !old.is_empty() && !new.is_empty() {
                let diff = unified(&old, &new, "f", "f");
                prop_assert_eq!(patched(&old, &diff, &[]), new.clone());
                prop_assert_eq!(patched(&new, &diff, &["--reverse"]), old);
            }
        }
    }

    fn patched(old: &str, diff: &str, options: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, old).unwrap();
        std::fs::write(folder.path().join("d"), diff).unwrap();
        let run = Command::new("patch")
            .args(["--binary", "-i", "d", "-o", "out", "f"])
            .args(options)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}\n{diff}", String::from_utf8_lossy(&run.stdout));
        std::fs::read_to_string(folder.path().join("out")).unwrap()
    }
}
