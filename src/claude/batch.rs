//! The Message Batches API: requests that are answered within a day, at half the price.
//!
//! A batch of Mathesis holds one request, named by the id of its call, so that a batch whose id was never told can be
//! found again among the account's.

use super::answer::{Answer, interpret};
use super::attempt::{AttemptError, AttemptErrorKind, AttemptOutcome};
use super::error::CallError;
use super::journal::{CallId, Finished};
use super::retry::finished;
use super::wire::{ErrorEnvelope, MessageRequest, MessageResponse};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Something that takes batches: the real client, or a script in a test. Each method is one HTTP request, and none
/// repeats it.
pub trait BatchApi: Send + Sync {
    /// Hands in a batch of this one request. Only this is paid for, once its answer is there.
    ///
    /// # Errors
    /// [`BatchError`]; see [`BatchError::may_have_arrived`] for whether the batch may exist all the same.
    fn create<'a>(
        &'a self,
        custom_id: &'a str,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<Batch, BatchError>>;

    /// How a batch stands.
    ///
    /// # Errors
    /// [`BatchError`].
    fn find<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>>;

    /// The results of a batch that has ended, in any order.
    ///
    /// # Errors
    /// [`BatchError`].
    fn results<'a>(&'a self, batch: &'a Batch)
    -> BoxFuture<'a, Result<Vec<BatchLine>, BatchError>>;

    /// Asks for a batch to be cancelled; what is answered by then is still paid for.
    ///
    /// # Errors
    /// [`BatchError`].
    fn cancel<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>>;

    /// The account's batches, the newest first, a page at a time.
    ///
    /// # Errors
    /// [`BatchError`].
    fn page<'a>(
        &'a self,
        after_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<BatchPage, BatchError>>;
}

/// How a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Anthropic's id, such as `msgbatch_01…`.
    pub id: String,
    /// `in_progress`, `canceling` or `ended`.
    pub processing_status: String,
    /// Its requests by how they stand; all are processing until the whole batch ends.
    pub request_counts: RequestCounts,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Where the results are, once it has ended.
    #[serde(default)]
    pub results_url: Option<String>,
}

impl Batch {
    /// True when there are results to fetch.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.processing_status == "ended"
    }
}

/// The requests of a batch by how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCounts {
    /// Not ended.
    pub processing: u64,
    /// Answered.
    pub succeeded: u64,
    /// Refused by the API.
    pub errored: u64,
    /// Cancelled before they were answered.
    pub canceled: u64,
    /// Not answered within the day.
    pub expired: u64,
}

impl RequestCounts {
    /// How many requests it holds.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.processing, self.succeeded, self.errored, self.canceled, self.expired]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// One line of a batch's results.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BatchLine {
    /// The request's name.
    pub custom_id: String,
    /// What it came to.
    pub result: BatchResult,
}

/// What a request of a batch came to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BatchResult {
    /// It was answered; only this is charged.
    Succeeded {
        /// The answer, as it would have come at once.
        message: Box<MessageResponse>,
    },
    /// It was refused.
    Errored {
        /// Why, in the API's envelope.
        error: ErrorEnvelope,
    },
    /// It was cancelled before it was answered.
    Canceled,
    /// It was not answered within the day.
    Expired,
}

/// A page of the account's batches.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BatchPage {
    /// The batches, the newest first.
    pub data: Vec<Batch>,
    /// Whether older ones follow.
    #[serde(default)]
    pub has_more: bool,
    /// The last one's id, to go on from.
    #[serde(default)]
    pub last_id: Option<String>,
}

/// Why a request about a batch brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchError {
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: AttemptError,
}

impl BatchError {
    /// Whether the API may have done what it was asked all the same, because its answer is what got lost.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match &self.error.kind {
            AttemptErrorKind::NotConfigured
            | AttemptErrorKind::NotSent
            | AttemptErrorKind::Connect => false,
            AttemptErrorKind::TimedOut
            | AttemptErrorKind::Interrupted
            | AttemptErrorKind::AnswerTooLarge
            | AttemptErrorKind::Unreadable => true,
            // A gateway that gave up waiting says nothing about the API behind it.
            AttemptErrorKind::Status { error_type, .. } => {
                error_type.is_none() && matches!(self.status, Some(408 | 499 | 504 | 524))
            }
        }
    }

    /// Whether the API says that there is no such batch.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.status == Some(404)
            && matches!(self.error.kind, AttemptErrorKind::Status { error_type: Some(_), .. })
    }

    /// The error as a call's.
    #[must_use]
    pub fn of_call(&self, request: &MessageRequest) -> CallError {
        CallError::from_attempt(request, self.status, &self.error)
    }
}

/// What a result means to the caller, and how it is written down.
///
/// `duration_ms` runs from the asking to the looking.
pub fn ended(
    request: &MessageRequest,
    result: BatchResult,
    call_id: CallId,
    duration_ms: u64,
) -> (Result<Answer, CallError>, Finished) {
    let (status, result) = match result {
        BatchResult::Succeeded { mut message } => {
            // It is what it came by that makes it cost half, whether the usage says so or not.
            message.usage.service_tier = Some("batch".to_owned());
            (200, Ok(*message))
        }
        BatchResult::Errored { error } => {
            let kind = AttemptErrorKind::Status {
                error_type: Some(error.error.error_type.clone()),
                error_code: error.error.details.and_then(|details| details.error_code),
            };
            let status = status_of(&error.error.error_type);
            (status, Err(AttemptError::new(kind, error.error.message)))
        }
        BatchResult::Canceled => return unanswered(CallError::BatchCanceled, duration_ms),
        BatchResult::Expired => return unanswered(CallError::BatchExpired, duration_ms),
    };
    let outcome = AttemptOutcome { request_id: None, status: Some(status), result, duration_ms };
    let answer = interpret(request, &outcome, call_id);
    let finished = finished(request, &outcome, &answer);
    (answer, finished)
}

/// The status that the API answers with outside of batches, where errors have one.
fn status_of(error_type: &str) -> u16 {
    match error_type {
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 400,
    }
}

fn unanswered(error: CallError, duration_ms: u64) -> (Result<Answer, CallError>, Finished) {
    let finished = Finished {
        status: None,
        stop_reason: None,
        request_id: None,
        message_id: None,
        model: None,
        usage: None,
        cost_usd: Decimal::ZERO,
        estimated: false,
        response_text: None,
        error_code: Some(error.code()),
        error_message: Some(error.to_string()),
        duration_ms,
    };
    (Err(error), finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the facts page, as the API writes them.
    const RESULTS: &str = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_01B","type":"message","role":"assistant","model":"claude-opus-5-5","content":[{"type":"text","text":"{}"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9000,"output_tokens":1200,"service_tier":"batch"}}}}
{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":null}}}
{"custom_id":"c","result":{"type":"expired"}}
{"custom_id":"d","result":{"type":"canceled"}}"#;

    fn request() -> MessageRequest {
        MessageRequest::structured(
            "claude-opus-5-5",
            100,
            vec![],
            "hello".to_owned(),
            serde_json::Value::Null,
        )
    }

    fn read(line: &str) -> (Result<Answer, CallError>, Finished) {
        let line: BatchLine = serde_json::from_str(line).expect("a documented line");
        ended(&request(), line.result, CallId(uuid::Uuid::nil()), 5)
    }

    #[test]
    fn every_documented_result_is_read_and_only_an_answer_costs() {
        let told: Vec<String> = RESULTS
            .lines()
            .map(|line| {
                let (answer, finished) = read(line);
                let code = answer.map_or_else(|error| error.code(), |_| "answered");
                format!("{code} {} USD, estimated: {}", finished.cost_usd, finished.estimated)
            })
            .collect();
        let expected = [
            "answered 0.03 USD, estimated: false",
            "claude_bad_request 0 USD, estimated: false",
            "claude_batch_expired 0 USD, estimated: false",
            "claude_batch_canceled 0 USD, estimated: false",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_answer_of_a_batch_costs_half_even_where_its_usage_does_not_say_so() {
        let bare = RESULTS.lines().next().unwrap().replace(r#","service_tier":"batch""#, "");
        let (answer, finished) = read(&bare);
        // 9,000 × 4 + 1,200 × 20 = 60,000 millionths, halved.
        assert_eq!(finished.cost_usd, "0.03".parse().unwrap());
        assert_eq!(answer.unwrap().cost, finished.cost_usd);
    }

    #[test]
    fn a_batch_reads_as_documented() {
        let batch: Batch = serde_json::from_str(
            r#"{"id":"msgbatch_01","type":"message_batch","processing_status":"in_progress",
                "request_counts":{"processing":1,"succeeded":0,"errored":0,"canceled":0,"expired":0},
                "created_at":"2026-11-22T10:00:00.358585+00:00","expires_at":"2026-11-23T10:00:00.358585+00:00",
                "ended_at":null,"cancel_initiated_at":null,"archived_at":null,"results_url":null}"#,
        )
        .unwrap();
        assert_eq!((batch.has_ended(), batch.request_counts.total()), (false, 1));
    }

    #[test]
    fn only_a_lost_answer_leaves_open_whether_the_batch_was_made() {
        let of = |status, kind| BatchError { status, error: AttemptError::new(kind, "") };
        let status = |error_type: Option<&str>| AttemptErrorKind::Status {
            error_type: error_type.map(str::to_owned),
            error_code: None,
        };
        assert!(of(None, AttemptErrorKind::TimedOut).may_have_arrived());
        assert!(of(Some(200), AttemptErrorKind::Unreadable).may_have_arrived());
        assert!(of(Some(504), status(None)).may_have_arrived());
        assert!(!of(Some(529), status(Some("overloaded_error"))).may_have_arrived());
        assert!(!of(None, AttemptErrorKind::Connect).may_have_arrived());
        assert!(of(Some(404), status(Some("not_found_error"))).is_unknown());
        assert!(!of(Some(404), status(None)).is_unknown(), "a proxy's page is no word of the API");
    }
}
