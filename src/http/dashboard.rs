//! `GET /analytics`: the dashboard, as a page or as its data.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::accepts;
use super::error::Problem;
use super::path::QueryOf;
use crate::dashboard::{CONTENT_SECURITY_POLICY, STYLESHEET, WorkflowAnalytics, page};
use crate::runtime::Workflow;
use crate::store::analytics::{self, AnalyticsQuery};

/// Which days, and which workflow. An empty field is one that was left out, as forms send them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    workflow: String,
}

#[derive(Serialize)]
struct Data {
    workflows: Vec<WorkflowAnalytics>,
}

/// `GET /`: to the dashboard.
pub async fn front() -> Redirect {
    Redirect::to("/analytics")
}

/// `GET /analytics`
///
/// # Errors
/// A problem when a day cannot be read, the workflow is unknown, or the database is away.
pub async fn analytics(
    State(app): State<App>,
    QueryOf(range): QueryOf<Range>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (from, to) = (day("from", &range.from)?, day("to", &range.to)?);
    let wanted = match range.workflow.as_str() {
        "" => app.engine.registry.all(),
        name => vec![app.workflow(name)?],
    };
    let mut workflows = Vec::new();
    for workflow in &wanted {
        workflows.push(load(&app, workflow, from, to).await?);
    }
    let is_data = accepts(&headers, "application/json") && !accepts(&headers, "text/html");
    if is_data {
        return Ok((no_store(), Json(Data { workflows })).into_response());
    }
    let html = page::render(&workflows).map_err(|error| {
        tracing::error!(error = %error, "the dashboard could not be written");
        Problem::internal()
    })?;
    Ok((no_store(), policy(), Html(html)).into_response())
}

async fn load(
    app: &App,
    workflow: &Workflow,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<WorkflowAnalytics, Problem> {
    let definition = &workflow.definition;
    let query = AnalyticsQuery {
        now: app.engine.now(),
        time_zone: definition.timezone,
        from,
        to,
        trigger_tasks: definition.trigger.tasks,
        score_max: definition.score_max,
        budget_usd_per_month: Some(definition.claude.budget_usd_per_month),
    };
    let pool = app.engine.store.reads();
    let analytics = analytics::load(pool, workflow.workflow_id, &query).await?;
    Ok(WorkflowAnalytics { workflow: workflow.name().to_owned(), analytics })
}

fn day(field: &str, text: &str) -> Result<Option<NaiveDate>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("`{field}` is a day such as 2026-11-23"),
        )
    })
}

/// `GET /analytics/style.css`
pub async fn stylesheet() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300")),
    ];
    (headers, STYLESHEET).into_response()
}

/// The policy that pages are shown under.
pub fn policy() -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ]
}

/// What is shown to one caller is kept by no cache.
pub fn no_store() -> [(header::HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
