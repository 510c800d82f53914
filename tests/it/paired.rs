//! The guard `paired`: each task of a test is done under both versions.

use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::Assignment;
use mathesis::workflow::definition::GuardMode;
use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

/// A stage in Testing whose tasks are paired.
async fn paired_test() -> Stage {
    let stage = Stage::builder().definition(|d| d.guard.mode = GuardMode::Paired).build().await;
    stage.start_test("first").await;
    stage
}

/// The events of a task's attempt under one version.
fn leg(task: &str, model: &str, version: i32, score: i64) -> Vec<Value> {
    let event = |fields: Value| {
        let mut event = json!({ "task_id": task, "model": model, "leg": version });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        event
    };
    vec![
        event(json!({
            "type": "enhancement", "version": version, "original_prompt": "Άλλαξε το φόντο",
            "enhanced_prompt": format!("under version {version}")
        })),
        event(json!({ "type": "generation", "image_url": "https://images.example/1.png" })),
        event(json!({ "type": "validation", "score": score, "passed": score >= 8 })),
    ]
}

fn legs(task: &str, model: &str, told: &Assignment, old: i64, new: i64) -> Vec<Value> {
    let pair = told.pair.expect("a pair");
    let score = |version: i32| if version == 2 { new } else { old };
    let mut events = leg(task, model, told.version, score(told.version));
    events.extend(leg(task, model, pair, score(pair)));
    events
}

#[tokio::test]
async fn a_task_is_told_both_versions_and_told_the_same_again() {
    let stage = paired_test().await;
    let mut first_is_new = 0;
    for n in 1..=20 {
        let task = format!("pair-{n}");
        let told = stage.assign(&task, WAN).await;
        let mut both = [told.version, told.pair.expect("a pair")];
        first_is_new += usize::from(told.arm == Some(Arm::Candidate));
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
        assert_eq!(stage.assign(&task, WAN).await, told);
        let looked_up = stage.assigner.look_up(&stage.workflow, &task, "", WAN).await.unwrap();
        assert_eq!(looked_up, told);
    }
    assert!((1..20).contains(&first_is_new), "which one comes first is dealt, too");
    let next = stage.assign("pair-21", WAN).await;
    assert_eq!((next.version, next.arm, next.pair), (1, None, None), "twenty tasks, and no more");
}

#[tokio::test]
async fn twenty_pairs_are_decided_by_the_rule_and_the_legs_are_attempts_of_their_own() {
    let stage = paired_test().await;
    for n in 1..=20 {
        for model in [WAN, NANO] {
            let task = format!("pair-{n}");
            let told = stage.assign(&task, model).await;
            let (old, new) = if model == WAN { (6, 8) } else { (7, 7) };
            stage.log(legs(&task, model, &told, old + n % 2, new + n % 2)).await;
        }
    }
    assert_eq!(stage.watch().await, 2, "each model takes its look");
    let verdicts: Vec<(String, String, Option<i32>)> = stage
        .experiments(1)
        .await
        .into_iter()
        .map(|row| (row.model_name, row.status, row.candidate_count))
        .collect();
    assert_eq!(
        verdicts,
        [
            (NANO.to_owned(), "rejected".to_owned(), Some(20)),
            (WAN.to_owned(), "adopted".to_owned(), Some(20))
        ]
    );
    let rows = "SELECT count(*) FROM attempts WHERE version > 0 AND prompt_version = version";
    assert_eq!(stage.number(rows).await, 80, "two attempts a task and model");
    assert_eq!(stage.step().await, StateName::Applying, "the verdicts agree with the scores");
    assert_eq!(stage.step().await, StateName::Applied, "an adoption is final");
}

#[tokio::test]
async fn a_task_that_loses_one_leg_is_no_pair_and_both_slots_go_to_another() {
    let stage = paired_test().await;
    let told = stage.assign("lost", WAN).await;
    stage.log(leg("lost", WAN, told.version, 9)).await;
    stage.watch().await;
    let scored = "SELECT count(*) FROM deck_slots WHERE state = 'scored'";
    assert_eq!(stage.number(scored).await, 1);
    let error = json!({ "type": "error", "task_id": "lost", "model": WAN,
        "leg": told.pair, "error": "no picture came", "fault": "infrastructure" });
    stage.log(vec![error]).await;
    stage.watch().await;
    assert_eq!(stage.number(scored).await, 0, "neither counts");
    let next = stage.assign("next", WAN).await;
    assert_eq!((next.version, next.pair), (told.version, told.pair), "the same place in the deck");
}

#[tokio::test]
async fn a_leg_that_contradicts_its_version_is_refused() {
    let stage = paired_test().await;
    let mut events = leg("a", WAN, 2, 8);
    events[0]["version"] = json!(1);
    let report = stage.try_log(events).await;
    assert_eq!(report.rejected.len(), 1);
    let said = report.rejected[0].detail.clone();
    insta::assert_snapshot!(said, @"`leg` is 2 and `version` is 1; a leg is the attempt under its version");
}

fn winner(task: &str, leg: Option<i32>) -> Value {
    let mut event = json!({ "type": "winner", "task_id": task, "winner": WAN, "score": 9,
        "total_iterations": 1 });
    if let Some(leg) = leg {
        event["leg"] = json!(leg);
    }
    event
}

/// The legs that count as selected, by version.
async fn selected(stage: &Stage, task: &str) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT a.version FROM attempts a JOIN tasks t ON t.id = a.task_id
          WHERE t.clickup_task_id = $1 AND a.was_selected ORDER BY 1",
    )
    .bind(task)
    .fetch_all(stage.pool())
    .await
    .expect("the attempts read")
}

#[tokio::test]
async fn the_leg_that_won_is_the_selected_one_in_whatever_order_the_events_come() {
    let stage = paired_test().await;
    let both = |task: &str| [leg(task, WAN, 1, 7), leg(task, WAN, 2, 9)].concat();
    stage.log(both("after")).await;
    stage.log(vec![winner("after", Some(2))]).await;
    stage.log(vec![winner("before", Some(1))]).await;
    stage.log(both("before")).await;
    stage.log([both("together"), vec![winner("together", Some(2))]].concat()).await;
    assert_eq!(selected(&stage, "after").await, [2]);
    assert_eq!(selected(&stage, "before").await, [1]);
    assert_eq!(selected(&stage, "together").await, [2]);
    stage.log(both("unsaid")).await;
    stage.log(vec![winner("unsaid", None)]).await;
    assert_eq!(selected(&stage, "unsaid").await, [0; 0], "nobody said which, so neither is");
}

#[tokio::test]
async fn a_winner_has_one_leg_and_only_a_winner_has() {
    let stage = paired_test().await;
    stage.log(vec![winner("a", Some(2))]).await;
    let report = stage.try_log(vec![winner("a", Some(1))]).await;
    assert_eq!(report.rejected[0].code, "event_conflict");
    let nobody = json!({ "type": "winner", "task_id": "b", "winner": null, "total_iterations": 3, "leg": 2 });
    let no_version = winner("b", Some(0));
    for (event, code) in [(nobody, "unknown_field"), (no_version, "invalid_version")] {
        let report = stage.try_log(vec![event]).await;
        assert_eq!(report.rejected[0].code, code, "{:?}", report.rejected);
    }
}
