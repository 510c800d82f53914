//! `POST /v1/workflows/{wf}/events`: what the pipeline did.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};

use super::App;
use super::body::{self, EVENTS_BYTES_MAX};
use super::error::Problem;
use super::path::PathOf;
use crate::otlp;
use crate::task_log::{EventError, LogReport, TaskEvent, parse_body};

/// A body from which on reading it leaves the thread that answers the others.
const PARSE_ASIDE_BYTES: usize = 128 << 10;

/// Logs one event, an array of them, or one a line; answers once all that was accepted is committed.
///
/// # Errors
/// A problem when nothing was stored. Of an array or of lines the events that were refused are named
/// in the answer; a body of one event that was refused is a problem with that event's code.
pub async fn post(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LogReport>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let bytes = body::read(&headers, body, EVENTS_BYTES_MAX).await?;
    let in_list = bytes.trim_ascii_start().starts_with(b"[") || is_lines(&content_type);
    let events = parse(content_type, bytes).await?;
    let single = !in_list && events.len() == 1;
    if let [Ok(event)] = events.as_slice() {
        tracing::Span::current().record("task.id", &event.task_id);
    }
    otlp::note_cause(workflow.workflow_id);
    let report = app.logger.log_parsed(workflow.name(), events).await?;
    app.requests.count_events(report.accepted, report.duplicate, report.rejected.len());
    match report.rejected.first() {
        Some(rejection) if single => Err(Problem::of_single_event(rejection)),
        _ => Ok(Json(report)),
    }
}

fn is_lines(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("ndjson") || essence.ends_with("jsonl")
}

async fn parse(
    content_type: String,
    bytes: Bytes,
) -> Result<Vec<Result<TaskEvent, EventError>>, Problem> {
    if bytes.len() < PARSE_ASIDE_BYTES {
        return Ok(parse_body(&content_type, &bytes)?);
    }
    let parsed = tokio::task::spawn_blocking(move || parse_body(&content_type, &bytes)).await;
    Ok(parsed.map_err(|_| Problem::internal())??)
}
