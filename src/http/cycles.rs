//! Cycles: where they stand, and everything that happened in them.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::Problem;
use super::path::{PathOf, QueryOf};
use crate::cycle::{Event, ModelOutcome, StateName};
use crate::runtime::{CycleStatus, Workflow, cycle_status};
use crate::store::claude_calls::{self, CallRow};
use crate::store::cycles::{self, CycleRow, TransitionRow};
use crate::store::effects::{self, EffectRow};

/// How many rows are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// From 1 to 500; 50 where it is left out.
    limit: Option<i64>,
}

impl Page {
    /// The number of rows, within its limits.
    pub fn limit(&self) -> i64 {
        self.limit.unwrap_or(50).clamp(1, 500)
    }
}

/// A cycle in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct CycleHead {
    cycle: i64,
    state: StateName,
    seq: i64,
    opened_at: DateTime<Utc>,
    since: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    definition_hash: String,
    outcome: Vec<ModelOutcome>,
}

impl From<CycleRow> for CycleHead {
    fn from(row: CycleRow) -> Self {
        let state = &row.snapshot.state;
        Self {
            cycle: row.number,
            state: state.name(),
            seq: row.snapshot.seq,
            opened_at: row.opened_at,
            since: row.state_entered_at,
            ended_at: row.ended_at,
            outcome: state.outcome().map(|outcome| outcome.models.clone()).unwrap_or_default(),
            definition_hash: row.definition_hash,
        }
    }
}

/// One row of a cycle's history.
#[derive(Debug, Serialize, ToSchema)]
pub struct Transition {
    seq: i64,
    event: Event,
    from: StateName,
    to: StateName,
    actor: String,
    reason: Option<String>,
    at: DateTime<Utc>,
}

impl Transition {
    /// Position in the cycle's history, from 1.
    pub const fn seq(&self) -> i64 {
        self.seq
    }
}

impl From<TransitionRow> for Transition {
    fn from(row: TransitionRow) -> Self {
        Self {
            seq: row.seq,
            event: row.event,
            from: row.from_state,
            to: row.to_state,
            actor: row.actor,
            reason: row.reason,
            at: row.at,
        }
    }
}

/// The newest cycles, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cycles {
    cycles: Vec<CycleHead>,
}

/// A cycle's history, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Transitions {
    cycle: i64,
    transitions: Vec<Transition>,
}

/// A cycle's effects, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Effects {
    cycle: i64,
    effects: Vec<EffectRow>,
}

/// A cycle's calls of Claude, oldest first, and what they cost together.
#[derive(Debug, Serialize, ToSchema)]
pub struct Calls {
    cycle: i64,
    cost_usd: Decimal,
    calls: Vec<CallRow>,
}

/// `GET …/cycle`: where the open cycle stands.
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn open(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
) -> Result<Json<CycleStatus>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let status = cycle_status(&app.engine, &workflow, None).await?;
    status.map(Json).ok_or_else(|| {
        Problem::new(
            axum::http::StatusCode::NOT_FOUND,
            "no_open_cycle",
            format!(
                "workflow {} has no open cycle; start `mathesis serve` once to open one",
                workflow.name()
            ),
        )
    })
}

/// `GET …/cycles`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn list(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Cycles>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let rows = cycles::list(app.engine.store.pool(), workflow.workflow_id, page.limit()).await?;
    Ok(Json(Cycles { cycles: rows.into_iter().map(CycleHead::from).collect() }))
}

/// `GET …/cycles/{n}`
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn one(
    State(app): State<App>,
    PathOf((workflow, number)): PathOf<(String, i64)>,
) -> Result<Json<CycleStatus>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let status = cycle_status(&app.engine, &workflow, Some(number)).await?;
    status.map(Json).ok_or_else(|| Problem::unknown_cycle(number))
}

/// `GET …/cycles/{n}/transitions`
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn transitions(
    State(app): State<App>,
    PathOf((workflow, number)): PathOf<(String, i64)>,
) -> Result<Json<Transitions>, Problem> {
    let workflow = existing(&app, &workflow, number).await?;
    let rows = cycles::history(app.engine.store.pool(), workflow.workflow_id, number).await?;
    let transitions = rows.into_iter().map(Transition::from).collect();
    Ok(Json(Transitions { cycle: number, transitions }))
}

/// `GET …/cycles/{n}/effects`
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn effects(
    State(app): State<App>,
    PathOf((workflow, number)): PathOf<(String, i64)>,
) -> Result<Json<Effects>, Problem> {
    let workflow = existing(&app, &workflow, number).await?;
    let effects = effects::list(app.engine.store.pool(), workflow.workflow_id, number).await?;
    Ok(Json(Effects { cycle: number, effects }))
}

/// `GET …/cycles/{n}/calls`
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn calls(
    State(app): State<App>,
    PathOf((workflow, number)): PathOf<(String, i64)>,
) -> Result<Json<Calls>, Problem> {
    let workflow = existing(&app, &workflow, number).await?;
    let mut calls =
        claude_calls::of_cycle(app.engine.store.pool(), workflow.workflow_id, number).await?;
    for call in &mut calls {
        call.cost_usd = call.cost_usd.map(|cost| cost.normalize());
    }
    let cost_usd = calls.iter().filter_map(|call| call.cost_usd).sum();
    Ok(Json(Calls { cycle: number, cost_usd, calls }))
}

/// The workflow, if it has that cycle.
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn existing(app: &App, workflow: &str, number: i64) -> Result<Workflow, Problem> {
    let workflow = app.workflow(workflow)?;
    let found = cycles::find(app.engine.store.pool(), workflow.workflow_id, number).await?;
    if found.is_none() {
        return Err(Problem::unknown_cycle(number));
    }
    Ok(workflow)
}
