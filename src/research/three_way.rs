//! What a person changed in a text, what changed in it since, and where the two meet.

use diffy::{ConflictStyle, MergeOptions};
use serde::Serialize;

use super::diff::unified;

/// One document of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreeWay {
    /// Unified, from the base to the text as the person left it; empty where he changed nothing.
    pub mine: String,
    /// Unified, from the base to the active text; empty where nothing changed since.
    pub theirs: String,
    /// The text with both changes, and marks around each place where they meet.
    pub merged: String,
    /// How many places they meet at.
    pub overlaps: usize,
}

/// Compares a person's text and the active one with the text that both come from. Pure.
#[must_use]
pub fn three_way(name: &str, base: &str, mine: &str, theirs: &str) -> ThreeWay {
    let named = |whose: &str| format!("{name}\t{whose}");
    let merged =
        MergeOptions::new().set_conflict_style(ConflictStyle::Diff3).merge(base, mine, theirs);
    let (merged, overlaps) = match merged {
        Ok(merged) => (merged, 0),
        Err(marked) => {
            let overlaps = marked.lines().filter(|line| line.starts_with("<<<<<<< ")).count();
            (marked, overlaps)
        }
    };
    ThreeWay {
        mine: unified(base, mine, &named("base"), &named("mine")),
        theirs: unified(base, theirs, &named("base"), &named("theirs")),
        merged,
        overlaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_do_not_meet_are_merged() {
        let base = "one\ntwo\nthree\nfour\nfive\n";
        let shown = three_way(
            "research.md",
            base,
            "ONE\ntwo\nthree\nfour\nfive\n",
            "one\ntwo\nthree\nfour\nFIVE\n",
        );
        assert_eq!((shown.merged.as_str(), shown.overlaps), ("ONE\ntwo\nthree\nfour\nFIVE\n", 0));
        assert!(
            shown.mine.starts_with("--- research.md\tbase\n+++ research.md\tmine\n"),
            "{}",
            shown.mine
        );
        assert!(shown.mine.contains("-one\n+ONE\n") && !shown.mine.contains("FIVE"));
        assert!(shown.theirs.contains("-five\n+FIVE\n") && !shown.theirs.contains("ONE"));
    }

    #[test]
    fn changes_that_meet_are_marked() {
        let shown = three_way("research.md", "soft light\n", "hard light\n", "no light\n");
        insta::assert_snapshot!(shown.merged, @r"
        <<<<<<< ours
        hard light
        ||||||| original
        soft light
        =======
        no light
        >>>>>>> theirs
        ");
        assert_eq!(shown.overlaps, 1);
    }

    #[test]
    fn nothing_changed_since_is_said_by_an_empty_diff() {
        let shown = three_way("research.md", "soft\n", "hard\n", "soft\n");
        assert_eq!(
            (shown.theirs.as_str(), shown.merged.as_str(), shown.overlaps),
            ("", "hard\n", 0)
        );
    }
}
