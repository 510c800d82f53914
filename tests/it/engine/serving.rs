//! The whole runtime on the machine's own clock: replicas side by side, a database that goes away.

use std::sync::Arc;
use std::time::Duration;

use mathesis::clock::{Clock, SystemClock};
use mathesis::cycle::StateName;
use mathesis::runtime::{Engine, EngineSettings, Runtime};
use mathesis::store::leases;
use uuid::Uuid;

use crate::support::{Stage, analysis_answer, candidates_win};

/// The stage's engine as a process of its own would have it, and the stage at its hour: where the runtime's clock is
/// hours ahead, it gives up slots that the stage dealt a moment ago.
async fn serve(stage: &Stage) -> Runtime {
    serve_with(stage, stage.engine.settings.lease).await
}

async fn serve_with(stage: &Stage, lease: Duration) -> Runtime {
    stage.clock.set(SystemClock.now());
    let settings = EngineSettings {
        lease,
        shutdown_grace: Duration::ZERO,
        ..stage.engine.settings.as_ref().clone()
    };
    let engine = Engine {
        clock: Arc::new(SystemClock),
        worker_id: Uuid::now_v7(),
        settings: Arc::new(settings),
        ..stage.engine.clone()
    };
    Runtime::start(engine).await.expect("the runtime starts")
}

/// Asks the database until the open cycle is there; half a minute is long enough on any machine.
async fn comes_to(stage: &Stage, cycle: i64, state: StateName) {
    let looking = async {
        loop {
            let open = stage.cycle().await;
            if (open.number, open.snapshot.state.name()) == (cycle, state) {
                return;
            }
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(30), looking).await;
    assert!(
        came.is_ok(),
        "cycle {cycle} does not come to {state}: {}",
        stage.status().await.sentence
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_serving_replicas_walk_a_cycle_to_its_end_by_themselves() {
    let stage = Stage::new().await;
    stage.script_candidates("served");
    let (one, two) = (serve(&stage).await, serve(&stage).await);
    stage.complete_tasks("task", 50, 7).await;
    comes_to(&stage, 1, StateName::Testing).await;
    stage.play_test("test", candidates_win).await;
    comes_to(&stage, 2, StateName::Collecting).await;
    one.shut_down().await;
    two.shut_down().await;

    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
    assert_eq!(stage.claude.requests().len(), 3);
    let effects: Vec<(String, i32)> =
        stage.effects(1).await.into_iter().map(|effect| (effect.status, effect.attempts)).collect();
    assert_eq!(effects, vec![("done".to_owned(), 1); 4], "each effect was performed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_its_lock_before_its_first_claim_and_gives_it_up_last() {
    let stage = Stage::new().await;
    let runtime = serve(&stage).await;
    let worker = runtime.engine().worker_id;
    let mut beside = stage.own_connection().await;
    assert!(!leases::lock_is_free(&mut beside, worker).await.expect("the database answers"));
    runtime.shut_down().await;
    let freed =
        async { while !leases::lock_is_free(&mut beside, worker).await.expect("it answers") {} };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the lock is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_finds_no_database_is_handed_in_when_it_is_back() {
    let stage = Stage::new().await;
    stage.claude.hold();
    let runtime = serve(&stage).await;
    stage.complete_tasks("task", 50, 7).await;
    stage.claude.asked(1).await;

    // Neither the result nor the claim can be given back; each try is counted.
    let mut beside = stage.own_connection().await;
    let away = "CREATE SEQUENCE tries;
                CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'away' USING ERRCODE = '57P01'; END $$;
                CREATE TRIGGER away BEFORE UPDATE ON effects FOR EACH ROW EXECUTE FUNCTION away()";
    sqlx::raw_sql(away).execute(&mut beside).await.expect("the trigger is there");
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.release();
    let tried = async { while stage.number("SELECT last_value FROM tries").await < 2 {} };
    tokio::time::timeout(Duration::from_secs(10), tried).await.expect("both were tried");
    stage.claude.hold();
    stage.by_hand("DROP FUNCTION away() CASCADE").await;

    comes_to(&stage, 1, StateName::Generating).await;
    runtime.shut_down().await;
    assert_eq!(stage.call_statuses(1).await[0], "answered");
    let analyses =
        stage.calls(1).await.into_iter().filter(|call| call.purpose == "analysis").count();
    assert_eq!(analyses, 1, "the answer was paid for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlasts_its_lease_several_times_is_made_once_and_taken_over_by_nobody() {
    let stage = Stage::new().await;
    stage.claude.hold();
    let lease = Duration::from_secs(1);
    let (one, two) = (serve_with(&stage, lease).await, serve_with(&stage, lease).await);
    stage.complete_tasks("task", 50, 7).await;
    stage.claude.asked(1).await;
    let claim = "SELECT worker_id || ' ' || fence || ' ' || status FROM effects";
    let claimed = stage.text(claim).await;
    let clock = "SELECT extract(epoch FROM now())::bigint";
    let asked_at = stage.number(clock).await;
    let outlasted = async { while stage.number(clock).await < asked_at + 5 {} };
    tokio::time::timeout(Duration::from_secs(30), outlasted).await.expect("time passes");

    assert_eq!(stage.text(claim).await, claimed);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.release();
    comes_to(&stage, 1, StateName::Generating).await;
    one.shut_down().await;
    two.shut_down().await;
    let analyses =
        stage.calls(1).await.into_iter().filter(|call| call.purpose == "analysis").count();
    assert_eq!(analyses, 1, "nobody asked a second time");
}
