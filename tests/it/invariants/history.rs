//! Invariants 7 and 8: history replays, and what was acknowledged is there.

use mathesis::cycle::StateName;
use mathesis::runtime::{Operation, replay};
use sqlx::Connection;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, candidates_win, no_difference};

/// The history has no holes, and the machine gives the stored state from it.
async fn replays(stage: &Stage, cycle: i64, ended: StateName) {
    let history = stage.history(cycle).await;
    let numbers: Vec<i64> = history.iter().map(|row| row.seq).collect();
    let gapless: Vec<i64> = (1..).take(history.len()).collect();
    assert_eq!(numbers, gapless, "cycle {cycle}");
    let stored = stage.cycle_number(cycle).await.snapshot;
    assert_eq!(stored.state.name(), ended, "cycle {cycle}");
    let events = history.iter().map(|row| &row.event);
    let replayed = replay(stage.opened(cycle), events).expect("every event is accepted again");
    assert_eq!(replayed, stored, "cycle {cycle}");
}

#[tokio::test]
async fn invariant_7_every_history_is_gapless_and_replays_to_the_stored_state() {
    let stage = Stage::new().await;
    stage.reach_applied("one").await;

    stage.reach_deciding("two", no_difference).await;
    assert_eq!(stage.step().await, StateName::Rejected);

    stage.start_test("three").await;
    stage.please(Operation::Pause).await;
    stage.please(Operation::Cancel).await;

    stage.reach_applying("four").await;
    for model in [WAN, NANO] {
        stage.please(Operation::Rollback { model: model.to_owned(), to: 1 }).await;
    }
    assert_eq!(stage.step().await, StateName::RolledBack);

    replays(&stage, 1, StateName::Applied).await;
    replays(&stage, 2, StateName::Rejected).await;
    replays(&stage, 3, StateName::Cancelled).await;
    replays(&stage, 4, StateName::RolledBack).await;
    assert_eq!(stage.cycle().await.number, 5);
}

#[tokio::test]
async fn invariant_8_an_acknowledged_event_is_committed_and_counts_once() {
    let stage = Stage::new().await;
    let events = TaskRun::new("once", &[(WAN, 0, 8), (NANO, 0, 6)]).events();
    let first = stage.log(events.clone()).await;
    assert_eq!((first.accepted, first.duplicate), (events.len(), 0));

    let mut beside = stage.own_connection().await;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM task_events")
        .fetch_one(&mut beside)
        .await
        .expect("the query answers");
    assert_eq!(seen, i64::try_from(events.len()).expect("few"), "another session sees every event");
    beside.close().await.expect("the connection closes");

    let second = stage.log(events.clone()).await;
    assert_eq!((second.accepted, second.duplicate), (0, events.len()));
    assert_eq!(stage.number("SELECT count(*) FROM attempts").await, 2);
}

#[tokio::test]
async fn invariant_8_a_whole_test_lands_the_same_in_any_order_and_sent_twice() {
    let (in_order, backwards) = (Stage::new().await, Stage::new().await);
    for stage in [&in_order, &backwards] {
        stage.start_test("seed").await;
    }
    for n in 1..=20 {
        let task = format!("any-{n}");
        for (stage, reversed) in [(&in_order, false), (&backwards, true)] {
            let mut attempts = Vec::new();
            for model in [WAN, NANO] {
                let told = stage.assign(&task, model).await;
                attempts.push((model, told.version, candidates_win(model, &told)));
            }
            let mut events = TaskRun::new(task.clone(), &attempts).events();
            if reversed {
                events.reverse();
                stage.log(events.clone()).await;
            }
            for event in events {
                stage.log(vec![event]).await;
            }
            stage.watch().await;
        }
    }
    let landed = "SELECT string_agg(concat_ws('|', t.clickup_task_id, t.ended_by, t.winner_model, t.winner_score,
                         a.model_name, a.prompt_version, a.validation_score, a.was_selected, a.enhanced_prompt),
                         E'\n' ORDER BY t.clickup_task_id, a.model_name)
                    FROM tasks t JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id";
    assert_eq!(in_order.text(landed).await, backwards.text(landed).await);
    for model in [WAN, NANO] {
        assert_eq!(
            in_order.experiment_as_text(1, model).await,
            backwards.experiment_as_text(1, model).await
        );
    }
    assert_eq!(backwards.state().await, StateName::Deciding);
}
