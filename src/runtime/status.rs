//! Where a cycle stands, in data and in one sentence.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::engine::Engine;
use super::registry::Workflow;
use crate::cycle::{ModelOutcome, State, StateName};
use crate::experiment::evidence::Evidence;
use crate::experiment::{ByArm, Phase};
use crate::store::claude_batches::{self, WaitingBatch};
use crate::store::cycles::{self, CycleRow};
use crate::store::experiments::{self, ExperimentRow};
use crate::store::holds::{self, HoldRow};
use crate::store::{StoreError, probations, versions, window};

/// Where a cycle stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CycleStatus {
    /// The workflow's name.
    pub workflow: String,
    /// The cycle's number.
    pub cycle: i64,
    /// Its state.
    pub state: StateName,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Events taken so far.
    pub seq: i64,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Completed tasks that wait for an analysis, counted up to ten times the trigger.
    pub tasks_waiting: i64,
    /// Completed tasks that open an analysis.
    pub trigger_tasks: u32,
    /// What holds it.
    pub holds: Vec<HoldStatus>,
    /// The batches of Claude's that it waits for, up to a day each.
    pub batches: Vec<WaitingBatch>,
    /// Per model: what serves, what is tested, how far.
    pub models: Vec<ModelStatus>,
    /// How each model ended, for a cycle that has.
    pub outcome: Vec<ModelOutcome>,
    /// All of it in one sentence.
    pub sentence: String,
}

/// What holds a cycle.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HoldStatus {
    /// operator, `effect_failed`, approval, `automation_off`, `budget_spent` or `config_conflict`.
    pub kind: String,
    /// A stable code.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// What to do, in words.
    pub remedy: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who placed it.
    pub by: String,
}

/// How one model stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModelStatus {
    /// The image model.
    pub model: String,
    /// The version that serves.
    pub active_version: Option<i32>,
    /// True while a test of it runs.
    pub testing: bool,
    /// The test's old version.
    pub old_version: Option<i32>,
    /// The test's new version.
    pub new_version: Option<i32>,
    /// testing, adopted, rejected or inconclusive.
    pub verdict: Option<String>,
    /// The verdict in one sentence.
    pub sentence: Option<String>,
    /// The figures behind it.
    pub evidence: Option<Evidence>,
    /// True while the new version is adopted and on watch: in probation.
    pub on_watch: bool,
    /// How its probation stands: open, kept, regressed, superseded, retired or cancelled; none where
    /// there was none.
    pub probation: Option<String>,
    /// How its probation ended, in one sentence.
    pub probation_sentence: Option<String>,
    /// Slots an arm, of the deck that is being dealt: the probation's while it is open, else the
    /// test's.
    pub deck: ByArm<u32>,
    /// Slots dealt.
    pub dealt: ByArm<u32>,
    /// Scores counted.
    pub scored: ByArm<u32>,
}

/// Where a workflow's open cycle stands, or the one of that number.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cycle_status(
    engine: &Engine,
    workflow: &Workflow,
    number: Option<i64>,
) -> Result<Option<CycleStatus>, StoreError> {
    let pool = engine.store.pool();
    let found = match number {
        Some(number) => cycles::find(pool, workflow.workflow_id, number).await?,
        None => cycles::find_open(pool, workflow.workflow_id).await?,
    };
    let Some(cycle) = found else { return Ok(None) };
    let trigger_tasks = cycle.snapshot.rules.trigger_tasks;
    let tasks_waiting =
        window::waiting(pool, workflow.workflow_id, i64::from(trigger_tasks) * 10).await?;
    let mut conn = pool.acquire().await?;
    let held = holds::standing(&mut conn, workflow.workflow_id, cycle.number).await?;
    let tests = experiments::of_cycle(&mut conn, workflow.workflow_id, cycle.number).await?;
    drop(conn);
    let models = models(engine, workflow, &cycle, &tests).await?;
    let ended = cycle.snapshot.state.name().is_terminal();
    let holds: Vec<HoldStatus> =
        if ended { Vec::new() } else { held.into_iter().map(hold_status).collect() };
    let batches =
        claude_batches::waiting_of_cycle(pool, workflow.workflow_id, cycle.number).await?;
    let sentence = sentence(&cycle, &models, &holds, &batches, tasks_waiting);
    Ok(Some(CycleStatus {
        workflow: workflow.name().to_owned(),
        cycle: cycle.number,
        state: cycle.snapshot.state.name(),
        since: cycle.state_entered_at,
        seq: cycle.snapshot.seq,
        opened_at: cycle.opened_at,
        ended_at: cycle.ended_at,
        tasks_waiting,
        trigger_tasks,
        holds,
        batches,
        models,
        outcome: cycle.snapshot.state.outcome().map(|o| o.models.clone()).unwrap_or_default(),
        sentence,
    }))
}

fn hold_status(hold: HoldRow) -> HoldStatus {
    HoldStatus {
        kind: hold.kind,
        code: hold.code,
        reason: hold.reason,
        remedy: hold.remedy,
        since: hold.placed_at,
        by: hold.placed_by,
    }
}

async fn models(
    engine: &Engine,
    workflow: &Workflow,
    cycle: &CycleRow,
    tests: &[ExperimentRow],
) -> Result<Vec<ModelStatus>, StoreError> {
    let pool = engine.store.pool();
    let progress = experiments::progress(pool, workflow.workflow_id, cycle.number).await?;
    let watched = probations::of_cycle(pool, workflow.workflow_id, cycle.number).await?;
    let mut statuses = Vec::new();
    for model in workflow.models() {
        let mut conn = pool.acquire().await?;
        let active = versions::active_head(&mut conn, workflow.workflow_id, model).await?;
        drop(conn);
        let test = tests.iter().find(|test| test.model_name == model);
        let watch = watched.iter().find(|probation| probation.model_name == model);
        let on_watch = watch.is_some_and(|probation| probation.status == "open");
        let phase = if on_watch { Phase::Probation } else { Phase::Test };
        let deck = progress.get(&(model.to_owned(), phase)).cloned().unwrap_or_default();
        statuses.push(ModelStatus {
            model: model.to_owned(),
            active_version: active.map(|(version, _)| version),
            testing: test.is_some_and(|test| test.status == "testing"),
            old_version: test.map(|test| test.control_version),
            new_version: test.map(|test| test.candidate_version),
            verdict: test.map(|test| test.status.clone()),
            sentence: test.and_then(|test| test.sentence.clone()),
            evidence: evidence_of(cycle, test)?,
            on_watch,
            probation: watch.map(|probation| probation.status.clone()),
            probation_sentence: watch.and_then(|probation| probation.sentence.clone()),
            deck: deck.size,
            dealt: deck.dealt,
            scored: deck.scored,
        });
    }
    Ok(statuses)
}

fn evidence_of(
    cycle: &CycleRow,
    test: Option<&ExperimentRow>,
) -> Result<Option<Evidence>, StoreError> {
    let Some((test, stored)) = test.and_then(|test| Some((test, test.evidence.clone()?))) else {
        return Ok(None);
    };
    serde_json::from_value(stored).map(Some).map_err(|cause| {
        let row =
            format!("workflow {} cycle {} {}", cycle.workflow_id, cycle.number, test.model_name);
        StoreError::corrupt("experiments", "evidence", row, cause)
    })
}

fn sentence(
    cycle: &CycleRow,
    models: &[ModelStatus],
    holds: &[HoldStatus],
    batches: &[WaitingBatch],
    waiting: i64,
) -> String {
    let title = cycle.snapshot.state.name().title();
    let doing = match &cycle.snapshot.state {
        State::Collecting => {
            format!("{waiting} of {} tasks", cycle.snapshot.rules.trigger_tasks)
        }
        State::Analyzing { window } => format!("Claude reads {} tasks", window.tasks),
        State::Generating { analysis } => {
            format!("Claude writes candidates from {} insights", analysis.insights)
        }
        State::Testing { .. } => decks(models, |model| model.new_version.is_some()),
        State::Deciding { .. } => "the verdicts are being settled".to_owned(),
        State::Applying { adoptions, .. } => {
            let changes: Vec<String> =
                adoptions.iter().map(|a| format!("{} to version {}", a.model, a.to)).collect();
            format!("{} being written", changes.join(", "))
        }
        State::Probation { .. } => {
            format!("adopted, on watch: {}", decks(models, |model| model.on_watch))
        }
        State::Reverting { .. } => "earlier versions are being put back".to_owned(),
        State::Applied { outcome }
        | State::Rejected { outcome }
        | State::RolledBack { outcome }
        | State::Cancelled { outcome, .. } => outcome
            .models
            .iter()
            .map(|entry| format!("{} {}", entry.model, entry.result))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let head = if doing.is_empty() {
        format!("Cycle {} {title}", cycle.number)
    } else {
        format!("Cycle {} {title}: {doing}", cycle.number)
    };
    let head = match batches.first() {
        Some(batch) => format!("{head}, {}", waiting_since(batch)),
        None => head,
    };
    match holds.first() {
        Some(hold) => format!("{head}. Held: {}. What helps: {}", hold.reason, hold.remedy),
        None => head,
    }
}

/// The oldest one's, since the cycle goes on when all have ended.
fn waiting_since(batch: &WaitingBatch) -> String {
    format!("waiting for a batch since {} UTC (up to 24 h)", batch.since.format("%Y-%m-%d %H:%M"))
}

fn decks(models: &[ModelStatus], dealt: impl Fn(&&ModelStatus) -> bool) -> String {
    let deck = |model: &ModelStatus| {
        format!(
            "{} {} of {} old, {} of {} new scored",
            model.model,
            model.scored.control,
            model.deck.control,
            model.scored.candidate,
            model.deck.candidate
        )
    };
    models.iter().filter(dealt).map(deck).collect::<Vec<_>>().join("; ")
}
