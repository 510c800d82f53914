//! One paid HTTP attempt and every way it can end.

use super::batch::BatchApi;
use super::wire::{MessageRequest, MessageResponse};
use crate::outbound::Closed;
use futures::future::BoxFuture;
use std::time::Duration;

/// Something that makes one attempt: the real client, or a script in a test.
pub trait ClaudeApi: Send + Sync {
    /// Makes one attempt and says how it ended. Never retries, never panics.
    ///
    /// Dropping the future ends the attempt on this side only: Claude may go on and charge for it.
    fn attempt<'a>(&'a self, request: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome>;

    /// Asks how many tokens a request has, without having it answered. Costs nothing, and is never retried.
    ///
    /// # Errors
    /// When the service cannot be asked or gives no number; nothing was charged either way.
    fn count_tokens<'a>(
        &'a self,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<u64, AttemptError>>;

    /// Whether a call could be made at all, that is, whether there is a key.
    fn configured(&self) -> bool;

    /// Whether the API has said that nothing is left of a limit, and until when: no attempt may leave before that.
    fn closed(&self) -> Option<Closed> {
        None
    }

    /// Where batches are handed in; none where only single requests are answered.
    fn batches(&self) -> Option<&dyn BatchApi> {
        None
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptOutcome {
    /// The API's name for the request, where it gave one.
    pub request_id: Option<String>,
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// The answer, or why there is none.
    pub result: Result<MessageResponse, AttemptError>,
    /// From the first byte sent to the last byte read, in milliseconds.
    pub duration_ms: u64,
}

/// Why an attempt gave no answer. It never holds the key or the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// The kind of failure.
    pub kind: AttemptErrorKind,
    /// Words about it; Claude's own where it sent some.
    pub message: String,
    /// How long the API asked to wait.
    pub retry_after: Option<Duration>,
    /// What the API said about a retry, which wins over the status.
    pub should_retry: Option<bool>,
}

/// The kind of failure of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptErrorKind {
    /// There is no key: nothing was sent.
    NotConfigured,
    /// The request could not be put on the wire: nothing was sent.
    NotSent,
    /// No connection: nothing was sent.
    Connect,
    /// No answer in time; Claude may have worked, and may charge for it.
    TimedOut,
    /// The connection broke before the whole answer was here; it may be charged.
    Interrupted,
    /// The answer was longer than the limit; it is charged.
    AnswerTooLarge,
    /// The status was 200 and the body was not an answer; it may be charged.
    Unreadable,
    /// An answer with an error status.
    Status {
        /// The family in the API's envelope; absent where something else than the API answered.
        error_type: Option<String>,
        /// The finer code, where there is one.
        error_code: Option<String>,
    },
}

impl AttemptError {
    /// A failure about which the API said nothing.
    #[must_use]
    pub fn new(kind: AttemptErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, should_retry: None }
    }

    /// Whether a spend limit was reached that only time or a person lifts.
    #[must_use]
    pub fn is_spend_limit(&self) -> bool {
        matches!(
            &self.kind,
            AttemptErrorKind::Status { error_code: Some(code), .. }
                if code == "enforced_spend_limit_reached" || code == "contract_spend_limit_reached"
        )
    }
}

impl AttemptOutcome {
    /// An attempt that ended before any answer came.
    #[must_use]
    pub fn unanswered(error: AttemptError, duration_ms: u64) -> Self {
        Self { request_id: None, status: None, result: Err(error), duration_ms }
    }
}
