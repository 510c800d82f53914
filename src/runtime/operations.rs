//! What operators may do to a cycle, each with who and why, and each on record in the audit trail.

mod conflict;
mod turn;

use serde::{Deserialize, Serialize};

use super::advance::AdvanceError;
use super::engine::Engine;
use crate::cycle::StateName;
use crate::store::StoreError;
use crate::store::audit::Actor;
use crate::store::conflicts::Way;
use crate::store::holds::HoldRow;
use turn::Turn;
use utoipa::ToSchema;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Operation {
    /// Hold the cycle: no new claims, no new deals.
    Pause,
    /// Lift the operator's own hold, and no other.
    Resume,
    /// End the cycle; in Applying or Probation what it adopted is put back first.
    Cancel,
    /// Lift the hold that waits for a person's word.
    Approve {
        /// The models whose undecided probation ends in favour of the adoption; empty means all. Candidates
        /// are approved together: those that are not wanted are refused first.
        #[serde(default)]
        models: Vec<String>,
    },
    /// Drop candidates; when none is left, the cycle ends Rejected.
    Refuse {
        /// The models whose candidates are refused, or whose undecided adoption is put back; empty means all.
        #[serde(default)]
        models: Vec<String>,
    },
    /// Try what failed once more.
    Retry,
    /// Perform one pending effect of a held cycle.
    Step,
    /// Put a model back to a version, files included.
    Rollback {
        /// The image model.
        model: String,
        /// The version to put back.
        to: i32,
    },
    /// Switch automation for the whole workflow.
    Automation {
        /// False is silent logging: no Claude call, no deal, no change of files starts.
        enabled: bool,
    },
    /// Order a way out of a conflict; whoever has the files on its disk carries it out.
    SettleConflict {
        /// The conflict.
        conflict: i64,
        /// The way out.
        way: Way,
        /// The `edit_hash` that was shown: files that were edited again since are not touched.
        seen: String,
    },
    /// Leave a conflict standing, and withdraw what was ordered and is not begun.
    LeaveConflict {
        /// The conflict.
        conflict: i64,
    },
}

/// Who asks, and why.
#[derive(Debug, Clone, Copy)]
pub struct Operator<'o> {
    /// Who, as the history will show.
    pub name: &'o str,
    /// Why, where a reason was given.
    pub reason: Option<&'o str>,
    /// The cycle that is meant; `None` means the open one.
    pub cycle: Option<i64>,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Performed {
    /// The cycle that it concerned.
    pub cycle: i64,
    /// Where that cycle stands now.
    pub state: StateName,
    /// What happened, in one sentence.
    pub said: String,
}

/// Why an operation was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The cycle did not take it.
    #[error(transparent)]
    Advance(#[from] AdvanceError),
    /// There is nothing to do it to.
    #[error("{0}")]
    NothingToDo(String),
    /// No operator paused it, and something else holds it.
    #[error(
        "cycle {} is not paused by an operator; it is held because {}. What helps: {}", .cycle, .hold.reason, .hold.remedy
    )]
    HeldOtherwise {
        /// The cycle.
        cycle: i64,
        /// What holds it.
        hold: Box<HoldRow>,
    },
    /// The model is not one of the workflow's.
    #[error("the workflow has no model {0:?}; its models are listed by `mathesis workflow show`")]
    NoSuchModel(String),
    /// The version does not exist.
    #[error("{model} has no version {version}; `mathesis version list` shows those it has")]
    NoSuchVersion {
        /// The model.
        model: String,
        /// The version that was asked for.
        version: i32,
    },
    /// The conflict does not exist.
    #[error("there is no conflict {0}; `mathesis files conflict list` shows those there are")]
    NoSuchConflict(i64),
    /// The files are not those that were shown.
    #[error(
        "the files of conflict {conflict} were edited again since they were shown; look at them once more: they are {now} now"
    )]
    ConflictChanged {
        /// The conflict.
        conflict: i64,
        /// What names the files now.
        now: String,
    },
    /// A way out is being carried out.
    #[error(
        "conflict {conflict} is being settled already, as {by} ordered; `mathesis files conflict show {conflict}` says how it ends"
    )]
    ConflictBegun {
        /// The conflict.
        conflict: i64,
        /// Who ordered that.
        by: String,
    },
    /// A change of the model is under way, which the edited texts cannot get in the middle of.
    #[error(
        "a change of {model} is under way, so the edit cannot become its version now; take-theirs lets that change go on and keeps the edit as a version, to which `mathesis version rollback` goes afterwards"
    )]
    ModelChanging {
        /// The model.
        model: String,
    },
}

impl OperationError {
    /// True when the database failed, and not what was asked for.
    #[must_use]
    pub const fn is_about_the_database(&self) -> bool {
        matches!(self, Self::Advance(AdvanceError::Store(_)))
    }

    /// The same for the audit trail, which outlives what it tells of: a hold's words may quote a task's text, so the
    /// hold is named and not quoted.
    fn on_record(&self) -> String {
        match self {
            Self::HeldOtherwise { cycle, hold } => format!(
                "cycle {cycle} is not paused by an operator; it is held by hold {} ({})",
                hold.hold_id, hold.kind
            ),
            error => error.to_string(),
        }
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        Self::Advance(AdvanceError::Store(error))
    }
}

impl From<sqlx::Error> for OperationError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error).into()
    }
}

impl Operation {
    /// Carries the operation out.
    ///
    /// # Errors
    /// [`OperationError`]; nothing was changed then.
    pub async fn perform(
        &self,
        engine: &Engine,
        workflow_id: i64,
        operator: Operator<'_>,
    ) -> Result<Performed, OperationError> {
        let turn =
            Turn { engine, workflow_id, operator, act: self.name(), subject: self.subject() };
        let done = self.carry_out(&turn).await;
        if let Err(error) = &done {
            turn.note_refusal(error).await;
        }
        let said = done?;
        engine.work.notify_one();
        engine.watch.ring(workflow_id);
        let now = turn.concerned().await?;
        Ok(Performed { cycle: now.number, state: now.snapshot.state.name(), said })
    }

    async fn carry_out(&self, turn: &Turn<'_>) -> Result<String, OperationError> {
        match self {
            Self::Pause => turn.pause().await,
            Self::Resume => turn.resume().await,
            Self::Cancel => turn.cancel().await,
            Self::Approve { models } => turn.approve(models).await,
            Self::Refuse { models } => turn.refuse(models).await,
            Self::Retry => turn.retry().await,
            Self::Step => turn.step().await,
            Self::Rollback { model, to } => turn.rollback(model, *to).await,
            Self::Automation { enabled } => turn.automation(*enabled).await,
            Self::SettleConflict { conflict, way, seen } => {
                turn.settle_conflict(*conflict, *way, seen).await
            }
            Self::LeaveConflict { conflict } => turn.leave_conflict(*conflict).await,
        }
    }

    /// The stable word under which the audit trail has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Approve { .. } => "approve",
            Self::Refuse { .. } => "refuse",
            Self::Retry => "retry",
            Self::Step => "step",
            Self::Rollback { .. } => "rollback",
            Self::Automation { enabled: true } => "automation_on",
            Self::Automation { enabled: false } => "automation_off",
            Self::SettleConflict { way: Way::KeepMine, .. } => "conflict_keep_mine",
            Self::SettleConflict { way: Way::TakeTheirs, .. } => "conflict_take_theirs",
            Self::LeaveConflict { .. } => "conflict_cancel",
        }
    }

    /// What it is done to, beside the cycle.
    fn subject(&self) -> String {
        match self {
            Self::Approve { models } | Self::Refuse { models } => models.join(", "),
            Self::Rollback { model, to } => format!("{model} version {to}"),
            Self::SettleConflict { conflict, .. } | Self::LeaveConflict { conflict } => {
                format!("conflict {conflict}")
            }
            _ => String::new(),
        }
    }
}

impl Operator<'_> {
    /// Who and why, for the audit trail.
    #[must_use]
    pub const fn actor(&self) -> Actor<'_> {
        Actor { name: self.name, reason: self.reason }
    }
}
