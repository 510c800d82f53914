//! What a failed call of Claude means to a run, and the one more ask that an unusable answer is worth.

#[cfg(test)]
pub(super) mod tests;

use crate::claude::{
    Answer, CallError, CallJournal, ClaudeApi, MessageRequest, Pause, RetryPolicy, call,
};
use crate::task_log::Fault;

use super::service::{Next, Service, ServiceError};

const NEVER: Next = Next::Never { fault: Fault::Infrastructure };

/// What was read from an answer, and the answer itself for its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked<T> {
    /// What `read` made of it.
    pub value: T,
    /// The answer that was read.
    pub answer: Answer,
}

/// Asks Claude and reads the answer; one that is cut off or not what was asked for is asked for once more.
///
/// Every attempt is in the journal before it is made, those of the second ask too, so all of them are paid and on record.
/// A crash loses what was read, never the record.
///
/// # Errors
/// See [`service_error`]; an answer that was unusable twice is `Never`, by the infrastructure's fault.
pub async fn ask<T>(
    api: &dyn ClaudeApi,
    request: &MessageRequest,
    policy: &RetryPolicy,
    journal: &dyn CallJournal,
    pause: &dyn Pause,
    read: impl Fn(&str) -> Result<T, String> + Send + Sync,
) -> Result<Asked<T>, ServiceError> {
    let mut asks = 0;
    loop {
        let error = match call(api, request, policy, journal, pause).await {
            Ok(answer) => match read(&answer.text) {
                Ok(value) => return Ok(Asked { value, answer }),
                Err(message) => CallError::InvalidJson { path: "its content".to_owned(), message },
            },
            Err(error) => error,
        };
        asks += 1;
        if asks == ASKS_MAX || !worth_another_ask(&error) {
            return Err(service_error(&error));
        }
        tracing::warn!(claude.code = error.code(), "an answer of Claude's is asked for once more");
    }
}

const ASKS_MAX: u32 = 2;

/// Whether another answer to the same question may be one that can be used.
#[must_use]
pub const fn worth_another_ask(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Truncated { .. }
            | CallError::Empty { .. }
            | CallError::InvalidJson { .. }
            | CallError::Unreadable { .. }
            | CallError::Paused
    )
}

/// What a call that has failed for good, its own retries included, means to a run.
#[must_use]
pub fn service_error(error: &CallError) -> ServiceError {
    let words = format!("{error} {}", remedy(error));
    ServiceError::new(Service::Claude, error.code(), words, next(error))
}

/// What can be done about it, in a run. The rest of the advice is the same as for an analysis.
fn remedy(error: &CallError) -> &'static str {
    match error {
        CallError::RequestTooLarge { .. } | CallError::ContextWindowExceeded => {
            "Shorten the task's text, or the model's documents."
        }
        error => error.remedy(),
    }
}

fn next(error: &CallError) -> Next {
    match error {
        CallError::RateLimited { .. }
        | CallError::Overloaded { .. }
        | CallError::ServerFailed { .. }
        | CallError::Unreachable { .. }
        // A call that may have been billed is on record as such, and asking again changes nothing but the bill.
        | CallError::TimedOut { .. }
        | CallError::Interrupted { .. }
        // A run asks at once and never through a batch.
        | CallError::BatchExpired
        | CallError::Journal { .. } => Next::Later { after: error.retry_after() },
        CallError::NotConfigured
        | CallError::InvalidKey { .. }
        | CallError::Forbidden { .. }
        | CallError::Billing { .. }
        | CallError::ModelNotFound { .. }
        | CallError::SpendLimitReached { .. } => Next::Operator,
        // A 400 names the part of the request that it is about. Inside the messages that is this task's own content;
        // a 400 about anything else, or about nothing (an empty balance, a spend limit), is the same for every task.
        CallError::BadRequest { message, .. } if message.starts_with("messages.") => NEVER,
        CallError::BadRequest { .. } => Next::Operator,
        CallError::Refused { .. } => Next::Never { fault: Fault::Prompt },
        CallError::NotSent { .. }
        | CallError::RequestTooLarge { .. }
        | CallError::AnswerTooLarge { .. }
        | CallError::Unreadable { .. }
        | CallError::Truncated { .. }
        | CallError::Paused
        | CallError::ToolUse
        | CallError::ContextWindowExceeded
        | CallError::UnknownStop { .. }
        | CallError::BatchCanceled
        | CallError::Empty { .. }
        | CallError::InvalidJson { .. } => NEVER,
    }
}
