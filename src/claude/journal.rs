//! What a call needs from outside: a durable record of every attempt, and a way to wait.

use super::error::JournalError;
use super::wire::{MessageRequest, Usage};
use futures::future::BoxFuture;
use rust_decimal::Decimal;
use std::time::Duration;

/// The durable record of paid attempts.
///
/// A crash between [`begin`](CallJournal::begin) and [`end`](CallJournal::end) leaves a begin without an end: the
/// attempt may have been made and may have cost, so whoever finds it books [`estimate`](super::estimate) for it.
pub trait CallJournal: Send + Sync {
    /// Writes down, durably, that attempt `attempt_no` (from 1) is about to be made.
    ///
    /// When this fails nothing has been sent, and nothing will be.
    fn begin<'a>(
        &'a self,
        attempt_no: u32,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<CallId, JournalError>>;

    /// Writes down how the attempt ended and what it cost.
    fn end<'a>(
        &'a self,
        id: CallId,
        finished: &'a Finished,
    ) -> BoxFuture<'a, Result<(), JournalError>>;
}

/// The journal's name for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub uuid::Uuid);

/// How an attempt ended, as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// Why the answer ended, in the API's word.
    pub stop_reason: Option<String>,
    /// The API's name for the request.
    pub request_id: Option<String>,
    /// The API's name for the answer.
    pub message_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// What was read and written.
    pub usage: Option<Usage>,
    /// What it cost, in US dollars.
    pub cost_usd: Decimal,
    /// Whether the cost is a guess: no answer came, or the model has no known price.
    pub estimated: bool,
    /// The answer's text, also when it was cut short.
    pub response_text: Option<String>,
    /// The stable code of what went wrong.
    pub error_code: Option<&'static str>,
    /// Words about what went wrong.
    pub error_message: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Tokens by kind, as the database counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read at full price.
    pub input: Option<i64>,
    /// Written to the prompt cache.
    pub cache_creation: Option<i64>,
    /// Read from the prompt cache.
    pub cache_read: Option<i64>,
    /// Written by the model, thinking included.
    pub output: Option<i64>,
}

impl Finished {
    /// Its tokens; none where no answer told.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.usage.as_ref().map_or_else(Tokens::default, |usage| Tokens {
            input: Some(count(usage.input_tokens)),
            cache_creation: usage.cache_creation_input_tokens.map(count),
            cache_read: usage.cache_read_input_tokens.map(count),
            output: Some(count(usage.output_tokens)),
        })
    }
}

/// Waiting and chance, as parameters.
pub trait Pause: Send + Sync {
    /// Waits this long.
    fn pause(&self, wait: Duration) -> BoxFuture<'_, ()>;

    /// A number from 0 up to, but not including, 1.
    fn jitter(&self) -> f64;
}

/// Waits on the timer and draws from the thread's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimerPause;

impl Pause for TimerPause {
    fn pause(&self, wait: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(wait))
    }

    fn jitter(&self) -> f64 {
        rand::random::<f64>()
    }
}
