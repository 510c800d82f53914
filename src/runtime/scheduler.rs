//! The scheduler: runs what is due, once, however many processes there are.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::pruner;
use super::registry::Workflow;
use super::worker::Worker;
use crate::store::holds::{self, HoldKind, Lift};
use crate::store::schedules::{self, DueSchedule};
use crate::store::{StoreError, cycles, experiments, task_log};
use crate::workflow::CronExpression;

/// How often the scheduler looks at its rows.
const POLL: Duration = Duration::from_secs(1);

/// Runs schedules until the token is cancelled.
pub(super) async fn run(engine: Engine, worker: std::sync::Arc<Worker>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // Every step of a schedule is a transaction of its own, so it may be left at any of them.
        let ran = tokio::select! {
            ran = run_due_schedules(&engine, &worker) => ran,
            () = stop.cancelled() => break,
        };
        if let Err(error) = ran {
            tracing::warn!(error = %error, "a schedule could not be run; trying again");
        }
        if let Err(error) = lift_budget_holds(&engine).await {
            tracing::warn!(error = %error, "budget holds could not be looked at; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.clock.sleep(POLL) => {}
        }
    }
}

/// Runs every schedule that is due; returns how many. A process that dies in the middle of one loses
/// its claim after ten minutes, and the schedule is run again: both jobs may be repeated.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn run_due_schedules(engine: &Engine, worker: &Worker) -> Result<u32, StoreError> {
    let pool = engine.store.pool();
    let mut ran = 0;
    for workflow_id in schedules::workflows_due(pool, engine.now()).await? {
        let Some(workflow) = engine.registry.by_id(workflow_id) else { continue };
        while let Some(due) =
            schedules::claim_due(pool, workflow_id, engine.worker_id, engine.now()).await?
        {
            let result = run_one(engine, worker, &workflow, &due).await?;
            let next = next_run(&due, engine.now());
            schedules::finish(pool, &due, engine.worker_id, next, &result, engine.now()).await?;
            tracing::info!(
                workflow.name = workflow.name(),
                schedule = due.name,
                result,
                "schedule ran"
            );
            ran += 1;
        }
    }
    Ok(ran)
}

async fn run_one(
    engine: &Engine,
    worker: &Worker,
    workflow: &Workflow,
    due: &DueSchedule,
) -> Result<String, StoreError> {
    if due.name == "cleanup" {
        let pruned = pruner::prune(engine, workflow).await?;
        return Ok(pruned.to_string());
    }
    let hours = i64::from(workflow.definition.timeouts.run_silent_hours);
    let silent_before = engine.now() - chrono::Duration::hours(hours);
    let pool = engine.store.pool();
    let abandoned = task_log::abandon_silent(pool, workflow.workflow_id, silent_before).await?;
    if let Some(open) = cycles::find_open(pool, workflow.workflow_id).await? {
        // Scores may come when their test is over: the last cycle's are looked for as well.
        experiments::keep_late_scores(pool, workflow.workflow_id, open.number - 1).await?;
    }
    let moved = match super::watcher::check_workflow(engine, worker, workflow.workflow_id).await {
        Ok(moved) => moved,
        Err(super::AdvanceError::Store(error)) => return Err(error),
        Err(error) => return Ok(format!("{abandoned} silent runs ended; {error}")),
    };
    Ok(format!("{abandoned} silent runs ended, {moved} transitions"))
}

fn next_run(due: &DueSchedule, now: DateTime<Utc>) -> DateTime<Utc> {
    let cron = CronExpression::new(due.cron.as_str()).ok();
    let timezone: Option<chrono_tz::Tz> = due.timezone.parse().ok();
    cron.zip(timezone)
        .and_then(|(cron, timezone)| cron.next_after(now, timezone))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Lifts budget holds of an earlier month: they lift themselves when the month turns in the workflow's
/// time zone.
///
/// # Errors
/// [`StoreError`] when the database fails; the next look tries again.
pub async fn lift_budget_holds(engine: &Engine) -> Result<(), StoreError> {
    let now = engine.now();
    for workflow in engine.registry.all() {
        let month = crate::effects::month_start(now, workflow.definition.timezone);
        let held = holds::workflows_held(engine.store.pool(), HoldKind::BudgetSpent, month).await?;
        if !held.contains(&workflow.workflow_id) {
            continue;
        }
        let mut conn = engine.store.pool().acquire().await?;
        let lift = Lift { by: "mathesis", reason: Some("the month has turned"), now };
        holds::lift(&mut conn, workflow.workflow_id, None, HoldKind::BudgetSpent, lift).await?;
        engine.work.notify_one();
    }
    Ok(())
}
