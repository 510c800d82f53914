//! SIGKILL in each state, before and after the checkpoint, on the real binary: the same end, the same
//! decks, one analysis, one backup.
//!
//! "Before the checkpoint" is made exact by a lock on the cycle's row held from outside: the server
//! has done the work and stands right before the commit when it is killed.

mod alarm;
mod backup;
mod conflict;
mod notify;
mod paused;
mod probation;

use crate::support::site::{Site, unlock, until};
use crate::support::stage::{NANO, WAN};

/// The undisturbed walk. Every kill must end in it.
const WALK: [&str; 7] =
    ["analyzing", "generating", "testing", "testing", "deciding", "applying", "applied"];

async fn started() -> Site {
    let site = Site::new().await;
    site.start().await;
    site
}

async fn in_testing() -> Site {
    let site = started().await;
    site.complete_tasks(1, 50).await;
    site.until_state("testing").await;
    site
}

/// Kills the server where it stands, starts it again, and lets it go on.
async fn kill_and_restart(site: &Site) {
    site.kill();
    site.start().await;
}

async fn ends_as_if_nothing_had_happened(site: &Site) {
    site.until_state("applied").await;
    assert_eq!(site.walk().await, WALK);
    assert_eq!(site.count("SELECT count(*) FROM analyses").await, 1, "one analysis");
    assert_eq!(site.count("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1").await, 50);
    assert_eq!(site.count("SELECT count(*) FROM cycles").await, 2, "the next cycle is open, once");
    assert_eq!(
        site.count("SELECT count(*) FROM prompt_versions").await,
        4,
        "one candidate a model"
    );
    assert_eq!(site.count("SELECT count(*) FROM deck_slots WHERE state = 'scored'").await, 40);
    assert_eq!(site.count("SELECT sum(version) FROM prompt_versions WHERE is_active").await, 4);
    let changes = "SELECT count(*) FROM config_changes WHERE kind = 'apply' AND status = 'done'";
    assert_eq!(site.count(changes).await, 2);
    for model in [WAN, NANO] {
        assert_eq!(site.backups(model), 1, "one backup of {model}");
    }
}

#[tokio::test]
async fn killed_in_collecting_before_the_checkpoint() {
    let site = started().await;
    site.complete_tasks(1, 49).await;
    let lock = site.lock_cycle().await;
    site.complete_tasks(50, 50).await;
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    site.until_state("testing").await;
    site.play_test(20).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!((site.analyses(), site.generations()), (1, 2));
}

#[tokio::test]
async fn killed_in_analyzing_inside_the_call() {
    let site = started().await;
    site.claude_hangs(true);
    site.complete_tasks(1, 50).await;
    site.until_asked(1, 0).await;
    site.claude_hangs(false);
    kill_and_restart(&site).await;
    site.until_state("testing").await;
    site.play_test(20).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!((site.analyses(), site.generations()), (2, 2), "once more, and no more");
    let lost = "SELECT count(*) FROM claude_call_outcomes WHERE status = 'lost' AND cost_estimated";
    assert_eq!(site.count(lost).await, 1, "the interrupted call is on record with its estimate");
}

#[tokio::test]
async fn told_to_stop_and_told_again_inside_the_call_it_ends_at_once_and_the_next_one_goes_on() {
    let site = started().await;
    site.claude_hangs(true);
    site.complete_tasks(1, 50).await;
    site.until_asked(1, 0).await;
    site.terminate();
    until("it heard the first", || async { site.log().contains("a second signal ends") }).await;
    site.terminate();
    assert_eq!(site.exit_code().await, Some(130));
    site.claude_hangs(false);
    site.start().await;
    site.until_state("testing").await;
    site.play_test(20).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!((site.analyses(), site.generations()), (2, 2), "once more, and no more");
}

#[tokio::test]
async fn killed_in_analyzing_before_the_checkpoint() {
    let site = started().await;
    site.claude_is_slow();
    site.complete_tasks(1, 50).await;
    site.until_asked(1, 0).await;
    let lock = site.lock_cycle().await;
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    site.until_state("testing").await;
    site.play_test(20).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!(site.analyses(), 1, "the answer on record was not paid for again");
}

#[tokio::test]
async fn killed_in_generating_inside_the_second_call() {
    let site = started().await;
    site.complete_tasks(1, 49).await;
    site.operate("pause").await;
    site.complete_tasks(50, 50).await;
    site.until_state("analyzing").await;
    site.operate("step").await;
    site.until_state("generating").await;
    site.claude_hangs(true);
    site.operate("resume").await;
    site.until_asked(1, 1).await;
    site.claude_hangs(false);
    kill_and_restart(&site).await;
    site.until_state("testing").await;
    site.play_test(20).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!((site.analyses(), site.generations()), (1, 3), "once more, and no more");
}

#[tokio::test]
async fn killed_in_testing_while_slots_are_dealt_and_scored() {
    let site = in_testing().await;
    let dealt = site.decks().await;
    site.play_test(7).await;
    kill_and_restart(&site).await;
    site.play_test(6).await;
    kill_and_restart(&site).await;
    site.play_test(7).await;
    ends_as_if_nothing_had_happened(&site).await;
    assert_eq!(site.decks().await, dealt, "the same decks");
}

#[tokio::test]
async fn killed_in_testing_before_the_look_is_committed() {
    let site = in_testing().await;
    site.play_test(19).await;
    let last = site.draw_slots(1).await;
    let lock = site.lock_cycle().await;
    for drawn in &last {
        site.report(drawn).await;
    }
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    ends_as_if_nothing_had_happened(&site).await;
}

/// A cycle that stands in Deciding, held, with its verdicts committed.
async fn held_in_deciding() -> Site {
    let site = in_testing().await;
    let drawn = site.draw_slots(20).await;
    site.operate("pause").await;
    for drawn in &drawn {
        site.report(drawn).await;
    }
    site.until_state("deciding").await;
    site
}

#[tokio::test]
async fn killed_in_deciding_after_the_checkpoint() {
    let site = held_in_deciding().await;
    kill_and_restart(&site).await;
    assert_eq!(site.state_of(1).await, "deciding", "the hold outlives the process");
    site.operate("resume").await;
    ends_as_if_nothing_had_happened(&site).await;
}

#[tokio::test]
async fn killed_in_deciding_before_the_checkpoint() {
    let site = held_in_deciding().await;
    let lock = site.lock_cycle().await;
    // Lifting the hold would wait for the lock, too; so it is lifted by hand.
    site.lift_holds().await;
    site.until_blocked().await;
    site.kill();
    unlock(lock).await;
    site.start().await;
    ends_as_if_nothing_had_happened(&site).await;
}

#[tokio::test]
async fn killed_in_applying_after_the_checkpoint() {
    let site = held_in_deciding().await;
    site.operate("step").await;
    site.until_state("applying").await;
    assert_eq!(site.backups(WAN), 0, "nothing was written yet");
    kill_and_restart(&site).await;
    site.operate("resume").await;
    ends_as_if_nothing_had_happened(&site).await;
}

#[tokio::test]
async fn killed_in_applying_before_the_checkpoint() {
    let site = held_in_deciding().await;
    site.operate("step").await;
    site.until_state("applying").await;
    let lock = site.lock_cycle().await;
    site.lift_holds().await;
    site.until_blocked().await;
    assert_eq!(site.backups(WAN), 1, "the files are written, the database does not know yet");
    site.kill();
    unlock(lock).await;
    site.start().await;
    ends_as_if_nothing_had_happened(&site).await;
}
