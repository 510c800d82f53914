//! SIGKILL around a probation that fails: the same decks, the same scores, and the files and the
//! database as they were before the adoption, byte for byte.

use std::collections::BTreeMap;

use super::kill_and_restart;
use crate::support::site::{Site, unlock};
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

/// A site whose server is started, with its documents and versions as they were before any cycle.
async fn started() -> (Site, Before) {
    let site = Site::guarded_by("probation").await;
    site.start().await;
    let before = Before { files: site.documents(), versions: site.first_versions().await };
    site.complete_tasks(1, 50).await;
    site.until_state("testing").await;
    (site, before)
}

struct Before {
    files: BTreeMap<String, Vec<u8>>,
    versions: String,
}

async fn in_probation() -> (Site, Before) {
    let (site, before) = started().await;
    site.play_test(20).await;
    site.until_state("probation").await;
    (site, before)
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
}

#[tokio::test]
async fn killed_in_applying_before_the_probation_opens() {
    let (site, before) = started().await;
    let drawn = site.draw_slots(20).await;
    site.operate("pause").await;
    for drawn in &drawn {
        site.report(drawn).await;
    }
    site.until_state("deciding").await;
    site.operate("step").await;
    site.until_state("applying").await;
    let lock = site.lock_cycle().await;
    site.lift_holds().await;
    site.until_blocked().await;
    assert_ne!(site.documents(), before.files, "the files are written");
    site.kill();
    unlock(lock).await;
    site.start().await;
    site.until_state("probation").await;
    site.play_regressing(20).await;
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
    site.play_regressing(8).await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
    assert_eq!(site.decks().await, dealt, "the same decks");
}

#[tokio::test]
async fn killed_in_probation_before_the_look_is_committed() {
    let (site, before) = in_probation().await;
    site.play_regressing(19).await;
    let last = site.draw_slots(1).await;
    let lock = site.lock_cycle().await;
    for drawn in &last {
        site.report_regressing(drawn).await;
    }
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}

#[tokio::test]
async fn killed_in_reverting_with_the_files_written_and_the_database_not_told() {
    let (site, before) = in_probation().await;
    site.play_regressing(19).await;
    let last = site.draw_slots(1).await;
    // The first model's look is taken, so that the second one's is the one that leads to Reverting.
    let (first, second) = last.split_at(1);
    site.report_regressing(&first[0]).await;
    site.until_decided(1).await;
    let before_the_look = site.lock_cycle().await;
    site.report_regressing(&second[0]).await;
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
async fn killed_at_any_moment_of_the_way_back() {
    let (site, before) = in_probation().await;
    site.play_regressing(19).await;
    for drawn in &site.draw_slots(1).await {
        site.report_regressing(drawn).await;
    }
    // Wherever it stands by now: before the look, in Reverting, or done.
    for _ in 0..3 {
        kill_and_restart(&site).await;
    }
    ends_as_if_nothing_had_been_adopted(&site, &before).await;
}
