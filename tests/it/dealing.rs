//! The rulings "Dealing and scoring", a test a row.

mod candidates;
mod scores;
mod together;

use chrono::Duration;
use mathesis::cycle::StateName;
use mathesis::runtime::{AssignError, Assignment, run_due_schedules};
use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::stage::{NANO, WAN, testing_stage};

fn enhanced(task: &str, model: &str, version: i32) -> Value {
    let mut event = json!({
        "type": "enhancement", "task_id": task, "model": model,
        "original_prompt": "Λευκό φόντο", "enhanced_prompt": "White background."
    });
    if version > 0 {
        event["version"] = json!(version);
    }
    event
}

fn scored(task: &str, model: &str, score: i64) -> Value {
    json!({ "type": "validation", "task_id": task, "model": model, "score": score, "passed": score >= 8 })
}

fn again(mut event: Value, iteration: i32) -> Value {
    event["iteration"] = json!(iteration);
    event
}

fn failed(task: &str, model: Option<&str>, fault: Option<&str>) -> Value {
    let mut event = json!({ "type": "error", "task_id": task, "error": "it broke" });
    if let Some(model) = model {
        event["model"] = json!(model);
    }
    if let Some(fault) = fault {
        event["fault"] = json!(fault);
    }
    event
}

/// A slot of a deck, as the table holds it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Slot {
    slot: i32,
    block: i32,
    arm: String,
    state: String,
    clickup_task_id: Option<String>,
    score: Option<i32>,
    frozen: bool,
}

async fn deck(stage: &Stage, model: &str) -> Vec<Slot> {
    sqlx::query_as(
        "SELECT slot, block, arm, state, clickup_task_id, score, frozen FROM deck_slots
          WHERE workflow_id = $1 AND cycle = 1 AND model_name = $2 ORDER BY slot",
    )
    .bind(stage.id())
    .bind(model)
    .fetch_all(stage.pool())
    .await
    .expect("the deck reads")
}

/// State and score of the slot that a task holds; none when it holds none.
async fn held(stage: &Stage, task: &str) -> Option<(String, Option<i32>)> {
    let deck = deck(stage, WAN).await;
    let slot = deck.into_iter().find(|slot| slot.clickup_task_id.as_deref() == Some(task))?;
    Some((slot.state, slot.score))
}

/// Why a task lost its slot, and the score that came too late.
async fn lost(stage: &Stage, task: &str) -> (Option<String>, Option<i32>) {
    sqlx::query_as(
        "SELECT lost_because, late_score FROM assignments
          WHERE workflow_id = $1 AND clickup_task_id = $2 AND model_name = $3",
    )
    .bind(stage.id())
    .bind(task)
    .bind(WAN)
    .fetch_one(stage.pool())
    .await
    .expect("the assignment is there")
}

fn is(state: &str, score: Option<i32>) -> Option<(String, Option<i32>)> {
    Some((state.to_owned(), score))
}

async fn play(
    stage: &Stage,
    task: &str,
    model: &str,
    score: impl Fn(&Assignment) -> i64,
) -> Assignment {
    let told = stage.assign(task, model).await;
    stage.log(vec![enhanced(task, model, told.version), scored(task, model, score(&told))]).await;
    told
}

fn better(told: &Assignment) -> i64 {
    if told.version == 2 { 9 } else { 7 }
}

async fn verdict(stage: &Stage, model: &str) -> (String, Option<String>) {
    sqlx::query_as(
        "SELECT status, reason FROM experiments WHERE workflow_id = $1 AND cycle = 1 AND model_name = $2",
    )
    .bind(stage.id())
    .bind(model)
    .fetch_one(stage.pool())
    .await
    .expect("the experiment is there")
}

#[tokio::test]
async fn the_first_call_deals_and_every_other_call_repeats_it() {
    let stage = testing_stage().await;
    let first = stage.assign("a", WAN).await;
    assert_eq!((first.cycle, first.arm.is_some()), (Some(1), true));
    assert_eq!(stage.assign("a", WAN).await, first);
    assert_eq!(stage.another().await.assign("a", WAN).await, first);
    let dealt = deck(&stage, WAN).await.iter().filter(|slot| slot.state == "dealt").count();
    assert_eq!(dealt, 1);
}

#[tokio::test]
async fn a_deck_is_ten_and_ten_in_blocks_of_four() {
    let stage = testing_stage().await;
    for model in [WAN, NANO] {
        let deck = deck(&stage, model).await;
        assert_eq!(deck.len(), 20);
        for (number, block) in (1..).zip(deck.chunks(4)) {
            assert!(block.iter().all(|slot| slot.block == number && slot.state == "open"));
            assert_eq!(block.iter().filter(|slot| slot.arm == "control").count(), 2);
        }
    }
    let arms = |deck: Vec<Slot>| deck.into_iter().map(|slot| slot.arm).collect::<Vec<_>>();
    assert_ne!(
        arms(deck(&stage, WAN).await),
        arms(deck(&stage, NANO).await),
        "each model has a deck of its own"
    );
}

#[tokio::test]
async fn twenty_tasks_get_the_deck_in_order_and_the_next_one_the_active_version() {
    let stage = testing_stage().await;
    let mut told = Vec::new();
    for n in 1..=20 {
        told.push(stage.assign(&format!("t{n}"), WAN).await);
    }
    let arms: Vec<String> =
        told.iter().filter_map(|told| told.arm).map(|arm| arm.as_str().to_owned()).collect();
    let dealt: Vec<String> = deck(&stage, WAN).await.into_iter().map(|slot| slot.arm).collect();
    assert_eq!(arms, dealt);
    assert!(told.iter().all(|told| told.version
        == if told.arm.is_some_and(|arm| arm.as_str() == "candidate") { 2 } else { 1 }));
    let next = stage.assign("t21", WAN).await;
    assert_eq!((next.version, next.arm, next.cycle), (1, None, None));
}

#[tokio::test]
async fn a_run_that_has_begun_already_gets_no_slot() {
    let stage = testing_stage().await;
    stage.log(vec![enhanced("late", WAN, 0)]).await;
    let told = stage.assign("late", WAN).await;
    assert_eq!((told.version, told.arm), (1, None));
    assert!(
        stage.assign("late", NANO).await.arm.is_some(),
        "it has not begun with the other model"
    );
    stage
        .log(vec![json!({ "type": "task_started", "task_id": "early", "original_prompt": "p" })])
        .await;
    assert!(stage.assign("early", WAN).await.arm.is_some(), "starting the task is no attempt");
}

#[tokio::test]
async fn another_run_of_the_same_task_is_another_key() {
    let stage = testing_stage().await;
    stage.assign("a", WAN).await;
    let second = stage.assigner.assign(&stage.workflow, "a", "2", WAN).await.expect("an answer");
    assert!(second.arm.is_some());
    assert_eq!(deck(&stage, WAN).await.iter().filter(|slot| slot.state == "dealt").count(), 2);
}

#[tokio::test]
async fn after_the_test_holders_keep_their_answer_and_everybody_else_the_version_of_their_call() {
    let stage = testing_stage().await;
    let mut holders = Vec::new();
    for n in 1..=20 {
        let task = format!("t{n}");
        holders.push((task.clone(), play(&stage, &task, WAN, better).await));
        play(&stage, &task, NANO, better).await;
    }
    let pinned = stage.assign("outsider", WAN).await;
    assert_eq!((pinned.version, pinned.arm), (1, None));
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(stage.assign("new", WAN).await.version, 2, "the adopted version serves");
    for replica in [&stage, &stage.another().await] {
        assert_eq!(replica.assign("outsider", WAN).await, pinned);
        for (task, told) in &holders {
            assert_eq!(&replica.assign(task, WAN).await, told);
        }
    }
}

#[tokio::test]
async fn a_pin_from_before_the_test_holds_through_it_and_through_a_restart() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    let pinned = stage.assign("early", WAN).await;
    assert_eq!((pinned.version, pinned.arm), (1, None));
    stage.open_test().await;
    assert_eq!(
        stage.assign("early", WAN).await,
        pinned,
        "a pin still waiting to be written holds, too"
    );
    stage.assigner.write_pins().await.expect("the pins are written");
    assert_eq!(stage.another().await.assign("early", WAN).await, pinned);
    assert!(deck(&stage, WAN).await.iter().all(|slot| slot.state == "open"));
}

#[tokio::test]
async fn looking_up_deals_nothing() {
    let stage = testing_stage().await;
    let seen = stage.assigner.look_up(&stage.workflow, "a", "", WAN).await.expect("an answer");
    assert_eq!((seen.version, seen.arm), (1, None));
    assert!(deck(&stage, WAN).await.iter().all(|slot| slot.state == "open"));
    let told = stage.assign("a", WAN).await;
    assert!(told.arm.is_some(), "the look left no pin");
    let seen = stage.assigner.look_up(&stage.workflow, "a", "", WAN).await.expect("an answer");
    assert_eq!(seen, told);
}

#[tokio::test]
async fn an_unknown_model_and_an_impossible_id_are_told() {
    let stage = testing_stage().await;
    let ask = |task: &'static str, model: &'static str| {
        let stage = &stage;
        async move {
            stage.assigner.assign(&stage.workflow, task, "", model).await.expect_err("a refusal")
        }
    };
    assert!(matches!(ask("a", "flux-9").await, AssignError::UnknownModel { .. }));
    insta::assert_snapshot!(ask("a", "flux-9").await, @r#"workflow image-editing has no model "flux-9"; it is logged as observed, and there is no version to ask for"#);
    insta::assert_snapshot!(ask("", WAN).await, @"the task id is empty");
    insta::assert_snapshot!(ask("a\0", WAN).await, @"the task id is holding a NUL character");
}

#[tokio::test]
async fn fewer_than_eight_scores_in_an_arm_decide_nothing() {
    let stage = Stage::builder()
        .definition(|d| {
            d.trigger.tasks = 3;
            d.timeouts.deals_again_max = 0;
        })
        .build()
        .await;
    stage.open_test().await;
    let mut lost = [0, 0];
    for n in 1..=20 {
        let task = format!("t{n}");
        let told = stage.assign(&task, WAN).await;
        let arm = usize::from(told.version == 2);
        if lost[arm] < 3 {
            lost[arm] += 1;
            stage.log(vec![failed(&task, Some(WAN), None)]).await;
        } else {
            stage
                .log(vec![enhanced(&task, WAN, told.version), scored(&task, WAN, better(&told))])
                .await;
        }
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(
        verdict(&stage, WAN).await,
        ("inconclusive".to_owned(), Some("too_few_scores".to_owned()))
    );
}

#[tokio::test]
async fn scores_missed_by_one_arm_only_decide_nothing() {
    let stage = testing_stage().await;
    // Eight of sixteen against none of ten is p = .02; six of sixteen would be .053, and pass.
    let mut broken = 0;
    for n in 1..=26 {
        let task = format!("t{n}");
        let told = stage.assign(&task, WAN).await;
        if told.version == 2 && broken < 8 {
            broken += 1;
            stage.log(vec![failed(&task, Some(WAN), Some("infrastructure"))]).await;
            assert_eq!(stage.watch().await, 0);
        } else {
            stage
                .log(vec![enhanced(&task, WAN, told.version), scored(&task, WAN, better(&told))])
                .await;
        }
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(
        verdict(&stage, WAN).await,
        ("inconclusive".to_owned(), Some("uneven_missingness".to_owned()))
    );
}

#[tokio::test]
async fn each_model_commits_at_its_own_look_and_what_it_counted_is_frozen() {
    let stage = testing_stage().await;
    let holder = stage.assign("nano-holder", NANO).await;
    for n in 1..=20 {
        play(&stage, &format!("t{n}"), WAN, better).await;
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.state().await, StateName::Testing, "the other model goes on");
    assert_eq!(verdict(&stage, WAN).await, ("adopted".to_owned(), Some("improved".to_owned())));
    assert_eq!(verdict(&stage, NANO).await, ("testing".to_owned(), None));
    assert_eq!(stage.active_version(WAN).await, 1, "nothing is applied before all are decided");

    let frozen = deck(&stage, WAN).await;
    assert!(frozen.iter().all(|slot| slot.frozen));
    stage.log(vec![failed("t1", Some(WAN), Some("prompt")), again(scored("t1", WAN, 0), 2)]).await;
    stage.clock.advance(Duration::hours(7));
    assert_eq!(stage.watch().await, 0);
    assert_eq!(deck(&stage, WAN).await, frozen);
    assert_eq!(stage.assign("after", WAN).await.version, 1);
    assert_eq!(stage.assign("nano-holder", NANO).await, holder);
}

#[tokio::test]
async fn a_test_ends_after_fourteen_days_and_the_old_version_stays() {
    let stage = testing_stage().await;
    let mut holders = Vec::new();
    for n in 1..=19 {
        let task = format!("t{n}");
        holders.push((task.clone(), play(&stage, &task, WAN, better).await));
    }
    let waiting = stage.assign("t20", WAN).await;
    stage.clock.advance(Duration::days(14) - Duration::seconds(1));
    assert_eq!(stage.watch().await, 0);
    stage.clock.advance(Duration::seconds(1));
    assert_eq!(stage.watch().await, 1);
    assert_eq!(
        verdict(&stage, WAN).await,
        ("inconclusive".to_owned(), Some("timed_out".to_owned()))
    );
    assert!(deck(&stage, WAN).await.iter().all(|slot| slot.frozen));
    stage.log(vec![enhanced("t20", WAN, waiting.version), scored("t20", WAN, 9)]).await;
    stage.watch().await;
    assert_eq!(deck(&stage, WAN).await.iter().filter(|slot| slot.state == "scored").count(), 19);
    stage.clock.advance(Duration::hours(1));
    run_due_schedules(&stage.engine, &stage.worker).await.expect("the sweep runs");
    assert_eq!(lost(&stage, "t20").await, (Some("timed_out".to_owned()), Some(9)), "kept as late");
    assert_eq!(stage.step().await, StateName::Rejected);
    assert_eq!(stage.active_version(WAN).await, 1);
    for replica in [&stage, &stage.another().await] {
        assert_eq!(replica.assign("new", WAN).await.version, 1);
        for (task, told) in &holders {
            assert_eq!(&replica.assign(task, WAN).await, told, "holders keep it");
        }
    }
}

#[tokio::test]
async fn a_deck_survives_a_restart_in_the_middle_of_the_test() {
    let stage = testing_stage().await;
    let before = deck(&stage, WAN).await;
    for n in 1..=10 {
        play(&stage, &format!("t{n}"), WAN, better).await;
    }
    let restarted = stage.another().await;
    for n in 11..=20 {
        play(&restarted, &format!("t{n}"), WAN, better).await;
    }
    assert_eq!(restarted.watch().await, 1);
    let after = deck(&stage, WAN).await;
    let arms = |deck: &[Slot]| deck.iter().map(|slot| slot.arm.clone()).collect::<Vec<_>>();
    assert_eq!(arms(&before), arms(&after));
    assert_eq!(verdict(&stage, WAN).await.0, "adopted");
}
