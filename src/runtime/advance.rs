//! The one way to change a cycle: one event, one transaction, one checkpoint.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::BTreeMap;

use super::acts::Act;
use super::engine::Engine;
use super::project;
use crate::broken::Rule;
use crate::cycle::{
    Event, Experiment, InvalidTransition, NoCandidate, NoCandidateReason, Snapshot, StateName,
    Window, step,
};
use crate::experiment::deck::Slot;
use crate::experiment::gate::Look;
use crate::experiment::{ByArm, Guard, Phase, judge, probation};
use crate::otlp;
use crate::store::candidates::{self, RefusedCandidate};
use crate::store::cycles::{self, CycleRow, TransitionRow};
use crate::store::effects::{self, ClaimedEffect, NewEffect};
use crate::store::experiments::{CountedScore, LiveDeck, NewExperiment};
use crate::store::insights::NewAnalysis;
use crate::store::versions::{self, NewVersion};
use crate::store::{StoreError, changes, experiments, hints, window};

/// A candidate with the deck of its test.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The candidate as an inactive version.
    pub version: NewVersion,
    /// The seed that its deck was shuffled under.
    pub deck_seed: i64,
    /// The deck.
    pub slots: Vec<Slot>,
}

/// A change of files that has been carried out.
#[derive(Debug, Clone)]
pub struct FileChange {
    /// The intent's row.
    pub change_id: i64,
    /// The image model.
    pub model: String,
    /// The version that the files now are; none when the change was dropped.
    pub version: Option<i32>,
    /// The backup that was made, if anything was overwritten.
    pub backup_path: Option<String>,
}

/// What is submitted. Most events are made inside the transaction, from what it sees under the lock.
#[derive(Debug, Clone)]
pub enum What {
    /// An event that needs no more than itself.
    Event(Event),
    /// Open the analysis if enough tasks wait.
    Trigger,
    /// Take the look of a model if its deck is complete.
    Look {
        /// The image model.
        model: String,
    },
    /// Take the look of a model's probation if its deck is complete, or its time is out.
    ProbationLook {
        /// The image model.
        model: String,
        /// Since when the clock ran that was found run out; none where the deck is complete. A clock
        /// that was started over meanwhile has not run out.
        ran_out_from: Option<DateTime<Utc>>,
    },
    /// An analysis, with its insights.
    Analysis(NewAnalysis),
    /// Candidates, with their decks.
    Candidates {
        /// The candidates.
        candidates: Vec<Candidate>,
        /// Models that got none.
        without: Vec<NoCandidate>,
        /// Answers that broke a rule, kept for the next generation.
        refused: Vec<RefusedCandidate>,
    },
    /// Files that were written for an Apply or a Revert.
    Files {
        /// What to report.
        event: Event,
        /// What was written.
        changes: Vec<FileChange>,
    },
}

/// Something submitted to a workflow's open cycle.
#[derive(Debug, Clone)]
pub struct Submission<'s> {
    /// The workflow.
    pub workflow_id: i64,
    /// The cycle that is meant, where the submitter means a certain one.
    pub cycle: Option<i64>,
    /// Who submits it.
    pub actor: &'s str,
    /// Why, where a person gave a reason.
    pub reason: Option<&'s str>,
    /// What happened.
    pub what: What,
    /// The effect that this completes; its claim must still stand.
    pub completes: Option<&'s ClaimedEffect>,
    /// True when the submitter will perform the next effect itself.
    pub claims_next: bool,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub enum Advanced {
    /// The moment has not come: too few tasks wait, or the deck is not complete. Nothing was written.
    NotNow,
    /// The cycle took the event.
    Moved(Moved),
}

/// A committed transition.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The cycle.
    pub cycle: i64,
    /// Position in its history.
    pub seq: i64,
    /// The state before.
    pub from: StateName,
    /// The state after; the same for an internal transition.
    pub to: StateName,
    /// The next effect, already claimed for the submitter.
    pub claimed: Option<ClaimedEffect>,
}

/// Why a submission was not taken. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The database failed, or the submitter's claim was lost.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cycle's state does not accept the event.
    #[error(transparent)]
    Invalid(#[from] InvalidTransition),
    /// The workflow has no open cycle.
    #[error("workflow {workflow_id} has no open cycle; start `mathesis serve` once to open one")]
    NoOpenCycle {
        /// The workflow.
        workflow_id: i64,
    },
    /// The cycle that was meant has ended.
    #[error(
        "cycle {meant} has ended; cycle {open} is open now: `mathesis cycle show` tells where it stands"
    )]
    CycleEnded {
        /// The cycle that was meant.
        meant: i64,
        /// The one that is open.
        open: i64,
    },
}

impl From<sqlx::Error> for AdvanceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

/// Takes one submission in one transaction: lock the cycle, check claim and number, make the event
/// from what is seen under the lock, step the machine, write snapshot, history, rows and effects.
///
/// Crash contract. Before COMMIT nothing of it exists: a completed effect is still claimed, is rescued
/// and done again, and every effect is idempotent under (cycle, seq, ordinal). After COMMIT all of it
/// exists, the effect is done, and the next one is on record. There is no in-between. When the
/// connection breaks while COMMIT is under way, the submitter sees an error and cannot know; if it did
/// commit, the retried effect's claim is gone and the retry ends in `LeaseLost`.
///
/// # Errors
/// [`AdvanceError`]; nothing was written then.
pub async fn advance(
    engine: &Engine,
    submission: Submission<'_>,
) -> Result<Advanced, AdvanceError> {
    advance_for(engine, submission, None).await
}

/// As [`advance`], and puts the act of an operator on record in the same transaction.
///
/// # Errors
/// As [`advance`].
pub(super) async fn advance_for(
    engine: &Engine,
    submission: Submission<'_>,
    act: Option<&Act<'_>>,
) -> Result<Advanced, AdvanceError> {
    let now = engine.now();
    let mut tx = engine.store.pool().begin().await?;
    let before = lock(&mut tx, &submission).await?;
    if let Some(claim) = submission.completes {
        effects::finish(&mut tx, claim, now).await?;
        if Rule::OneCheckpoint.is_broken() {
            tx.commit().await?;
            tx = engine.store.pool().begin().await?;
        }
    }
    let Some(event) = make_event(&mut tx, &before, &submission.what, now).await? else {
        return Ok(Advanced::NotNow);
    };
    let (after, wanted) = step(&before.snapshot, &event)?;
    let transition = TransitionRow {
        seq: after.seq,
        from_state: before.snapshot.state.name(),
        to_state: after.state.name(),
        event,
        actor: submission.actor.to_owned(),
        reason: submission.reason.map(str::to_owned),
        at: now,
    };
    let dropped = cycles::checkpoint(&mut tx, &before, &after, &transition).await?;
    let turn = project::Turn {
        workflow_id: before.workflow_id,
        before: &before,
        after: &after,
        transition: &transition,
        now,
    };
    project::rows(&mut tx, &turn, &submission.what, dropped).await?;
    project::inline_effects(&mut tx, &turn, &wanted, &engine.draw_seed).await?;
    if let Some(act) = act {
        act.record(&mut tx, &turn).await?;
        // A command may be over before a hint behind the commit has gone.
        hints::hint(&mut tx, turn.workflow_id).await?;
    }
    let claimed = queue_effects(engine, &mut tx, &turn, &wanted, submission.claims_next).await?;
    tx.commit().await?;
    if act.is_none() {
        engine.store.hint_soon(before.workflow_id);
    }
    if claimed.is_none() {
        engine.work.notify_one();
    }
    log_transition(&before, &transition);
    Ok(Advanced::Moved(Moved {
        cycle: before.number,
        seq: transition.seq,
        from: transition.from_state,
        to: transition.to_state,
        claimed,
    }))
}

fn log_transition(before: &CycleRow, transition: &TransitionRow) {
    tracing::info!(
        workflow.id = before.workflow_id,
        cycle.number = before.number,
        cycle.seq = transition.seq,
        cycle.event = transition.event.name().as_str(),
        cycle.from = transition.from_state.as_str(),
        cycle.to = transition.to_state.as_str(),
        actor = transition.actor,
        "cycle advanced"
    );
}

async fn lock(
    tx: &mut PgConnection,
    submission: &Submission<'_>,
) -> Result<CycleRow, AdvanceError> {
    let workflow_id = submission.workflow_id;
    let open = cycles::lock_open(tx, workflow_id)
        .await?
        .ok_or(AdvanceError::NoOpenCycle { workflow_id })?;
    let meant = submission.completes.map(|claim| claim.cycle).or(submission.cycle);
    match meant {
        Some(meant) if meant != open.number => {
            Err(AdvanceError::CycleEnded { meant, open: open.number })
        }
        _ => Ok(open),
    }
}

async fn make_event(
    tx: &mut PgConnection,
    before: &CycleRow,
    what: &What,
    now: DateTime<Utc>,
) -> Result<Option<Event>, StoreError> {
    match what {
        What::Event(event) | What::Files { event, .. } => Ok(Some(event.clone())),
        What::Analysis(analysis) => {
            let insights = u32::try_from(analysis.insights.len()).unwrap_or(u32::MAX);
            Ok(Some(Event::AnalysisFinished { insights }))
        }
        What::Trigger => trigger_event(tx, before).await,
        What::Look { model } => look_event(tx, before, model).await,
        What::ProbationLook { model, ran_out_from } => {
            probation_event(tx, before, model, *ran_out_from).await
        }
        What::Candidates { candidates, without, refused } => {
            candidates::insert_refused(tx, before.workflow_id, before.number, refused, now).await?;
            candidates_event(tx, before, candidates, without, now).await.map(Some)
        }
    }
}

/// Counts and marks the window under the cycle's lock, so that no race can open it twice or leave a
/// task out.
async fn trigger_event(
    tx: &mut PgConnection,
    before: &CycleRow,
) -> Result<Option<Event>, StoreError> {
    let trigger = before.snapshot.rules.trigger_tasks;
    if before.snapshot.state.name() != StateName::Collecting
        || !window::is_full(&mut *tx, before.workflow_id, i64::from(trigger)).await?
    {
        return Ok(None);
    }
    let taken = window::take(tx, before.workflow_id, before.number).await?;
    let tasks = u32::try_from(taken).unwrap_or(u32::MAX);
    Ok((tasks >= trigger).then_some(Event::TriggerReached { window: Window { tasks } }))
}

async fn look_event(
    tx: &mut PgConnection,
    before: &CycleRow,
    model: &str,
) -> Result<Option<Event>, StoreError> {
    let (workflow_id, cycle) = (before.workflow_id, before.number);
    let Some(deck) = experiments::lock(tx, workflow_id, cycle, model, Phase::Test).await? else {
        return Ok(None);
    };
    let scores = experiments::counted_scores(tx, workflow_id, cycle, model, Phase::Test).await?;
    // Scores of two judges are never pooled, so more of them would be waited for in vain.
    let judge_changed = judges_differ(&scores);
    if !judge_changed && !is_complete(tx, before, &deck).await? {
        return Ok(None);
    }
    experiments::freeze(tx, workflow_id, cycle, model).await?;
    let look = look_of(&scores, deck.missed);
    Ok(Some(Event::LookTaken { model: model.to_owned(), look, judge_changed }))
}

/// True when no slot waits for a task or for a score any more.
async fn is_complete(
    tx: &mut PgConnection,
    before: &CycleRow,
    deck: &LiveDeck,
) -> Result<bool, StoreError> {
    let slots = experiments::slots(tx, before.workflow_id, deck, before.opened_at).await?;
    Ok(slots.iter().all(|slot| !matches!(slot.state.as_str(), "open" | "dealt")))
}

/// The look at a probation, if it is due and the machine would take it. What is due was found outside
/// this transaction, so it is checked again under the lock: of two replicas that find the same clock
/// run out, the second one finds it started over.
async fn probation_event(
    tx: &mut PgConnection,
    before: &CycleRow,
    model: &str,
    ran_out_from: Option<DateTime<Utc>>,
) -> Result<Option<Event>, StoreError> {
    let (workflow_id, cycle) = (before.workflow_id, before.number);
    let Some(deck) = experiments::lock(tx, workflow_id, cycle, model, Phase::Probation).await?
    else {
        return Ok(None);
    };
    let test = experiments::counted_scores(tx, workflow_id, cycle, model, Phase::Test).await?;
    let watched =
        experiments::counted_scores(tx, workflow_id, cycle, model, Phase::Probation).await?;
    let judge_changed = judges_differ(test.iter().chain(&watched));
    let ran_out = ran_out_from == Some(deck.clock_from);
    if !judge_changed && !ran_out && !is_complete(tx, before, &deck).await? {
        return Ok(None);
    }
    let probation = look_of(&watched, deck.missed).sums();
    let event = Event::ProbationLookTaken {
        model: model.to_owned(),
        pooled: probation::pooled(look_of(&test, deck.missed).sums(), probation),
        probation,
        judge_changed,
    };
    // A person was asked, and there is nothing new to say: the look would be refused each second.
    Ok(step(&before.snapshot, &event).is_ok().then_some(event))
}

/// Arranges counted scores by their blocks.
pub(crate) fn look_of(scores: &[CountedScore], missed: ByArm<u32>) -> Look {
    let mut blocks: BTreeMap<i32, ByArm<Vec<u16>>> = BTreeMap::new();
    for counted in scores {
        blocks.entry(counted.block).or_default().get_mut(counted.arm).push(counted.score);
    }
    Look { blocks: blocks.into_values().collect(), missed }
}

/// True when more than one judge gave the scores.
fn judges_differ<'s>(scores: impl IntoIterator<Item = &'s CountedScore>) -> bool {
    let given = scores.into_iter().filter(|counted| counted.is_judged);
    judge::changed(given.map(|counted| counted.judge.as_ref())).is_some()
}

/// Stores the candidates and opens their experiments against whatever is active at this commit.
async fn candidates_event(
    tx: &mut PgConnection,
    before: &CycleRow,
    candidates: &[Candidate],
    without: &[NoCandidate],
    now: DateTime<Utc>,
) -> Result<Event, StoreError> {
    let mut opened = Vec::with_capacity(candidates.len());
    let mut without = without.to_vec();
    let changing = changes::models_changing(&mut *tx, before.workflow_id).await?;
    for candidate in candidates {
        let version = &candidate.version;
        let model = &version.model_name;
        let active = versions::active(tx, before.workflow_id, model).await?.ok_or_else(|| {
            let row = format!("workflow {} model {model}", before.workflow_id);
            StoreError::corrupt("prompt_versions", "is_active", row, "no version is active")
        })?;
        // A rollback came in between, or still waits: the candidate was made from a version that a
        // person no longer wants.
        if version.parent_version != Some(active.version) || changing.contains(model) {
            let reason = NoCandidateReason::Superseded;
            without.push(NoCandidate { model: model.clone(), reason, detail: String::new() });
            continue;
        }
        let version = &project::renumbered(tx, before.workflow_id, version, &active).await?;
        versions::insert(tx, before.workflow_id, version, now).await?;
        let experiment = NewExperiment {
            model_name: model.clone(),
            control_version: active.version,
            candidate_version: version.version,
            deck_seed: candidate.deck_seed,
            paired: before.snapshot.rules.guard == Guard::Paired,
            slots: candidate.slots.clone(),
        };
        experiments::open(tx, before.workflow_id, before.number, &experiment, now).await?;
        opened.push(Experiment {
            model: model.clone(),
            control: active.version,
            candidate: version.version,
            looks: 0,
            decision: None,
            dropped: None,
        });
    }
    Ok(Event::CandidatesGenerated { experiments: opened, without })
}

/// Queues what the transition asked for. The first effect that may run now is born claimed by the
/// submitter, which saves the commit of a claim.
async fn queue_effects(
    engine: &Engine,
    tx: &mut PgConnection,
    turn: &project::Turn<'_>,
    wanted: &[crate::cycle::Effect],
    claims_next: bool,
) -> Result<Option<ClaimedEffect>, StoreError> {
    let mut claimed = None;
    let queued = wanted.iter().filter(|effect| effect.kind().is_queued());
    let traceparent = otlp::current();
    for (ordinal, effect) in (0_i16..).zip(queued) {
        let new = NewEffect {
            workflow_id: turn.workflow_id,
            cycle: turn.after.cycle,
            seq: turn.transition.seq,
            ordinal,
            effect,
            now: turn.now,
            traceparent: traceparent.as_deref(),
        };
        let claims = claims_next && claimed.is_none();
        let claimer = claims.then_some((engine.worker_id, engine.settings.lease));
        claimed = effects::queue(tx, new, claimer).await?.or(claimed);
    }
    Ok(claimed)
}

/// The snapshot that replaying a history gives; what invariant 7 compares with the stored one.
///
/// # Errors
/// [`InvalidTransition`] when an event of the history is not accepted, which must never be.
pub fn replay<'e>(
    opened: Snapshot,
    events: impl IntoIterator<Item = &'e Event>,
) -> Result<Snapshot, InvalidTransition> {
    events
        .into_iter()
        .try_fold(opened, |snapshot, event| step(&snapshot, event).map(|(next, _)| next))
}
