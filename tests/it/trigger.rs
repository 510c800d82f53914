//! What opens an analysis, and which tasks its window takes.

use chrono::TimeDelta;
use mathesis::cycle::StateName;
use mathesis::runtime::{Operation, run_due_schedules};
use serde_json::json;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, candidates_win};

const IN_CYCLE_1: &str = "SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1";
const WAITING: &str = "SELECT count(*) FROM tasks WHERE analyzed_in_cycle IS NULL";

#[tokio::test]
async fn the_49th_task_does_nothing_and_the_50th_opens_the_analysis() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 49, 7).await;
    assert_eq!(stage.watch().await, 0);
    assert_eq!(stage.state().await, StateName::Collecting);
    assert!(stage.history(1).await.is_empty());

    stage.complete_tasks("fiftieth", 1, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.state().await, StateName::Analyzing);
    assert_eq!(stage.watch().await, 0, "once");
}

#[tokio::test]
async fn the_hourly_sweep_opens_what_no_watcher_saw() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(run_due_schedules(&stage.engine, &stage.worker).await.expect("schedules run"), 0);
    assert_eq!(stage.state().await, StateName::Collecting, "the hour has not come");

    stage.clock.advance(TimeDelta::hours(1));
    assert_eq!(run_due_schedules(&stage.engine, &stage.worker).await.expect("schedules run"), 1);
    assert_eq!(stage.state().await, StateName::Analyzing);
}

#[tokio::test]
async fn a_window_larger_than_the_trigger_takes_every_task() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 73, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.number(IN_CYCLE_1).await, 73);
}

#[tokio::test]
async fn tasks_completed_during_a_test_wait_for_the_next_window() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    stage.complete_tasks("meanwhile", 35, 7).await;
    stage.play_test("test", candidates_win).await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.number(WAITING).await, 55);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);

    assert_eq!(stage.watch().await, 1, "they open the next analysis by themselves");
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 2").await, 55);
    assert_eq!(stage.number(IN_CYCLE_1).await, 50, "the first window is what it was");
}

#[tokio::test]
async fn tasks_completed_during_a_hold_wait_for_the_next_window() {
    let stage = Stage::new().await;
    stage.complete_tasks("seed", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.please(Operation::Pause).await;
    stage.complete_tasks("held", 50, 7).await;
    assert_eq!(stage.watch().await, 0);
    assert_eq!((stage.number(IN_CYCLE_1).await, stage.number(WAITING).await), (50, 50));

    stage.please(Operation::Cancel).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.number(WAITING).await, 0);
}

#[tokio::test]
async fn abandoned_runs_do_not_count_while_errored_and_winnerless_ones_do() {
    let stage = Stage::new().await;
    let silent = (1..=10).map(|n| {
        json!({ "type": "task_started", "task_id": format!("silent-{n}"), "original_prompt": "…" })
    });
    stage.log(silent.collect()).await;
    stage.clock.advance(TimeDelta::hours(25));
    stage.complete_tasks("won", 40, 8).await;
    run_due_schedules(&stage.engine, &stage.worker).await.expect("schedules run");
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE ended_by = 'abandoned'").await, 10);
    assert_eq!(stage.state().await, StateName::Collecting, "ten of the fifty ended abandoned");

    stage.complete_tasks("winnerless", 5, 3).await;
    assert_eq!(stage.watch().await, 0);
    let errored = (1..=5)
        .map(|n| json!({ "type": "error", "task_id": format!("errored-{n}"), "error": "the pipeline fell over" }));
    stage.log(errored.collect()).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.number(IN_CYCLE_1).await, 50);
}

#[tokio::test]
async fn an_error_that_names_a_model_ends_no_run() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 49, 7).await;
    stage
        .log(vec![json!({ "type": "error", "task_id": "half", "error": "blurred", "model": WAN, "fault": "prompt" })])
        .await;
    assert_eq!(stage.watch().await, 0);
    stage.log(TaskRun::new("half", &[(NANO, 0, 7)]).events()).await;
    assert_eq!(stage.watch().await, 1, "its completion does");
}

#[tokio::test]
async fn imported_tasks_count_as_analysed_before() {
    let stage = Stage::new().await;
    stage.complete_tasks("imported", 60, 7).await;
    stage.by_hand("UPDATE tasks SET analyzed_in_cycle = 0").await;
    assert_eq!(stage.watch().await, 0);

    stage.complete_tasks("lived", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.number(IN_CYCLE_1).await, 50);
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 0").await, 60);
}
