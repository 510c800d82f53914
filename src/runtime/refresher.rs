//! The refresher: keeps the dashboard's figures ready, so that no page ever adds tasks up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::registry::Workflow;
use crate::store::figures;

/// How often it looks for changes.
const POLL: Duration = Duration::from_secs(1);
/// It rests this many times as long as its last work on a workflow took, so that a busy day, which is added
/// up whole, never takes more than a twentieth of the database's time.
const RESTS: u32 = 20;
/// It never rests longer.
const REST_MAX: Duration = Duration::from_secs(300);

/// Keeps every workflow's figures ready until the token is cancelled. Replicas may do the same at once.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let mut resting: HashMap<i64, Instant> = HashMap::new();
    while !stop.is_cancelled() {
        for workflow in due(&engine, &resting).await {
            let id = workflow.workflow_id;
            let began = Instant::now();
            let zone = workflow.definition.timezone;
            let refreshed = tokio::select! {
                refreshed = figures::refresh(engine.store.pool(), id, zone, engine.now()) => refreshed,
                // One transaction, undone as a whole.
                () = stop.cancelled() => return,
            };
            match refreshed {
                Ok(0) => {}
                Ok(_) => {
                    let rest = began.elapsed().saturating_mul(RESTS).min(REST_MAX);
                    resting.insert(id, Instant::now() + rest);
                }
                Err(error) => tracing::warn!(workflow.name = workflow.name(), error = %error,
                    "the dashboard's figures could not be brought up to date; trying again"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.clock.sleep(POLL) => {}
        }
    }
}

/// The workflows whose figures are not up to date, but for those that rest.
async fn due(engine: &Engine, resting: &HashMap<i64, Instant>) -> Vec<Workflow> {
    let now = Instant::now();
    let mut workflows = engine.registry.all();
    workflows.retain(|it| resting.get(&it.workflow_id).is_none_or(|until| *until <= now));
    let ids: Vec<i64> = workflows.iter().map(|workflow| workflow.workflow_id).collect();
    let zones: Vec<String> =
        workflows.iter().map(|workflow| workflow.definition.timezone.name().to_owned()).collect();
    match figures::due(engine.store.pool(), &ids, &zones).await {
        Ok(due) => workflows.retain(|workflow| due.contains(&workflow.workflow_id)),
        Err(error) => {
            tracing::warn!(error = %error, "asking whose figures are out of date failed; trying again");
            workflows.clear();
        }
    }
    workflows
}
