//! The dashboard: pages, their data, and each of their tables as a file.
//!
//! Every page is one of `crate::dashboard`; `answer` alone turns it into HTML, JSON or a table.

mod acts;
mod answer;
pub mod asked;
mod conflicts;
mod pages;
mod refused;

pub use acts::{Said as FormSent, automation, on_cycle, rollback};
pub use answer::{no_store, policy};
pub use asked::Range;
pub use conflicts::{Wanted as WayWanted, conflict, conflicts, settle};
pub use pages::{
    changes, cycle, cycles, insights, model, report, task, tasks, verdicts, version, why,
};
pub use refused::as_page;

use answer::{As, answer, viewer};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::auth::Caller;
use super::error::Problem;
use super::path::{PathOf, QueryOf};
use crate::dashboard::{SCRIPT, STYLESHEET, WorkflowAnalytics, first};
use crate::runtime::Workflow;
use crate::store::analytics::{self, AnalyticsQuery};
use crate::store::notifications;

/// `GET /`: to the dashboard.
pub async fn front() -> Redirect {
    Redirect::to("/analytics")
}

/// `GET /analytics`: every workflow.
///
/// # Errors
/// A problem when a day cannot be read, the workflow is unknown, or the database is away.
pub async fn analytics(
    State(app): State<App>,
    QueryOf(range): QueryOf<Range>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = match range.workflow.as_str() {
        "" => app.engine.registry.all(),
        name => vec![app.workflow(name)?],
    };
    show(&app, &wanted, None, &range, &caller, &headers).await
}

/// `GET /analytics/{workflow}`: one.
///
/// # Errors
/// A problem when a day cannot be read, the workflow is unknown, or the database is away.
pub async fn overview(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(range): QueryOf<Range>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = [app.workflow(&workflow)?];
    show(&app, &wanted, Some(&workflow), &range, &caller, &headers).await
}

async fn show(
    app: &App,
    wanted: &[Workflow],
    only: Option<&str>,
    range: &Range,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut workflows = Vec::new();
    for workflow in wanted {
        workflows.push(load(app, workflow, range).await?);
    }
    let as_what = As::of(&range.table, &range.r#as)?;
    answer(&first::page(&workflows, only), &viewer(caller), headers, as_what)
}

async fn load(app: &App, workflow: &Workflow, range: &Range) -> Result<WorkflowAnalytics, Problem> {
    let definition = &workflow.definition;
    let category = match range.category.as_str() {
        first::NO_CATEGORY => Some(String::new()),
        named => asked::text("category", named)?,
    };
    let query = AnalyticsQuery {
        now: app.engine.now(),
        time_zone: definition.timezone,
        from: asked::day("from", &range.from)?,
        to: asked::day("to", &range.to)?,
        model: asked::text("model", &range.model)?,
        category,
        trigger_tasks: definition.trigger.tasks,
        score_max: definition.score_max,
        budget_usd_per_month: Some(definition.claude.budget_usd_per_month),
    };
    let pool = app.engine.store.reads();
    let analytics = analytics::load(pool, workflow.workflow_id, &query).await?;
    let undelivered = notifications::trouble(pool, workflow.workflow_id).await?;
    Ok(WorkflowAnalytics { workflow: workflow.name().to_owned(), analytics, undelivered })
}

/// `GET /analytics/style.css`
pub async fn stylesheet() -> Response {
    asset("text/css; charset=utf-8", STYLESHEET)
}

/// `GET /analytics/live.js`
pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300")),
    ];
    (headers, text).into_response()
}
