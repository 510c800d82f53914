//! Workflows, and what each has learnt and changed.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::cycles::Page;
use super::error::Problem;
use super::path::{PathOf, QueryOf};
use crate::store::changes::{self, ChangeRow};
use crate::store::insights::{self, InsightRow, Which};

/// A workflow in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowHead {
    name: String,
    models: Vec<String>,
    score_max: u32,
    trigger_tasks: u32,
}

/// Every workflow of this server, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workflows {
    workflows: Vec<WorkflowHead>,
}

/// The insights found or judged last, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Insights {
    insights: Vec<InsightRow>,
}

/// The latest changes of config files, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changes {
    changes: Vec<ChangeRow>,
}

/// `GET /v1/workflows`
pub async fn workflows(State(app): State<App>) -> Json<Workflows> {
    let workflows = app.engine.registry.all().into_iter().map(|workflow| WorkflowHead {
        name: workflow.name().to_owned(),
        models: workflow.models().map(str::to_owned).collect(),
        score_max: workflow.definition.score_max,
        trigger_tasks: workflow.definition.trigger.tasks,
    });
    Json(Workflows { workflows: workflows.collect() })
}

/// `GET …/insights`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn insights(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Insights>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let pool = app.engine.store.pool();
    let insights = insights::read(pool, workflow.workflow_id, Which::newest(page.limit())).await?;
    Ok(Json(Insights { insights }))
}

/// `GET …/changes`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn changes(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Changes>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let pool = app.engine.store.pool();
    let changes = changes::list(pool, workflow.workflow_id, page.limit()).await?;
    Ok(Json(Changes { changes }))
}
