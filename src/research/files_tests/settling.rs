//! A hand edit that a person ordered to be kept or replaced, under crashes and further edits.

use std::fs;

use proptest::prelude::*;

use super::super::settle::settle_in;
use super::super::*;
use super::stage::*;

const EDITED: [&str; 2] = ["Είσαι βοηθός.\r\n", "# Light\n\nmine, without an end"];

/// Version 1 on disk, and a person's edit of `research.md` over it.
fn edited() -> Stage {
    let stage = Stage::with_version_1();
    fs::write(stage.path("research.md"), EDITED[1]).unwrap();
    stage
}

fn order(version: i32, becomes: [&str; 2], edited: [&str; 2]) -> Settlement {
    Settlement {
        change_id: "conflict-1-1".into(),
        backup_name: "backup_20261122_100000".into(),
        edited: hashes_of(&texts(edited)),
        version,
        texts: texts(becomes),
        at: at(),
    }
}

/// The two ways out of [`edited`]: the edit becomes version 2, or version 1 is written over it.
fn ways() -> [(Settlement, [&'static str; 2]); 2] {
    [(order(2, EDITED, EDITED), EDITED), (order(1, OLD, EDITED), OLD)]
}

fn run(
    stage: &Stage,
    order: &Settlement,
    disturbance: Disturbance,
) -> (Result<Written, FilesError>, Vec<String>) {
    let mut script = Script::new(disturbance);
    let written = settle_in(&stage.config, MODEL, order, &mut script);
    (written, script.taken)
}

fn backed_up(stage: &Stage) -> [String; 2] {
    let file = |name| stage.content(&format!("backup_20261122_100000/{name}"));
    [file("activation.txt"), file("research.md")]
}

#[test]
fn either_way_ends_in_step_with_the_edited_bytes_in_the_backup() {
    for (order, becomes) in ways() {
        let stage = edited();
        let written = run(&stage, &order, Disturbance::None).0.unwrap();
        assert!(written.replaced || becomes == EDITED);
        assert!(written.backup_path.unwrap().ends_with("backup_20261122_100000"));
        assert_eq!([stage.content("activation.txt"), stage.content("research.md")], becomes);
        assert_eq!(backed_up(&stage), EDITED);
        assert_eq!(stage.standing(order.version, becomes), Standing::InStep);
    }
}

#[test]
fn a_crash_at_any_step_and_a_redo_end_as_if_nothing_had_happened() {
    for (order, becomes) in ways() {
        let undisturbed = edited();
        let (wanted, steps) = run(&undisturbed, &order, Disturbance::None);
        wanted.unwrap();
        assert!(steps.len() > 15, "{steps:?}");
        for (index, step) in steps.iter().enumerate() {
            let stage = edited();
            run(&stage, &order, Disturbance::Crash(index)).0.unwrap_err();
            // Each file is wholly the edited one or wholly the new one, and the edit is not lost.
            let found = [stage.content("activation.txt"), stage.content("research.md")];
            assert!(found == EDITED || found == becomes, "{step}");
            assert!(found == EDITED || backed_up(&stage) == EDITED, "{step}");
            let _ = run(&stage, &order, Disturbance::Crash(index / 2));
            let redone = settle(&stage.config, MODEL, &order).unwrap();
            assert!(redone.backup_path.unwrap().ends_with("backup_20261122_100000"), "{step}");
            assert_eq!(stage.everything(), undisturbed.everything(), "{step}");
            assert_eq!(stage.standing(order.version, becomes), Standing::InStep, "{step}");
            let again = settle(&stage.config, MODEL, &order).unwrap();
            assert!(again.backup_path.is_some(), "{step}: a redo after the end says the same");
            assert_eq!(stage.everything(), undisturbed.everything(), "{step}");
        }
    }
}

#[test]
fn files_that_changed_after_the_decision_are_left_alone() {
    for (order, _) in ways() {
        let stage = edited();
        fs::write(stage.path("research.md"), "mine, once more").unwrap();
        let before = stage.everything();
        assert_eq!(settle(&stage.config, MODEL, &order).unwrap_err().code(), "hand_edited");
        assert_eq!(stage.everything(), before);
    }
    // Put back by hand, there is no edit left that could be kept.
    let [(keep, _), _] = ways();
    let stage = edited();
    fs::write(stage.path("research.md"), OLD[1]).unwrap();
    let before = stage.everything();
    assert_eq!(settle(&stage.config, MODEL, &keep).unwrap_err().code(), "hand_edited");
    assert_eq!(stage.everything(), before);
}

#[test]
fn an_edit_during_the_settlement_is_never_overwritten() {
    let steps = run(&edited(), &ways()[1].0, Disturbance::None).1.len();
    for (order, _) in ways() {
        for index in 0..steps {
            for name in ["activation.txt", "research.md"] {
                let stage = edited();
                let _ = run(&stage, &order, Disturbance::Edit(index, stage.path(name)));
                let everything = stage.everything();
                let kept = everything.values().any(|bytes| bytes == b"mine");
                let taken = run(&edited(), &order, Disturbance::None).1.len();
                assert!(kept || index >= taken, "step {index} of {name}");
            }
        }
    }
}

#[test]
fn a_missing_file_is_on_record_as_missing_and_is_written() {
    let stage = edited();
    fs::remove_file(stage.path("activation.txt")).unwrap();
    let mut order = order(2, EDITED, EDITED);
    order.edited.activation = None;
    settle(&stage.config, MODEL, &order).unwrap();
    assert_eq!([stage.content("activation.txt"), stage.content("research.md")], EDITED);
    let backup = stage.path("backup_20261122_100000");
    assert!(!backup.join("activation.txt").exists());
    assert_eq!(fs::read_to_string(backup.join("research.md")).unwrap(), EDITED[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a person writes, whichever way out, wherever it crashes and whatever is edited on top:
    /// every text that ever stood in a file stands in a file or in a backup afterwards.
    #[test]
    fn no_byte_of_a_config_file_is_ever_lost(
        first in "[a-zα-ω\r\n\u{feff}]{0,40}",
        second in "[a-zα-ω\r\n]{0,40}",
        again in proptest::option::of("[a-z\n]{1,20}"),
        keeps_mine: bool,
        crash in 0_usize..40,
    ) {
        let mine = [first.as_str(), second.as_str()];
        let stage = Stage::with_version_1();
        fs::write(stage.path("activation.txt"), mine[0]).unwrap();
        fs::write(stage.path("research.md"), mine[1]).unwrap();
        let order = if keeps_mine { order(2, mine, mine) } else { order(1, OLD, mine) };
        let _ = run(&stage, &order, Disturbance::Crash(crash));
        if let Some(again) = &again {
            fs::write(stage.path("research.md"), again).unwrap();
        }
        let _ = settle(&stage.config, MODEL, &order);
        let everything = stage.everything();
        let stands = |text: &str| everything.values().any(|bytes| bytes == text.as_bytes());
        prop_assert!(stands(mine[0]), "the edited activation");
        // What the person overwrote himself before anything was backed up is his own to lose.
        prop_assert!(again.is_some() || stands(mine[1]), "the edited research");
        if let Some(again) = &again {
            prop_assert!(stands(again), "the second edit");
        }
    }
}
