//! What a transition means for the other tables, in the same transaction as its checkpoint.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::advance::{FileChange, What, look_of};
use super::engine::DrawSeed;
use super::watched;
use crate::cycle::{Adoption, ApprovalStage, Effect, Event, Snapshot, State, StateName};
use crate::experiment::deck::{self, Slot};
use crate::experiment::evidence::Evidence;
use crate::experiment::gate::{Decision, Look, Reason, Status};
use crate::experiment::{Guard, Phase};
use crate::research;
use crate::store::changes::{self, ChangeKind, Intent};
use crate::store::cycles::{self, CycleRow, TransitionRow};
use crate::store::experiments::{self, ExperimentRow, VerdictRow};
use crate::store::holds::{self, HoldKind, Lift, NewHold};
use crate::store::notifications::{self, News};
use crate::store::versions::{self, NewVersion, Version};
use crate::store::{StoreError, effects, insights, probations};
use crate::workflow::definition::NotifyKind;

/// One transition, as the projections see it.
pub(super) struct Turn<'t> {
    pub workflow_id: i64,
    pub before: &'t CycleRow,
    pub after: &'t Snapshot,
    pub transition: &'t TransitionRow,
    pub now: DateTime<Utc>,
}

impl Turn<'_> {
    fn left_its_state(&self) -> bool {
        self.transition.from_state != self.transition.to_state
    }

    fn ended(&self) -> bool {
        self.left_its_state() && self.transition.to_state.is_terminal()
    }

    /// Tells the workflow's webhook, in the transaction of the transition.
    pub(super) async fn tell(
        &self,
        tx: &mut PgConnection,
        kind: NotifyKind,
        subject: &str,
        said: &str,
    ) -> Result<(), StoreError> {
        let news = News { kind, cycle: Some(self.after.cycle), subject, said };
        notifications::tell(tx, self.workflow_id, &news, self.now).await
    }
}

/// Writes the rows that follow from the transition, which dropped so many effects of the state that it left.
pub(super) async fn rows(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    what: &What,
    dropped: i64,
) -> Result<(), StoreError> {
    if let What::Analysis(analysis) = what {
        insights::insert(tx, turn.workflow_id, turn.after.cycle, analysis, turn.now).await?;
    }
    if let What::Files { changes, .. } = what {
        files_done(tx, turn.workflow_id, changes, turn.now).await?;
    }
    if turn.transition.from_state == StateName::Testing {
        verdicts(tx, turn).await?;
    }
    if turn.transition.from_state == StateName::Probation {
        watched::ended(tx, turn).await?;
    }
    if dropped > 0 {
        let cycle = turn.after.cycle;
        changes::drop_of_cancelled_effects(tx, turn.workflow_id, cycle, turn.now).await?;
    }
    if nothing_left_to_approve(&turn.after.state) {
        let lift =
            Lift { by: "mathesis", reason: Some("nothing is left to approve"), now: turn.now };
        let cycle = Some(turn.after.cycle);
        holds::lift(tx, turn.workflow_id, cycle, HoldKind::Approval, lift).await?;
    }
    if turn.ended() {
        let lift = Lift { by: "mathesis", reason: Some("the cycle has ended"), now: turn.now };
        holds::lift_all_of_cycle(tx, turn.workflow_id, turn.after.cycle, lift).await?;
    }
    Ok(())
}

/// True when rollbacks, or the answer itself, took out everything that an approval was asked for.
fn nothing_left_to_approve(state: &State) -> bool {
    match state {
        State::Deciding { verdicts } => !verdicts.iter().any(|v| v.stands_adopted()),
        State::Probation { on_probation, .. } => {
            !on_probation.iter().any(|watched| watched.asked && watched.decision.is_none())
        }
        State::Reverting { .. } => true,
        _ => false,
    }
}

/// Activates what the files now are, and closes the intents.
pub(super) async fn files_done(
    tx: &mut PgConnection,
    workflow_id: i64,
    done: &[FileChange],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for change in done {
        let Some(version) = change.version else {
            changes::drop_intended(tx, workflow_id, change.change_id, now).await?;
            continue;
        };
        versions::activate(tx, workflow_id, &change.model, version).await?;
        let backup = change.backup_path.as_deref();
        changes::finish(tx, workflow_id, change.change_id, backup, now).await?;
        insights::mark_applied(tx, workflow_id, &change.model, version).await?;
    }
    Ok(())
}

/// Commits the verdicts that this transition brought, and closes what a left test leaves open.
async fn verdicts(tx: &mut PgConnection, turn: &Turn<'_>) -> Result<(), StoreError> {
    let cycle = turn.after.cycle;
    for experiment in experiments::of_cycle(tx, turn.workflow_id, cycle).await? {
        if experiment.status != "testing" {
            continue;
        }
        let model = &experiment.model_name;
        if let Some(decision) = decision_on(turn, model) {
            verdict(tx, turn, &experiment, decision).await?;
        } else if looked_at(turn, model) {
            experiments::note_look(tx, turn.workflow_id, cycle, model).await?;
        }
    }
    Ok(())
}

fn looked_at(turn: &Turn<'_>, model: &str) -> bool {
    matches!(&turn.transition.event, Event::LookTaken { model: looked, .. } if looked == model)
}

fn decision_on(turn: &Turn<'_>, model: &str) -> Option<Decision> {
    match &turn.after.state {
        State::Testing { experiments } => {
            experiments.iter().find(|e| e.model == model).and_then(|e| e.decision)
        }
        State::Deciding { verdicts } => {
            verdicts.iter().find(|v| v.model == model).map(|v| v.decision)
        }
        _ => {
            let reason = match turn.transition.event {
                Event::CandidatesRefused { .. } => Reason::Refused,
                _ => Reason::Superseded,
            };
            Some(Decision { status: Status::Inconclusive, reason })
        }
    }
}

async fn verdict(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    experiment: &ExperimentRow,
    decision: Decision,
) -> Result<(), StoreError> {
    let model = &experiment.model_name;
    let cycle = turn.after.cycle;
    let look = match &turn.transition.event {
        // Its deck was frozen when the look was taken.
        Event::LookTaken { model: looked, look, .. } if looked == model => look.clone(),
        _ => {
            experiments::freeze(tx, turn.workflow_id, cycle, model).await?;
            let scores =
                experiments::counted_scores(tx, turn.workflow_id, cycle, model, Phase::Test)
                    .await?;
            look_of(&scores, experiment.missed())
        }
    };
    let evidence = Evidence::of(&turn.after.rules.gate, &look);
    let rules = &turn.after.rules;
    let watched_for = (rules.guard == Guard::Probation).then_some(2 * rules.probation.per_arm);
    let sentence = evidence.sentence(model, experiment.candidate_version, &decision, watched_for);
    let sums = look.sums();
    let row = VerdictRow {
        status: decision.status.as_str(),
        reason: decision.reason.as_str(),
        improvement: evidence.improvement,
        sum: sums.map(|sum| narrow(sum.total)),
        count: sums.map(|sum| narrow(sum.count)),
        evidence: cycles::to_json(&evidence, "experiments", "evidence")?,
        sentence: &sentence,
        from_a_look: looked_at(turn, model),
    };
    experiments::commit_verdict(tx, turn.workflow_id, cycle, model, &row, turn.now).await?;
    turn.tell(tx, NotifyKind::Verdict, model, &sentence).await?;
    note_test(tx, turn, experiment, &look).await
}

async fn note_test(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    experiment: &ExperimentRow,
    look: &Look,
) -> Result<(), StoreError> {
    let candidate = look.sums().candidate;
    versions::note_test(
        tx,
        turn.workflow_id,
        &experiment.model_name,
        experiment.candidate_version,
        candidate.mean(),
        narrow(candidate.count),
    )
    .await
}

pub(super) fn narrow(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The candidate under the next number: a hand edit may have been kept as a version while it was made.
pub(super) async fn renumbered(
    tx: &mut PgConnection,
    workflow_id: i64,
    candidate: &NewVersion,
    parent: &Version,
) -> Result<NewVersion, StoreError> {
    let number = versions::greatest(tx, workflow_id, &candidate.model_name).await? + 1;
    if number <= candidate.version {
        return Ok(candidate.clone());
    }
    Ok(NewVersion {
        version: number,
        diff: research::version_diff(&parent.texts(), &candidate.texts, parent.version, number),
        ..candidate.clone()
    })
}

/// Carries out the effects that belong into the transaction, and writes down the intents of those
/// that change files.
pub(super) async fn inline_effects(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    wanted: &[Effect],
    draw_seed: &DrawSeed,
) -> Result<(), StoreError> {
    for effect in wanted {
        match effect {
            Effect::Deal { model, phase, deck } => {
                deal(tx, turn, model, *phase, deck::shuffle(deck, draw_seed())).await?;
            }
            Effect::Extend { model } => {
                let experiment = (turn.after.cycle, model.as_str());
                probations::extend(tx, turn.workflow_id, experiment, turn.now).await?;
            }
            Effect::AwaitApproval { stage } => await_approval(tx, turn, *stage).await?,
            Effect::OpenNextCycle => open_next_cycle(tx, turn).await?,
            Effect::Apply { adoptions } => {
                intend(tx, turn, ChangeKind::Apply, adoptions).await?;
            }
            Effect::Revert { reverts } => intend(tx, turn, ChangeKind::Revert, reverts).await?,
            Effect::RollBack { change } => {
                supersede_rollbacks(tx, turn, &change.model).await?;
                intend(tx, turn, ChangeKind::RollBack, std::slice::from_ref(change)).await?;
            }
            Effect::Analyze | Effect::Generate | Effect::Decide => {}
        }
    }
    Ok(())
}

/// Persists a deck in the transaction that asks for it: no task can draw before, and none is missing
/// after.
async fn deal(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    model: &str,
    phase: Phase,
    slots: Vec<Slot>,
) -> Result<(), StoreError> {
    let experiment = (turn.after.cycle, model);
    match phase {
        Phase::Test => experiments::append(tx, turn.workflow_id, experiment, phase, &slots).await,
        Phase::Probation => {
            probations::open(tx, turn.workflow_id, experiment, &slots, turn.now).await
        }
    }
}

/// An operator's newer word ends the older ones that wait or failed: done later, they would undo it.
async fn supersede_rollbacks(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    model: &str,
) -> Result<(), StoreError> {
    let superseded = effects::cancel_rollbacks(tx, turn.workflow_id, model, turn.now).await?;
    if superseded.is_empty() {
        return Ok(());
    }
    changes::drop_rollbacks(tx, turn.workflow_id, model, turn.now).await?;
    let lift =
        Lift { by: "mathesis", reason: Some("a newer rollback was asked for"), now: turn.now };
    holds::lift_of_effects(tx, turn.workflow_id, &superseded, lift).await
}

async fn intend(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    kind: ChangeKind,
    adoptions: &[Adoption],
) -> Result<(), StoreError> {
    let backup_name = changes::backup_name(turn.now);
    for change in adoptions {
        let summary = match kind {
            ChangeKind::Apply => {
                format!("version {} adopted in place of version {}", change.to, change.from)
            }
            _ => format!("version {} put back in place of version {}", change.to, change.from),
        };
        let intent = Intent {
            kind,
            model: &change.model,
            from_version: Some(change.from),
            to_version: change.to,
            origin: Some((turn.after.cycle, turn.transition.seq)),
            backup_name: &backup_name,
            summary: &summary,
            changed_by: &turn.transition.actor,
            reason: turn.transition.reason.as_deref(),
        };
        changes::intend(tx, turn.workflow_id, &intent, turn.now).await?;
        if kind != ChangeKind::Apply {
            let why = intent.reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let said = format!("{} {summary}, by {}{why}", change.model, intent.changed_by);
            turn.tell(tx, NotifyKind::Rollback, &change.model, &said).await?;
        }
    }
    Ok(())
}

async fn await_approval(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    stage: ApprovalStage,
) -> Result<(), StoreError> {
    let reason = match stage {
        ApprovalStage::BeforeTest => {
            "the candidates wait for a person's word before they are tested"
        }
        ApprovalStage::BeforeApply => {
            "the adopted candidates wait for a person's word before they serve"
        }
        ApprovalStage::ProbationUndecided => {
            "a probation could not decide itself: too few scores came, or the validator changed"
        }
    };
    let hold = NewHold {
        kind: HoldKind::Approval,
        cycle: Some(turn.after.cycle),
        subject: stage.as_str().to_owned(),
        effect_id: None,
        code: format!("approval_{}", stage.as_str()),
        reason: reason.to_owned(),
        remedy:
            "read `mathesis version diff`, then `mathesis cycle approve` or `mathesis cycle refuse`"
                .to_owned(),
        placed_by: "mathesis".to_owned(),
    };
    holds::place(tx, turn.workflow_id, &hold, turn.now).await?;
    Ok(())
}

/// The next cycle starts with the definition that is in force now, not with the ended cycle's.
async fn open_next_cycle(tx: &mut PgConnection, turn: &Turn<'_>) -> Result<(), StoreError> {
    let (hash, definition) = crate::store::workflows::in_force(tx, turn.workflow_id).await?;
    let rules = super::registry::rules_of_stored(turn.workflow_id, &hash, &definition)?;
    let snapshot = Snapshot::open(turn.before.number + 1, rules);
    cycles::open(tx, turn.workflow_id, &snapshot, &hash, turn.now).await?;
    holds::carry_over(tx, turn.workflow_id, turn.before.number, snapshot.cycle).await
}
