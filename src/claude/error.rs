//! What can go wrong with a call, for code and for a person.
//!
//! Every error has a stable code, says whether the effect that made the call may try again later, and has words: what
//! happened, that nothing is lost, what to do.

use super::attempt::{AttemptError, AttemptErrorKind};
use super::wire::MessageRequest;
use std::time::Duration;
use thiserror::Error;

/// Why the client could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The address cannot be one.
    #[error(
        "the Claude address {base_url:?} is not a web address; write it like https://api.anthropic.com"
    )]
    BadAddress {
        /// As it was given.
        base_url: String,
    },
    /// The HTTP client could not be set up.
    #[error(
        "the HTTPS client for Claude could not be set up ({message}); see that this machine has its CA certificates (ca-certificates)"
    )]
    Setup {
        /// The cause.
        message: String,
    },
}

/// The journal could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct JournalError(pub String);

/// Why a call gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// There is no key.
    #[error("No Claude API key is set, so no call was made.")]
    NotConfigured,
    /// The request never left this process.
    #[error("The call to Claude was not sent: {message}.")]
    NotSent {
        /// Why.
        message: String,
    },
    /// 401.
    #[error("Claude does not accept the API key: {message}.")]
    InvalidKey {
        /// Claude's words.
        message: String,
    },
    /// 403.
    #[error("The API key may not do this: {message}.")]
    Forbidden {
        /// Claude's words.
        message: String,
    },
    /// 402.
    #[error("Claude asks for the account's billing to be settled: {message}.")]
    Billing {
        /// Claude's words.
        message: String,
    },
    /// 404 from the API.
    #[error("Claude has no model {model:?}, or has retired it: {message}.")]
    ModelNotFound {
        /// As it was asked for.
        model: String,
        /// Claude's words.
        message: String,
    },
    /// 413.
    #[error(
        "The request is too large for Claude, at about {prompt_bytes} bytes of text: {message}."
    )]
    RequestTooLarge {
        /// System prompt, messages and schema.
        prompt_bytes: usize,
        /// Claude's words.
        message: String,
    },
    /// 429 with a code that says a spend limit is reached.
    #[error("The Claude account has reached its spend limit: {message}.")]
    SpendLimitReached {
        /// Claude's words.
        message: String,
    },
    /// 429.
    #[error("Claude's rate limit was reached: {message}.")]
    RateLimited {
        /// Claude's words.
        message: String,
        /// How long Claude asked to wait.
        retry_after: Option<Duration>,
    },
    /// 529, or 503.
    #[error("Claude is overloaded: {message}.")]
    Overloaded {
        /// Claude's words.
        message: String,
        /// How long Claude asked to wait.
        retry_after: Option<Duration>,
    },
    /// 408, 409, 5xx.
    #[error("Claude, or something on the way to it, failed with status {status}: {message}.")]
    ServerFailed {
        /// The HTTP status.
        status: u16,
        /// Words about it.
        message: String,
        /// How long the answer asked to wait.
        retry_after: Option<Duration>,
    },
    /// Any other status.
    #[error("Claude turned the request down with status {status}: {message}.")]
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// Claude's words.
        message: String,
    },
    /// No connection.
    #[error("Claude could not be reached: {message}.")]
    Unreachable {
        /// The cause.
        message: String,
    },
    /// No answer in time.
    #[error("Claude did not answer in time: {message}.")]
    TimedOut {
        /// The cause.
        message: String,
    },
    /// The connection broke.
    #[error("The connection to Claude broke before its answer was here: {message}.")]
    Interrupted {
        /// The cause.
        message: String,
    },
    /// The answer is over the limit.
    #[error("Claude's answer was dropped: {message}.")]
    AnswerTooLarge {
        /// The limit.
        message: String,
    },
    /// Status 200, and not an answer.
    #[error("Claude's answer cannot be read: {message}.")]
    Unreadable {
        /// What is wrong with it.
        message: String,
    },
    /// `max_tokens`.
    #[error("Claude's answer was cut off at its limit of {max_tokens} tokens{}.", spent_thinking(*only_thought))]
    Truncated {
        /// The limit.
        max_tokens: u32,
        /// Whether all of it went on thinking.
        only_thought: bool,
    },
    /// `refusal`.
    #[error("Claude declined to answer{}{}.", in_brackets(category.as_deref()), behind_colon(explanation.as_deref()))]
    Refused {
        /// The family of the refusal.
        category: Option<String>,
        /// Claude's words.
        explanation: Option<String>,
    },
    /// `pause_turn`.
    #[error("Claude paused in the middle of its answer.")]
    Paused,
    /// `tool_use`.
    #[error("Claude asked for a tool, and there is none.")]
    ToolUse,
    /// `model_context_window_exceeded`.
    #[error("The request and its answer do not fit the model's context window.")]
    ContextWindowExceeded,
    /// A reason this version does not know.
    #[error("Claude's answer ended for a reason this version does not know: {stop_reason:?}.")]
    UnknownStop {
        /// The word on the wire.
        stop_reason: String,
    },
    /// No text.
    #[error("Claude's answer holds no text{}.", spent_thinking(*only_thought))]
    Empty {
        /// Whether the model only thought.
        only_thought: bool,
    },
    /// The text is not the JSON that was asked for.
    #[error("Claude's answer is not the JSON that was asked for, at {path}: {message}.")]
    InvalidJson {
        /// The place in the document.
        path: String,
        /// What is wrong there.
        message: String,
    },
    /// A batch's day was over before its request was answered.
    #[error("Claude did not answer the batch within its day.")]
    BatchExpired,
    /// Somebody cancelled the batch.
    #[error("The batch was cancelled outside of Mathesis before it was answered.")]
    BatchCanceled,
    /// The record of the call could not be written; without it no call is made.
    #[error("The record of the call to Claude could not be written: {source}.")]
    Journal {
        /// The cause.
        #[from]
        source: JournalError,
    },
}

impl CallError {
    /// A name for code and alerts; it never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured => "claude_not_configured",
            Self::NotSent { .. } => "claude_not_sent",
            Self::InvalidKey { .. } => "claude_invalid_key",
            Self::Forbidden { .. } => "claude_forbidden",
            Self::Billing { .. } => "claude_billing",
            Self::ModelNotFound { .. } => "claude_model_not_found",
            Self::RequestTooLarge { .. } => "claude_request_too_large",
            Self::SpendLimitReached { .. } => "claude_spend_limit_reached",
            Self::RateLimited { .. } => "claude_rate_limited",
            Self::Overloaded { .. } => "claude_overloaded",
            Self::ServerFailed { .. } => "claude_server_failed",
            Self::BadRequest { .. } => "claude_bad_request",
            Self::Unreachable { .. } => "claude_unreachable",
            Self::TimedOut { .. } => "claude_timed_out",
            Self::Interrupted { .. } => "claude_interrupted",
            Self::AnswerTooLarge { .. } => "claude_answer_too_large",
            Self::Unreadable { .. } => "claude_unreadable",
            Self::Truncated { .. } => "claude_truncated",
            Self::Refused { .. } => "claude_refused",
            Self::Paused => "claude_paused",
            Self::ToolUse => "claude_tool_use",
            Self::ContextWindowExceeded => "claude_context_window_exceeded",
            Self::UnknownStop { .. } => "claude_unknown_stop",
            Self::Empty { .. } => "claude_empty",
            Self::InvalidJson { .. } => "claude_invalid_json",
            Self::BatchExpired => "claude_batch_expired",
            Self::BatchCanceled => "claude_batch_canceled",
            Self::Journal { .. } => "claude_journal",
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::ServerFailed { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Interrupted { .. }
            | Self::Unreadable { .. }
            | Self::Paused
            | Self::Empty { .. }
            | Self::InvalidJson { .. }
            | Self::BatchExpired
            | Self::Journal { .. } => true,
            Self::NotConfigured
            | Self::NotSent { .. }
            | Self::InvalidKey { .. }
            | Self::Forbidden { .. }
            | Self::Billing { .. }
            | Self::ModelNotFound { .. }
            | Self::RequestTooLarge { .. }
            | Self::SpendLimitReached { .. }
            | Self::BadRequest { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Truncated { .. }
            | Self::Refused { .. }
            | Self::ToolUse
            | Self::ContextWindowExceeded
            | Self::BatchCanceled
            | Self::UnknownStop { .. } => false,
        }
    }

    /// True when an answer came and cannot be used, so that asking again may bring a better one.
    #[must_use]
    pub fn is_about_the_answer(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. }
                | Self::Refused { .. }
                | Self::Paused
                | Self::ToolUse
                | Self::UnknownStop { .. }
                | Self::Empty { .. }
                | Self::InvalidJson { .. }
        )
    }

    /// How long Claude asked to wait before the next call, however long that is.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::Overloaded { retry_after, .. }
            | Self::ServerFailed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotConfigured => "Set ANTHROPIC_API_KEY and start again.",
            Self::NotSent { .. } | Self::ToolUse => "Report this as a bug.",
            Self::InvalidKey { .. } => {
                "Make a key in the Claude Console, set it as ANTHROPIC_API_KEY, start again, then retry."
            }
            Self::Forbidden { .. } => {
                "Give the key's workspace access to this model in the Claude Console, or use another key, then retry."
            }
            Self::Billing { .. } => {
                "Settle the billing in the Claude Console under Plans & Billing, then retry."
            }
            Self::ModelNotFound { .. } => {
                "Name a model that Claude serves today in the workflow's file, then retry."
            }
            Self::RequestTooLarge { .. } | Self::ContextWindowExceeded => {
                "Lower the number of tasks that one analysis reads, or shorten the documents, then retry."
            }
            Self::SpendLimitReached { .. } => {
                "Raise the spend limit in the Claude Console, or wait for the next month, then retry."
            }
            Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::ServerFailed { .. }
            | Self::Interrupted { .. }
            | Self::Unreadable { .. }
            | Self::Paused
            | Self::Empty { .. } => {
                "It is tried again by itself; if it goes on, look at status.claude.com."
            }
            // Only the advice follows the wording, for this error has no code of its own; no decision does.
            Self::BadRequest { message, .. } if message.contains("credit balance") => {
                "Buy credits in the Claude Console under Plans & Billing, then retry."
            }
            Self::BadRequest { .. } => {
                "Change what Claude's words name, in the workflow's file or in the Claude Console, then retry."
            }
            Self::Unreachable { .. } | Self::TimedOut { .. } => {
                "It is tried again by itself; if it goes on, look at this machine's network and at status.claude.com."
            }
            Self::AnswerTooLarge { .. } => "Lower the limit of answer tokens, then retry.",
            Self::Truncated { .. } => {
                "Raise the limit of answer tokens in the workflow's file, or lower the effort, then retry."
            }
            Self::Refused { .. } => {
                "Look at the recorded request for what gave offence, or name another model, then retry."
            }
            Self::UnknownStop { .. } => "Update this program, then retry.",
            Self::BatchExpired => {
                "It is asked again by itself; if it goes on, set claude.batch to false in the workflow's file."
            }
            Self::BatchCanceled => "See in the Claude Console who cancelled it, then retry.",
            Self::InvalidJson { .. } => {
                "It is tried again by itself; if it goes on, name a stronger model in the workflow's file."
            }
            Self::Journal { .. } => {
                "It is tried again by itself; if it goes on, look at the database."
            }
        }
    }

    /// All of it in words: what happened, that nothing is lost, what to do.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} {}", self.reason(), self.remedy())
    }

    /// What happened, and that nothing is lost; for whoever tells the remedy beside it.
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{self}{NOTHING_IS_LOST}")
    }

    /// What a failed attempt means to the caller.
    pub(crate) fn from_attempt(
        request: &MessageRequest,
        status: Option<u16>,
        error: &AttemptError,
    ) -> Self {
        let message = error.message.trim_end_matches('.').to_owned();
        match &error.kind {
            AttemptErrorKind::NotConfigured => Self::NotConfigured,
            AttemptErrorKind::NotSent => Self::NotSent { message },
            AttemptErrorKind::Connect => Self::Unreachable { message },
            AttemptErrorKind::TimedOut => Self::TimedOut { message },
            AttemptErrorKind::Interrupted => Self::Interrupted { message },
            AttemptErrorKind::AnswerTooLarge => Self::AnswerTooLarge { message },
            AttemptErrorKind::Unreadable => Self::Unreadable { message },
            AttemptErrorKind::Status { .. } if error.is_spend_limit() => {
                Self::SpendLimitReached { message }
            }
            AttemptErrorKind::Status { error_type, .. } => {
                let from_api = error_type.is_some();
                let status = status.unwrap_or(0);
                Self::from_status(request, status, from_api, message, error.retry_after)
            }
        }
    }

    /// By the status, as the rule for retries is, so that the two cannot disagree.
    fn from_status(
        request: &MessageRequest,
        status: u16,
        from_api: bool,
        message: String,
        retry_after: Option<Duration>,
    ) -> Self {
        match status {
            401 => Self::InvalidKey { message },
            402 => Self::Billing { message },
            403 => Self::Forbidden { message },
            404 if from_api => Self::ModelNotFound { model: request.model.clone(), message },
            413 => Self::RequestTooLarge { prompt_bytes: request.prompt_bytes(), message },
            429 => Self::RateLimited { message, retry_after },
            503 | 529 => Self::Overloaded { message, retry_after },
            408 | 409 | 500.. => Self::ServerFailed { status, message, retry_after },
            _ => Self::BadRequest { status, message },
        }
    }
}

/// How a reason ends: what the failure means to a cycle.
pub(crate) const NOTHING_IS_LOST: &str =
    " Nothing is lost: the tasks and the cycle stay as they are.";

fn spent_thinking(only_thought: bool) -> &'static str {
    if only_thought { ", for all of it went on thinking" } else { "" }
}

fn in_brackets(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!(" ({word})"))
}

fn behind_colon(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(": {}", words.trim_end_matches('.')))
}
