//! What operators do to all workflows at once.

use serde::Serialize;
use utoipa::ToSchema;

use super::engine::Engine;
use super::operations::{Operation, OperationError, Operator};
use crate::store::audit::{self, NO_WORKFLOW, NewEntry, Outcome};
use crate::store::automation::{self, OVERALL, Switch};
use crate::store::holds::{self, HoldKind, Lift};
use crate::store::{StoreError, cycles, hints, workflows};

/// The switch after it was moved.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SwitchedAll {
    /// How it stands now.
    #[serde(flatten)]
    pub switch: Switch,
    /// The workflows that are off by a hold of their own, whatever the switch says.
    pub off_by_themselves: Vec<String>,
    /// What happened, in one sentence.
    pub said: String,
}

/// What an operation on every open cycle came to for one workflow.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DoneToWorkflow)]
pub struct AllOf {
    /// The workflow's name.
    pub workflow: String,
    /// The cycle that it concerned; none where it was refused.
    pub cycle: Option<i64>,
    /// False where nothing was changed because the cycle did not take it.
    pub done: bool,
    /// What happened, or why not, in one sentence.
    pub said: String,
}

/// Moves the switch over all workflows. Every workflow is held, or let go, in the same transaction; one
/// that is registered later begins as the switch stands.
///
/// # Errors
/// [`OperationError`] when the database fails; nothing was changed then.
pub async fn switch_automation(
    engine: &Engine,
    enabled: bool,
    operator: Operator<'_>,
) -> Result<SwitchedAll, OperationError> {
    let pool = engine.store.pool();
    let now = engine.now();
    let mut tx = pool.begin().await?;
    let before = automation::lock(&mut tx).await?;
    let known = workflows::ids(&mut tx).await?;
    let mut off_by_themselves = Vec::new();
    // In the order of their ids, so that two operators at once cannot lock each other out.
    for (workflow_id, name) in &known {
        cycles::lock_open(&mut tx, *workflow_id).await?;
        let kind = HoldKind::AutomationOff;
        if enabled {
            let lift = Lift { by: operator.name, reason: operator.reason, now };
            holds::lift_subject(&mut tx, *workflow_id, kind, OVERALL, lift).await?;
        } else {
            let hold = automation::hold(operator.name, operator.reason);
            holds::place(&mut tx, *workflow_id, &hold, now).await?;
        }
        if holds::stands(&mut tx, *workflow_id, kind, "").await? {
            off_by_themselves.push(name.clone());
        }
        hints::hint(&mut tx, *workflow_id).await?;
    }
    let changed = before.enabled != enabled;
    if changed {
        automation::set(&mut tx, enabled, operator.actor(), now).await?;
    }
    let said = in_words(enabled, changed, known.len(), &off_by_themselves);
    let entry = NewEntry {
        act: if enabled { "automation_on" } else { "automation_off" },
        subject: "all workflows",
        cycle: None,
        actor: operator.actor(),
        result: if changed { Outcome::Done } else { Outcome::Unchanged },
        said: &said,
    };
    audit::record(&mut tx, NO_WORKFLOW, &entry, now).await?;
    tx.commit().await?;
    engine.work.notify_one();
    engine.watch.ring_any();
    Ok(SwitchedAll { switch: automation::read(pool).await?, off_by_themselves, said })
}

fn in_words(enabled: bool, changed: bool, workflows: usize, off: &[String]) -> String {
    let already = if changed { "is" } else { "was already" };
    if !enabled {
        return format!(
            "automation {already} off for all workflows, {workflows} now and those that come: logging and counting go on, nothing else starts"
        );
    }
    let mut said = format!("automation {already} on for all workflows");
    if !off.is_empty() {
        said.push_str(&format!("; off by a switch of their own stay {}", off.join(", ")));
    }
    said
}

/// Pauses or resumes the open cycle of every workflow, each in a transaction of its own. What one
/// workflow refuses does not keep the others from it.
///
/// # Errors
/// [`OperationError`] when the database fails; the workflows before that are done, and it may be repeated.
pub async fn on_every_cycle(
    engine: &Engine,
    operation: &Operation,
    operator: Operator<'_>,
) -> Result<Vec<AllOf>, OperationError> {
    let mut conn = engine.store.pool().acquire().await?;
    let known = workflows::ids(&mut conn).await?;
    drop(conn);
    let mut all = Vec::with_capacity(known.len());
    for (workflow_id, workflow) in known {
        let operator = Operator { cycle: None, ..operator };
        let one = match operation.perform(engine, workflow_id, operator).await {
            Ok(done) => AllOf { workflow, cycle: Some(done.cycle), done: true, said: done.said },
            Err(error) if error.is_about_the_database() => return Err(error),
            Err(refused) => AllOf { workflow, cycle: None, done: false, said: refused.to_string() },
        };
        all.push(one);
    }
    note(engine, operation, operator, &all).await?;
    Ok(all)
}

/// One line for the whole, beside those of each workflow.
async fn note(
    engine: &Engine,
    operation: &Operation,
    operator: Operator<'_>,
    all: &[AllOf],
) -> Result<(), StoreError> {
    let done = all.iter().filter(|one| one.done).count();
    let said = format!("{done} of {} workflows took it", all.len());
    let entry = NewEntry {
        act: operation.name(),
        subject: "all workflows",
        cycle: None,
        actor: operator.actor(),
        result: if done > 0 { Outcome::Done } else { Outcome::Unchanged },
        said: &said,
    };
    let mut conn = engine.store.pool().acquire().await?;
    audit::record(&mut conn, NO_WORKFLOW, &entry, engine.now()).await
}
