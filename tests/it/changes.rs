//! The rulings "Changes under way": rollback, cancel, refusal, models that come and go, and the files.

use std::fs;

use mathesis::cycle::{Event, StateName};
use mathesis::runtime::{
    Advanced, Operation, OperationError, Submission, What, Worked, advance, reconcile,
};
use mathesis::store::changes::{self, ChangeRow};
use mathesis::store::holds;
use mathesis::workflow::definition::{ApprovalAsk, Model};
use sqlx::Connection;

use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Stage, analysis_answer, edit_answer, until};

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
    stage.claude.answer_json(edit_answer("A second line."));
    stage.claude.answer_json(edit_answer("Another second line."));
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
async fn a_rollback_puts_files_and_version_back_and_forward_again() {
    let stage = adopted_stage().await;
    let second = stage.read(WAN, RESEARCH);
    assert!(second.ends_with("Name what must stay unchanged.\n"));

    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.active_version(WAN).await, 2, "until the files are written");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.active_version(WAN).await, 1);
    assert!(!stage.read(WAN, RESEARCH).contains("unchanged"));
    assert_eq!(stage.active_version(NANO).await, 2);

    let change = last_change(&stage).await;
    assert_eq!((change.kind.as_str(), change.status.as_str()), ("roll_back", "done"));
    assert_eq!((change.from_version, change.to_version), (Some(2), 1));
    assert_eq!(
        (change.changed_by.as_str(), change.reason.as_deref()),
        ("Ελένη", Some("for the test"))
    );
    let backup = change.backup_path.expect("what was overwritten is kept");
    assert_eq!(
        fs::read_to_string(format!("{backup}/{RESEARCH}")).expect("the backup reads"),
        second
    );

    stage.operate(to(2)).await.expect("forward again");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!((stage.active_version(WAN).await, stage.read(WAN, RESEARCH)), (2, second));
    assert_eq!(stage.state().await, StateName::Collecting);
    assert_eq!(stage.assign("new", WAN).await.version, 2);
}

#[tokio::test]
async fn two_rollbacks_in_a_row_are_done_in_the_order_they_were_asked() {
    let stage = adopted_stage().await;
    stage.operate(to(1)).await.expect("back");
    let refused = stage.operate(to(2)).await;
    assert!(matches!(refused, Err(OperationError::NothingToDo(_))), "{refused:?}");
    assert_eq!(stage.work().await, Worked::Done(None));
    stage.operate(to(2)).await.expect("forward");
    stage.operate(to(1)).await.expect_err("version 1 is active still");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.active_version(WAN).await, 2);
}

#[tokio::test]
async fn a_rollback_to_nowhere_is_refused() {
    let stage = adopted_stage().await;
    let say = async |operation: Operation| {
        stage.operate(operation).await.expect_err("a refusal").to_string()
    };
    insta::assert_snapshot!(say(to(9)).await, @"wan-2.5-edit has no version 9; `mathesis version list` shows those it has");
    insta::assert_snapshot!(say(to(2)).await, @"version 2 of wan-2.5-edit is active already");
    let other = Operation::Rollback { model: "flux".to_owned(), to: 1 };
    insta::assert_snapshot!(say(other).await, @r#"the workflow has no model "flux"; its models are listed by `mathesis workflow show`"#);
}

#[tokio::test]
async fn a_rollback_before_the_test_runs_at_once_and_the_candidate_grows_from_it() {
    let stage = adopted_stage().await;
    assert_eq!(stage.watch().await, 1);
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.another().await.work().await, Worked::Done(None), "beside the analysis");
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.answer_json(edit_answer("Grown from the first."));
    stage.claude.answer_json(edit_answer("Another."));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(stage.active_version(WAN).await, 1);
    let (control, candidate, parent): (i32, i32, i32) = sqlx::query_as(
        "SELECT e.control_version, e.candidate_version, v.parent_version
           FROM experiments e JOIN prompt_versions v ON v.model_name = e.model_name AND v.version = e.candidate_version
          WHERE e.cycle = 2 AND e.model_name = $1",
    )
    .bind(WAN)
    .fetch_one(stage.pool())
    .await
    .expect("the experiment reads");
    assert_eq!((control, candidate, parent), (1, 3, 1), "numbers are never used again");
}

#[tokio::test]
async fn a_rollback_during_the_generation_takes_the_candidate_away() {
    let stage = adopted_stage().await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.answer_json(edit_answer("Grown from the second."));
    stage.claude.answer_json(edit_answer("Another."));
    assert_eq!(stage.step().await, StateName::Generating);
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(
        stage.step().await,
        StateName::Testing,
        "the generation ends before the rollback runs"
    );
    assert_eq!(versions_of(&stage, WAN).await, [1, 2], "nobody wants what grew from version 2");
    assert_eq!(versions_of(&stage, NANO).await, [1, 2, 3]);
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.active_version(WAN).await, 1);
    stage.operate(refuse(&[])).await.expect("the other is refused");
    let mut ends = outcome(&stage, 2).await;
    ends.sort();
    assert_eq!(ends, ended(&[(NANO, "refused"), (WAN, "superseded")]));
}

#[tokio::test]
async fn a_rollback_during_the_test_ends_that_models_test_and_the_other_goes_on() {
    let stage = adopted_stage().await;
    open_second_test(&stage).await;
    let holder = stage.assign("holder", WAN).await;
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.state().await, StateName::Testing);
    assert_eq!(stage.active_version(WAN).await, 1);
    assert_eq!(stage.assign("outsider", WAN).await.version, 1);
    assert_eq!(stage.assign("holder", WAN).await, holder);

    for n in 1..=20 {
        let task = format!("again-{n}");
        let told = stage.assign(&task, NANO).await;
        let score = if told.version == 3 { 10 } else { 7 };
        stage
            .log(crate::support::TaskRun::new(task, &[(NANO, told.version, score)]).events())
            .await;
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    let mut ends = outcome(&stage, 2).await;
    ends.sort();
    assert_eq!(ends, ended(&[(NANO, "adopted"), (WAN, "superseded")]));
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 3));
    let (status, reason): (String, String) = sqlx::query_as(
        "SELECT status, reason FROM experiments WHERE cycle = 2 AND model_name = $1",
    )
    .bind(WAN)
    .fetch_one(stage.pool())
    .await
    .expect("the experiment reads");
    assert_eq!((status.as_str(), reason.as_str()), ("inconclusive", "superseded"));
}

#[tokio::test]
async fn a_version_number_is_never_used_again() {
    let stage = adopted_stage().await;
    open_second_test(&stage).await;
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.work().await, Worked::Done(None));
    stage.operate(Operation::Cancel).await.expect("the cycle is cancelled");
    stage.complete_tasks("third", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.answer_json(edit_answer("A third line."));
    stage.claude.answer_json(edit_answer("Another third line."));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(versions_of(&stage, WAN).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_rollback_while_deciding_drops_the_adoption() {
    let stage = adopted_stage().await;
    open_second_test(&stage).await;
    stage.play_test("second", |_, told| if told.version == 3 { 10 } else { 7 }).await;
    assert_eq!(stage.watch().await, 2);
    stage.operate(to(1)).await.expect("the rollback is taken");
    while stage.cycle().await.number == 2 {
        assert!(matches!(stage.work().await, Worked::Done(_)));
    }
    while stage.work().await != Worked::Idle {}
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 3));
    assert!(!stage.read(WAN, RESEARCH).contains("unchanged"));
    let mut ends = outcome(&stage, 2).await;
    ends.sort();
    assert_eq!(ends, ended(&[(NANO, "adopted"), (WAN, "superseded")]));
}

#[tokio::test]
async fn a_rollback_while_applying_runs_after_and_undoes_what_was_written() {
    let (stage, original) = stopped_in_applying().await;
    assert!(
        stage.read(WAN, RESEARCH).contains("unchanged"),
        "the first model's files are written already"
    );
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.work().await, Worked::Done(None), "it runs in spite of the hold");
    assert!(!stage.read(WAN, RESEARCH).contains("unchanged"));

    fs::write(stage.file(NANO, RESEARCH), original).expect("the file can be put back");
    stage.operate(Operation::Retry).await.expect("there is something to retry");
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
    assert!(!stage.read(WAN, RESEARCH).contains("unchanged"));
    assert!(stage.read(NANO, RESEARCH).contains("Keep the logo."));
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "superseded"), (NANO, "adopted")]));
}

#[tokio::test]
async fn a_failed_rollback_can_be_retried_when_its_cycle_is_long_over() {
    let stage = adopted_stage().await;
    let original = stage.read(WAN, RESEARCH);
    fs::write(stage.file(WAN, RESEARCH), "edited by hand").expect("the file can be written");
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(
        stage.work().await,
        Worked::Failed { code: "config_conflict".to_owned(), held: true }
    );
    stage.operate(Operation::Cancel).await.expect("the cycle ends");
    assert_eq!(stage.cycle().await.number, 3);
    assert_eq!(held_by(&stage).await, ["config_conflict"]);

    fs::write(stage.file(WAN, RESEARCH), original).expect("the file can be put back");
    stage.operate(Operation::Retry).await.expect("there is something to retry");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.active_version(WAN).await, 1);
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
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
        .restarted_with(|d| d.models.push(Model { name: "flux-kontext".parse().expect("a name") }))
        .await;
    let told = stage.assign("t", "flux-kontext").await;
    assert_eq!((told.version, told.arm), (1, None));
    assert!(stage.assign("t", WAN).await.arm.is_some(), "the running test goes on");
    stage.operate(Operation::Cancel).await.expect("the cycle is cancelled");
    stage.complete_tasks("next", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    for line in ["One.", "Two.", "Three."] {
        stage.claude.answer_json(edit_answer(line));
    }
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
    stage.operate(Operation::Approve).await.expect("the other is approved");
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(outcome(&stage, 1).await, ended(&[(WAN, "refused"), (NANO, "adopted")]));
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}

async fn look_at_files(stage: &Stage) {
    reconcile(&stage.engine, &stage.workflow).await.expect("the folder is looked at");
}

#[tokio::test]
async fn missing_files_are_written_again() {
    let stage = adopted_stage().await;
    let second = stage.read(WAN, RESEARCH);
    fs::remove_dir_all(stage.folder.path().join("config")).expect("the folder can be removed");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    assert_eq!(stage.backups(WAN), Vec::<String>::new(), "there was nothing to keep");
    let change = last_change(&stage).await;
    assert_eq!((change.kind.as_str(), change.to_version, change.backup_path), ("repair", 2, None));
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_fresh_container_with_the_first_version_is_put_right_behind_a_backup() {
    let stage = testing_stage().await;
    let first = [stage.read(WAN, "activation.txt"), stage.read(WAN, RESEARCH)];
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    let second = stage.read(WAN, RESEARCH);

    fs::remove_dir_all(stage.file(WAN, "")).expect("the folder can be removed");
    fs::create_dir_all(stage.file(WAN, "")).expect("the folder can be made");
    fs::write(stage.file(WAN, "activation.txt"), &first[0]).expect("the file can be written");
    fs::write(stage.file(WAN, RESEARCH), &first[1]).expect("the file can be written");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    let backups = stage.backups(WAN);
    assert_eq!(backups.len(), 1);
    let kept =
        fs::read_to_string(stage.file(WAN, &backups[0]).join(RESEARCH)).expect("the backup reads");
    assert_eq!(kept, first[1]);
    look_at_files(&stage).await;
    assert_eq!(stage.backups(WAN).len(), 1, "once is enough");
}

#[tokio::test]
async fn another_machines_stale_folder_is_brought_in_step() {
    let stage = testing_stage().await;
    look_at_files(&stage).await;
    let marker =
        fs::read(stage.file(WAN, ".mathesis.json")).expect("the files are marked as version 1");
    let first = stage.read(WAN, RESEARCH);
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    let second = stage.read(WAN, RESEARCH);

    fs::write(stage.file(WAN, RESEARCH), &first).expect("the file can be written");
    fs::write(stage.file(WAN, ".mathesis.json"), marker).expect("the marker can be written");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert_eq!(stage.backups(WAN).len(), 2);
}

#[tokio::test]
async fn a_hand_edit_during_a_test_holds_everything_until_the_file_is_put_back() {
    let stage = testing_stage().await;
    look_at_files(&stage).await;
    let original = stage.read(WAN, RESEARCH);
    let holder = stage.assign("t-1", WAN).await;
    fs::write(stage.file(WAN, RESEARCH), "edited by hand").expect("the file can be written");
    look_at_files(&stage).await;
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, ["config_conflict"], "said once");
    assert_eq!(stage.read(WAN, RESEARCH), "edited by hand");
    assert_eq!(stage.assign("late", WAN).await.arm, None, "nothing is dealt");
    assert_eq!(stage.assign("t-1", WAN).await, holder);
    let said = stage.status().await;
    assert!(said.sentence.contains("research.md"), "{}", said.sentence);

    fs::write(stage.file(WAN, RESEARCH), original).expect("the file can be put back");
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert!(stage.assign("t-2", WAN).await.arm.is_some());
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
}

#[tokio::test]
async fn a_repair_that_died_half_way_is_done_again() {
    let stage = adopted_stage().await;
    let second = stage.read(WAN, RESEARCH);
    let marker = fs::read(stage.file(WAN, ".mathesis.json")).expect("the marker reads");
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.work().await, Worked::Done(None));
    // As if the new files were in place, and the process died before it wrote the marker.
    fs::write(stage.file(WAN, ".mathesis.json"), marker).expect("the marker can be written");
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new(), "that is nobody's edit");
    let marker = fs::read_to_string(stage.file(WAN, ".mathesis.json")).expect("the marker reads");
    assert!(marker.contains("\"version\": 1"), "{marker}");
    assert_ne!(stage.read(WAN, RESEARCH), second);
}

#[tokio::test]
async fn an_apply_that_died_between_its_files_and_its_checkpoint_is_done_again_without_a_second_backup()
 {
    let stage = testing_stage().await;
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);

    let mut other = sqlx::PgConnection::connect(&stage.url).await.expect("a connection");
    let mut lock = other.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM cycles WHERE ended_at IS NULL FOR UPDATE")
        .fetch_one(&mut *lock)
        .await
        .expect("the cycle's row is locked");
    let written =
        || stage.backups(NANO).len() == 1 && stage.read(NANO, RESEARCH).contains("Keep the logo.");
    tokio::select! {
        worked = stage.worker.work_once() => panic!("the checkpoint was not blocked: {worked:?}"),
        () = until(async || written()) => {}
    }
    lock.rollback().await.expect("the lock is given up");
    assert_eq!(stage.active_version(NANO).await, 1, "nothing was committed");

    let survivor = stage.another().await;
    until(async || survivor.rescue().await == 1).await;
    assert_eq!(survivor.step().await, StateName::Applied);
    for model in [WAN, NANO] {
        assert_eq!(survivor.active_version(model).await, 2);
        assert_eq!(survivor.backups(model).len(), 1);
    }
    let finished: Vec<(String, String)> = changes::list(stage.pool(), stage.id(), 10)
        .await
        .expect("the changes read")
        .into_iter()
        .filter(|change| change.kind == "apply")
        .map(|change| (change.status, change.backup_path.expect("the backup is on record")))
        .collect();
    assert_eq!(finished.len(), 2);
    for (status, backup) in finished {
        assert_eq!(status, "done");
        assert!(fs::metadata(backup).expect("the backup is there").is_dir());
    }
}
