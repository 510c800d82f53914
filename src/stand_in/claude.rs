//! A stand-in for the Claude API: a real HTTP server on 127.0.0.1 that answers `POST /v1/messages`, counts the
//! tokens of a request, takes batches, and tells of models.
//!
//! It checks what the API checks (see `rules`), answers what its [`Responder`] says, and reports a plausible usage (see
//! `meter`). Its rate limit headers are constants. What goes wrong is said by the responder's [`Reply`], or by a
//! [`Script`] that the other stand-ins share.

mod batches;
mod meter;
mod models;
mod rules;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use meter::Meter;
use rules::Refusal;
use serde_json::{Value, json};

use super::fault::{Answer, BatchFate, Fault};
use super::listener::{self, Answers, Bound, Listener, Request, broken};
use super::script::Script;
use crate::clock::{Clock, SystemClock};
use crate::orchestrator::service::Service;

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
    listener: Listener,
    calls: Arc<AtomicU64>,
}

impl ClaudeStandIn {
    /// Starts a stand-in without a script and returns when it listens.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(settings: StandInSettings, responder: impl Responder) -> io::Result<Self> {
        Self::start_scripted(settings, Script::new(0), responder).await
    }

    /// Starts a stand-in whose requests meet the script first, and returns when it listens.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_scripted(
        settings: StandInSettings,
        script: Script,
        responder: impl Responder,
    ) -> io::Result<Self> {
        Self::start_by_clock(settings, script, responder, Arc::new(SystemClock)).await
    }

    /// The same, with the days of its batches by this clock.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_by_clock(
        settings: StandInSettings,
        script: Script,
        responder: impl Responder,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let bound = Bound::take(settings.port).await?;
        let calls = Arc::new(AtomicU64::new(0));
        let api = Arc::new(Api {
            api_key: settings.api_key,
            responder: Box::new(responder),
            calls: Arc::clone(&calls),
            meter: Meter::default(),
            batches: batches::Batches::default(),
            base_url: bound.base_url().to_owned(),
            clock,
        });
        Ok(Self { listener: bound.serve(script, api), calls })
    }

    /// Its address, such as `http://127.0.0.1:41234`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.listener.base_url()
    }

    /// How many requests for an answer it has had, refused ones too; not those that a script kept from it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Stops it: hanging requests are let go, and no further one is answered once this returns.
    pub async fn stop(mut self) {
        self.listener.stop().await;
    }
}

struct Api {
    api_key: String,
    responder: Box<dyn Responder>,
    calls: Arc<AtomicU64>,
    meter: Meter,
    batches: batches::Batches,
    base_url: String,
    clock: Arc<dyn Clock>,
}

impl Answers for Api {
    const SERVICE: Service = Service::Claude;
    const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

    fn answer<'a>(
        &'a self,
        request: &'a Request,
        fault: &'a Fault,
    ) -> BoxFuture<'a, io::Result<Response>> {
        async move {
            if request.path().starts_with(batches::PATH) {
                let fate =
                    if let Fault::Batch(fate) = fault { *fate } else { BatchFate::default() };
                let answered = rules::check_head(&request.head, &self.api_key)
                    .and_then(|()| self.about_batches(request, fate));
                return Ok(
                    answered.unwrap_or_else(|refusal| error_response(request, &refusal, None, &[]))
                );
            }
            if let Some(id) = request.path().strip_prefix(models::PATH) {
                let answered = rules::check_head(&request.head, &self.api_key)
                    .and_then(|()| models::model(id, self.clock.now()));
                return Ok(match answered {
                    Ok(model) => listener::json(200, model.to_string()),
                    Err(refusal) => error_response(request, &refusal, None, &[]),
                });
            }
            let counting = request.head.uri.path() == rules::COUNT_PATH;
            // Counting is free, so it is no call.
            self.calls.fetch_add(u64::from(!counting), Ordering::SeqCst);
            let body = match self.check(request) {
                Ok(body) => body,
                Err(refusal) => return Ok(error_response(request, &refusal, None, &[])),
            };
            if counting {
                let count = json!({"input_tokens": meter::prompt_tokens(&body)});
                return Ok(listener::json(200, count.to_string()));
            }
            let mut reply = self.responder.reply(&body);
            while let Reply::Slowly { delay, reply: then } = reply {
                if !request.wait(delay).await {
                    return Err(broken());
                }
                reply = *then;
            }
            if let Fault::Answer(answer) = fault {
                reply = spoilt(*answer, reply);
            }
            self.respond(request, &body, reply).await
        }
        .boxed()
    }

    fn dress(&self, request: &Request, response: &mut Response) {
        listener::set_header(response, "request-id", &request_id(request.number));
        for (name, value) in [
            ("anthropic-organization-id", "0a1b2c3d-0000-4000-8000-000000000000"),
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2026-11-22T00:00:00Z"),
            ("anthropic-ratelimit-tokens-limit", "2000000"),
            ("anthropic-ratelimit-tokens-remaining", "1999000"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-22T00:00:00Z"),
            ("anthropic-ratelimit-input-tokens-limit", "1600000"),
            ("anthropic-ratelimit-input-tokens-remaining", "1599000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T00:00:00Z"),
            ("anthropic-ratelimit-output-tokens-limit", "400000"),
            ("anthropic-ratelimit-output-tokens-remaining", "399000"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-22T00:00:00Z"),
        ] {
            // A reply may tell of a limit of its own, such as one that is used up.
            if !response.headers().contains_key(name) {
                listener::set_header(response, name, value);
            }
        }
    }

    fn envelope(&self, request: &Request, body: &str) -> String {
        let error: Value = serde_json::from_str(body).unwrap_or_default();
        envelope(request, &error).to_string()
    }
}

/// What a script makes of a reply.
fn spoilt(answer: Answer, reply: Reply) -> Reply {
    let (Reply::Text(text) | Reply::ThinkingThenText(text)) = reply else { return reply };
    match answer {
        Answer::Truncated => {
            let half: String = text.chars().take(text.chars().count() / 2).collect();
            Reply::Truncated(half)
        }
        Answer::Refusal => Reply::Refusal,
        Answer::ThinkingFirst => Reply::ThinkingThenText(text),
        Answer::ThinkingOnly => Reply::ThinkingOnly,
        Answer::PauseTurn => Reply::Stopped { stop_reason: "pause_turn".to_owned(), text },
        Answer::NotJson => Reply::Text("I would rather say it in my own words.".to_owned()),
        Answer::Empty => Reply::Raw { status: 200, body: String::new() },
    }
}

impl Api {
    fn check(&self, request: &Request) -> Result<Value, Refusal> {
        rules::check_head(&request.head, &self.api_key)?;
        match &request.body {
            Some(body) => rules::check_body(body, request.head.uri.path() == rules::COUNT_PATH),
            None => Err(Refusal::new(413, "request_too_large", "Request exceeds the maximum size")),
        }
    }

    async fn respond(
        &self,
        request: &Request,
        asked: &Value,
        reply: Reply,
    ) -> io::Result<Response> {
        if let Some((content, stop_reason, details)) = said(&reply) {
            let message = self.message(request.number, asked, &content, stop_reason, &details);
            return Ok(listener::json(200, message.to_string()));
        }
        Ok(match reply {
            Reply::Error { status, kind, message, error_code, headers } => {
                let refusal = Refusal { status, kind, message };
                error_response(request, &refusal, error_code.as_deref(), &headers)
            }
            Reply::Html(status) => listener::html(status),
            Reply::Raw { status, body } => listener::json(status, body),
            Reply::CutBody => {
                let content = json!([{"type": "text", "text": "cut"}]);
                let message =
                    self.message(request.number, asked, &content, "end_turn", &Value::Null);
                listener::cut(listener::json(200, message.to_string())).await
            }
            _ => {
                request.stopping.cancelled().await;
                return Err(broken());
            }
        })
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
            "container": null,
            "diagnostics": null,
            "usage": self.meter.usage(request, content, stop_reason, self.clock.now()),
        })
    }
}

/// The content, the reason of its end and the details of a reply that is a message; none for any other.
fn said(reply: &Reply) -> Option<(Value, &str, Value)> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let thinking = json!({"type": "thinking", "thinking": "", "signature": "c3RhbmQtaW4="});
    Some(match reply {
        Reply::Text(words) => (json!([text(words)]), "end_turn", Value::Null),
        Reply::ThinkingThenText(words) => (json!([thinking, text(words)]), "end_turn", Value::Null),
        Reply::Truncated(words) => (json!([text(words)]), "max_tokens", Value::Null),
        Reply::ThinkingOnly => (json!([thinking]), "max_tokens", Value::Null),
        Reply::Stopped { stop_reason, text: words } => {
            (json!([text(words)]), stop_reason.as_str(), Value::Null)
        }
        Reply::Refusal => {
            let details = json!({"type": "refusal", "category": null, "explanation": null});
            (json!([]), "refusal", details)
        }
        _ => return None,
    })
}

fn error_response(
    request: &Request,
    refusal: &Refusal,
    error_code: Option<&str>,
    headers: &[(String, String)],
) -> Response {
    let mut error = json!({"type": refusal.kind, "message": refusal.message});
    if let Some(code) = error_code {
        error["details"] = json!({"error_code": code});
    }
    let mut response = listener::json(refusal.status, envelope(request, &error).to_string());
    for (name, value) in headers {
        listener::set_header(&mut response, name, value);
    }
    response
}

fn envelope(request: &Request, error: &Value) -> Value {
    json!({"type": "error", "error": error, "request_id": request_id(request.number)})
}

fn request_id(number: u64) -> String {
    format!("req_standin_{number:06}")
}

#[cfg(test)]
mod tests;
