//! Claude by script: answers in a given order, and a record of what was asked. For tests, here and elsewhere.

mod batches;

pub use batches::{BatchFault, Fate};

use super::attempt::{AttemptError, AttemptErrorKind, AttemptOutcome, ClaudeApi};
use super::batch::BatchApi;
use super::error::JournalError;
use super::journal::{CallId, CallJournal, Finished, Pause};
use super::retry::retry_after;
use super::wire::{ContentBlock, MessageRequest, MessageResponse, StopDetails, StopReason, Usage};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

type Step = Box<dyn FnOnce(&MessageRequest) -> AttemptOutcome + Send>;
type Fallback = Box<dyn FnMut(&MessageRequest) -> AttemptOutcome + Send>;

/// Answers attempts from a queue of steps, one step an attempt.
///
/// When the queue is empty the fallback of [`otherwise`](Self::otherwise) answers; without one the attempt ends as
/// `NotSent`, and says that the script is at its end.
pub struct ScriptedClaude {
    script: Mutex<Script>,
    fallback: Mutex<Option<Fallback>>,
    held: watch::Sender<bool>,
    kept: watch::Sender<bool>,
    asked: watch::Sender<usize>,
    batches: Mutex<batches::Batches>,
}

type Counter = Box<dyn FnMut(&MessageRequest) -> Result<u64, AttemptError> + Send>;

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    counter: Option<Counter>,
    counted: usize,
    requests: Vec<MessageRequest>,
}

impl Default for ScriptedClaude {
    fn default() -> Self {
        Self {
            script: Mutex::default(),
            fallback: Mutex::default(),
            held: watch::channel(false).0,
            kept: watch::channel(false).0,
            batches: Mutex::default(),
            asked: watch::channel(0).0,
        }
    }
}

impl fmt::Debug for ScriptedClaude {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script();
        out.debug_struct("ScriptedClaude")
            .field("steps_left", &script.steps.len())
            .field("requests", &script.requests.len())
            .finish_non_exhaustive()
    }
}

impl ScriptedClaude {
    /// A script without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Next, this step.
    pub fn then(
        &self,
        step: impl FnOnce(&MessageRequest) -> AttemptOutcome + Send + 'static,
    ) -> &Self {
        self.script().steps.push_back(Box::new(step));
        self
    }

    /// Whenever the queue is empty, this.
    pub fn otherwise(
        &self,
        fallback: impl FnMut(&MessageRequest) -> AttemptOutcome + Send + 'static,
    ) -> &Self {
        *self.fallback() = Some(Box::new(fallback));
        self
    }

    /// From now on, tokens are counted by this; without it, as four bytes a token.
    pub fn count_with(
        &self,
        counter: impl FnMut(&MessageRequest) -> Result<u64, AttemptError> + Send + 'static,
    ) -> &Self {
        self.script().counter = Some(Box::new(counter));
        self
    }

    /// How often tokens were counted so far.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.script().counted
    }

    /// Next, an answer of this JSON.
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!() in the call")]
    pub fn answer_json(&self, value: serde_json::Value) -> &Self {
        self.answer_text(value.to_string())
    }

    /// Next, an answer of this text.
    pub fn answer_text(&self, text: impl Into<String>) -> &Self {
        let text = text.into();
        self.then(move |request| answered(request, Some(&text), StopReason::EndTurn, None))
    }

    /// Next, an answer cut off at `max_tokens`.
    pub fn truncated(&self) -> &Self {
        self.then(|request| answered(request, Some("{\"cut\":"), StopReason::MaxTokens, None))
    }

    /// Next, a refusal.
    pub fn refusal(&self) -> &Self {
        self.then(|request| {
            let details =
                StopDetails { category: Some("general_harms".to_owned()), explanation: None };
            answered(request, None, StopReason::Refusal, Some(details))
        })
    }

    /// Next, an error with this status; of the headers, the two for retries count.
    pub fn status(&self, status: u16, headers: &[(&str, &str)]) -> &Self {
        let find = |name: &str| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
        };
        let error = AttemptError {
            retry_after: retry_after(find("retry-after-ms"), find("retry-after"), find("date")),
            should_retry: find("x-should-retry").and_then(|word| word.parse().ok()),
            ..AttemptError::new(
                AttemptErrorKind::Status {
                    error_type: Some("scripted_error".to_owned()),
                    error_code: None,
                },
                format!("scripted status {status}"),
            )
        };
        self.then(move |_| AttemptOutcome {
            request_id: Some("req_scripted".to_owned()),
            status: Some(status),
            result: Err(error),
            duration_ms: 1,
        })
    }

    /// Next, a refused connection.
    pub fn connection_error(&self) -> &Self {
        self.then(|_| {
            let error = AttemptError::new(AttemptErrorKind::Connect, "connection refused");
            AttemptOutcome::unanswered(error, 1)
        })
    }

    /// From now on attempts wait, until [`release`](Self::release).
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets the waiting attempts go on, and the answers that were kept back.
    pub fn release(&self) {
        self.held.send_replace(false);
        self.kept.send_replace(false);
    }

    /// From now on a batch is made, and the answer that says so waits, until [`release`](Self::release).
    pub fn keep_answers(&self) {
        self.kept.send_replace(true);
    }

    async fn arrive(&self, request: &MessageRequest) {
        self.script().requests.push(request.clone());
        self.asked.send_modify(|made| *made += 1);
        let mut held = self.held.subscribe();
        let _sender_lives_in_self = held.wait_for(|held| !held).await;
    }

    async fn leave(&self) {
        let mut kept = self.kept.subscribe();
        let _sender_lives_in_self = kept.wait_for(|kept| !kept).await;
    }

    /// Waits until this many attempts have been made in all, whether answered or held.
    pub async fn asked(&self, attempts: usize) {
        let mut asked = self.asked.subscribe();
        let _sender_lives_in_self = asked.wait_for(|made| *made >= attempts).await;
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<MessageRequest> {
        self.script().requests.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fallback(&self) -> MutexGuard<'_, Option<Fallback>> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script is unlocked while a step runs, so that a step may look at the requests.
    fn respond(&self, request: &MessageRequest) -> AttemptOutcome {
        let step = self.script().steps.pop_front();
        if let Some(step) = step {
            return step(request);
        }
        if let Some(fallback) = self.fallback().as_mut() {
            return fallback(request);
        }
        let attempts = self.script().requests.len();
        let message = format!("the script is at its end, and this is attempt {attempts}");
        AttemptOutcome::unanswered(AttemptError::new(AttemptErrorKind::NotSent, message), 0)
    }
}

impl ClaudeApi for ScriptedClaude {
    fn attempt<'a>(&'a self, request: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            self.arrive(request).await;
            self.respond(request)
        })
    }

    fn count_tokens<'a>(
        &'a self,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<u64, AttemptError>> {
        Box::pin(async move {
            let mut script = self.script();
            script.counted += 1;
            match script.counter.as_mut() {
                Some(counter) => counter(request),
                None => Ok(tokens(request.prompt_bytes())),
            }
        })
    }

    fn configured(&self) -> bool {
        true
    }

    fn batches(&self) -> Option<&dyn BatchApi> {
        Some(self)
    }
}

/// Four bytes a token, as English prose has.
fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// The outcome of an attempt that was answered; `None` for the text is an answer without blocks.
#[must_use]
pub fn answered(
    request: &MessageRequest,
    text: Option<&str>,
    stop_reason: StopReason,
    stop_details: Option<StopDetails>,
) -> AttemptOutcome {
    AttemptOutcome {
        request_id: Some("req_scripted".to_owned()),
        status: Some(200),
        result: Ok(MessageResponse {
            id: "msg_scripted".to_owned(),
            model: request.model.clone(),
            content: text
                .map(|text| ContentBlock::Text { text: text.to_owned() })
                .into_iter()
                .collect(),
            stop_reason: Some(stop_reason),
            stop_details,
            usage: Usage {
                input_tokens: tokens(request.prompt_bytes()),
                output_tokens: tokens(text.map_or(0, str::len)),
                ..Usage::default()
            },
        }),
        duration_ms: 1,
    }
}

/// A pause that takes no time and is written down; chance is always zero.
#[derive(Debug, Default)]
pub struct NoPause {
    waits: Mutex<Vec<Duration>>,
}

impl NoPause {
    /// How long each pause would have been.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pause for NoPause {
    fn pause(&self, wait: Duration) -> BoxFuture<'_, ()> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        Box::pin(std::future::ready(()))
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// A journal in memory.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    rows: Mutex<Vec<JournalRow>>,
}

/// One attempt in a [`MemoryJournal`].
#[derive(Debug, Clone, PartialEq)]
pub struct JournalRow {
    /// From 1, within its call.
    pub attempt_no: u32,
    /// What was asked.
    pub request_hash: String,
    /// How it ended; absent while it runs, and for ever after a crash.
    pub finished: Option<Finished>,
}

impl MemoryJournal {
    /// Every attempt so far, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<JournalRow> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JournalRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallJournal for MemoryJournal {
    fn begin<'a>(
        &'a self,
        attempt_no: u32,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<CallId, JournalError>> {
        let mut rows = self.lock();
        rows.push(JournalRow { attempt_no, request_hash: request.request_hash(), finished: None });
        let id = CallId(uuid::Uuid::from_u128(rows.len() as u128));
        Box::pin(std::future::ready(Ok(id)))
    }

    fn end<'a>(
        &'a self,
        id: CallId,
        finished: &'a Finished,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let mut rows = self.lock();
        let row = usize::try_from(id.0.as_u128())
            .ok()
            .and_then(|number| number.checked_sub(1))
            .and_then(|index| rows.get_mut(index));
        let ended = match row {
            Some(row) if row.finished.is_none() => {
                row.finished = Some(finished.clone());
                Ok(())
            }
            _ => Err(JournalError(format!("no open call {}", id.0))),
        };
        Box::pin(std::future::ready(ended))
    }
}
