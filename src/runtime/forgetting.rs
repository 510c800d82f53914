//! Forgetting one task on an operator's word, with its line in the audit trail.

use serde::Serialize;
use utoipa::ToSchema;

use super::engine::Engine;
use super::operations::Operator;
use super::registry::Workflow;
use crate::store::audit::{self, NewEntry, Outcome};
use crate::store::forgetting::{self, Forgotten, InUse, OpenCycle, Wanted};
use crate::store::{StoreError, cycles};

const ACT: &str = "forget";

/// What was forgotten, for whoever asked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ForgottenTask {
    /// The pipeline's name of the task.
    pub task: String,
    /// What went.
    #[serde(flatten)]
    pub forgotten: Forgotten,
    /// The same in one sentence.
    pub said: String,
}

/// Why a task was not forgotten. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is known by that name.
    #[error("{0}")]
    Unknown(String),
    /// It is needed for now.
    #[error("{0}")]
    InUse(String),
}

impl From<sqlx::Error> for ForgetError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Deletes a task, or one run of it, with its texts and what quotes them. What it amounted to stays in the totals, and
/// no late event can bring it back. Who and why go into the audit trail in the same transaction; the texts do not.
///
/// A crash before the commit leaves everything as it was, after it there is nothing to repeat. Twice is as good as
/// once.
///
/// # Errors
/// [`ForgetError`]; nothing was changed then, and a refusal is in the audit trail.
pub async fn forget_task(
    engine: &Engine,
    workflow: &Workflow,
    task: &str,
    run: Option<&str>,
    operator: Operator<'_>,
) -> Result<ForgottenTask, ForgetError> {
    let (workflow_id, now) = (workflow.workflow_id, engine.now());
    let subject = named(task, run);
    let mut tx = engine.store.pool().begin().await?;
    // Windows are taken and slots' experiments opened under this lock.
    let open = cycles::lock_open(&mut tx, workflow_id).await?;
    let open =
        open.map(|open| OpenCycle { number: open.number, state: open.snapshot.state.name() });
    let wanted = Wanted { task, run, now, time_zone: workflow.definition.timezone };
    let refusal = match forgetting::forget(&mut tx, workflow_id, &wanted, open).await? {
        forgetting::Outcome::Done(forgotten) => {
            let said = in_words(&subject, &forgotten);
            let changed = forgotten.removed + forgotten.texts_mended > 0;
            let result = if changed { Outcome::Done } else { Outcome::Unchanged };
            let entry = entry(&subject, &operator, result, &said);
            audit::record(&mut tx, workflow_id, &entry, now).await?;
            tx.commit().await?;
            return Ok(ForgottenTask { task: task.to_owned(), forgotten, said });
        }
        forgetting::Outcome::Unknown => ForgetError::Unknown(format!(
            "{subject} is not known in workflow {}; the dashboard's list of tasks shows those that are",
            workflow.name()
        )),
        forgetting::Outcome::InUse(reason) => {
            ForgetError::InUse(format!("{subject} cannot be forgotten yet: {}", when(&reason)))
        }
    };
    tx.rollback().await?;
    let mut conn = engine.store.pool().acquire().await?;
    let said = refusal.to_string();
    let entry = entry(&subject, &operator, Outcome::Refused, &said);
    audit::record(&mut conn, workflow_id, &entry, now).await?;
    Err(refusal)
}

fn entry<'e>(
    subject: &'e str,
    operator: &'e Operator<'e>,
    result: Outcome,
    said: &'e str,
) -> NewEntry<'e> {
    NewEntry { act: ACT, subject, cycle: None, actor: operator.actor(), result, said }
}

fn named(task: &str, run: Option<&str>) -> String {
    match run {
        Some(run) if !run.is_empty() => format!("task {task}, run {run}"),
        _ => format!("task {task}"),
    }
}

fn in_words(subject: &str, forgotten: &Forgotten) -> String {
    if forgotten.removed + forgotten.texts_mended == 0 {
        return format!("nothing of {subject} was left to forget");
    }
    let runs = match forgotten.removed {
        1 => "1 run was removed".to_owned(),
        removed => format!("{removed} runs were removed"),
    };
    let unseen = match forgotten.unanalyzed {
        0 => String::new(),
        unseen => format!(", {unseen} of them never analysed"),
    };
    let mended = match forgotten.texts_mended {
        0 => String::new(),
        mended => format!("; it was taken out of {mended} insights and answers"),
    };
    format!("{subject} is forgotten: {runs}{unseen}{mended}")
}

/// Why not yet, and when.
fn when(reason: &InUse) -> String {
    match reason {
        InUse::Window { cycle } => format!(
            "it is in the window of cycle {cycle}. It can be forgotten once that cycle has ended: `mathesis cycle show` tells where it stands, and `mathesis cycle cancel` ends it now"
        ),
        InUse::Slot { cycle, model } => format!(
            "it holds a slot of {model} in cycle {cycle}. It can be forgotten once that cycle has ended: `mathesis cycle show` tells where it stands, and `mathesis cycle cancel` ends it now"
        ),
        InUse::Asking { cycle } => format!(
            "cycle {cycle} is asking Claude about insights that rest on earlier tasks. It can be forgotten once that is answered, mostly within minutes: `mathesis cycle show` tells where it stands"
        ),
        InUse::Running { run } => format!(
            "the pipeline is at work on run {run} of it. It can be forgotten once that run has ended: `mathesis doctor` tells what it waits for"
        ),
    }
}
