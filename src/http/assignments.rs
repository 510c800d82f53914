//! `…/tasks/{task}/assignments/{model}`: which version does this task get? The hot path.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::Problem;
use super::path::{PathOf, QueryOf, check_model};
use crate::runtime::{Assignment, Workflow};
use crate::store::versions::Version;

/// What is asked for beside the version's number.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The run, where a task is run more than once.
    #[serde(default)]
    #[param(max_length = 200, pattern = "^[^\\u0000]*$")]
    run: String,
    /// True to be sent the texts, too.
    #[serde(default)]
    content: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AssignmentAnswer)]
pub(super) struct Answer<'v> {
    #[serde(flatten)]
    assignment: &'v Assignment,
    /// The template; like the other texts only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    research: Option<&'v str>,
}

type Place = (String, String, String);

/// Tells the task its version, dealing it a slot where a test runs; the same answer however often.
///
/// # Errors
/// A problem when there is no answer; nothing was dealt then.
pub async fn put(
    State(app): State<App>,
    PathOf((workflow, task, model)): PathOf<Place>,
    QueryOf(wish): QueryOf<Wish>,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    tracing::Span::current().record("task.id", &task);
    let assignment = app.assigner.assign(&workflow, &task, &wish.run, &model).await?;
    answer(&app, &workflow, &model, &assignment, wish.content).await
}

/// Tells what the task was told, or would be told, without dealing anything.
///
/// # Errors
/// A problem when there is no answer.
pub async fn get(
    State(app): State<App>,
    PathOf((workflow, task, model)): PathOf<Place>,
    QueryOf(wish): QueryOf<Wish>,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    tracing::Span::current().record("task.id", &task);
    let assignment = app.assigner.look_up(&workflow, &task, &wish.run, &model).await?;
    answer(&app, &workflow, &model, &assignment, wish.content).await
}

async fn answer(
    app: &App,
    workflow: &Workflow,
    model: &str,
    assignment: &Assignment,
    content: bool,
) -> Result<Response, Problem> {
    let version: Option<Arc<Version>> = if content {
        app.assigner.version(workflow.workflow_id, model, assignment.version).await?
    } else {
        None
    };
    let text = |of: fn(&Version) -> &String| version.as_deref().map(|it| of(it).as_str());
    let answer = Answer {
        assignment,
        template: text(|it| &it.prompt_template),
        activation: text(|it| &it.activation_text),
        research: text(|it| &it.research_text),
    };
    let mut response = Json(answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if content && let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", assignment.content_hash)) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}
