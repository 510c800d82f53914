//! Config files that a person edited: what stands against what, and the ways out.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::auth::Caller;
use super::body::JsonBody;
use super::error::Problem;
use super::operations::perform;
use super::path::PathOf;
use crate::runtime::{ConflictShown, Operation, Performed, conflict_shown};
use crate::store::conflicts::{self, Conflict, Way};

const ROWS_MAX: i64 = 200;

/// The conflicts of a workflow, those that stand first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conflicts {
    conflicts: Vec<Conflict>,
}

/// Which files the operator saw, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SettleConflict)]
pub(super) struct Decided {
    seen: String,
    reason: Option<String>,
}

/// Why a conflict is left standing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaveConflict)]
pub(super) struct Left {
    reason: Option<String>,
}

/// `GET …/conflicts`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn list(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
) -> Result<Json<Conflicts>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let conflicts =
        conflicts::list(app.engine.store.pool(), workflow.workflow_id, ROWS_MAX).await?;
    Ok(Json(Conflicts { conflicts }))
}

/// `GET …/conflicts/{id}`: with what was changed by whom.
///
/// # Errors
/// A problem when there is no such conflict or the database is away.
pub async fn one(
    State(app): State<App>,
    PathOf((workflow, number)): PathOf<(String, i64)>,
) -> Result<Json<ConflictShown>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let shown = conflict_shown(&app.engine, workflow.workflow_id, number).await?;
    shown.map(Json).ok_or_else(|| Problem::unknown_conflict(number))
}

/// `POST …/conflicts/{id}/keep-mine`
///
/// # Errors
/// A problem when it was not ordered; nothing was changed then.
pub async fn keep_mine(
    app: State<App>,
    path: PathOf<(String, i64)>,
    caller: Extension<Caller>,
    decided: JsonBody<Decided>,
) -> Result<Json<Performed>, Problem> {
    settle(app, path, caller, decided, Way::KeepMine).await
}

/// `POST …/conflicts/{id}/take-theirs`
///
/// # Errors
/// A problem when it was not ordered; nothing was changed then.
pub async fn take_theirs(
    app: State<App>,
    path: PathOf<(String, i64)>,
    caller: Extension<Caller>,
    decided: JsonBody<Decided>,
) -> Result<Json<Performed>, Problem> {
    settle(app, path, caller, decided, Way::TakeTheirs).await
}

async fn settle(
    State(app): State<App>,
    PathOf((workflow, conflict)): PathOf<(String, i64)>,
    Extension(caller): Extension<Caller>,
    JsonBody(decided): JsonBody<Decided>,
    way: Way,
) -> Result<Json<Performed>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let operation = Operation::SettleConflict { conflict, way, seen: decided.seen };
    perform(&app, &workflow, &operation, &caller, decided.reason.as_deref(), None).await
}

/// `POST …/conflicts/{id}/cancel`
///
/// # Errors
/// A problem when it could not be left; nothing was changed then.
pub async fn cancel(
    State(app): State<App>,
    PathOf((workflow, conflict)): PathOf<(String, i64)>,
    Extension(caller): Extension<Caller>,
    JsonBody(left): JsonBody<Left>,
) -> Result<Json<Performed>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let operation = Operation::LeaveConflict { conflict };
    perform(&app, &workflow, &operation, &caller, left.reason.as_deref(), None).await
}
