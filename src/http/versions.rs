//! Prompt versions: their list, one with its texts, and what changed between two.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::accepts;
use super::error::Problem;
use super::path::{PathOf, check_model};
use crate::research::{EditNote, version_diff};
use crate::store::versions::{self, Version, VersionHead};

/// The versions of a model, newest first, without their texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    model: String,
    versions: Vec<VersionHead>,
}

/// What never changes of a version. Whether it serves and how it scored are in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneVersion<'v> {
    model: &'v str,
    version: i32,
    content_hash: &'v str,
    parent_version: Option<i32>,
    summary: &'v str,
    diff: &'v str,
    edits: &'v [EditNote],
    cycle: Option<i64>,
    created_at: DateTime<Utc>,
    created_by: &'v str,
    template: &'v str,
    activation: &'v str,
    research: &'v str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VersionDiff)]
pub(super) struct Diff {
    model: String,
    from: i32,
    to: i32,
    /// Unified, empty where the texts are equal.
    diff: String,
}

/// `GET …/models/{model}/versions`
///
/// # Errors
/// A problem when the model is unknown or the database is away.
pub async fn list(
    State(app): State<App>,
    PathOf((workflow, model)): PathOf<(String, String)>,
) -> Result<Json<Versions>, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    let versions = versions::list(app.engine.store.pool(), workflow.workflow_id, &model).await?;
    Ok(Json(Versions { model, versions }))
}

/// `GET …/models/{model}/versions/{n}`: immutable, so that whoever has it need not ask again.
///
/// # Errors
/// A problem when there is no such version or the database is away.
pub async fn one(
    State(app): State<App>,
    PathOf((workflow, model, number)): PathOf<(String, String, i32)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let version = find(&app, &workflow, &model, number).await?;
    let tag = format!("\"{}\"", version.content_hash);
    let mut response = if is_kept(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(shown(&version)).into_response()
    };
    let answer = response.headers_mut();
    let forever = HeaderValue::from_static("private, max-age=31536000, immutable");
    answer.insert(header::CACHE_CONTROL, forever);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// True when the client says that it has what this tag names.
pub(super) fn is_kept(headers: &HeaderMap, tag: &str) -> bool {
    let kept = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    kept.is_some_and(|kept| {
        kept.split(',').any(|one| matches!(one.trim(), known if known == tag || known == "*"))
    })
}

fn shown(version: &Version) -> OneVersion<'_> {
    OneVersion {
        model: &version.model_name,
        version: version.version,
        content_hash: &version.content_hash,
        parent_version: version.parent_version,
        summary: &version.summary,
        diff: &version.diff,
        edits: &version.edits.0,
        cycle: version.cycle,
        created_at: version.created_at,
        created_by: &version.created_by,
        template: &version.prompt_template,
        activation: &version.activation_text,
        research: &version.research_text,
    }
}

/// `GET …/models/{model}/versions/{a}/diff/{b}`: unified, as text for `patch`, or in JSON.
///
/// # Errors
/// A problem when there is no such version or the database is away.
pub async fn diff(
    State(app): State<App>,
    PathOf((workflow, model, from, to)): PathOf<(String, String, i32, i32)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let old = find(&app, &workflow, &model, from).await?;
    let new = find(&app, &workflow, &model, to).await?;
    let diff = version_diff(&old.texts(), &new.texts(), from, to);
    if accepts(&headers, "application/json") {
        return Ok(Json(Diff { model, from, to, diff }).into_response());
    }
    let kind = HeaderValue::from_static("text/x-diff; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], diff).into_response())
}

async fn find(
    app: &App,
    workflow: &str,
    model: &str,
    number: i32,
) -> Result<std::sync::Arc<Version>, Problem> {
    let workflow = app.workflow(workflow)?;
    check_model(&workflow, model)?;
    let found = app.assigner.version(workflow.workflow_id, model, number).await?;
    found.ok_or_else(|| Problem::unknown_version(model, number))
}
