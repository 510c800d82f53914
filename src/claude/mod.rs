//! Paid calls to Claude: the wire format, one HTTP attempt, retries, and what each call cost.
//!
//! Reading order: [`wire`] is what is said, [`attempt`] one paid HTTP attempt and how it can end, [`client`] makes it,
//! [`batch`] hands a request in for half the price and a day's patience, [`retry`] repeats an attempt by rule and writes down every attempt before it is made, [`answer`] reads the reply,
//! [`mod@cost`] prices it, [`lifecycle`] says how long a model lives, [`error`] says to a person what went wrong.
//!
//! What must never be: an attempt without a row in the journal, a key in a log line or an error, a retry of a call that
//! a person has to unblock.

pub mod answer;
pub mod attempt;
pub mod batch;
pub mod client;
pub mod cost;
pub mod error;
pub mod journal;
pub mod lifecycle;
pub mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod scripted;
pub mod wire;

#[cfg(test)]
mod tests;

pub use answer::{Answer, parse_json};
pub use attempt::{AttemptError, AttemptErrorKind, AttemptOutcome, ClaudeApi};
pub use batch::{Batch, BatchApi, BatchError, BatchLine, BatchPage, BatchResult, RequestCounts};
pub use client::{ApiKey, ClaudeSettings, HttpClaude, InvalidApiKey};
pub use cost::{Cost, cost, estimate, estimate_in_batch};
pub use error::{CallError, ClientError, JournalError};
pub use journal::{CallId, CallJournal, Finished, Pause, TimerPause};
pub use retry::{Next, RetryPolicy, call, classify, retry_after};
pub use wire::{
    Effort, ImageSource, MessageRequest, MessageResponse, StopReason, Thinking, ThinkingWish, Usage,
};
