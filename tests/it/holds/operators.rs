//! What operators may do in which state, and what is refused in words.

use mathesis::cycle::StateName;
use mathesis::runtime::{Operation, Worked};

use super::{analyzing, off};
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, candidates_win, until};

fn rollback(model: &str, to: i32) -> Operation {
    Operation::Rollback { model: model.to_owned(), to }
}

#[tokio::test]
async fn step_performs_exactly_one_effect_of_a_held_cycle() {
    let stage = Stage::new().await;
    stage.please(Operation::Pause).await;
    analyzing(&stage).await;
    assert_eq!(stage.work().await, Worked::Idle);

    stage.please(Operation::Step).await;
    stage.script_candidates("stepwise");
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.work().await, Worked::Idle, "one effect, then it stands still again");
    stage.please(Operation::Step).await;
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(stage.held_by().await, ["operator"]);
}

async fn cancelled(stage: &Stage) {
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Cancelled);
    assert_eq!(stage.cycle().await.number, 2, "the next cycle is open");
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 1));
    assert_eq!(stage.work().await, Worked::Idle, "nothing of it is left to do");
    let unfinished =
        "SELECT count(*) FROM effects WHERE status IN ('pending', 'claimed', 'failed')";
    assert_eq!(stage.number(unfinished).await, 0);
    assert_eq!(
        stage.number("SELECT count(*) FROM config_changes WHERE status = 'intended'").await,
        0
    );
    assert_eq!(stage.number("SELECT count(*) FROM experiments WHERE status = 'testing'").await, 0);
}

#[tokio::test]
async fn cancel_in_collecting() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 10, 7).await;
    stage.please(Operation::Cancel).await;
    cancelled(&stage).await;
}

#[tokio::test]
async fn cancel_in_analyzing_keeps_the_window_consumed_and_drops_the_analysis() {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.please(Operation::Cancel).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.work().await, Worked::Lost, "the analysis that was claimed comes too late");
    cancelled(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1").await, 50);
    assert_eq!(stage.watch().await, 0);
}

#[tokio::test]
async fn cancel_in_generating() {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.please(Operation::Pause).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
    stage.please(Operation::Cancel).await;
    cancelled(&stage).await;
}

#[tokio::test]
async fn cancel_in_testing_keeps_what_holders_were_told() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    let told = stage.assign("dealt", WAN).await;
    stage.please(Operation::Cancel).await;
    cancelled(&stage).await;
    assert_eq!(stage.assign("dealt", WAN).await, told);
    assert_eq!(stage.assign("new", WAN).await.version, 1);
}

#[tokio::test]
async fn cancel_in_deciding_adopts_nothing() {
    let stage = Stage::new().await;
    stage.please(Operation::Pause).await;
    stage.please(Operation::Resume).await;
    stage.reach_deciding("seed", candidates_win).await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.work().await, Worked::Lost);
    cancelled(&stage).await;
}

#[tokio::test]
async fn cancel_in_applying_waits_for_the_running_change_and_puts_it_back() {
    let stage = Stage::new().await;
    let original = stage.read(WAN, "research.md");
    stage.reach_applying("seed").await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.state().await, StateName::Reverting);
    assert_eq!(stage.step().await, StateName::Reverting, "the change that had begun ends");
    assert_eq!(stage.active_version(WAN).await, 2);
    assert_eq!(stage.step().await, StateName::Cancelled);
    cancelled(&stage).await;
    assert_eq!(stage.read(WAN, "research.md"), original);
}

#[tokio::test]
async fn cancel_in_applying_drops_a_change_that_has_not_begun() {
    let stage = Stage::new().await;
    let original = stage.read(WAN, "research.md");
    stage.reach_deciding("seed", candidates_win).await;
    stage.please(Operation::Pause).await;
    assert_eq!(stage.step().await, StateName::Applying);
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.step().await, StateName::Cancelled, "a revert runs under a hold");
    cancelled(&stage).await;
    assert_eq!(stage.read(WAN, "research.md"), original);
}

#[tokio::test]
async fn a_rollback_runs_under_any_hold_files_included() {
    let stage = Stage::new().await;
    let original = stage.read(WAN, "research.md");
    stage.reach_applied("good").await;
    stage.please(off()).await;
    stage.please(rollback(WAN, 1)).await;
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
    assert_eq!(stage.read(WAN, "research.md"), original);
}

#[tokio::test]
async fn a_rollback_in_a_paused_applying_does_not_wait_for_the_pause() {
    let stage = Stage::new().await;
    stage.reach_deciding("seed", candidates_win).await;
    stage.please(Operation::Pause).await;
    assert_eq!(stage.step().await, StateName::Applying);
    stage.please(rollback(WAN, 1)).await;
    assert_eq!(stage.work().await, Worked::Done(None), "file repair runs under a hold");
    stage.please(Operation::Resume).await;
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}

#[tokio::test]
async fn a_rollback_in_testing_ends_that_models_test_and_leaves_the_other() {
    let stage = Stage::new().await;
    stage.reach_applied("first").await;
    stage.start_test("second").await;
    stage.please(rollback(WAN, 1)).await;
    assert_eq!(stage.work().await, Worked::Done(None));
    let verdicts: Vec<(String, Option<String>)> =
        stage.experiments(2).await.into_iter().map(|row| (row.status, row.reason)).collect();
    let superseded = Some("superseded".to_owned());
    assert_eq!(verdicts, [("testing".to_owned(), None), ("inconclusive".to_owned(), superseded)]);
    stage.play_test("rest", candidates_win).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 3));
}

#[tokio::test]
async fn a_rollback_while_the_change_is_being_written_is_carried_out_after_it() {
    let stage = Stage::new().await;
    let original = stage.read(WAN, "research.md");
    stage.reach_applying("race").await;
    // The files are written and the process dies before the checkpoint; the rollback comes in between.
    stage.crash_before_commit().await;
    stage.worker.work_once().await.expect_err("the checkpoint fails");
    stage.commit_again().await;
    stage.please(rollback(WAN, 1)).await;
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    let mut states = Vec::new();
    while let Worked::Done(state) = replica.work().await {
        states.push(state);
    }
    assert_eq!(states, [Some(StateName::Applied), None], "held by {:?}", stage.held_by().await);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
    assert_eq!(stage.read(WAN, "research.md"), original);
}

/// Everything that an operation could have changed.
async fn fingerprint(stage: &Stage) -> String {
    stage
        .text(
            "SELECT concat_ws(E'\n',
                (SELECT string_agg(c::text, E'\n' ORDER BY number) FROM cycles c),
                (SELECT string_agg(t::text, E'\n' ORDER BY cycle, seq) FROM cycle_transitions t),
                (SELECT string_agg(e::text, E'\n' ORDER BY effect_id) FROM effects e),
                (SELECT string_agg(h::text, E'\n' ORDER BY hold_id) FROM holds h),
                (SELECT string_agg(x::text, E'\n' ORDER BY model_name) FROM experiments x),
                (SELECT string_agg(f::text, E'\n' ORDER BY id) FROM config_changes f))",
        )
        .await
}

#[tokio::test]
async fn what_is_not_possible_is_refused_in_words_and_changes_nothing() {
    let stage = Stage::new().await;
    let mut said = Vec::new();
    for operation in [
        Operation::Resume,
        Operation::Approve { models: vec![] },
        Operation::Refuse { models: vec![] },
        Operation::Retry,
        Operation::Step,
        rollback("dall-e", 1),
        rollback(WAN, 9),
        rollback(WAN, 1),
    ] {
        let before = fingerprint(&stage).await;
        said.push(format!("collecting {operation:?}: {}", stage.refused(operation.clone()).await));
        assert_eq!(fingerprint(&stage).await, before);
    }
    stage.please(Operation::Cancel).await;
    for operation in [
        Operation::Pause,
        Operation::Resume,
        Operation::Cancel,
        Operation::Approve { models: vec![] },
        Operation::Refuse { models: vec![] },
        Operation::Retry,
        Operation::Step,
    ] {
        let before = fingerprint(&stage).await;
        let error = stage.operate_on(1, operation.clone()).await.expect_err("the cycle has ended");
        said.push(format!("ended {operation:?}: {error}"));
        assert_eq!(fingerprint(&stage).await, before);
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn a_second_pause_and_a_second_switch_say_so_and_place_no_second_hold() {
    let stage = Stage::new().await;
    stage.please(Operation::Pause).await;
    assert!(stage.please(Operation::Pause).await.said.contains("already"));
    stage.please(off()).await;
    assert!(stage.please(off()).await.said.contains("already"));
    assert_eq!(stage.held_by().await, ["operator", "automation_off"]);
}

#[tokio::test]
async fn a_rollback_that_failed_is_held_beyond_its_cycle_until_it_is_retried() {
    let stage = Stage::new().await;
    stage.reach_applied("first").await;
    stage.start_test("second").await;
    let file = stage.file(WAN, "research.md");
    let served = std::fs::read(&file).expect("the file is there");
    std::fs::remove_dir_all(stage.file(WAN, "")).expect("the folder can go");
    std::fs::write(stage.folder.path().join("config/deep_research").join(WAN), "no folder")
        .expect("a file");
    for model in [WAN, NANO] {
        stage.please(rollback(model, 1)).await;
    }
    while !matches!(stage.work().await, Worked::Idle) {}
    assert_eq!(stage.cycle().await.number, 3, "the cycle that asked for it has ended");
    let (mut held, mut tries) = (false, 0);
    while !held && tries < 12 {
        tries += 1;
        stage.clock.advance(chrono::TimeDelta::hours(2));
        held = matches!(stage.work().await, Worked::Failed { held: true, .. });
    }
    assert!(held, "it fails for good");
    assert_eq!(stage.held_by().await, ["effect_failed"], "the open cycle tells of it");
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.held_by().await, ["effect_failed"], "and so does the next one");
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (2, 1));

    std::fs::remove_file(stage.folder.path().join("config/deep_research").join(WAN))
        .expect("it can go");
    std::fs::create_dir_all(stage.file(WAN, "")).expect("the folder can be made");
    std::fs::write(&file, served).expect("the file can be written");
    stage.please(Operation::Retry).await;
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.active_version(WAN).await, 1);
    assert_eq!(stage.held_by().await, [""; 0]);
}

/// Waits until so many sessions stand in line for a lock.
async fn in_line(stage: &Stage, number: i64) {
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(async || stage.number(waits).await == number).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_waits_while_its_cycle_ends_is_refused_and_holds_nothing() {
    let stage = Stage::new().await;
    stage.reach_applying("crossed").await;
    let mut first = stage.own_connection().await;
    sqlx::raw_sql("BEGIN; SELECT FROM cycles FOR UPDATE")
        .execute(&mut first)
        .await
        .expect("locked");
    let (ended, refused, ()) = tokio::join!(
        stage.step(),
        async {
            in_line(&stage, 1).await;
            stage.refused(Operation::Pause).await
        },
        async {
            in_line(&stage, 2).await;
            sqlx::raw_sql("ROLLBACK").execute(&mut first).await.expect("the first in line goes on");
        }
    );
    assert_eq!(ended, StateName::Applied);
    assert_eq!(
        refused,
        "cycle 1 has ended; cycle 2 is open now: `mathesis cycle show` tells where it stands"
    );
    assert!(stage.held_by().await.is_empty(), "neither the ended cycle nor the next one is held");
    assert_eq!(stage.number("SELECT count(*) FROM holds").await, 0);
}
