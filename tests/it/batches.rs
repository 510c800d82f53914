//! Calls that go into batches: half the price, up to a day each, and lost by no crash.

use std::sync::Arc;

use chrono::TimeDelta;
use mathesis::claude::scripted::{BatchFault, Fate};
use mathesis::claude::{ApiKey, ClaudeSettings, HttpClaude};
use mathesis::cycle::StateName;
use mathesis::runtime::{Engine, Operation, Worked, Worker, settle_abandoned_batches};
use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use mathesis::stand_in::fault::{BatchFate, Fault};
use mathesis::stand_in::script::{Matcher, Script};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::support::{Stage, analysis_answer, edit_answer, nano_edit_answer};

/// A stage whose analysis is asked for, in a batch or at once.
async fn analyzing(batch: bool) -> Stage {
    let build = Stage::builder().definition(move |definition| {
        definition.trigger.tasks = 3;
        definition.claude.batch = batch;
    });
    let stage = build.build().await;
    stage.complete_tasks("seed", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage
}

/// A stage that waits for the batch of its analysis.
async fn waiting() -> Stage {
    let stage = analyzing(true).await;
    assert_eq!(stage.work().await, Worked::Waits);
    stage
}

/// Later, when a batch is looked at again.
fn later(stage: &Stage) {
    stage.clock.advance(TimeDelta::minutes(11));
}

fn failed(code: &str, held: bool) -> Worked {
    Worked::Failed { code: code.to_owned(), held }
}

/// The process dies while it hands the batch in: before it arrives, or after.
async fn dies_handing_in(stage: &Stage) -> Stage {
    let worker = Arc::clone(&stage.worker);
    let dying = tokio::spawn(async move { worker.work_once().await });
    stage.claude.asked(1).await;
    dying.abort();
    assert!(dying.await.is_err(), "the worker died in the middle");
    stage.claude.release();
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    replica
}

/// Each call of the cycle with its cost.
async fn told(stage: &Stage) -> Vec<String> {
    let line = |call: mathesis::store::claude_calls::CallRow| {
        format!(
            "{} {}, attempt {}, {}{}",
            call.purpose,
            call.status.as_deref().unwrap_or("running"),
            call.attempt,
            if call.cost_usd.unwrap_or_default() == Decimal::ZERO { "free" } else { "paid" },
            if call.cost_estimated == Some(true) { " (estimated)" } else { "" },
        )
    };
    stage.calls(1).await.into_iter().map(line).collect()
}

#[tokio::test]
async fn a_cycle_goes_through_batches_without_a_claim_in_hand_and_each_call_costs_half() {
    let stage = waiting().await;
    assert_eq!(stage.work().await, Worked::Idle, "nobody sits with it");
    let effect = stage.last_effect(1).await;
    assert_eq!((effect.status.as_str(), effect.attempts), ("pending", 0));
    insta::assert_snapshot!(stage.status().await.sentence, @"Cycle 1 Analyzing: Claude reads 3 tasks, waiting for a batch since 2026-11-23 12:00 UTC (up to 24 h)");
    later(&stage);
    assert_eq!(stage.work().await, Worked::Waits, "it has not ended");

    stage.claude.answer_json(analysis_answer(&["seed-1"])).end_batches();
    later(&stage);
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(stage.claude.batches_made(), 3, "the models' batches run side by side");
    assert_eq!(stage.status().await.batches.len(), 2);
    stage.claude.answer_json(edit_answer("Name what stays."));
    stage.claude.answer_json(nano_edit_answer("Keep the logo."));
    stage.claude.end_batches();
    later(&stage);
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(stage.last_effect(1).await.attempts, 1, "waiting spent no try");
    assert!(stage.status().await.batches.is_empty());

    let batched = stage.calls(1).await;
    assert!(batched.iter().all(|call| call.batch && call.batch_id.is_some()));
    let direct = analyzing(false).await;
    direct.claude.answer_json(analysis_answer(&["seed-1"]));
    direct.claude.answer_json(edit_answer("Name what stays."));
    direct.claude.answer_json(nano_edit_answer("Keep the logo."));
    direct.step().await;
    direct.step().await;
    let full = direct.calls(1).await;
    let pairs = batched.iter().zip(&full);
    assert_eq!((batched.len(), full.len()), (3, 3));
    for (half, full) in pairs {
        assert_eq!(half.input_tokens, full.input_tokens, "it is the same question");
        assert_eq!(half.cost_usd.map(|cost| cost * Decimal::TWO), full.cost_usd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_batch_arrives_is_written_off_and_asked_once_more() {
    let stage = analyzing(true).await;
    stage.claude.hold();
    let replica = dies_handing_in(&stage).await;
    stage.claude.foreign_batch(1).foreign_batch(7);
    assert_eq!(replica.work().await, Worked::Waits, "it may still be listed");
    later(&stage);
    later(&stage);
    assert_eq!(replica.work().await, Worked::Waits, "it was not, and is asked for once more");
    assert_eq!(
        told(&stage).await,
        ["analysis lost, attempt 1, paid (estimated)", "analysis running, attempt 2, free"]
    );
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.claude.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_batch_arrived_finds_it_among_the_accounts_and_pays_nothing_more() {
    let stage = analyzing(true).await;
    stage.claude.keep_answers();
    let replica = dies_handing_in(&stage).await;
    // Others hand in theirs; ours is on the second page now.
    stage.claude.foreign_batch(1).foreign_batch(7);
    assert_eq!(replica.work().await, Worked::Waits);
    later(&stage);
    later(&stage);
    assert_eq!(replica.work().await, Worked::Waits, "one of that time goes on, and may be ours");
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(told(&stage).await, ["analysis answered, attempt 1, paid"]);
    assert_eq!(stage.calls(1).await[0].batch_id.as_deref(), Some("msgbatch_scripted_001"));
}

#[tokio::test]
async fn an_answer_lost_on_the_way_is_looked_for_like_a_crash() {
    let stage = analyzing(true).await;
    stage.claude.batch_fault(BatchFault::AnswerLost);
    assert_eq!(stage.work().await, Worked::Waits);
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.claude.batches_made(), 1);

    let stage = analyzing(true).await;
    stage.claude.batch_fault(BatchFault::RequestLost);
    assert_eq!(stage.work().await, Worked::Waits);
    later(&stage);
    later(&stage);
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(
        told(&stage).await,
        ["analysis lost, attempt 1, paid (estimated)", "analysis running, attempt 2, free"]
    );
}

#[tokio::test]
async fn a_refused_batch_costs_nothing_and_is_tried_again_like_any_call() {
    let stage = analyzing(true).await;
    stage.claude.batch_fault(BatchFault::Status(529)).batch_fault(BatchFault::Status(400));
    assert_eq!(stage.work().await, failed("claude_overloaded", false));
    stage.clock.advance(TimeDelta::seconds(31));
    assert_eq!(stage.work().await, failed("claude_bad_request", true));
    stage.please(Operation::Retry).await;
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(
        told(&stage).await,
        [
            "analysis failed, attempt 1, free",
            "analysis failed, attempt 2, free",
            "analysis running, attempt 3, free"
        ]
    );
}

#[tokio::test]
async fn any_process_goes_on_with_a_batch_that_another_handed_in() {
    let stage = waiting().await;
    let replica = stage.another().await;
    drop(stage.rescuing.lock().await.take());
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.claude.batches_made(), 1);
}

#[tokio::test]
async fn a_crash_after_the_result_and_before_the_transition_pays_nothing_more() {
    let stage = waiting().await;
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    stage.crash_before_commit().await;
    stage.worker.work_once().await.expect_err("the checkpoint fails");
    stage.commit_again().await;
    let looks = stage.claude.batch_looks();

    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.claude.batch_looks(), looks, "the answer on record was read");
    assert_eq!(stage.call_statuses(1).await, ["answered"]);
}

#[tokio::test]
async fn an_answer_is_taken_though_its_question_would_be_another_one_by_now() {
    let stage = waiting().await;
    stage.by_hand("UPDATE attempts SET validation_score = 2").await;
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.claude.batches_made(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_asked_for_again_in_another_batch() {
    let stage = waiting().await;
    stage.claude.answer_text("no JSON at all").end_batches();
    later(&stage);
    assert_eq!(stage.work().await, Worked::Waits);
    let second = stage.claude.requests().pop().expect("it asked again");
    assert!(format!("{second:?}").contains("does not have the asked shape"), "with the reason");
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(
        told(&stage).await,
        ["analysis answered, attempt 1, paid", "analysis answered, attempt 2, paid"]
    );
}

#[tokio::test]
async fn an_expired_batch_costs_nothing_and_spends_a_try() {
    let stage = waiting().await;
    stage.claude.end_batches_as(Fate::Expired);
    later(&stage);
    assert_eq!(stage.work().await, failed("claude_batch_expired", false));
    assert_eq!(stage.last_effect(1).await.attempts, 1);
    stage.clock.advance(TimeDelta::seconds(31));
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(
        told(&stage).await,
        ["analysis failed, attempt 1, free", "analysis running, attempt 2, free"]
    );
}

#[tokio::test]
async fn an_error_inside_a_batch_is_what_it_would_have_been_outside() {
    for (error_type, code, held) in [
        ("overloaded_error", "claude_overloaded", false),
        ("invalid_request_error", "claude_bad_request", true),
    ] {
        let stage = waiting().await;
        stage.claude.end_batches_as(Fate::Errored(error_type));
        later(&stage);
        assert_eq!(stage.work().await, failed(code, held));
        assert_eq!(told(&stage).await, ["analysis failed, attempt 1, free"]);
    }
}

#[tokio::test]
async fn a_batch_that_somebody_else_cancelled_asks_a_person() {
    let stage = waiting().await;
    stage.claude.end_batches_as(Fate::Canceled);
    later(&stage);
    assert_eq!(stage.work().await, failed("claude_batch_canceled", true));
    stage.please(Operation::Retry).await;
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(stage.claude.batches_made(), 2);
}

#[tokio::test]
async fn a_look_that_fails_costs_patience_and_never_a_try() {
    let stage = waiting().await;
    for _ in 0..8 {
        later(&stage);
        stage.claude.batch_fault(BatchFault::Status(500));
        assert_eq!(stage.work().await, Worked::Waits);
    }
    stage.claude.batch_fault(BatchFault::NoConnection);
    later(&stage);
    assert_eq!(stage.work().await, Worked::Waits);
    assert_eq!(stage.last_effect(1).await.attempts, 0);

    later(&stage);
    stage.claude.batch_fault(BatchFault::Status(401));
    assert_eq!(stage.work().await, failed("claude_invalid_key", true), "this takes a person");
    stage.please(Operation::Retry).await;
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    assert_eq!(stage.step().await, StateName::Generating, "and then it is the same batch");
    assert_eq!(stage.claude.batches_made(), 1);
}

#[tokio::test]
async fn a_batch_that_is_gone_or_does_not_end_is_written_off_and_asked_once_more() {
    let gone = waiting().await;
    gone.claude.batch_fault(BatchFault::Status(404));
    later(&gone);
    assert_eq!(gone.work().await, Worked::Waits);
    let overdue = waiting().await;
    overdue.clock.advance(TimeDelta::hours(31));
    assert_eq!(overdue.work().await, Worked::Waits);
    for stage in [gone, overdue] {
        assert_eq!(
            told(&stage).await,
            ["analysis lost, attempt 1, paid (estimated)", "analysis running, attempt 2, free"]
        );
    }
}

#[tokio::test]
async fn a_pause_leaves_the_batch_alone_and_its_answer_is_there_afterwards() {
    let stage = waiting().await;
    stage.please(Operation::Pause).await;
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    later(&stage);
    assert_eq!(stage.work().await, Worked::Idle);
    assert!(stage.claude.batches_cancelled().is_empty());
    stage.please(Operation::Resume).await;
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn a_cancelled_cycle_cancels_its_batch_once_and_puts_its_cost_on_record() {
    let stage = waiting().await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.cycle().await.number, 2);
    for _ in 0..2 {
        assert_eq!(settle_abandoned_batches(&stage.engine).await.expect("it looks"), 0);
    }
    assert_eq!(stage.claude.batches_cancelled(), ["msgbatch_scripted_001"]);
    stage.claude.end_batches_as(Fate::Canceled);
    assert_eq!(settle_abandoned_batches(&stage.engine).await.expect("it looks"), 1);
    assert_eq!(told(&stage).await, ["analysis failed, attempt 1, free"]);
    assert_eq!(settle_abandoned_batches(&stage.engine).await.expect("it looks"), 0);

    let stage = waiting().await;
    stage.please(Operation::Cancel).await;
    stage.claude.answer_json(analysis_answer(&[])).end_batches();
    assert_eq!(settle_abandoned_batches(&stage.engine).await.expect("it looks"), 1);
    assert_eq!(told(&stage).await, ["analysis answered, attempt 1, paid"], "it was answered first");
}

#[tokio::test]
async fn a_batch_is_booked_at_half_and_so_fits_a_budget_that_a_call_does_not() {
    let reserved = |stage: &Stage| {
        let pool = stage.pool().clone();
        async move {
            sqlx::query_scalar::<_, Decimal>("SELECT estimated_cost_usd FROM claude_calls")
                .fetch_one(&pool)
                .await
                .expect("a call is on record")
        }
    };
    let half = reserved(&waiting().await).await;
    let direct = analyzing(false).await;
    direct.claude.answer_json(analysis_answer(&[]));
    direct.step().await;
    assert_eq!(reserved(&direct).await, half * Decimal::TWO);

    for (batch, expected) in [(true, Worked::Waits), (false, failed("budget_spent", true))] {
        let build = Stage::builder().definition(move |definition| {
            definition.trigger.tasks = 3;
            definition.claude.batch = batch;
            definition.claude.budget_usd_per_month = half;
        });
        let stage = build.build().await;
        stage.complete_tasks("seed", 3, 7).await;
        stage.watch().await;
        assert_eq!(stage.work().await, expected);
    }
}

/// A stage whose Claude is the real client at a stand-in.
struct AtStandIn {
    stage: Stage,
    worker: Worker,
    script: Script,
    stand_in: ClaudeStandIn,
}

impl AtStandIn {
    async fn analyzing() -> Self {
        let stage = analyzing(true).await;
        stage.worker.hand_back_waiting().await;
        let script = Script::new(1);
        let settings = StandInSettings { api_key: "sk".to_owned(), port: 0 };
        let answer = |_: &Value| Reply::Text(analysis_answer(&["seed-1"]).to_string());
        let clock = stage.clock.clone();
        let stand_in = ClaudeStandIn::start_by_clock(settings, script.clone(), answer, clock)
            .await
            .expect("it starts");
        let key = ApiKey::new("sk").expect("a key");
        let claude =
            HttpClaude::new(ClaudeSettings::new(stand_in.base_url(), Some(key))).expect("a client");
        let engine = Engine { claude: Arc::new(claude), ..stage.engine.clone() };
        Self { worker: Worker::new(engine), stage, script, stand_in }
    }

    async fn work(&self) -> Worked {
        self.worker.work_once().await.expect("the worker works")
    }
}

/// The requests that hand a batch in.
fn posts() -> Matcher {
    Matcher::claude().method("POST").path("/v1/messages/batches")
}

#[tokio::test]
async fn the_real_client_hands_in_looks_and_fetches() {
    let at = AtStandIn::analyzing().await;
    at.script.when(posts(), 1, Fault::Batch(BatchFate::Slow { looks: 1 }));
    assert_eq!(at.work().await, Worked::Waits);
    later(&at.stage);
    assert_eq!(at.work().await, Worked::Waits, "it is in progress");
    later(&at.stage);
    assert_eq!(at.work().await, Worked::Done(Some(StateName::Generating)));
    assert_eq!(at.script.seen(&posts()).len(), 1);
    assert_eq!(at.stand_in.calls(), 1);
    assert_eq!(told(&at.stage).await, ["analysis answered, attempt 1, paid"]);
}

#[tokio::test]
async fn the_real_client_finds_a_batch_whose_id_it_was_never_told() {
    let at = AtStandIn::analyzing().await;
    at.script.when(posts(), 1, Fault::DropBeforeAnswer);
    assert_eq!(at.work().await, Worked::Waits);
    assert_eq!(at.stage.calls(1).await[0].batch_id, None);
    later(&at.stage);
    assert_eq!(at.work().await, Worked::Done(Some(StateName::Generating)));
    assert_eq!(at.script.seen(&posts()).len(), 1, "it was paid for once");
}

#[tokio::test]
async fn the_real_client_reads_every_end_of_a_batch() {
    for (fate, code, held) in [
        (BatchFate::Expired, "claude_batch_expired", false),
        (BatchFate::Canceled, "claude_batch_canceled", true),
        (BatchFate::Errored, "claude_server_failed", false),
    ] {
        let at = AtStandIn::analyzing().await;
        at.script.when(posts(), 1, Fault::Batch(fate));
        assert_eq!(at.work().await, Worked::Waits);
        later(&at.stage);
        assert_eq!(at.work().await, failed(code, held));
    }
    let at = AtStandIn::analyzing().await;
    at.script.when(posts(), 1, Fault::Batch(BatchFate::NeverEnds));
    assert_eq!(at.work().await, Worked::Waits);
    at.stage.clock.advance(TimeDelta::hours(23));
    assert_eq!(at.work().await, Worked::Waits);
    at.stage.clock.advance(TimeDelta::hours(2));
    assert_eq!(at.work().await, failed("claude_batch_expired", false), "its day is over");
}
