//! Whatever the order and the batches, the rows are the same.

use std::collections::HashSet;

use mathesis::store::task_log::{Recorded, record};
use mathesis::task_log::Arrived;
use proptest::prelude::*;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{event, models, rows, run, time, workflow};
use crate::support;

/// Any events of two small tasks, each with a key of its own, and cuts that divide them into batches.
fn any_history() -> impl Strategy<Value = (Vec<Value>, Vec<usize>, Vec<usize>)> {
    let any_body = prop_oneof![
        Just(json!({"type": "task_started", "original_prompt": "p"})),
        Just(json!({"type": "completed", "processing_time_ms": 5})),
        Just(json!({"type": "completed"})),
        (prop_oneof![Just(json!("wan")), Just(json!("nano")), Just(Value::Null)], 1..=2)
            .prop_map(|(winner, total)| json!({"type": "winner", "winner": winner, "total_iterations": total})),
        (0..3, any_fault()).prop_map(|(n, fault)| json!({"type": "error", "error": format!("e{n}"), "fault": fault, "stage": "s"})),
        (0..3).prop_map(|n| json!({"type": "feedback", "comment": format!("c{n}"), "kept": n == 1})),
        (any_attempt(), 0..3).prop_map(|((model, iteration), version)| {
            let version = if version == 0 { Value::Null } else { json!(version) };
            json!({"type": "enhancement", "model": model, "iteration": iteration, "version": version,
                   "original_prompt": "p", "enhanced_prompt": format!("of {version}")})
        }),
        any_attempt().prop_map(|(model, iteration)| json!({"type": "generation", "model": model, "iteration": iteration, "image_url": "u"})),
        any_attempt().prop_map(|(model, iteration)| json!({"type": "validation", "model": model, "iteration": iteration, "score": 8, "passed": true})),
        (any_attempt(), 0..3, any_fault()).prop_map(|((model, iteration), n, fault)| {
            json!({"type": "error", "model": model, "iteration": iteration, "error": format!("e{n}"), "fault": fault})
        }),
    ];
    let any_event =
        (any_body, prop_oneof![4 => Just("a"), 1 => Just("b")], 0..4_i64, 0..3, any::<bool>())
            .prop_map(|(mut event, task, second, value, timed)| {
                event["task_id"] = json!(task);
                event["metadata"] = json!({"x": value, format!("y{value}"): value});
                if timed {
                    event["at"] = json!(time(second).to_rfc3339());
                }
                event
            });
    prop::collection::vec(any_event, 1..24).prop_flat_map(|events| {
        let mut keys = HashSet::new();
        let events: Vec<Value> =
            events.into_iter().filter(|sent| keys.insert(event(0, sent, 0).key)).collect();
        let length = events.len();
        let order = Just((0..length).collect::<Vec<_>>()).prop_shuffle();
        (Just(events), order, prop::collection::vec(1..=length, 0..6))
    })
}

fn any_fault() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), Just(json!("prompt")), Just(json!("infrastructure"))]
}

fn any_attempt() -> impl Strategy<Value = (&'static str, i32)> {
    (prop_oneof![Just("wan"), Just("nano"), Just("stranger")], 1..=2)
}

/// Records events in this order, divided at these places; each arrives in the second of its index.
async fn replay(pool: &PgPool, wf: i64, events: &[Value], order: &[usize], cuts: &[usize]) {
    let arrived: Vec<Arrived> = order
        .iter()
        .map(|index| event(wf, &events[*index], i64::try_from(*index).unwrap()))
        .collect();
    let mut cuts = cuts.to_vec();
    cuts.sort_unstable();
    let mut from = 0;
    for to in cuts.into_iter().chain([events.len()]) {
        let batch = &arrived[from..to.max(from)];
        let verdicts = record(pool, wf, &models(), batch).await.unwrap();
        assert_eq!(verdicts, vec![Recorded::Accepted; batch.len()]);
        from = to.max(from);
    }
}

fn in_any_order(
    cases: u32,
    histories: impl Strategy<Value = (Vec<Value>, Vec<usize>, Vec<usize>)>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(support::database());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut number = 0;
    let number = std::cell::RefCell::new(&mut number);
    proptest!(config, |((events, order, cuts) in histories)| {
        **number.borrow_mut() += 1;
        let case = **number.borrow();
        runtime.block_on(async {
            let straight = workflow(&pool, &format!("straight-{case}")).await;
            let shuffled = workflow(&pool, &format!("shuffled-{case}")).await;
            let as_sent: Vec<usize> = (0..events.len()).collect();
            replay(&pool, straight, &events, &as_sent, &[]).await;
            replay(&pool, shuffled, &events, &order, &cuts).await;
            let stored = rows(&pool, straight).await;
            prop_assert_eq!(&stored, &rows(&pool, shuffled).await);
            for task in stored {
                let selected = task["attempts"].as_array().into_iter().flatten()
                    .filter(|attempt| attempt["was_selected"] == true)
                    .map(|attempt| (attempt["model_name"].clone(), attempt["iteration"].clone()));
                let winner = (task["winner_model"].clone(), task["total_iterations"].clone());
                prop_assert!(selected.clone().count() <= 1);
                prop_assert!(selected.clone().all(|attempt| attempt == winner));
            }
            Ok(())
        })?;
    });
}

#[test]
fn a_run_lands_the_same_in_whatever_order_and_batches_it_comes() {
    let order = Just((0..9).collect::<Vec<usize>>()).prop_shuffle();
    in_any_order(60, (Just(run("a")), order, prop::collection::vec(1..=9_usize, 0..9)));
}

#[test]
fn any_history_lands_the_same_in_whatever_order_and_batches_it_comes() {
    in_any_order(150, any_history());
}
