//! Rollbacks: to where, in which state, and what they take away.

use std::fs;

use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::{Operation, OperationError, Worked};

use super::{
    RESEARCH, adopted_stage, ended, held_by, last_change, open_second_test, outcome, refuse,
    stopped_in_applying, to, versions_of,
};
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, edit_because};

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
    stage.claude.answer_json(edit_because("Grown from the first.", "1.1"));
    stage.claude.answer_json(edit_because("Another.", "1.2"));
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
    stage.claude.answer_json(edit_because("Grown from the second.", "1.1"));
    stage.claude.answer_json(edit_because("Another.", "1.2"));
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
    stage.claude.answer_json(edit_because("A third line.", "1.1"));
    stage.claude.answer_json(edit_because("Another third line.", "1.2"));
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
async fn a_newer_rollback_ends_an_older_one_that_still_waits() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    stage.play_test("test", |_, told| if told.arm == Some(Arm::Candidate) { 9 } else { 7 }).await;
    stage.watch().await;
    while stage.cycle().await.number == 1 {
        stage.step().await;
    }
    let back = || Operation::Rollback { model: WAN.to_owned(), to: 1 };
    stage.operate(back()).await.expect("the first is asked for");
    // It failed and waits for its next try.
    sqlx::query(
        "UPDATE effects SET run_after = run_after + interval '1 hour' WHERE kind = 'roll_back'",
    )
    .execute(stage.pool())
    .await
    .expect("the statement runs");
    stage.operate(back()).await.expect("the second is asked for");
    stage.work().await;
    assert_eq!(stage.active_version(WAN).await, 1);
    let ends: Vec<String> = sqlx::query_scalar(
        "SELECT status FROM effects WHERE kind = 'roll_back' ORDER BY effect_id",
    )
    .fetch_all(stage.pool())
    .await
    .expect("the effects");
    assert_eq!(ends, ["cancelled", "done"]);
    let changes: Vec<String> = sqlx::query_scalar(
        "SELECT status FROM config_changes WHERE kind = 'roll_back' ORDER BY id",
    )
    .fetch_all(stage.pool())
    .await
    .expect("the changes");
    assert_eq!(changes, ["dropped", "done"]);
}
