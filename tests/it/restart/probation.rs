//! SIGKILL around a probation that fails, before and after each checkpoint of the way from Applying over Probation
//! and Reverting to RolledBack: the files and versions of before the adoption, byte for byte, and beside them every
//! row, backup and marker that an undisturbed run leaves.

use std::collections::BTreeMap;

use tokio::sync::OnceCell;

use super::kill_and_restart;
use crate::support::Record;
use crate::support::site::{Drawn, Site, unlock, until};
use crate::support::stage::{NANO, WAN};

/// The undisturbed walk of a cycle whose adoptions both fail their probation.
const WALK: [&str; 10] = [
    "analyzing",
    "generating",
    "testing",
    "testing",
    "deciding",
    "applying",
    "probation",
    "probation",
    "reverting",
    "rolled_back",
];

/// So many that the runs of the test and of the probation open no second analysis.
const TRIGGER: usize = 120;

/// Documents and versions as they were before any cycle.
struct Before {
    files: BTreeMap<String, Vec<u8>>,
    versions: String,
}

async fn in_testing() -> (Site, Before) {
    let site = Site::guarded_by("probation").await;
    site.open_analyses_after(TRIGGER);
    site.start().await;
    let before = Before { files: site.documents(), versions: site.first_versions().await };
    site.complete_tasks(1, TRIGGER).await;
    site.until_state("testing").await;
    (site, before)
}

async fn in_probation() -> (Site, Before) {
    let (site, before) = in_testing().await;
    site.play_test_in_turn().await;
    site.until_state("probation").await;
    (site, before)
}

/// A probation that lacks one score of each model; the two that hold the last slots, Wan's first.
async fn before_the_last_scores() -> (Site, Before, Drawn, Drawn) {
    let (site, before) = in_probation().await;
    site.play_regressing(19).await;
    let mut last = site.draw_slots(1).await;
    let (second, first) = (last.pop().expect("nano's"), last.pop().expect("wan's"));
    (site, before, first, second)
}

/// A probation in which Wan's look is taken, so that nano's is the one that leads to Reverting.
async fn before_the_last_look() -> (Site, Before, Drawn) {
    let (site, before, first, second) = before_the_last_scores().await;
    site.report_regressing(&first).await;
    site.until_decided(1).await;
    (site, before, second)
}

/// What a run that nobody disturbs leaves behind.
async fn undisturbed() -> &'static Record {
    static RECORD: OnceCell<Record> = OnceCell::const_new();
    RECORD
        .get_or_init(|| async {
            let (site, before, last) = before_the_last_look().await;
            site.report_regressing(&last).await;
            site.until_state("rolled_back").await;
            assert_eq!(site.documents(), before.files);
            site.record().await
        })
        .await
}

async fn ends_as_if_nothing_had_been_adopted(site: &Site, before: &Before) {
    site.until_state("rolled_back").await;
    assert_eq!(site.walk().await, WALK);
    assert_eq!(site.documents(), before.files, "the files, byte for byte");
    assert_eq!(site.first_versions().await, before.versions, "the versions, byte for byte");
    assert_eq!(site.count("SELECT count(*) FROM cycles").await, 2, "the next cycle is open, once");
    let slots = "SELECT count(*) FROM deck_slots WHERE phase = 'probation' AND state = 'scored'";
    assert_eq!(site.count(slots).await, 40, "one deck of twenty a model");
    let regressed = "SELECT count(*) FROM probations WHERE status = 'regressed'";
    assert_eq!(site.count(regressed).await, 2);
    for kind in ["apply", "revert"] {
        assert_eq!(site.changes_done(kind).await, 2, "{kind}");
    }
    for model in [WAN, NANO] {
        assert_eq!(site.backups(model), 2, "one backup of {model} a change");
    }
    site.record().await.assert_is(undisturbed().await);
}

#[tokio::test]
async fn killed_in_applying_before_the_probation_opens() {
    let (site, before) = in_testing().await;
    let first_files = site.lock_files(WAN);
    site.play_test_in_turn().await;
    site.until_state("applying").await;
    let lock = site.lock_cycle().await;
    drop(first_files);
    site.until_blocked().await;
    assert_ne!(site.documents(), before.files, "the files are written");
    site.kill();
    unlock(lock).await;
    site.start().await;
    site.until_state("probation").await;
    one_after_the_other(&site).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

/// Fills both probation decks, Wan's first.
async fn one_after_the_other(site: &Site) {
    for (ordinal, drawn) in (1..).zip(site.draw_slots(20).await.chunks(20)) {
        for drawn in drawn {
            site.report_regressing(drawn).await;
        }
        site.until_decided(ordinal).await;
    }
}

#[tokio::test]
async fn killed_in_probation_right_after_it_opened() {
    let (site, before) = in_probation().await;
    kill_and_restart(&site).await;
    one_after_the_other(&site).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_probation_while_slots_are_dealt_and_scored() {
    let (site, before) = in_probation().await;
    let dealt = site.decks().await;
    site.play_regressing(7).await;
    kill_and_restart(&site).await;
    let drawn = site.draw_slots(5).await;
    kill_and_restart(&site).await;
    for drawn in &drawn {
        site.report_regressing(drawn).await;
    }
    site.play_regressing(7).await;
    for drawn in &site.draw_slots(1).await {
        site.report_regressing(drawn).await;
        site.until_decided(1).await;
    }
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
    assert_eq!(site.decks().await, dealt, "the same decks");
}

#[tokio::test]
async fn killed_in_probation_before_the_first_look_is_committed() {
    let (site, before, first, second) = before_the_last_scores().await;
    let lock = site.lock_cycle().await;
    site.report_regressing(&first).await;
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    site.until_decided(1).await;
    site.report_regressing(&second).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_probation_after_the_first_look_is_committed() {
    let (site, before, last) = before_the_last_look().await;
    kill_and_restart(&site).await;
    site.report_regressing(&last).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_probation_before_the_look_that_puts_back_is_committed() {
    let (site, before, last) = before_the_last_look().await;
    let lock = site.lock_cycle().await;
    site.report_regressing(&last).await;
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_reverting_before_any_file_is_written() {
    let (site, before, last) = before_the_last_look().await;
    let folders = [site.lock_files(WAN), site.lock_files(NANO)];
    let adopted = site.documents();
    site.report_regressing(&last).await;
    site.until_state("reverting").await;
    site.kill();
    assert_eq!(site.documents(), adopted, "no file is written yet");
    drop(folders);
    site.start().await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_reverting_with_one_models_files_written_and_the_others_not() {
    let (site, before, last) = before_the_last_look().await;
    let second = site.lock_files(NANO);
    let adopted = site.documents();
    site.report_regressing(&last).await;
    let of = |model: &str, all: &BTreeMap<String, Vec<u8>>| {
        all.iter()
            .filter(|(name, _)| name.starts_with(model))
            .map(|(_, bytes)| bytes.clone())
            .collect::<Vec<_>>()
    };
    let wans = of(WAN, &before.files);
    until("wan's files are back", || async { of(WAN, &site.documents()) == wans }).await;
    site.kill();
    assert_eq!(of(NANO, &site.documents()), of(NANO, &adopted), "nano's are not");
    drop(second);
    site.start().await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_reverting_with_the_files_written_and_the_database_not_told() {
    let (site, before, last) = before_the_last_look().await;
    let before_the_look = site.lock_cycle().await;
    site.report_regressing(&last).await;
    site.until_blocked().await;
    // The next lock waits in line behind the server's, and is had right after its commit.
    let (before_the_end, ()) = tokio::join!(site.lock_cycle(), async {
        site.until_blocked_are(2).await;
        unlock(before_the_look).await;
    });
    assert_eq!(site.state_of(1).await, "reverting");
    site.until_blocked().await;
    assert_eq!(site.documents(), before.files, "the old version is in the files again");
    let adopted = "SELECT count(*) FROM prompt_versions WHERE is_active AND version = 2";
    assert_eq!(site.count(adopted).await, 2, "and the database does not know yet");
    site.kill();
    unlock(before_the_end).await;
    site.start().await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_after_it_was_rolled_back() {
    let (site, before, last) = before_the_last_look().await;
    site.report_regressing(&last).await;
    site.until_state("rolled_back").await;
    kill_and_restart(&site).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_at_any_moment_of_the_way_back() {
    let (site, before, last) = before_the_last_look().await;
    site.report_regressing(&last).await;
    // Wherever it stands by now: before the look, in Reverting, or done.
    for _ in 0..3 {
        kill_and_restart(&site).await;
    }
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}
