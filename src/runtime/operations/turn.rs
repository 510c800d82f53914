//! One operation under way. What it changes and its line in the audit trail are one transaction.

use sqlx::PgConnection;

use super::{OperationError, Operator};
use crate::cycle::{ApprovalStage, Event, State, StateName};
use crate::runtime::acts::Act;
use crate::runtime::advance::{AdvanceError, Advanced, Submission, What, advance_for};
use crate::runtime::engine::Engine;
use crate::store::audit::{self, NewEntry, Outcome};
use crate::store::cycles::{self, CycleRow};
use crate::store::holds::{self, HoldKind, HoldRow, Lift, NewHold};
use crate::store::{StoreError, automation, effects, hints, versions};

/// Who acts where no operator does; what it is refused is no news.
const PROGRAM: &str = "mathesis";

pub(super) struct Turn<'t> {
    pub engine: &'t Engine,
    pub workflow_id: i64,
    pub operator: Operator<'t>,
    /// The stable word of the act.
    pub act: &'static str,
    /// What it is done to, beside the cycle.
    pub subject: String,
}

/// What to say of a hold that was placed, or that stood already.
struct Words {
    placed: String,
    stood: String,
}

impl Turn<'_> {
    fn lift(&self) -> Lift<'_> {
        Lift { by: self.operator.name, reason: self.operator.reason, now: self.engine.now() }
    }

    /// Puts the act on record in the transaction that carries it out.
    pub(super) async fn note(
        &self,
        tx: &mut PgConnection,
        cycle: Option<i64>,
        result: Outcome,
        said: &str,
    ) -> Result<(), StoreError> {
        let entry = NewEntry {
            act: self.act,
            subject: &self.subject,
            cycle,
            actor: self.operator.actor(),
            result,
            said,
        };
        audit::record(tx, self.workflow_id, &entry, self.engine.now()).await
    }

    /// Puts a refusal on record. It changed nothing, so a database that is away loses no more than the line.
    pub(super) async fn note_refusal(&self, error: &OperationError) {
        if matches!(error, OperationError::Advance(AdvanceError::Store(_)))
            || self.operator.name == PROGRAM
        {
            return;
        }
        let said = error.on_record();
        let noted = async {
            let mut conn = self.engine.store.pool().acquire().await?;
            self.note(&mut conn, self.operator.cycle, Outcome::Refused, &said).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(error = %error, "a refused act is missing in the audit trail");
        }
    }

    pub(super) async fn concerned(&self) -> Result<CycleRow, OperationError> {
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

    pub(super) async fn pause(&self) -> Result<String, OperationError> {
        let number = self.open().await?.number;
        let hold = NewHold {
            kind: HoldKind::Operator,
            cycle: Some(number),
            subject: String::new(),
            effect_id: None,
            code: "paused".to_owned(),
            reason: self.operator.reason.unwrap_or("paused by an operator").to_owned(),
            remedy: "`mathesis cycle resume`".to_owned(),
            placed_by: self.operator.name.to_owned(),
        };
        let words = Words {
            placed: format!("cycle {number} is paused; what runs will finish, nothing new starts"),
            stood: format!("cycle {number} was paused already"),
        };
        self.place(&hold, words).await
    }

    async fn place(&self, hold: &NewHold, words: Words) -> Result<String, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        // The cycle's lock orders the hold before or after any transition, never in the middle.
        let open = cycles::lock_open(&mut tx, self.workflow_id).await?;
        match (hold.cycle, open) {
            (Some(meant), Some(open)) if meant != open.number => {
                return Err(AdvanceError::CycleEnded { meant, open: open.number }.into());
            }
            // A hold on a cycle that has ended would hold nothing, and say that it does.
            (Some(_), None) => {
                return Err(AdvanceError::NoOpenCycle { workflow_id: self.workflow_id }.into());
            }
            _ => {}
        }
        let placed = holds::place(&mut tx, self.workflow_id, hold, self.engine.now()).await?;
        let (result, said) =
            if placed { (Outcome::Done, words.placed) } else { (Outcome::Unchanged, words.stood) };
        self.note(&mut tx, hold.cycle, result, &said).await?;
        hints::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(said)
    }

    pub(super) async fn resume(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let said = format!("cycle {} goes on", cycle.number);
        if self.lift_kind(cycle.number, HoldKind::Operator, &said).await? == 0 {
            let (cycle, others) = (cycle.number, self.standing(&cycle).await?);
            return Err(match others.into_iter().next() {
                Some(hold) => OperationError::HeldOtherwise { cycle, hold: Box::new(hold) },
                None => OperationError::NothingToDo(format!("cycle {cycle} is not paused")),
            });
        }
        Ok(said)
    }

    /// Lifts the cycle's holds of a kind and says so in the audit trail; nothing is written where none stood.
    async fn lift_kind(
        &self,
        cycle: i64,
        kind: HoldKind,
        said: &str,
    ) -> Result<u64, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let lifted = holds::lift(&mut tx, self.workflow_id, Some(cycle), kind, self.lift()).await?;
        if lifted > 0 {
            self.note(&mut tx, Some(cycle), Outcome::Done, said).await?;
            hints::hint(&mut tx, self.workflow_id).await?;
            tx.commit().await?;
        }
        Ok(lifted)
    }

    async fn standing(&self, cycle: &CycleRow) -> Result<Vec<HoldRow>, OperationError> {
        let mut conn = self.engine.store.pool().acquire().await?;
        Ok(holds::standing(&mut conn, self.workflow_id, cycle.number).await?)
    }

    /// Submits what the operator asks for; the cycle's next state and the audit trail's line are one commit.
    async fn submit(
        &self,
        cycle: &CycleRow,
        event: Event,
        subject: &str,
        said: impl Fn(StateName) -> String + Send + Sync,
    ) -> Result<String, OperationError> {
        let submission = Submission {
            workflow_id: self.workflow_id,
            cycle: Some(cycle.number),
            actor: self.operator.name,
            reason: self.operator.reason,
            what: What::Event(event),
            completes: None,
            claims_next: false,
        };
        let act = Act { act: self.act, subject, said: &said, settles: None };
        Ok(match advance_for(self.engine, submission, Some(&act)).await? {
            Advanced::Moved(moved) => said(moved.to),
            Advanced::NotNow => said(cycle.snapshot.state.name()),
        })
    }

    pub(super) async fn cancel(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let reason = self.operator.reason.unwrap_or("cancelled by an operator").to_owned();
        let number = cycle.number;
        self.submit(&cycle, Event::CancelRequested { reason }, &self.subject, |state| match state {
            StateName::Reverting => {
                format!("cycle {number} puts back what it adopted, then ends")
            }
            _ => format!("cycle {number} is cancelled; its window stays consumed"),
        })
        .await
    }

    pub(super) async fn approve(&self, models: &[String]) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let number = cycle.number;
        let awaited: Vec<HoldRow> = self
            .standing(&cycle)
            .await?
            .into_iter()
            .filter(|hold| hold.kind == HoldKind::Approval.as_str())
            .collect();
        if awaited.is_empty() {
            return Err(OperationError::NothingToDo(format!(
                "cycle {number} waits for nobody's approval; `mathesis cycle show` tells where it stands"
            )));
        }
        if awaited.iter().any(|hold| hold.subject == ApprovalStage::ProbationUndecided.as_str()) {
            self.settle_probations(&cycle, models, true).await?;
            return Ok(format!("cycle {number} is approved and goes on"));
        }
        if !models.is_empty() {
            return Err(OperationError::NothingToDo(format!(
                "the candidates of cycle {number} are approved together; `mathesis cycle refuse --model` takes out those that are not wanted, and then `mathesis cycle approve` lets the others go on"
            )));
        }
        let said = format!("cycle {number} is approved and goes on");
        self.lift_kind(number, HoldKind::Approval, &said).await?;
        Ok(said)
    }

    /// Ends the undecided probations of these models, or of all. The hold goes with the last of them.
    async fn settle_probations(
        &self,
        cycle: &CycleRow,
        models: &[String],
        keep: bool,
    ) -> Result<(), OperationError> {
        let asked = Self::undecided(cycle);
        if let Some(other) = models.iter().find(|model| !asked.contains(model)) {
            return Err(OperationError::NothingToDo(format!(
                "no probation of {other} waits for a person's word; those that do: {}. `mathesis cycle {} --model {}` settles one of them",
                asked.join(", "),
                if keep { "approve" } else { "refuse" },
                asked.first().map_or("", String::as_str)
            )));
        }
        for model in asked.into_iter().filter(|model| models.is_empty() || models.contains(model)) {
            let event = Event::ProbationSettled { model: model.clone(), keep };
            self.submit(cycle, event, &model, |_| {
                let becomes = if keep { "kept" } else { "put back" };
                format!("the adoption of {model} is {becomes}")
            })
            .await?;
        }
        Ok(())
    }

    /// The models whose probation waits for a person's word.
    fn undecided(cycle: &CycleRow) -> Vec<String> {
        let State::Probation { on_probation, .. } = &cycle.snapshot.state else {
            return Vec::new();
        };
        on_probation
            .iter()
            .filter(|watched| watched.asked && watched.decision.is_none())
            .map(|watched| watched.adoption.model.clone())
            .collect()
    }

    pub(super) async fn refuse(&self, models: &[String]) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let number = cycle.number;
        if cycle.snapshot.state.name() == StateName::Probation {
            if Self::undecided(&cycle).is_empty() {
                return Err(OperationError::NothingToDo(format!(
                    "no probation of cycle {number} waits for a person's word; `mathesis version rollback` puts a model's version back"
                )));
            }
            self.settle_probations(&cycle, models, false).await?;
            return Ok(format!("cycle {number} puts its undecided adoptions back"));
        }
        let event = Event::CandidatesRefused { models: models.to_vec() };
        let refused = self
            .submit(&cycle, event, &self.subject, |state| match state {
                StateName::Rejected => format!("cycle {number} has ended: no candidate is left"),
                _ => format!("the candidates are refused; cycle {number} goes on with the others"),
            })
            .await;
        refused.map_err(|error| match error {
            OperationError::Advance(AdvanceError::Invalid(_)) => {
                let of = if models.is_empty() { String::new() } else { format!(" of {}", models.join(", ")) };
                OperationError::NothingToDo(format!(
                    "cycle {number} has no candidate{of} to refuse; `mathesis cycle show` tells where it stands"
                ))
            }
            other => other,
        })
    }

    pub(super) async fn retry(&self) -> Result<String, OperationError> {
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
        if lifted + retried == 0 {
            return Err(OperationError::NothingToDo(format!(
                "nothing of cycle {} has failed; `mathesis cycle show` tells what it waits for",
                cycle.number
            )));
        }
        let said = format!("cycle {} tries again", cycle.number);
        self.note(&mut tx, number, Outcome::Done, &said).await?;
        hints::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(said)
    }

    pub(super) async fn step(&self) -> Result<String, OperationError> {
        let cycle = self.open().await?;
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let now = self.engine.now();
        if !effects::grant_step(&mut tx, self.workflow_id, cycle.number, now).await? {
            return Err(OperationError::NothingToDo(format!(
                "cycle {} has no effect waiting; `mathesis cycle show` tells where it stands",
                cycle.number
            )));
        }
        let said =
            format!("cycle {} performs one effect and then stands still again", cycle.number);
        self.note(&mut tx, Some(cycle.number), Outcome::Done, &said).await?;
        hints::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(said)
    }

    pub(super) async fn rollback(&self, model: &str, to: i32) -> Result<String, OperationError> {
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
        self.submit(&cycle, event, &self.subject, |_| {
            format!("{model} goes back from version {from} to version {to}, files included")
        })
        .await
    }

    pub(super) async fn automation(&self, enabled: bool) -> Result<String, OperationError> {
        if enabled {
            return self.automation_on().await;
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
        let words = Words {
            placed: "automation is off: logging and counting go on, nothing else starts".to_owned(),
            stood: "automation was off already".to_owned(),
        };
        self.place(&hold, words).await
    }

    /// Lifts the workflow's own hold; that of the switch over all workflows stays.
    async fn automation_on(&self) -> Result<String, OperationError> {
        let overall = automation::read(self.engine.store.pool()).await?;
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let kind = HoldKind::AutomationOff;
        let lifted = holds::lift_subject(&mut tx, self.workflow_id, kind, "", self.lift()).await?;
        let (result, mut said) = match lifted {
            0 => (Outcome::Unchanged, "automation was on already".to_owned()),
            _ => (Outcome::Done, "automation is on".to_owned()),
        };
        if !overall.enabled {
            said.push_str(
                " for this workflow; it is off for all workflows until `mathesis automation on --all`",
            );
        }
        self.note(&mut tx, None, result, &said).await?;
        hints::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        Ok(said)
    }
}
