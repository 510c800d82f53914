//! Invariant 6: a paid call is made once an attempt, once more after a crash inside it, and every one is
//! on record with what it cost.

use std::sync::Arc;

use mathesis::cycle::StateName;
use rust_decimal::Decimal;

use crate::support::{Stage, analysis_answer};

async fn analyzing() -> Stage {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_crash_inside_the_call_pays_once_more_and_both_are_on_record() {
    let stage = analyzing().await;
    stage.claude.hold();
    let worker = Arc::clone(&stage.worker);
    let dying = tokio::spawn(async move { worker.work_once().await });
    stage.claude.asked(1).await;
    dying.abort();
    assert!(dying.await.is_err(), "the worker died inside the call");
    assert_eq!(stage.call_statuses(1).await, ["running"]);

    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.release();
    assert_eq!(replica.step().await, StateName::Generating);

    assert_eq!(stage.claude.requests().len(), 2, "once, and once more");
    let calls = stage.calls(1).await;
    let told: Vec<(Option<&str>, Option<bool>)> =
        calls.iter().map(|call| (call.status.as_deref(), call.cost_estimated)).collect();
    assert_eq!(told, [(Some("lost"), Some(true)), (Some("answered"), Some(false))]);
    assert!(calls.iter().all(|call| call.cost_usd > Some(Decimal::ZERO)), "each has its cost");
}

#[tokio::test]
async fn invariant_6_a_crash_after_the_answer_but_before_the_checkpoint_pays_nothing_more() {
    let stage = analyzing().await;
    stage.claude.answer_json(analysis_answer(&[]));
    stage.crash_before_commit().await;
    stage.worker.work_once().await.expect_err("the checkpoint fails");
    stage.commit_again().await;
    assert_eq!(stage.state().await, StateName::Analyzing);
    assert_eq!(stage.call_statuses(1).await, ["answered"]);

    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.claude.requests().len(), 1, "the answer on record was read");
    assert_eq!(stage.call_statuses(1).await, ["answered"]);
}

#[tokio::test]
async fn invariant_6_configured_retries_are_attempts_each_with_its_row() {
    let stage = analyzing().await;
    stage.claude.status(529, &[]).connection_error().answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
    let attempts: Vec<(i32, String)> = stage
        .calls(1)
        .await
        .into_iter()
        .map(|call| (call.attempt, call.status.unwrap_or_default()))
        .collect();
    let expected = [(1, "failed"), (2, "failed"), (3, "answered")];
    assert_eq!(attempts, expected.map(|(attempt, status)| (attempt, status.to_owned())));
}

#[tokio::test]
async fn invariant_6_an_answer_that_cannot_be_used_is_paid_for_once_even_across_a_crash() {
    let stage = analyzing().await;
    stage.claude.answer_text("no JSON at all").answer_json(analysis_answer(&[]));
    stage.crash_before_commit().await;
    stage.worker.work_once().await.expect_err("the checkpoint fails");
    stage.commit_again().await;
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.claude.requests().len(), 2, "the redo read both answers from the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_stale_worker_still_records_what_its_call_cost() {
    let stage = analyzing().await;
    stage.claude.hold();
    let worker = Arc::clone(&stage.worker);
    let stopped = tokio::spawn(async move { worker.work_once().await });
    stage.claude.asked(1).await;

    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    stage.claude.answer_json(analysis_answer(&[])).answer_json(analysis_answer(&[]));
    let released = async {
        stage.claude.asked(2).await;
        stage.claude.release();
    };
    let (living, (), stale) = tokio::join!(replica.step(), released, stopped);
    assert_eq!(living, StateName::Generating);
    let stale = stale.expect("no panic").expect("the database answers");
    assert_eq!(stale, mathesis::runtime::Worked::Lost, "its result came too late");
    assert_eq!(stage.history(1).await.len(), 2, "and moved nothing");
    assert_eq!(stage.call_statuses(1).await, ["answered", "answered"]);
}
