//! Batches at Claude's stand-in: kept in memory, answered when they are first looked at, in a list or alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::Method;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::rules::{self, Refusal};
use super::{Api, Reply, Request};
use crate::stand_in::fault::BatchFate;
use crate::stand_in::listener;

/// Where the batches are.
pub(super) const PATH: &str = "/v1/messages/batches";

/// A batch ends so long after it was made if it is not answered.
const DAY: TimeDelta = TimeDelta::hours(24);

/// Every batch so far.
#[derive(Debug, Default)]
pub(super) struct Batches(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    id: String,
    created_at: DateTime<Utc>,
    requests: Vec<Value>,
    fate: BatchFate,
    /// Looks at it before it ends.
    looks_left: u32,
    cancelling: bool,
    /// One line a request, once it has ended.
    results: Option<Vec<Value>>,
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, Vec<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// The answer to a request about batches whose head passed the checks.
    pub(super) fn about_batches(
        &self,
        request: &Request,
        fate: BatchFate,
    ) -> Result<Response, Refusal> {
        let rest = request.path().strip_prefix(PATH).unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        match (&request.head.method, parts.as_slice()) {
            (&Method::POST, []) => self.make_batch(request, fate),
            (&Method::GET, []) => Ok(self.list(request)),
            (&Method::GET, [id]) => self.with_batch(id, |made| {
                self.look(made);
                Ok(self.shown(made))
            }),
            (&Method::GET, [id, "results"]) => self.with_batch(id, Made::lines),
            (&Method::POST, [id, "cancel"]) => self.with_batch(id, |made| {
                made.cancelling = true;
                Ok(self.shown(made))
            }),
            _ => Err(Refusal::new(404, "not_found_error", "Not Found")),
        }
    }

    fn make_batch(&self, request: &Request, fate: BatchFate) -> Result<Response, Refusal> {
        let body: Value = serde_json::from_slice(&request.bytes()).map_err(|_| {
            Refusal::new(400, "invalid_request_error", "The body is not valid JSON")
        })?;
        let requests = body["requests"].as_array().cloned().unwrap_or_default();
        let named = |request: &Value| {
            request["custom_id"].as_str().is_some_and(|id| {
                (1..=64).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        };
        if requests.is_empty() || !requests.iter().all(named) {
            return Err(Refusal::new(
                400,
                "invalid_request_error",
                "requests: each needs a custom_id of 1 to 64 letters, digits, hyphens and underscores",
            ));
        }
        let made = Made {
            id: format!("msgbatch_standin_{:06}", request.number),
            created_at: self.clock.now(),
            requests,
            looks_left: match fate {
                BatchFate::Slow { looks } => looks,
                _ => 0,
            },
            fate,
            cancelling: false,
            results: None,
        };
        let shown = self.shown(&made);
        self.batches.lock().push(made);
        Ok(shown)
    }

    fn with_batch(
        &self,
        id: &str,
        work: impl FnOnce(&mut Made) -> Result<Response, Refusal>,
    ) -> Result<Response, Refusal> {
        let mut batches = self.batches.lock();
        match batches.iter_mut().find(|made| made.id == id) {
            Some(made) => work(made),
            None => Err(Refusal::new(404, "not_found_error", format!("batch: {id}"))),
        }
    }

    /// Ends a batch whose time has come.
    fn look(&self, made: &mut Made) {
        if made.results.is_some() {
            return;
        }
        let day_is_over = self.clock.now() - made.created_at >= DAY;
        let result = |kind: &str| json!({"type": kind});
        let all = |result: Value| {
            let line =
                |request: &Value| json!({"custom_id": request["custom_id"], "result": result});
            made.requests.iter().map(line).collect::<Vec<_>>()
        };
        let results = match made.fate {
            _ if made.cancelling => all(result("canceled")),
            BatchFate::Canceled => all(result("canceled")),
            BatchFate::Expired => all(result("expired")),
            BatchFate::NeverEnds if day_is_over => all(result("expired")),
            BatchFate::NeverEnds => return,
            BatchFate::Errored => all(errored("api_error", "Internal server error")),
            BatchFate::Answered | BatchFate::Slow { .. } => {
                if made.looks_left > 0 {
                    made.looks_left -= 1;
                    return;
                }
                made.requests.iter().map(|request| self.answer_in_batch(request)).collect()
            }
        };
        made.results = Some(results);
    }

    fn answer_in_batch(&self, request: &Value) -> Value {
        let asked = &request["params"];
        let number = self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let result = match rules::check_fields(asked, false) {
            Err(refusal) => errored(&refusal.kind, &refusal.message),
            Ok(()) => match self.responder.reply(asked) {
                Reply::Error { kind, message, .. } => errored(&kind, &message),
                reply => match super::said(&reply) {
                    Some((content, stop_reason, details)) => {
                        let mut message =
                            self.message(number, asked, &content, stop_reason, &details);
                        message["usage"]["service_tier"] = json!("batch");
                        json!({"type": "succeeded", "message": message})
                    }
                    None => errored("api_error", "Internal server error"),
                },
            },
        };
        json!({"custom_id": request["custom_id"], "result": result})
    }

    fn list(&self, request: &Request) -> Response {
        let limit =
            request.query("limit").first().and_then(|limit| limit.parse().ok()).unwrap_or(20);
        let after = request.query("after_id");
        let mut batches = self.batches.lock();
        batches.iter_mut().for_each(|made| self.look(made));
        let older = batches.iter().rev();
        let rest: Vec<&Made> = match after.first() {
            Some(id) => older.skip_while(|made| made.id != *id).skip(1).collect(),
            None => older.collect(),
        };
        let page: Vec<Value> = rest.iter().take(limit).map(|made| self.as_json(made)).collect();
        let body = json!({
            "has_more": rest.len() > page.len(),
            "first_id": page.first().map(|batch| batch["id"].clone()),
            "last_id": page.last().map(|batch| batch["id"].clone()),
            "data": page,
        });
        listener::json(200, body.to_string())
    }

    fn shown(&self, made: &Made) -> Response {
        listener::json(200, self.as_json(made).to_string())
    }

    fn as_json(&self, made: &Made) -> Value {
        let count = |kind: &str| {
            let of_kind = |line: &&Value| line["result"]["type"] == kind;
            made.results.iter().flatten().filter(of_kind).count()
        };
        let ended = made.results.is_some();
        let status = match (ended, made.cancelling) {
            (true, _) => "ended",
            (false, true) => "canceling",
            (false, false) => "in_progress",
        };
        json!({
            "id": made.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {
                "processing": if ended { 0 } else { made.requests.len() },
                "succeeded": count("succeeded"),
                "errored": count("errored"),
                "canceled": count("canceled"),
                "expired": count("expired"),
            },
            "created_at": made.created_at,
            "expires_at": made.created_at + DAY,
            "ended_at": ended.then(|| self.clock.now()),
            "cancel_initiated_at": null,
            "archived_at": null,
            "results_url": ended.then(|| format!("{}{PATH}/{}/results", self.base_url, made.id)),
        })
    }
}

impl Made {
    fn lines(&mut self) -> Result<Response, Refusal> {
        let Some(results) = &self.results else {
            let words = format!("batch {} has not ended", self.id);
            return Err(Refusal::new(400, "invalid_request_error", words));
        };
        let lines: String = results.iter().map(|line| format!("{line}\n")).collect();
        Ok(listener::answer(200, "application/binary", lines))
    }
}

fn errored(kind: &str, message: &str) -> Value {
    json!({
        "type": "errored",
        "error": {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": null,
        },
    })
}
