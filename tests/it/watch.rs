//! The standing watch over adopted versions: exactly once, whatever crashes, and what an alarm does.

use chrono::TimeDelta;
use mathesis::cycle::StateName;
use mathesis::runtime::check_harm;
use mathesis::store::watches::{self, WatchRow};
use mathesis::workflow::OnAlarm;
use mathesis::workflow::definition::GuardMode;
use serde_json::{Value, json};

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

/// A stage whose cycle adopted version 2 of both models, without a guard, and what an alarm does there.
async fn adopted(on_alarm: OnAlarm) -> Stage {
    let stage = Stage::builder()
        .definition(move |definition| {
            definition.trigger.tasks = 3;
            definition.guard.mode = GuardMode::Off;
            definition.watch.on_alarm = on_alarm;
        })
        .build()
        .await;
    stage.open_test().await;
    stage.play_test("test", |_, told| if told.version == 2 { 9 } else { 7 }).await;
    while stage.cycle().await.number == 1 {
        stage.watch().await;
        stage.work().await;
    }
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
    look(&stage).await;
    stage
}

/// One look of the standing watch; returns how many scores it took.
async fn look(stage: &Stage) -> u64 {
    check_harm(&stage.engine, &stage.workflow).await.expect("the watch goes on")
}

/// Tasks with the adopted version of one model, long enough ago that their commit is settled.
async fn score(stage: &Stage, prefix: &str, number: usize, score: i64) {
    stage.clock.advance(TimeDelta::seconds(1));
    let runs = (1..=number).map(|n| TaskRun::new(format!("{prefix}-{n}"), &[(NANO, 2, score)]));
    stage.log(runs.flat_map(|run| run.events()).collect()).await;
    stage.clock.advance(TimeDelta::seconds(20));
}

async fn watch_of(stage: &Stage, model: &str) -> WatchRow {
    let all = watches::list(stage.pool(), stage.id(), 10).await.expect("the watches read");
    all.into_iter().find(|watch| watch.model_name == model).expect("the model is watched")
}

async fn harm_holds(stage: &Stage) -> usize {
    let status = stage.status().await;
    status.holds.iter().filter(|hold| hold.code == "harm_alarm").count()
}

#[tokio::test]
async fn an_adoption_opens_one_watch_against_what_its_predecessor_scored() {
    let stage = adopted(OnAlarm::Tell).await;
    look(&stage.another().await).await;
    let all = watches::list(stage.pool(), stage.id(), 10).await.expect("the watches read");
    assert_eq!(all.len(), 2, "one a model, however often one looks");
    let watch = watch_of(&stage, NANO).await;
    assert_eq!((watch.cycle, watch.version), (1, 2));
    assert_eq!((watch.reference_sum, watch.reference_count), (70, 10));
    assert_eq!((watch.scores, watch.log_e), (0, 0.0), "the test's own scores are not taken");
}

#[tokio::test]
async fn every_score_counts_once_whoever_looks_and_in_whatever_portions() {
    let (stage, other) = {
        let stage = adopted(OnAlarm::Tell).await;
        let other = stage.another().await;
        (stage, other)
    };
    score(&stage, "a", 3, 6).await;
    let (here, there) = tokio::join!(look(&stage), look(&other));
    assert_eq!(here + there, 3, "each once between two replicas");
    score(&stage, "b", 2, 8).await;
    assert_eq!((look(&other).await, look(&stage).await), (2, 0));
    let watch = watch_of(&stage, NANO).await;
    assert_eq!((watch.scores, watch.score_sum), (5, 34));

    // What was taken in two portions is what one pass over all of it gives.
    sqlx::query(
        "UPDATE watches SET taken_at = opened_at, taken_task_id = 9223372036854775807, scores = 0,
                score_sum = 0, log_stakes = array_fill(0::float8, ARRAY[9]), log_e = 0",
    )
    .execute(stage.pool())
    .await
    .expect("the watches start over");
    assert_eq!(look(&stage).await, 5);
    let again = watch_of(&stage, NANO).await;
    assert_eq!((again.log_e, again.log_stakes), (watch.log_e, watch.log_stakes));
}

#[tokio::test]
async fn a_commit_that_fails_takes_nothing_and_the_next_look_takes_all() {
    let stage = adopted(OnAlarm::Hold).await;
    score(&stage, "bad", 30, 1).await;
    sqlx::query("ALTER TABLE watches ADD CONSTRAINT broken CHECK (scores = 0)")
        .execute(stage.pool())
        .await
        .expect("the table takes the constraint");
    check_harm(&stage.engine, &stage.workflow).await.expect_err("the batch cannot be stored");
    assert_eq!(harm_holds(&stage).await, 0, "the hold went with the rest");
    assert_eq!(watch_of(&stage, NANO).await.alarmed_at, None);
    sqlx::query("ALTER TABLE watches DROP CONSTRAINT broken")
        .execute(stage.pool())
        .await
        .expect("the constraint goes");
    assert_eq!(look(&stage).await, 30);
    assert_eq!(harm_holds(&stage).await, 1);
}

#[tokio::test]
async fn a_run_is_taken_when_it_has_ended_and_those_after_it_wait_for_it() {
    let stage = adopted(OnAlarm::Tell).await;
    stage.clock.advance(TimeDelta::seconds(1));
    let slow = TaskRun::new("slow", &[(NANO, 2, 4)]).events();
    let (end, begun) = slow.split_last().expect("a run has events");
    stage.log(begun.to_vec()).await;
    score(&stage, "quick", 1, 9).await;
    assert_eq!(look(&stage).await, 0);
    stage.log(vec![end.clone()]).await;
    assert_eq!(look(&stage).await, 2);
}

#[tokio::test]
async fn what_the_prompt_broke_counts_as_nothing_and_what_the_machine_broke_not_at_all() {
    let stage = adopted(OnAlarm::Tell).await;
    stage.clock.advance(TimeDelta::seconds(1));
    for (task, fault) in [("broken", "prompt"), ("unlucky", "infrastructure")] {
        let error: Value = json!({ "type": "error", "task_id": task, "model": NANO, "error": "it broke", "fault": fault });
        let mut events = TaskRun::new(task, &[(NANO, 2, 0)]).events();
        events.retain(|event| event["type"] != "validation" && event["type"] != "generation");
        events.insert(2, error);
        stage.log(events).await;
    }
    stage.clock.advance(TimeDelta::seconds(20));
    assert_eq!(look(&stage).await, 1);
    let watch = watch_of(&stage, NANO).await;
    assert_eq!((watch.scores, watch.score_sum), (1, 0));
    assert!(watch.log_e > 0.0);
}

#[tokio::test]
async fn the_alarm_rings_once_and_tells() {
    let stage = adopted(OnAlarm::Tell).await;
    score(&stage, "bad", 30, 2).await;
    look(&stage).await;
    let rung = watch_of(&stage, NANO).await;
    assert!(rung.log_e >= 20.0_f64.ln() && rung.alarmed_at.is_some(), "{rung:?}");
    score(&stage, "worse", 5, 0).await;
    look(&stage).await;
    assert_eq!(watch_of(&stage, NANO).await.alarmed_at, rung.alarmed_at);
    assert_eq!(harm_holds(&stage).await, 0);
    assert_eq!(watch_of(&stage, WAN).await.alarmed_at, None);
}

#[tokio::test]
async fn an_alarm_holds_the_cycle_if_the_workflow_says_so_and_resume_lifts_it_for_good() {
    let stage = adopted(OnAlarm::Hold).await;
    score(&stage, "bad", 30, 2).await;
    look(&stage).await;
    assert_eq!(harm_holds(&stage).await, 1);
    stage.operate(mathesis::runtime::Operation::Resume).await.expect("a person goes on");
    score(&stage, "worse", 5, 0).await;
    look(&stage).await;
    assert_eq!(harm_holds(&stage).await, 0, "it rang once");
}

#[tokio::test]
async fn an_alarm_puts_the_predecessor_back_if_the_workflow_says_so_once() {
    let stage = adopted(OnAlarm::RollBack).await;
    score(&stage, "bad", 30, 2).await;
    look(&stage).await;
    look(&stage.another().await).await;
    while stage.active_version(NANO).await == 2 {
        stage.work().await;
    }
    look(&stage).await;
    assert_eq!(stage.active_version(NANO).await, 1);
    assert_eq!(stage.active_version(WAN).await, 2, "the other model is left alone");
    let watch = watch_of(&stage, NANO).await;
    assert_eq!(watch.ended_because.as_deref(), Some("replaced"));
    let asked: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM config_changes WHERE kind = 'roll_back' AND model_name = $1",
    )
    .bind(NANO)
    .fetch_one(stage.pool())
    .await
    .expect("the changes count");
    assert_eq!(asked, 1, "asked for once, by whichever replica looked");
}

#[tokio::test]
async fn another_judge_ends_the_watch_and_its_score_is_not_taken() {
    let stage = adopted(OnAlarm::Tell).await;
    stage.clock.advance(TimeDelta::seconds(1));
    let mut events = TaskRun::new("judged", &[(NANO, 2, 0)]).events();
    for event in events.iter_mut().filter(|event| event["type"] == "validation") {
        event["judge"] = json!({ "model": "another", "prompt_version": "2" });
    }
    stage.log(events).await;
    stage.clock.advance(TimeDelta::seconds(20));
    look(&stage).await;
    let watch = watch_of(&stage, NANO).await;
    assert_eq!(watch.ended_because.as_deref(), Some("judge_changed"));
    assert_eq!((watch.scores, watch.log_e), (0, 0.0));
    score(&stage, "later", 3, 1).await;
    assert_eq!(look(&stage).await, 0);
}
