//! One span and one count a request; never a body, a key, or a path with what a caller put into it. Of the path, what
//! names a workflow that is known, and a task by its id, stand in fields of their own.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::App;
use crate::otlp;

/// A request that takes longer is worth a line in the log by itself.
const SLOW: Duration = Duration::from_secs(2);

/// Runs the request in its span and counts it.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method_name(request.method());
    let route = match request.extensions().get::<MatchedPath>() {
        Some(matched) => matched.as_str().to_owned(),
        None => "none".to_owned(),
    };
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        http.method = method,
        http.route = route,
        workflow.name = tracing::field::Empty,
        task.id = tracing::field::Empty,
        http.status = tracing::field::Empty,
        http.duration_ms = tracing::field::Empty,
    );
    let sent = request.headers().get(otlp::TRACEPARENT).and_then(|value| value.to_str().ok());
    otlp::continue_from(&span, sent);
    let response = next.run(request).instrument(span.clone()).await;
    let took = began.elapsed();
    let status = response.status();
    span.record("http.status", status.as_u16());
    span.record("http.duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    app.requests.count(method, &route, status.as_u16(), took);
    span.in_scope(|| {
        if status.is_server_error() {
            tracing::warn!("a request failed on the server's side");
        } else if took >= SLOW {
            tracing::info!("a request took long");
        } else {
            tracing::debug!("a request was answered");
        }
    });
    response
}

/// A method by a name from a short list, since a caller may invent any.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// Headers that every answer carries.
pub async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
