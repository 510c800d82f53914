//! The engine: claims, fences, rescues, retries, and the price of a transition.

mod price;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use mathesis::cycle::StateName;
use mathesis::runtime::{Engine, EngineSettings, Operation, Worked, Worker};
use mathesis::store::StoreError;
use mathesis::store::claude_calls::{self, Payer};
use mathesis::store::effects::{self, ClaimedEffect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Stage, analysis_answer, asking};

const LEASE: Duration = Duration::from_secs(60);

/// A cycle whose analysis waits for any worker.
async fn analysis_waits(stage: &Stage) {
    stage.please(Operation::Pause).await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.please(Operation::Resume).await;
}

async fn claim(stage: &Stage, worker: Uuid) -> Option<ClaimedEffect> {
    effects::claim(stage.pool(), stage.id(), worker, LEASE, stage.engine.now())
        .await
        .expect("the database answers")
}

#[tokio::test]
async fn a_stale_claim_writes_nothing_whatever_it_tries() {
    let stage = Stage::new().await;
    analysis_waits(&stage).await;
    let stale = claim(&stage, Uuid::now_v7()).await.expect("the analysis waits");
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    let fresh = claim(&stage, replica.engine.worker_id).await.expect("it waits again");
    assert!(fresh.fence > stale.fence);

    let row = "SELECT e::text FROM effects e";
    let before = stage.text(row).await;
    let now = stage.engine.now();
    let mut conn = stage.pool().acquire().await.expect("a connection");
    let tried = [
        effects::finish(&mut conn, &stale, now).await,
        effects::retry_later(stage.pool(), &stale, now, "late", "late").await,
        effects::wait_unspent(&mut conn, &stale).await,
        effects::fail(&mut conn, &stale, "late", "late", now).await,
        claude_calls::begin(stage.pool(), stage.id(), &asking(Payer::Effect(&stale)), now).await,
    ];
    for outcome in tried {
        assert!(matches!(outcome, Err(StoreError::LeaseLost { .. })), "{outcome:?}");
    }
    effects::hand_back(stage.pool(), &stale).await.expect("handing back what is lost is no error");
    assert_eq!(stage.text(row).await, before);
    assert_eq!(stage.calls(1).await.len(), 0, "a call that is not on record is not made");
    let begun =
        claude_calls::begin(stage.pool(), stage.id(), &asking(Payer::Effect(&fresh)), now).await;
    assert!(begun.is_ok(), "{begun:?}");
    let lost = async |claim| claude_calls::write_off_lost(stage.pool(), claim, now).await;
    assert_eq!(lost(&stale).await.expect("it answers"), 0, "the call is under way in other hands");
    assert_eq!(lost(&fresh).await.expect("it answers"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_a_rescue_leaves_exactly_one_of_everything() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.hold();
    let worker = Arc::clone(&stage.worker);
    let stopped = tokio::spawn(async move { worker.work_once().await.expect("the worker works") });
    stage.claude.asked(1).await;
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    stage.claude.answer_json(analysis_answer(&[])).answer_json(analysis_answer(&[]));
    stage.claude.release();
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stopped.await.expect("no panic"), Worked::Lost);

    assert_eq!(stage.number("SELECT count(*) FROM cycle_transitions").await, 2);
    assert_eq!(stage.number("SELECT count(*) FROM analyses").await, 1);
    assert_eq!(stage.number("SELECT count(*) FROM insights").await, 2);
    assert_eq!(
        stage.number("SELECT count(*) FROM effects").await,
        2,
        "the analysis and the generation"
    );
    let analysis = &stage.effects(1).await[0];
    assert_eq!((analysis.status.as_str(), analysis.attempts), ("done", 2), "the lost try counts");
}

#[tokio::test]
async fn a_machine_that_vanished_keeps_its_claim_until_the_lease_is_over() {
    let stage = Stage::new().await;
    let mut session = stage.rescuer();
    session.look().await.expect("it takes its lock");
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 0, "its lock is held and its lease is good");

    stage
        .by_hand(
            "UPDATE effects SET lease_until = now() - interval '1 second' WHERE status = 'claimed'",
        )
        .await;
    assert_eq!(replica.rescue().await, 1, "the lease is over, whatever the lock says");
    stage.claude.answer_json(analysis_answer(&[])).answer_json(analysis_answer(&[]));
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.work().await, Worked::Lost, "when it wakes, it has lost its claim");
}

#[tokio::test]
async fn a_dead_process_loses_its_lock_and_a_replica_takes_over() {
    let stage = Stage::new().await;
    let mut session = stage.rescuer();
    session.look().await.expect("it takes its lock");
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 0);

    drop(session);
    let mut looks = 0;
    while replica.rescue().await == 0 {
        looks += 1;
        assert!(looks < 1_000, "the lock of a dead session is free");
    }
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(replica.step().await, StateName::Generating);
}

#[tokio::test]
async fn an_effect_that_kills_its_worker_each_time_is_held_in_the_end() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let most = stage.workflow.definition.retry.attempts_max;
    let mut deaths = 0;
    let held = loop {
        // A process that dies with the claim: its session goes, and nobody hands anything back.
        stage.by_hand("UPDATE effects SET lease_until = now() - interval '1 second' WHERE status = 'claimed'").await;
        let replica = stage.another().await;
        assert_eq!(replica.rescue().await, 1);
        deaths += 1;
        if deaths > most {
            break replica.work().await;
        }
        stage.by_hand(
            "UPDATE effects SET status = 'claimed', worker_id = gen_random_uuid(), lease_until = now(), fence = fence + 1
              WHERE status = 'pending'",
        )
        .await;
    };
    assert_eq!(held, Worked::Failed { code: "gave_up".to_owned(), held: true });
    assert!(stage.claude.requests().is_empty(), "nothing was paid for it any more");
    assert_eq!(stage.state().await, StateName::Analyzing, "the cycle stands, held");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_with_the_connection_is_found_and_handed_back() {
    let stage = Stage::new().await;
    stage.operate(Operation::Pause).await.expect("it is paused");
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.operate(Operation::Resume).await.expect("it goes on");
    // The claim is committed, and this process never hears of it.
    let lease = stage.engine.settings.lease;
    let lost =
        effects::claim(stage.pool(), stage.id(), stage.engine.worker_id, lease, stage.engine.now());
    assert!(lost.await.expect("the claim commits").is_some());

    assert_eq!(stage.work().await, Worked::Idle, "nobody knows of it");
    assert_eq!(stage.rescue().await, 0, "its answer may still come");
    assert_eq!(stage.rescue().await, 1, "it did not");
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn a_claim_that_waits_in_this_process_is_left_alone() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!((stage.rescue().await, stage.rescue().await), (0, 0));
}

#[tokio::test]
async fn a_young_session_does_not_take_a_missing_lock_for_a_death() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let replica = stage.another().await;
    let mut young = replica.rescuer().trusting_locks_after(Duration::from_secs(3_600));
    assert_eq!(
        young.look().await.expect("the rescuer looks"),
        0,
        "the server may just have restarted"
    );
    assert_eq!(stage.another().await.rescue().await, 1, "an older session knows better");
}

#[tokio::test]
async fn renewing_keeps_a_claim_alive() {
    let stage = Stage::new().await;
    let mut session = stage.rescuer();
    session.look().await.expect("it takes its lock");
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage
        .by_hand(
            "UPDATE effects SET lease_until = now() - interval '1 second' WHERE status = 'claimed'",
        )
        .await;
    let renewed = effects::renew(stage.pool(), stage.engine.worker_id, LEASE).await;
    assert_eq!(renewed.expect("the database answers"), 1);
    assert_eq!(stage.another().await.rescue().await, 0);
}

#[tokio::test]
async fn a_cycle_that_a_newer_version_wrote_is_left_to_that_one() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let newer = "UPDATE cycles SET snapshot = snapshot
                     || jsonb_build_object('format', 99, 'before', snapshot->'format')";
    stage.by_hand(newer).await;
    for _ in 0..3 {
        assert_eq!(stage.work().await, Worked::Waits);
        stage.clock.advance(TimeDelta::seconds(1));
    }
    let effect = stage.last_effect(1).await;
    assert_eq!((effect.status.as_str(), effect.attempts), ("pending", 0), "no try is spent");
    assert_eq!(stage.number("SELECT count(*) FROM holds").await, 0, "nobody has to come");
    assert_eq!(stage.claude.requests().len(), 0, "and nothing is paid for");

    let as_before = "UPDATE cycles SET snapshot = (snapshot - 'before')
                         || jsonb_build_object('format', snapshot->'before')";
    stage.by_hand(as_before).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn a_definition_that_a_newer_version_registered_is_left_to_that_one() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let in_force = "SELECT definition::text FROM workflow_definitions";
    let as_before: Value = serde_json::from_str(&stage.text(in_force).await).expect("JSON");
    let mut newer = as_before.clone();
    newer["gate"]["of_a_later_version"] = json!(true);
    stage.redefine(&newer).await;
    assert_eq!(stage.work().await, Worked::Waits);
    let effect = stage.last_effect(1).await;
    assert_eq!((effect.status.as_str(), effect.attempts), ("pending", 0), "no try is spent");
    assert_eq!(stage.number("SELECT count(*) FROM holds").await, 0, "nobody has to come");
    assert_eq!(stage.claude.requests().len(), 0, "and nothing is paid for");

    stage.clock.advance(TimeDelta::seconds(1));
    stage.redefine(&as_before).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn a_definition_that_is_not_what_was_stored_is_a_persons_to_look_at() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.by_hand("UPDATE workflow_definitions SET definition = definition - 'models'").await;
    stage.work().await;
    let effect = stage.last_effect(1).await;
    assert_eq!((effect.status.as_str(), effect.attempts), ("failed", 1));
    assert_eq!(stage.number("SELECT count(*) FROM holds").await, 1);
    assert_eq!(stage.claude.requests().len(), 0, "nothing is paid for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_its_effects_back_without_spending_a_try() {
    let stage = Stage::new().await;
    analysis_waits(&stage).await;
    let settings =
        EngineSettings { shutdown_grace: Duration::ZERO, ..stage.engine.settings.as_ref().clone() };
    let leaving =
        Arc::new(Worker::new(Engine { settings: Arc::new(settings), ..stage.engine.clone() }));
    stage.claude.hold();
    let stop = CancellationToken::new();
    let running = tokio::spawn(leaving.run(stop.clone()));
    stage.claude.asked(1).await;
    assert_eq!(stage.last_effect(1).await.status, "claimed");
    stop.cancel();
    running.await.expect("the worker stops");

    let effect = stage.last_effect(1).await;
    assert_eq!((effect.status.as_str(), effect.attempts), ("pending", 0));
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.release();
    assert_eq!(stage.another().await.step().await, StateName::Generating);
}

#[tokio::test]
async fn retries_back_off_by_the_workflows_rules_and_end_in_a_hold() {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.retry.attempts_max = 4;
            definition.retry.first_delay_seconds = 10;
            definition.retry.delay_max_seconds = 30;
            definition.claude.request_retries_max = 0;
        })
        .build()
        .await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    let failed = |held| Worked::Failed { code: "claude_server_failed".to_owned(), held };
    for seconds in [10, 20, 30] {
        stage.claude.status(500, &[]);
        assert_eq!(stage.work().await, failed(false));
        assert_eq!(stage.held_by().await, [""; 0], "nobody is asked while it may mend itself");
        stage.clock.advance(TimeDelta::seconds(seconds - 1));
        assert_eq!(stage.work().await, Worked::Idle, "it waits {seconds} s");
        stage.clock.advance(TimeDelta::seconds(1));
    }
    stage.claude.status(500, &[]);
    assert_eq!(stage.work().await, failed(true));
    assert_eq!(stage.the_hold().await.kind, "effect_failed");
    assert_eq!(stage.last_effect(1).await.attempts, 4);
    assert_eq!(stage.call_statuses(1).await, ["failed"; 4]);
}

#[tokio::test]
async fn a_wait_that_claude_asks_for_outranks_the_workflows_own() {
    let stage = Stage::builder()
        .definition(|definition| definition.claude.request_retries_max = 0)
        .build()
        .await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.status(429, &[("retry-after", "300")]);
    assert!(matches!(stage.work().await, Worked::Failed { held: false, .. }));
    let wait = stage.last_effect(1).await.run_after - stage.engine.now();
    assert_eq!(wait, TimeDelta::seconds(300));
}

#[tokio::test]
async fn a_claim_passes_over_an_effect_that_another_worker_is_just_claiming() {
    let stage = Stage::new().await;
    analysis_waits(&stage).await;
    let mut other = stage.own_connection().await;
    sqlx::raw_sql("BEGIN; SELECT FROM effects FOR UPDATE")
        .execute(&mut other)
        .await
        .expect("it is locked");
    let passed = tokio::time::timeout(Duration::from_secs(5), claim(&stage, Uuid::now_v7())).await;
    assert!(passed.expect("it does not wait").is_none(), "nor does it claim a second time");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("it is free");
    assert!(claim(&stage, Uuid::now_v7()).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_claim_at_once_never_perform_the_same_effect() {
    let stage = Stage::new().await;
    let replicas = [
        stage.another().await,
        stage.another().await,
        stage.another().await,
        stage.another().await,
    ];
    analysis_waits(&stage).await;
    stage.script_candidates("shared");
    let claims = |worked: Vec<Worked>| {
        worked.into_iter().filter(|one| *one != Worked::Idle).collect::<Vec<_>>()
    };

    let first = claims(join_all(replicas.iter().map(Stage::work)).await);
    assert_eq!(first, [Worked::Done(Some(StateName::Generating))]);
    let second = claims(join_all(replicas.iter().map(Stage::work)).await);
    assert_eq!(second, [Worked::Done(Some(StateName::Testing))]);
    assert_eq!(stage.claude.requests().len(), 3, "an analysis and two generations");
}
