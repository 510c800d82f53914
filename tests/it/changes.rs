//! The rulings "Changes under way": rollback, cancel, refusal, models that come and go, and the files.

mod conflicts;
mod disks;
mod files;
mod rollbacks;

use std::fs;

use mathesis::cycle::{Event, StateName};
use mathesis::runtime::{Advanced, Operation, Submission, What, Worked, advance};
use mathesis::store::changes::{self, ChangeRow};
use mathesis::store::holds;
use mathesis::workflow::definition::{ApprovalAsk, Model};

use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Stage, analysis_answer, edit_answer, edit_because, nano_edit_answer};

const RESEARCH: &str = "research.md";

fn to(version: i32) -> Operation {
    Operation::Rollback { model: WAN.to_owned(), to: version }
}

/// A stage whose first cycle adopted version 2 of both models.
async fn adopted_stage() -> Stage {
    let stage = testing_stage().await;
    adopt_all(&stage, "test").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    stage
}

async fn adopt_all(stage: &Stage, prefix: &str) {
    stage
        .play_test(prefix, |_, told| {
            if told.arm.is_some_and(|arm| arm.as_str() == "candidate") { 9 } else { 6 }
        })
        .await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Deciding);
}

/// Takes cycle 2 of an adopted stage to its Testing.
async fn open_second_test(stage: &Stage) {
    assert_eq!(stage.watch().await, 1, "the test's own tasks are the next window");
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.answer_json(edit_because("A second line.", "1.1"));
    stage.claude.answer_json(edit_because("Another second line.", "1.2"));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
}

/// A stage in Applying, where a hand edit of the second model's file stopped the change.
async fn stopped_in_applying() -> (Stage, String) {
    let stage = testing_stage().await;
    adopt_all(&stage, "test").await;
    assert_eq!(stage.step().await, StateName::Applying);
    let original = stage.read(NANO, RESEARCH);
    fs::write(stage.file(NANO, RESEARCH), "edited by hand").expect("the file can be written");
    let worked = stage.work().await;
    assert_eq!(worked, Worked::Failed { code: "config_conflict".to_owned(), held: true });
    assert_eq!(stage.read(NANO, RESEARCH), "edited by hand");
    (stage, original)
}

async fn last_change(stage: &Stage) -> ChangeRow {
    changes::list(stage.pool(), stage.id(), 1).await.expect("the changes read").remove(0)
}

async fn held_by(stage: &Stage) -> Vec<String> {
    let cycle = stage.cycle().await.number;
    let mut conn = stage.pool().acquire().await.expect("a connection");
    let standing = holds::standing(&mut conn, stage.id(), cycle).await.expect("the holds read");
    standing.into_iter().map(|hold| hold.kind).collect()
}

async fn outcome(stage: &Stage, cycle: i64) -> Vec<(String, String)> {
    let row = stage.cycle_number(cycle).await;
    let outcome = row.snapshot.state.outcome().expect("the cycle has ended");
    outcome.models.iter().map(|m| (m.model.clone(), m.result.as_str().to_owned())).collect()
}

fn ended(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(model, result)| ((*model).to_owned(), (*result).to_owned())).collect()
}

async fn versions_of(stage: &Stage, model: &str) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT version FROM prompt_versions WHERE workflow_id = $1 AND model_name = $2 ORDER BY 1",
    )
    .bind(stage.id())
    .bind(model)
    .fetch_all(stage.pool())
    .await
    .expect("the versions read")
}

#[tokio::test]
async fn a_cancelled_cycle_keeps_its_window_consumed() {
    let stage = testing_stage().await;
    let holder = stage.assign("holder", WAN).await;
    let done = stage.operate(Operation::Cancel).await.expect("the cycle is cancelled");
    assert!(done.said.contains("its window stays consumed"), "{}", done.said);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "cancelled"), (NANO, "cancelled")]));
    assert_eq!((stage.cycle().await.number, stage.state().await), (2, StateName::Collecting));
    assert_eq!(stage.watch().await, 0, "the three tasks are not analysed twice");
    let consumed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1")
            .fetch_one(stage.pool())
            .await
            .expect("the tasks read");
    assert_eq!(consumed, 3);
    assert_eq!(stage.assign("holder", WAN).await, holder);
    assert_eq!(stage.assign("other", WAN).await.version, 1);
}

#[tokio::test]
async fn a_cancel_while_applying_puts_back_what_was_written() {
    let (stage, original) = stopped_in_applying().await;
    let done = stage.operate(Operation::Cancel).await.expect("the cancel is taken");
    assert_eq!(done.state, StateName::Reverting);
    let worked = stage.work().await;
    assert_eq!(worked, Worked::Failed { code: "config_conflict".to_owned(), held: true });
    assert_eq!(stage.read(NANO, RESEARCH), "edited by hand", "not even a revert overwrites it");

    fs::write(stage.file(NANO, RESEARCH), &original).expect("the file can be put back");
    stage.operate(Operation::Retry).await.expect("there is something to retry");
    assert_eq!(stage.step().await, StateName::Cancelled);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 1));
    assert!(!stage.read(WAN, RESEARCH).contains("unchanged"));
    assert_eq!(stage.read(NANO, RESEARCH), original);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "cancelled"), (NANO, "cancelled")]));
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_model_that_leaves_ends_retired_and_the_other_goes_on() {
    let stage = testing_stage().await;
    let stage = stage.restarted_with(|d| d.models.retain(|model| model.name.as_str() != WAN)).await;
    let submission = Submission {
        workflow_id: stage.id(),
        cycle: None,
        actor: "mathesis",
        reason: None,
        what: What::Event(Event::ModelRetired { model: WAN.to_owned() }),
        completes: None,
        claims_next: false,
    };
    let moved = advance(&stage.engine, submission).await.expect("the cycle takes it");
    assert!(matches!(moved, Advanced::Moved(_)));
    assert_eq!(stage.state().await, StateName::Testing);
    stage
        .assigner
        .assign(&stage.workflow, "t", "", WAN)
        .await
        .expect_err("there is no such model any more");
    for n in 1..=20 {
        let task = format!("t-{n}");
        let told = stage.assign(&task, NANO).await;
        let score = if told.version == 2 { 9 } else { 6 };
        stage
            .log(crate::support::TaskRun::new(task, &[(NANO, told.version, score)]).events())
            .await;
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "retired"), (NANO, "adopted")]));
    assert_eq!(stage.backups(WAN), Vec::<String>::new(), "its files are left alone");
}

#[tokio::test]
async fn a_model_that_joins_is_served_at_once_and_learns_from_the_next_cycle_on() {
    let stage = testing_stage().await;
    let folder = stage.file("flux-kontext", "");
    fs::create_dir_all(&folder).expect("the folder can be made");
    fs::write(folder.join("activation.txt"), "You enhance prompts for flux.\n")
        .expect("the file can be written");
    fs::write(folder.join(RESEARCH), "# Flux\n\n## What works\nLight.\n")
        .expect("the file can be written");
    let stage = stage
        .restarted_with(|d| {
            d.models.push(Model { name: "flux-kontext".parse().expect("a name"), mode: None })
        })
        .await;
    let told = stage.assign("t", "flux-kontext").await;
    assert_eq!((told.version, told.arm), (1, None));
    assert!(stage.assign("t", WAN).await.arm.is_some(), "the running test goes on");
    stage.operate(Operation::Cancel).await.expect("the cycle is cancelled");
    stage.complete_tasks("next", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&["next-1"]));
    stage.claude.answer_json(edit_answer("One.")).answer_json(nano_edit_answer("Two."));
    // No insight is about the new model: its edits rest on the recommendation.
    stage.claude.answer_json(edit_answer("Three."));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(versions_of(&stage, "flux-kontext").await, [1, 2]);
}

#[tokio::test]
async fn an_edited_definition_waits_for_the_next_cycle() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    stage.complete_tasks("early", 2, 7).await;
    let stage = stage
        .restarted_with(|d| {
            d.trigger.tasks = 2;
            d.claude.analysis_max_tokens = 9_000;
        })
        .await;
    assert_eq!(stage.watch().await, 0, "the running cycle still waits for three");
    stage.complete_tasks("late", 1, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.step().await;
    assert_eq!(stage.claude.requests()[0].max_tokens, 16_000);
    stage.operate(Operation::Cancel).await.expect("the cycle is cancelled");
    assert_eq!(
        stage.work().await,
        Worked::Lost,
        "what the cancelled cycle had asked for is dropped"
    );
    stage.complete_tasks("next", 2, 7).await;
    assert_eq!(stage.watch().await, 1, "the next cycle waits for two");
    stage.claude.answer_json(analysis_answer(&[]));
    stage.step().await;
    assert_eq!(stage.claude.requests()[1].max_tokens, 9_000);
}

async fn asking(ask: ApprovalAsk) -> Stage {
    let stage = Stage::builder()
        .definition(move |d| {
            d.trigger.tasks = 3;
            d.approval.ask = ask;
        })
        .build()
        .await;
    stage.open_test().await;
    stage
}

fn refuse(models: &[&str]) -> Operation {
    Operation::Refuse { models: models.iter().map(|model| (*model).to_owned()).collect() }
}

#[tokio::test]
async fn refused_before_the_test_a_candidate_is_dropped_and_with_the_last_one_the_cycle() {
    let stage = asking(ApprovalAsk::BeforeTest).await;
    assert_eq!(held_by(&stage).await, ["approval"]);
    assert_eq!(
        stage.assign("early", WAN).await.arm,
        None,
        "nothing is dealt before the word is given"
    );
    stage.operate(refuse(&[WAN])).await.expect("one is refused");
    assert_eq!(
        (stage.state().await, held_by(&stage).await),
        (StateName::Testing, vec!["approval".to_owned()])
    );
    let done = stage.operate(refuse(&[])).await.expect("the rest is refused");
    assert_eq!(done.state, StateName::Collecting);
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Rejected);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "refused"), (NANO, "refused")]));
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
}

#[tokio::test]
async fn refused_before_it_serves_an_adoption_is_not_carried_out() {
    let stage = asking(ApprovalAsk::BeforeApply).await;
    adopt_all(&stage, "t").await;
    assert_eq!(held_by(&stage).await, ["approval"]);
    assert_eq!(stage.work().await, Worked::Idle, "it waits for the word");
    stage.operate(refuse(&[WAN])).await.expect("one is refused");
    stage.operate(Operation::Approve { models: vec![] }).await.expect("the other is approved");
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "refused"), (NANO, "adopted")]));
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}
