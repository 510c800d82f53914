//! Which workflows the watcher looks at: those that are due, told by one statement for all of them.

use mathesis::cycle::StateName;
use mathesis::store::due;
use serde_json::json;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, candidates_win};

/// True when the poll would have the stage's workflow looked at.
async fn is_due(stage: &Stage) -> bool {
    let found = due::cycles(stage.pool(), &[stage.id(), 7_000]).await.expect("the poll asks");
    assert!(found.iter().all(|id| *id == stage.id()), "and no other workflow: {found:?}");
    !found.is_empty()
}

async fn its_watches_are_due(stage: &Stage) -> bool {
    let asked = due::standing_watches(
        stage.pool(),
        &[stage.id()],
        &[],
        stage.engine.now() + chrono::TimeDelta::minutes(1),
    )
    .await;
    !asked.expect("the poll asks").is_empty()
}

#[tokio::test]
async fn the_fiftieth_task_makes_a_workflow_due_and_its_trigger_ends_that() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 49, 7).await;
    assert!(!is_due(&stage).await, "49 of 50");
    stage.complete_tasks("fiftieth", 1, 7).await;
    assert!(is_due(&stage).await);
    assert_eq!(stage.watch().await, 1);
    assert!(!is_due(&stage).await, "its analysis runs");
}

#[tokio::test]
async fn a_test_is_due_with_each_report_and_with_its_last_until_the_look_is_taken() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    assert!(!is_due(&stage).await, "nobody holds a slot");
    let told = stage.assign("first", WAN).await;
    let other = stage.assign("first", NANO).await;
    assert!(!is_due(&stage).await, "nobody has reported");

    let attempts = [(WAN, told.version, 8), (NANO, other.version, 8)];
    stage.log(TaskRun::new("first", &attempts).events()).await;
    assert!(is_due(&stage).await, "a score is to be counted");
    stage.watch().await;
    assert!(!is_due(&stage).await, "it is counted");

    stage.assign("lost", WAN).await;
    let failed = json!({"type": "error", "task_id": "lost", "error": "no disk left"});
    stage.log(vec![failed]).await;
    assert!(is_due(&stage).await, "a slot is to be dealt again");
    stage.watch().await;
    assert!(!is_due(&stage).await);
}

#[tokio::test]
async fn a_complete_deck_stays_due_where_a_crash_came_before_its_look() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    stage.play_test("test", candidates_win).await;
    // The scores of one model are counted, and its look was not taken.
    let counted = "UPDATE deck_slots SET state = 'scored', score = 8 WHERE state = 'dealt'";
    stage.by_hand(counted).await;
    assert!(is_due(&stage).await);
    assert_eq!(stage.watch().await, 2, "each model takes its look");
    assert_ne!(stage.state().await, StateName::Testing);
}

#[tokio::test]
async fn a_standing_watch_is_due_when_it_is_missing_and_when_its_next_run_has_ended() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    stage.play_test("test", candidates_win).await;
    while stage.cycle().await.number == 1 {
        stage.watch().await;
        stage.work().await;
    }
    assert!(its_watches_are_due(&stage).await, "adopted versions are watched by nobody");
    mathesis::runtime::check_harm(&stage.engine, &stage.workflow).await.expect("the watches open");
    assert!(!its_watches_are_due(&stage).await);

    stage.clock.advance(chrono::TimeDelta::minutes(1));
    stage.log(TaskRun::new("later", &[(WAN, 2, 8)]).events()).await;
    assert!(its_watches_are_due(&stage).await, "its next run has ended");
}
