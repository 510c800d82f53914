//! The audit trail.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::Problem;
use super::path::{PathOf, QueryOf, without_nul};
use crate::store::audit::{self, Entry, Filter};

/// Which acts are asked for; what is left out does not narrow.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The act, such as `pause`.
    act: Option<String>,
    /// Who: a key's or a user's name.
    actor: Option<String>,
    /// Not before this moment.
    from: Option<DateTime<Utc>>,
    /// Not after this moment.
    to: Option<DateTime<Utc>>,
    /// Acts older than this entry: the next page.
    before: Option<i64>,
    /// From 1 to 500; 50 where it is left out.
    limit: Option<i64>,
}

/// Acts, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trail {
    entries: Vec<Entry>,
}

/// `GET /v1/audit`: the acts of every workflow, and those that belong to none.
///
/// # Errors
/// A problem when the database is away.
pub async fn all(
    State(app): State<App>,
    QueryOf(which): QueryOf<Which>,
) -> Result<Json<Trail>, Problem> {
    read(&app, None, &which).await
}

/// `GET /v1/workflows/{wf}/audit`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn of_workflow(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(which): QueryOf<Which>,
) -> Result<Json<Trail>, Problem> {
    let workflow = app.workflow(&workflow)?;
    read(&app, Some(workflow.workflow_id), &which).await
}

async fn read(app: &App, workflow_id: Option<i64>, which: &Which) -> Result<Json<Trail>, Problem> {
    without_nul("act", which.act.as_deref())?;
    without_nul("actor", which.actor.as_deref())?;
    let filter = Filter {
        workflow_id,
        act: which.act.as_deref(),
        actor: which.actor.as_deref(),
        from: which.from,
        to: which.to,
        before: which.before,
    };
    let limit = which.limit.unwrap_or(50).clamp(1, 500);
    Ok(Json(Trail { entries: audit::list(app.engine.store.reads(), &filter, limit).await? }))
}
