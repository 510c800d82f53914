//! The standing watch at work: takes new scores of adopted versions, and acts on an alarm.
//!
//! A watch goes through the runs in the order of their arrival, each once its run has ended, so that two replicas and
//! any crash come to the same bets. Scores, stakes, the alarm and the hold that it asks for are one commit.

use chrono::{DateTime, Duration, Utc};
use sqlx::PgConnection;

use super::engine::Engine;
use super::operations::{Operation, OperationError, Operator};
use super::registry::Workflow;
use crate::experiment::eprocess::EProcess;
use crate::experiment::gate::Sum;
use crate::experiment::watch::{Reference, Watch, alarm_in_words};
use crate::store::holds::{self, HoldKind, NewHold};
use crate::store::watches::{self, Run, WatchRow};
use crate::store::{StoreError, changes, cycles, experiments, hints};
use crate::workflow::OnAlarm;

/// A run that arrived later than this ago may still be in a transaction that is not committed.
const SETTLES_AFTER: Duration = Duration::seconds(10);
/// Open watches that are looked at; a workflow has at most one a model.
const WATCHES_MAX: i64 = 1000;
/// Who acts, in the history.
const ACTOR: &str = "mathesis";

/// Opens, advances and ends a workflow's watches, and acts on their alarms. Returns how many scores it took.
///
/// Crash contract. Before a commit nothing of that batch was taken, and it is taken again; after it, its scores are
/// in the stakes, and the alarm and its hold are on record. A rollback that an alarm asks for is a submission of its
/// own: as long as the version serves and no change of it is under way, the next look asks again.
///
/// # Errors
/// [`OperationError`]; the next look goes on from what was committed.
pub async fn check(engine: &Engine, workflow: &Workflow) -> Result<u64, OperationError> {
    let pool = engine.store.pool();
    let workflow_id = workflow.workflow_id;
    if watches::differ(pool, workflow_id).await? {
        let tolerance = workflow.definition.watch.tolerance_basis_points;
        let tolerance = i32::try_from(tolerance).unwrap_or(i32::MAX);
        let mut tx = pool.begin().await?;
        watches::settle(&mut tx, workflow_id, tolerance, engine.now()).await?;
        tx.commit().await?;
    }
    let mut taken = 0;
    for watch in watches::list(pool, workflow_id, WATCHES_MAX).await? {
        if watch.ended_at.is_some() {
            break;
        }
        // Read without a lock first: mostly there is nothing to take.
        let next = watches::next_runs(pool, workflow_id, &watch, settled(engine)).await?;
        if next.first().is_some_and(|run| run.ended) {
            taken += take(engine, workflow, &watch).await?;
        }
        if workflow.definition.watch.on_alarm == OnAlarm::RollBack {
            roll_back_after_alarm(engine, workflow, &watch).await?;
        }
    }
    Ok(taken)
}

pub(super) fn settled(engine: &Engine) -> DateTime<Utc> {
    engine.now() - SETTLES_AFTER
}

/// Takes the runs that have ended, up to the first that has not.
async fn take(engine: &Engine, workflow: &Workflow, seen: &WatchRow) -> Result<u64, StoreError> {
    let mut tx = engine.store.pool().begin().await?;
    let workflow_id = workflow.workflow_id;
    let locked = watches::lock(&mut tx, workflow_id, seen.cycle, &seen.model_name).await?;
    let Some(mut row) = locked else { return Ok(0) };
    let runs = watches::next_runs(&mut *tx, workflow_id, &row, settled(engine)).await?;
    let reference = reference(workflow, &row);
    let mut watch = Watch {
        process: EProcess::from_log_stakes(&row.log_stakes).ok_or_else(|| {
            let key = format!("workflow {workflow_id} cycle {} {}", row.cycle, row.model_name);
            StoreError::corrupt("watches", "log_stakes", key, "they are not nine finite numbers")
        })?,
        seen: sum(row.score_sum, row.scores),
    };
    let before = watch.seen.count;
    for run in runs.iter().take_while(|run| run.ended) {
        (row.taken_at, row.taken_task_id) = (run.created_at, run.task_id);
        if judge_changed(&mut row, run) {
            row.ended_at = Some(engine.now());
            row.ended_because = Some("judge_changed".to_owned());
            break;
        }
        if let Some(score) = run.score.and_then(|score| u16::try_from(score).ok()) {
            watch.observe(&reference, score);
        }
    }
    row.log_stakes = watch.process.log_stakes().to_vec();
    row.log_e = watch.process.log_e();
    row.scores = i32::try_from(watch.seen.count).unwrap_or(i32::MAX);
    row.score_sum = i64::try_from(watch.seen.total).unwrap_or(i64::MAX);
    let rings = row.alarmed_at.is_none() && watch.alarms();
    let words = alarm_in_words(&row.model_name, row.version, &reference, watch.seen);
    if rings {
        row.alarmed_at = Some(engine.now());
        if workflow.definition.watch.on_alarm == OnAlarm::Hold {
            hold(&mut tx, workflow, &row, &words, engine.now()).await?;
        }
    }
    watches::save(&mut tx, workflow_id, &row).await?;
    tx.commit().await?;
    tell(workflow, &row, rings.then_some(words.as_str()));
    Ok(watch.seen.count - before)
}

fn tell(workflow: &Workflow, row: &WatchRow, alarm: Option<&str>) {
    let name = workflow.name();
    if let Some(words) = alarm {
        tracing::warn!(
            workflow.name = name,
            model = row.model_name,
            version = row.version,
            watch.log_e = row.log_e,
            "harm alarm: {words}; `mathesis version rollback` puts the old one back"
        );
    }
    if row.ended_because.as_deref() == Some("judge_changed") {
        tracing::warn!(
            workflow.name = name,
            model = row.model_name,
            version = row.version,
            "the standing watch ended: another judge scores now, and its scores cannot be held against the old one's"
        );
    }
}

/// Notes the judge of the first score; true where a later one is another's.
fn judge_changed(row: &mut WatchRow, run: &Run) -> bool {
    let Some((model, prompt_version)) = &run.judge else { return false };
    match (&row.judge_model, &row.judge_prompt_version) {
        (Some(known), Some(known_version)) => known != model || known_version != prompt_version,
        _ => {
            row.judge_model = Some(model.clone());
            row.judge_prompt_version = Some(prompt_version.clone());
            false
        }
    }
}

fn reference(workflow: &Workflow, row: &WatchRow) -> Reference {
    Reference {
        control: sum(i64::from(row.reference_sum), row.reference_count),
        tolerance_basis_points: row.tolerance_basis_points.unsigned_abs(),
        score_max: u16::try_from(workflow.definition.score_max).unwrap_or(u16::MAX),
    }
}

fn sum(total: i64, count: i32) -> Sum {
    Sum { total: total.unsigned_abs(), count: u64::from(count.unsigned_abs()) }
}

/// Holds the open cycle, in the transaction that records the alarm.
async fn hold(
    tx: &mut PgConnection,
    workflow: &Workflow,
    row: &WatchRow,
    words: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Some(open) = cycles::lock_open(tx, workflow.workflow_id).await? else { return Ok(()) };
    let hold = NewHold {
        kind: HoldKind::Operator,
        cycle: Some(open.number),
        subject: format!("harm {}", row.model_name),
        effect_id: None,
        code: "harm_alarm".to_owned(),
        reason: words.to_owned(),
        remedy: format!(
            "`mathesis version rollback {}` puts an earlier version back; `mathesis cycle resume` goes on as it is",
            row.model_name
        ),
        placed_by: ACTOR.to_owned(),
    };
    holds::place(tx, workflow.workflow_id, &hold, now).await?;
    hints::hint(tx, workflow.workflow_id).await
}

/// Asks for the predecessor's return, once an alarm stands and nothing else changes the model.
async fn roll_back_after_alarm(
    engine: &Engine,
    workflow: &Workflow,
    seen: &WatchRow,
) -> Result<(), OperationError> {
    let pool = engine.store.pool();
    let workflow_id = workflow.workflow_id;
    let mut conn = pool.acquire().await?;
    let alarmed = watches::alarmed_and_serving(&mut conn, workflow_id, seen).await?;
    if !alarmed
        || changes::models_changing(&mut *conn, workflow_id).await?.contains(&seen.model_name)
    {
        return Ok(());
    }
    let tests = experiments::of_cycle(&mut conn, workflow_id, seen.cycle).await?;
    drop(conn);
    let Some(test) = tests.iter().find(|test| test.model_name == seen.model_name) else {
        return Ok(());
    };
    let to = test.control_version;
    let rollback = Operation::Rollback { model: seen.model_name.clone(), to };
    let operator = Operator {
        name: ACTOR,
        reason: Some("the standing watch found that the adopted version does harm"),
        cycle: None,
    };
    rollback.perform(engine, workflow_id, operator).await.map(drop)
}
