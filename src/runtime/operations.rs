//! What operators may do to a cycle, each with who and why.

use serde::{Deserialize, Serialize};

use super::advance::{AdvanceError, Advanced, Submission, What, advance};
use super::engine::Engine;
use crate::cycle::{ApprovalStage, Event, State, StateName};
use crate::store::cycles::{self, CycleRow};
use crate::store::holds::{self, HoldKind, HoldRow, Lift, NewHold};
use crate::store::{StoreError, effects, versions};

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
    Approve,
    /// Drop candidates; when none is left, the cycle ends Rejected.
    Refuse {
        /// The models whose candidates are refused; empty means all.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        let turn = Turn { engine, workflow_id, operator };
        let said = match self {
            Self::Pause => turn.pause().await?,
            Self::Resume => turn.resume().await?,
            Self::Cancel => turn.cancel().await?,
            Self::Approve => turn.approve().await?,
            Self::Refuse { models } => turn.refuse(models).await?,
            Self::Retry => turn.retry().await?,
            Self::Step => turn.step().await?,
            Self::Rollback { model, to } => turn.rollback(model, *to).await?,
            Self::Automation { enabled } => turn.automation(*enabled).await?,
        };
        engine.work.notify_one();
        engine.watch.notify_one();
        let now = turn.concerned().await?;
        Ok(Performed { cycle: now.number, state: now.snapshot.state.name(), said })
    }
}

struct Turn<'t> {
    engine: &'t Engine,
    workflow_id: i64,
    operator: Operator<'t>,
}

impl Turn<'_> {
    fn lift(&self) -> Lift<'_> {
        Lift { by: self.operator.name, reason: self.operator.reason, now: self.engine.now() }
    }

    async fn concerned(&self) -> Result<CycleRow, OperationError> {
        let pool = self.engine.store.pool();
        let found = match self.operator.cycle {
            Some(number) => cycles::find(pool, self.workflow_id, number).await?,
            None => cycles::find_open(pool, self.workflow_id).await?,
        };
        Ok(found.ok_or(AdvanceError::NoOpenCycle { workflow_id: self.workflow_id })?)
    }

    async fn open(&self) -> Result<CycleRow, OperationError> {
        let cycle = self.concerned().await?;
        if cycle.snapshot.state.name().is_terminal() {
            let open = cycles::find_open(self.engine.store.pool(), self.workflow_id).await?;
            let open = open.map_or(cycle.number + 1, |open| open.number);
            return Err(AdvanceError::CycleEnded { meant: cycle.number, open }.into());
        }
        Ok(cycle)
    }

    async fn pause(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let hold = NewHold {
            kind: HoldKind::Operator,
            cycle: Some(cycle.number),
            subject: String::new(),
            effect_id: None,
            code: "paused".to_owned(),
            reason: self.operator.reason.unwrap_or("paused by an operator").to_owned(),
            remedy: "`mathesis cycle resume`".to_owned(),
            placed_by: self.operator.name.to_owned(),
        };
        if self.place(&hold).await? {
            Ok(format!(
                "cycle {} is paused; what runs will finish, nothing new starts",
                cycle.number
            ))
        } else {
            Ok(format!("cycle {} was paused already", cycle.number))
        }
    }

    async fn place(&self, hold: &NewHold) -> Result<bool, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        // The cycle's lock orders the hold before or after any transition, never in the middle.
        let open = cycles::lock_open(&mut tx, self.workflow_id).await?;
        if let (Some(meant), Some(open)) = (hold.cycle, &open)
            && meant != open.number
        {
            return Err(AdvanceError::CycleEnded { meant, open: open.number }.into());
        }
        let placed = holds::place(&mut tx, self.workflow_id, hold, self.engine.now()).await?;
        cycles::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(placed)
    }

    async fn resume(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        if self.lift_kind(Some(cycle.number), HoldKind::Operator).await? == 0 {
            let others = self.standing(&cycle).await?;
            return Err(OperationError::NothingToDo(match others.first() {
                Some(hold) => format!(
                    "cycle {} is not paused by an operator; it is held because {}. What helps: {}",
                    cycle.number, hold.reason, hold.remedy
                ),
                None => format!("cycle {} is not paused", cycle.number),
            }));
        }
        Ok(format!("cycle {} goes on", cycle.number))
    }

    async fn lift_kind(&self, cycle: Option<i64>, kind: HoldKind) -> Result<u64, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let lifted = holds::lift(&mut tx, self.workflow_id, cycle, kind, self.lift()).await?;
        cycles::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(lifted)
    }

    async fn standing(&self, cycle: &CycleRow) -> Result<Vec<HoldRow>, OperationError> {
        let mut conn = self.engine.store.pool().acquire().await?;
        Ok(holds::standing(&mut conn, self.workflow_id, cycle.number).await?)
    }

    async fn submit(&self, cycle: &CycleRow, event: Event) -> Result<StateName, OperationError> {
        let submission = Submission {
            workflow_id: self.workflow_id,
            cycle: Some(cycle.number),
            actor: self.operator.name,
            reason: self.operator.reason,
            what: What::Event(event),
            completes: None,
            claims_next: false,
        };
        match advance(self.engine, submission).await? {
            Advanced::Moved(moved) => Ok(moved.to),
            Advanced::NotNow => Ok(cycle.snapshot.state.name()),
        }
    }

    async fn cancel(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let reason = self.operator.reason.unwrap_or("cancelled by an operator").to_owned();
        let state = self.submit(&cycle, Event::CancelRequested { reason }).await?;
        Ok(match state {
            StateName::Reverting => {
                format!("cycle {} puts back what it adopted, then ends", cycle.number)
            }
            _ => format!("cycle {} is cancelled; its window stays consumed", cycle.number),
        })
    }

    async fn approve(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let awaited: Vec<HoldRow> = self
            .standing(&cycle)
            .await?
            .into_iter()
            .filter(|hold| hold.kind == HoldKind::Approval.as_str())
            .collect();
        if awaited.is_empty() {
            return Err(OperationError::NothingToDo(format!(
                "cycle {} waits for nobody's approval",
                cycle.number
            )));
        }
        if awaited.iter().any(|hold| hold.subject == ApprovalStage::ProbationUndecided.as_str()) {
            self.settle_probations(&cycle, true).await?;
        }
        self.lift_kind(Some(cycle.number), HoldKind::Approval).await?;
        Ok(format!("cycle {} is approved and goes on", cycle.number))
    }

    async fn settle_probations(&self, cycle: &CycleRow, keep: bool) -> Result<(), OperationError> {
        let State::Probation { on_probation, .. } = &cycle.snapshot.state else { return Ok(()) };
        let asked = on_probation.iter().filter(|watched| watched.asked);
        for watched in asked.filter(|watched| watched.decision.is_none()) {
            let model = watched.adoption.model.clone();
            self.submit(cycle, Event::ProbationSettled { model, keep }).await?;
        }
        Ok(())
    }

    /// True while a probation of the cycle waits for a person's word.
    fn asks_about_a_probation(cycle: &CycleRow) -> bool {
        match &cycle.snapshot.state {
            State::Probation { on_probation, .. } => {
                on_probation.iter().any(|watched| watched.asked && watched.decision.is_none())
            }
            _ => false,
        }
    }

    async fn refuse(&self, models: &[String]) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        if cycle.snapshot.state.name() == StateName::Probation {
            if !Self::asks_about_a_probation(&cycle) {
                return Err(OperationError::NothingToDo(format!(
                    "no probation of cycle {} waits for a person's word; `mathesis version rollback` puts a model's version back",
                    cycle.number
                )));
            }
            self.settle_probations(&cycle, false).await?;
            self.lift_kind(Some(cycle.number), HoldKind::Approval).await?;
            return Ok(format!("cycle {} puts its undecided adoptions back", cycle.number));
        }
        let event = Event::CandidatesRefused { models: models.to_vec() };
        let state = self.submit(&cycle, event).await?;
        Ok(match state {
            StateName::Rejected => {
                format!("cycle {} has ended: no candidate is left", cycle.number)
            }
            _ => format!(
                "the candidates are refused; cycle {} goes on with the others",
                cycle.number
            ),
        })
    }

    async fn retry(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let number = Some(cycle.number);
        let mut lifted =
            holds::lift(&mut tx, self.workflow_id, number, HoldKind::EffectFailed, self.lift())
                .await?;
        lifted +=
            holds::lift(&mut tx, self.workflow_id, None, HoldKind::ConfigConflict, self.lift())
                .await?;
        // A budget that was raised since; if it was not, the next look holds again.
        lifted += holds::lift(&mut tx, self.workflow_id, None, HoldKind::BudgetSpent, self.lift())
            .await?;
        let now = self.engine.now();
        let retried = effects::retry_failed(&mut tx, self.workflow_id, cycle.number, now).await?;
        cycles::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        if lifted + retried == 0 {
            return Err(OperationError::NothingToDo(format!(
                "nothing of cycle {} has failed",
                cycle.number
            )));
        }
        Ok(format!("cycle {} tries again", cycle.number))
    }

    async fn step(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let now = self.engine.now();
        let granted = effects::grant_step(&mut tx, self.workflow_id, cycle.number, now).await?;
        cycles::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        if !granted {
            return Err(OperationError::NothingToDo(format!(
                "cycle {} has no effect waiting",
                cycle.number
            )));
        }
        Ok(format!("cycle {} performs one effect and then stands still again", cycle.number))
    }

    async fn rollback(&self, model: &str, to: i32) -> Result<String, OperationError> {
        let pool = self.engine.store.pool();
        let cycle = self.open().await?;
        let mut conn = pool.acquire().await?;
        let active = versions::active_head(&mut conn, self.workflow_id, model).await?;
        drop(conn);
        let Some((from, _)) = active else {
            return Err(OperationError::NoSuchModel(model.to_owned()));
        };
        if versions::find(pool, self.workflow_id, model, to).await?.is_none() {
            return Err(OperationError::NoSuchVersion { model: model.to_owned(), version: to });
        }
        if from == to && !matches!(cycle.snapshot.state, State::Applying { .. }) {
            return Err(OperationError::NothingToDo(format!(
                "version {to} of {model} is active already"
            )));
        }
        let event = Event::RollbackRequested { model: model.to_owned(), from, to };
        self.submit(&cycle, event).await?;
        Ok(format!("{model} goes back from version {from} to version {to}, files included"))
    }

    async fn automation(&self, enabled: bool) -> Result<String, OperationError> {
        if enabled {
            let lifted = self.lift_kind(None, HoldKind::AutomationOff).await?;
            return Ok(match lifted {
                0 => "automation was on already".to_owned(),
                _ => "automation is on".to_owned(),
            });
        }
        let hold = NewHold {
            kind: HoldKind::AutomationOff,
            cycle: None,
            subject: String::new(),
            effect_id: None,
            code: "automation_off".to_owned(),
            reason: self.operator.reason.unwrap_or("automation was switched off").to_owned(),
            remedy: "`mathesis automation on`".to_owned(),
            placed_by: self.operator.name.to_owned(),
        };
        Ok(if self.place(&hold).await? {
            "automation is off: logging and counting go on, nothing else starts".to_owned()
        } else {
            "automation was off already".to_owned()
        })
    }
}
