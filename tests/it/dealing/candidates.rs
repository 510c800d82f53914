//! Which models get a candidate to test at all.

use mathesis::cycle::{Event, StateName};
use serde_json::Value;

use super::play;
use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Stage, analysis_answer, edit_answer, nano_edit_answer, no_edit_answer};

/// Runs a window whose scores are all `score` up to the end of the generation.
async fn generate(stage: &Stage, prefix: &str, score: i64, answers: &[Value]) -> StateName {
    stage.complete_tasks(prefix, 3, score).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&[&format!("{prefix}-1")]));
    for answer in answers {
        stage.claude.answer_json(answer.clone());
    }
    assert_eq!(stage.step().await, StateName::Generating);
    stage.step().await
}

async fn without(stage: &Stage, cycle: i64) -> Vec<(String, String)> {
    let history = stage.history(cycle).await;
    let generated = history.iter().find_map(|row| match &row.event {
        Event::CandidatesGenerated { without, .. } => Some(without.clone()),
        _ => None,
    });
    generated
        .expect("the generation is on record")
        .into_iter()
        .map(|none| (none.model, none.reason.as_str().to_owned()))
        .collect()
}

fn of_both(reason: &str) -> Vec<(String, String)> {
    [WAN, NANO].map(|model| (model.to_owned(), reason.to_owned())).to_vec()
}

#[tokio::test]
async fn a_model_at_the_ceiling_gets_no_candidate() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    assert_eq!(generate(&stage, "top", 10, &[]).await, StateName::Rejected);
    assert_eq!(without(&stage, 1).await, of_both("at_ceiling"));
    assert_eq!(stage.claude.requests().len(), 1, "no generation was paid for");
}

#[tokio::test]
async fn the_ceiling_can_be_switched_off() {
    let stage = Stage::builder()
        .definition(|d| {
            d.trigger.tasks = 3;
            d.gate.skip_at_ceiling = false;
        })
        .build()
        .await;
    let edits = [edit_answer("One."), nano_edit_answer("Two.")];
    assert_eq!(generate(&stage, "top", 10, &edits).await, StateName::Testing);
}

#[tokio::test]
async fn nothing_proposed_for_any_model_ends_the_cycle() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    let state = generate(&stage, "t", 7, &[no_edit_answer(), no_edit_answer()]).await;
    assert_eq!(state, StateName::Rejected);
    assert_eq!(without(&stage, 1).await, of_both("nothing_proposed"));
    let ended = stage.cycle_number(1).await;
    let outcome = ended.snapshot.state.outcome().expect("it has ended").clone();
    assert!(outcome.models.iter().all(|model| model.result.as_str() == "no_candidate"));
    assert_eq!(stage.cycle().await.number, 2);
}

#[tokio::test]
async fn texts_that_were_tested_before_are_not_tested_again() {
    let stage = testing_stage().await;
    for n in 1..=20 {
        for model in [WAN, NANO] {
            play(&stage, &format!("t{n}"), model, |_| 7).await;
        }
    }
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.step().await, StateName::Rejected);
    let same = [edit_answer("Name what must stay unchanged."), nano_edit_answer("Something else.")];
    assert_eq!(generate(&stage, "next", 7, &same).await, StateName::Testing);
    assert_eq!(without(&stage, 2).await, [(WAN.to_owned(), "tested_before".to_owned())]);
    let tested: i32 =
        sqlx::query_scalar("SELECT candidate_version FROM experiments WHERE cycle = 2")
            .fetch_one(stage.pool())
            .await
            .expect("one experiment");
    assert_eq!(tested, 3, "version 2 keeps its number for good");
}
