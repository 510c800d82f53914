//! Paid calls of Claude in a run: on record before and after each attempt, and never paid twice for one answer.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::claude_calls::{service_error, worth_another_ask};
use super::journal::{Halt, Journal, Wait};
use super::record::{AttemptFailure, ClaudeFacts, Stage};
use super::select::{Consequence, for_attempt};
use super::service::ServiceError;
use crate::claude::{
    self, AttemptError, AttemptErrorKind, AttemptOutcome, CallError, CallId, CallJournal,
    ClaudeApi, Finished, JournalError, MessageRequest, RetryPolicy,
};
use crate::store::pipeline::calls::{self, CallEnd, CallIntent, CallRow, CallStatus};
use crate::task_log::Fault;

/// What a crash inside a call writes as its code.
const CALL_LOST: &str = "call_lost";
/// The code of an answer that is not what was asked for, on whichever level that is seen.
const INVALID_JSON: &str = "claude_invalid_json";
/// The code of an answer that is no message.
const UNREADABLE: &str = "claude_unreadable";
/// A call that a crash cut off is made once more at most.
const CRASHES_MAX: usize = 2;

/// Why an attempt does not go on.
#[derive(Debug)]
pub enum AttemptHalt {
    /// The attempt is over; the run goes on.
    Failed(AttemptFailure),
    /// The run halts.
    Run(Halt),
}

impl From<Halt> for AttemptHalt {
    fn from(halt: Halt) -> Self {
        Self::Run(halt)
    }
}

impl From<crate::store::StoreError> for AttemptHalt {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Run(Halt::Store(error))
    }
}

impl AttemptHalt {
    /// What a failed call does to the attempt.
    #[must_use]
    pub fn of(stage: Stage, error: &ServiceError) -> Self {
        match for_attempt(error.next) {
            Consequence::Waits { after, for_operator } => {
                Self::Run(Halt::Wait(Wait::of(error, after, for_operator)))
            }
            Consequence::Fails { fault } => {
                Self::failed(stage, error.code, error.words.clone(), fault)
            }
        }
    }

    /// The attempt is over.
    #[must_use]
    pub fn failed(stage: Stage, code: &str, words: impl Into<String>, fault: Fault) -> Self {
        // A judge that fails, for whatever reason, says nothing about the prompt.
        let by_prompt = fault == Fault::Prompt && stage != Stage::Validation;
        Self::Failed(AttemptFailure {
            stage,
            code: code.to_owned(),
            words: words.into(),
            by_prompt,
        })
    }
}

/// One question to Claude, as a step of a run.
pub struct Question<'q> {
    /// The run's journal.
    pub journal: &'q Journal<'q>,
    /// The step.
    pub step: &'q str,
    /// What it is for.
    pub stage: Stage,
    /// The request.
    pub request: &'q MessageRequest,
    /// Who answers.
    pub claude: &'q dyn ClaudeApi,
    /// Retries within one request.
    pub request_retries_max: u32,
    /// How often an unusable answer is asked for again.
    pub answers_refused_max: u32,
}

impl Question<'_> {
    /// Asks until an answer can be used, as often as the definition allows.
    ///
    /// Crash contract. Before an intent: nothing happened. Between an intent and its end: the call may have been made
    /// and is written off as lost with its estimated cost; it is made once more, and after a second such crash the
    /// attempt fails. After its end: the answer on record is read again, and nothing is paid.
    ///
    /// # Errors
    /// [`AttemptHalt`].
    pub async fn ask<T>(
        &self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(T, ClaudeFacts), AttemptHalt> {
        let pool = self.journal.engine.store.pool();
        calls::write_off(pool, self.journal.job, self.step, self.journal.now()).await?;
        let mut seen = 0;
        let mut refused: Vec<(String, String)> = Vec::new();
        loop {
            let rows = self.rows().await?;
            for row in rows.iter().skip(seen) {
                match self.answer_of(row, &read) {
                    Some(Ok(value)) => return Ok((value, facts(&self.request.model, row, &rows))),
                    Some(Err(why)) => refused.push(why),
                    None => {}
                }
            }
            seen = rows.len();
            self.check_refused(&refused)?;
            self.check_lost(&rows)?;
            self.journal.checkpoint("before", &format!("{}/call", self.step))?;
            self.call().await?;
        }
    }

    async fn rows(&self) -> Result<Vec<CallRow>, AttemptHalt> {
        let (pool, job) = (self.journal.engine.store.pool(), self.journal.job);
        Ok(calls::of_step(pool, job.workflow_id, job.job_id, self.step).await?)
    }

    /// What an answer on record comes to; none for a call that brought no answer.
    fn answer_of<T>(
        &self,
        row: &CallRow,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Result<T, (String, String)>> {
        let end = &row.end;
        match end.status {
            CallStatus::Answered => {
                let text = end.response_text.as_deref().unwrap_or_default();
                Some(read(text).map_err(|why| (INVALID_JSON.to_owned(), why)))
            }
            CallStatus::Failed => Some(Err((
                end.error_code.clone().unwrap_or_default(),
                end.error_message.clone().unwrap_or_default(),
            ))),
            CallStatus::Begun | CallStatus::Refused | CallStatus::Lost => None,
        }
    }

    fn check_refused(&self, refused: &[(String, String)]) -> Result<(), AttemptHalt> {
        let Some((code, words)) = refused.last() else { return Ok(()) };
        if code == "claude_refused" {
            let fault = Fault::Prompt;
            return Err(AttemptHalt::failed(self.stage, code, words.clone(), fault));
        }
        if refused.len() <= self.answers_refused_max as usize {
            return Ok(());
        }
        let words = format!("no answer of {} could be used; the last: {words}", refused.len());
        Err(AttemptHalt::failed(self.stage, code, words, Fault::Infrastructure))
    }

    /// Calls whose end is not known may have been billed, so they are not repeated for ever.
    fn check_lost(&self, rows: &[CallRow]) -> Result<(), AttemptHalt> {
        let lost = || rows.iter().filter(|row| row.end.status == CallStatus::Lost);
        let by_crash =
            lost().filter(|row| row.end.error_code.as_deref() == Some(CALL_LOST)).count();
        let attempts_max = (self.request_retries_max as usize).saturating_add(1);
        if by_crash < CRASHES_MAX && lost().count() < CRASHES_MAX.max(attempts_max) {
            return Ok(());
        }
        let words = "calls of Claude ended without an answer and may have been billed, so they are not made again";
        Err(AttemptHalt::failed(self.stage, "claude_call_lost", words, Fault::Infrastructure))
    }

    async fn call(&self) -> Result<(), AttemptHalt> {
        let engine = self.journal.engine;
        let policy = RetryPolicy { retries_max: self.request_retries_max };
        let answer =
            claude::call(self.claude, self.request, &policy, self, engine.pause.as_ref()).await;
        let error = match answer {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, CallError::Journal { .. }) && !self.journal.stands().await? {
            let job_id = self.journal.job.job_id;
            return Err(crate::store::StoreError::JobLost { job_id }.into());
        }
        // An answer that cannot be used is on record, and what is on record decides.
        if worth_another_ask(&error) || matches!(error, CallError::Refused { .. }) {
            return Ok(());
        }
        // The last call without an answer that is allowed ends the attempt now: after a wait nobody would ask again.
        self.check_lost(&self.rows().await?)?;
        Err(AttemptHalt::of(self.stage, &service_error(&error)))
    }
}

impl CallJournal for Question<'_> {
    fn begin<'a>(
        &'a self,
        _attempt_no: u32,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<CallId, JournalError>> {
        Box::pin(async move {
            let call_id = Uuid::now_v7();
            let intent = CallIntent {
                call_id,
                step: self.step,
                service: "claude",
                purpose: self.stage.name(),
                called_model: &request.model,
                request_hash: &request.request_hash(),
                estimated_cost_usd: claude::estimate(
                    &request.model,
                    request.prompt_bytes(),
                    request.max_tokens,
                ),
            };
            let pool = self.journal.engine.store.pool();
            calls::begin(pool, self.journal.job, &intent, self.journal.now())
                .await
                .map_err(|error| JournalError(error.to_string()))?;
            Ok(CallId(call_id))
        })
    }

    fn end<'a>(
        &'a self,
        id: CallId,
        finished: &'a Finished,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let pool = self.journal.engine.store.pool();
            let workflow_id = self.journal.job.workflow_id;
            calls::end(pool, workflow_id, id.0, &end_of(finished), self.journal.now())
                .await
                .map_err(|error| JournalError(error.to_string()))
        })
    }
}

fn end_of(finished: &Finished) -> CallEnd {
    let tokens = finished.tokens();
    let status = match (&finished.error_code, &finished.response_text) {
        (None, _) => CallStatus::Answered,
        (Some(_), Some(_)) => CallStatus::Failed,
        // It was answered, though not with a message; so its cost is a guess.
        (Some(UNREADABLE), None) => CallStatus::Failed,
        (Some(_), None) if finished.estimated => CallStatus::Lost,
        (Some(_), None) => CallStatus::Refused,
    };
    CallEnd {
        status,
        http_status: finished.status.map(i32::from),
        request_id: finished.request_id.clone(),
        stop_reason: finished.stop_reason.clone(),
        input_tokens: tokens.input,
        cache_creation_tokens: tokens.cache_creation,
        cache_read_tokens: tokens.cache_read,
        output_tokens: tokens.output,
        cost_usd: finished.cost_usd,
        cost_estimated: finished.estimated,
        response_text: finished.response_text.as_ref().map(|text| text.replace('\0', "\u{fffd}")),
        error_code: finished.error_code.map(str::to_owned),
        error_message: finished.error_message.as_ref().map(|text| text.replace('\0', "\u{fffd}")),
        duration_ms: Some(i64::try_from(finished.duration_ms).unwrap_or(i64::MAX)),
    }
}

/// What is told of the answer that was used, and of everything that was paid until it came.
fn facts(model: &str, answered: &CallRow, rows: &[CallRow]) -> ClaudeFacts {
    let end = &answered.end;
    ClaudeFacts {
        model: model.to_owned(),
        request_id: end.request_id.clone(),
        input_tokens: end.input_tokens,
        cache_creation_tokens: end.cache_creation_tokens,
        cache_read_tokens: end.cache_read_tokens,
        output_tokens: end.output_tokens,
        calls: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        cost_usd: rows.iter().map(|row| row.end.cost_usd).sum::<Decimal>().normalize(),
        cost_estimated: rows.iter().any(|row| row.end.cost_estimated),
        latency_ms: end.duration_ms,
    }
}

/// Claude with a limit of its own to each attempt.
pub struct Timed {
    /// Who answers.
    pub inner: Arc<dyn ClaudeApi>,
    /// How long one attempt may take.
    pub limit: Duration,
}

impl ClaudeApi for Timed {
    fn attempt<'a>(&'a self, request: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            match tokio::time::timeout(self.limit, self.inner.attempt(request)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let words = format!("no answer within {} s", self.limit.as_secs());
                    let error = AttemptError::new(AttemptErrorKind::TimedOut, words);
                    let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
                    AttemptOutcome::unanswered(error, limit_ms)
                }
            }
        })
    }

    fn count_tokens<'a>(
        &'a self,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<u64, AttemptError>> {
        self.inner.count_tokens(request)
    }

    fn configured(&self) -> bool {
        self.inner.configured()
    }
}
