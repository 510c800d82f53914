//! A stand-in for the Claude API: a real HTTP server on 127.0.0.1 that answers `POST /v1/messages`.
//!
//! It checks what the API checks (see `rules`), answers what its [`Responder`] says, and reports a plausible usage (see
//! `meter`). Its rate limit headers are constants.

mod meter;
mod rules;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures::StreamExt;
use meter::Meter;
use rules::Refusal;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Decides what the stand-in answers. Any `Fn(&Value) -> Reply` is one; the value is the body of the request.
pub trait Responder: Send + Sync + 'static {
    /// The reply to a request that passed the checks.
    fn reply(&self, request: &Value) -> Reply;
}

impl<F: Fn(&Value) -> Reply + Send + Sync + 'static> Responder for F {
    fn reply(&self, request: &Value) -> Reply {
        self(request)
    }
}

/// What the stand-in answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// An answer of one text block that ends by itself.
    Text(String),
    /// The same behind a thinking block.
    ThinkingThenText(String),
    /// An answer cut off at `max_tokens`.
    Truncated(String),
    /// A thinking block that used up `max_tokens`.
    ThinkingOnly,
    /// A text with this stop reason.
    Stopped {
        /// The word on the wire.
        stop_reason: String,
        /// The text.
        text: String,
    },
    /// A refusal.
    Refusal,
    /// An error in the documented envelope.
    Error {
        /// The HTTP status.
        status: u16,
        /// The family, such as `rate_limit_error`.
        kind: String,
        /// Words for a person.
        message: String,
        /// The finer code.
        error_code: Option<String>,
        /// Further headers, such as `retry-after`.
        headers: Vec<(String, String)>,
    },
    /// A page such as a proxy sends.
    Html(u16),
    /// This body as it is, under this status.
    Raw {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// No answer until the stand-in stops.
    Hang,
    /// Half of an answer, then a broken connection.
    CutBody,
    /// The reply after a while, as a model that takes its time.
    Slowly {
        /// How long.
        delay: Duration,
        /// What then.
        reply: Box<Reply>,
    },
}

/// How to start a stand-in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandInSettings {
    /// The one key it accepts.
    pub api_key: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
}

/// A running stand-in. Dropping it stops it.
#[derive(Debug)]
pub struct ClaudeStandIn {
    base_url: String,
    calls: Arc<AtomicU64>,
    stopping: CancellationToken,
    server: Option<JoinHandle<()>>,
}

impl ClaudeStandIn {
    /// Starts a stand-in and returns when it listens.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(settings: StandInSettings, responder: impl Responder) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", settings.port)).await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let calls = Arc::new(AtomicU64::new(0));
        let stopping = CancellationToken::new();
        let service = Arc::new(Service {
            api_key: settings.api_key,
            responder: Box::new(responder),
            calls: Arc::clone(&calls),
            meter: Meter::default(),
            stopping: stopping.clone(),
        });
        let router = Router::new().fallback(handle).with_state(service);
        let stopped = stopping.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the Claude stand-in ended by itself");
            }
        });
        Ok(Self { base_url, calls, stopping, server: Some(server) })
    }

    /// Its address, such as `http://127.0.0.1:41234`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How many requests it has had, refused ones too.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Stops it: hanging requests are let go, and no further one is answered once this returns.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if let Some(server) = self.server.take() {
            let _ended = server.await;
        }
    }
}

impl Drop for ClaudeStandIn {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

struct Service {
    api_key: String,
    responder: Box<dyn Responder>,
    calls: Arc<AtomicU64>,
    meter: Meter,
    stopping: CancellationToken,
}

async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let number = service.calls.fetch_add(1, Ordering::SeqCst).saturating_add(1);
    let (head, body) = request.into_parts();
    let refused = |refusal: Refusal| error_response(number, &refusal, None, &[]);
    if let Err(refusal) = rules::check_head(&head, &service.api_key) {
        return refused(refusal);
    }
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return refused(Refusal::new(413, "request_too_large", "Request exceeds the maximum size"));
    };
    let body = match rules::check_body(&body) {
        Ok(body) => body,
        Err(refusal) => return refused(refusal),
    };
    let mut reply = service.responder.reply(&body);
    while let Reply::Slowly { delay, reply: then } = reply {
        tokio::select! {
            () = tokio::time::sleep(delay) => reply = *then,
            () = service.stopping.cancelled() => reply = Reply::Hang,
        }
    }
    service.respond(number, &body, reply).await
}

impl Service {
    async fn respond(&self, number: u64, request: &Value, reply: Reply) -> Response {
        let text = |text: &str| json!({"type": "text", "text": text});
        let thinking = json!({"type": "thinking", "thinking": "", "signature": "c3RhbmQtaW4="});
        let answer = |content: Value, stop_reason: &str, details: Value| {
            let message = self.message(number, request, &content, stop_reason, &details);
            json_response(number, 200, &message)
        };
        match reply {
            Reply::Text(words) => answer(json!([text(&words)]), "end_turn", Value::Null),
            Reply::ThinkingThenText(words) => {
                answer(json!([thinking, text(&words)]), "end_turn", Value::Null)
            }
            Reply::Truncated(words) => answer(json!([text(&words)]), "max_tokens", Value::Null),
            Reply::ThinkingOnly => answer(json!([thinking]), "max_tokens", Value::Null),
            Reply::Stopped { stop_reason, text: words } => {
                answer(json!([text(&words)]), &stop_reason, Value::Null)
            }
            Reply::Refusal => {
                let details = json!({"type": "refusal", "category": null, "explanation": null});
                answer(json!([]), "refusal", details)
            }
            Reply::Error { status, kind, message, error_code, headers } => {
                let refusal = Refusal { status, kind, message };
                error_response(number, &refusal, error_code.as_deref(), &headers)
            }
            Reply::Html(status) => {
                let page = "<html><body><h1>Bad gateway</h1></body></html>";
                response(number, status, "text/html", Body::from(page))
            }
            Reply::Raw { status, body } => {
                response(number, status, "application/json", Body::from(body))
            }
            Reply::Hang | Reply::Slowly { .. } => {
                self.stopping.cancelled().await;
                error_response(
                    number,
                    &Refusal::new(503, "api_error", "The stand-in is stopping"),
                    None,
                    &[],
                )
            }
            Reply::CutBody => cut_response(number),
        }
    }

    fn message(
        &self,
        number: u64,
        request: &Value,
        content: &Value,
        stop_reason: &str,
        stop_details: &Value,
    ) -> Value {
        json!({
            "id": format!("msg_standin_{number:06}"),
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "stop_details": stop_details,
            "usage": self.meter.usage(request, content, stop_reason),
        })
    }
}

fn error_response(
    number: u64,
    refusal: &Refusal,
    error_code: Option<&str>,
    headers: &[(String, String)],
) -> Response {
    let mut error = json!({"type": refusal.kind, "message": refusal.message});
    if let Some(code) = error_code {
        error["details"] = json!({"error_code": code});
    }
    let body = json!({"type": "error", "error": error, "request_id": request_id(number)});
    let mut response = json_response(number, refusal.status, &body);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn json_response(number: u64, status: u16, body: &Value) -> Response {
    response(number, status, "application/json", Body::from(body.to_string()))
}

fn cut_response(number: u64) -> Response {
    let half = Bytes::from_static(br#"{"id":"msg_standin_cut","type":"message","content":[{"ty"#);
    let broken = futures::stream::iter([Ok(half), Err(io::Error::other("cut"))])
        // Without a turn of the loop in between, the half would never leave.
        .then(|part| async move {
            tokio::task::yield_now().await;
            part
        });
    response(number, 200, "application/json", Body::from_stream(broken))
}

fn request_id(number: u64) -> String {
    format!("req_standin_{number:06}")
}

fn response(number: u64, status: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(&request_id(number)) {
        headers.insert("request-id", id);
    }
    for (name, value) in [
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", "2026-11-22T00:00:00Z"),
        ("anthropic-ratelimit-tokens-limit", "2000000"),
        ("anthropic-ratelimit-tokens-remaining", "1999000"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-22T00:00:00Z"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
