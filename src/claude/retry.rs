//! Repeating an attempt by rule, and writing every attempt down before it is made.
//!
//! The rule is that of Anthropic's own client libraries (Python 2.12.0): `x-should-retry` wins, else a failed
//! connection, a time-out and the statuses 408, 409, 429 and 5xx are tried again; the wait is what the answer asks for,
//! else half a second doubling up to eight, less up to a quarter by chance. Three things differ: a spend limit is never
//! retried, a wait of more than ten minutes is handed back so that no worker sits through it, and where the API has said
//! that nothing is left of a limit, no attempt leaves before it is whole again.

use super::answer::{Answer, interpret};
use super::attempt::{AttemptErrorKind, AttemptOutcome, ClaudeApi};
use super::cost::{cost, estimate};
use super::error::CallError;
use super::journal::{CallJournal, Finished, Pause};
use super::wire::{MessageRequest, StopReason};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::time::Duration;
use tracing::{Instrument as _, Span, field};

/// The longest wait that is sat through; a longer one is the caller's to schedule.
pub const WAIT_MAX: Duration = Duration::from_mins(10);

/// How often a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries_max: 2 }
    }
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// An answer came, good or not.
    Done,
    /// Another attempt, after this wait.
    RetryAfter(Duration),
    /// No other attempt now.
    Fail {
        /// How long the API asked to wait, for whoever tries again later.
        retry_after: Option<Duration>,
    },
}

/// What follows this attempt, had it no limit of retries.
///
/// `retries_done` is how many retries came before, `jitter` a number from 0 up to 1.
#[must_use]
pub fn classify(outcome: &AttemptOutcome, retries_done: u32, jitter: f64) -> Next {
    let Err(error) = &outcome.result else {
        return Next::Done;
    };
    let again = match &error.kind {
        AttemptErrorKind::Connect | AttemptErrorKind::TimedOut | AttemptErrorKind::Interrupted => {
            true
        }
        AttemptErrorKind::NotConfigured
        | AttemptErrorKind::NotSent
        | AttemptErrorKind::AnswerTooLarge
        | AttemptErrorKind::Unreadable => false,
        AttemptErrorKind::Status { .. } if error.is_spend_limit() => false,
        AttemptErrorKind::Status { .. } => {
            error.should_retry.unwrap_or(matches!(outcome.status, Some(408 | 409 | 429 | 500..)))
        }
    };
    let wait = error.retry_after.unwrap_or_else(|| backoff(retries_done, jitter));
    if again && wait <= WAIT_MAX {
        Next::RetryAfter(wait)
    } else {
        Next::Fail { retry_after: error.retry_after }
    }
}

/// Makes the call: attempts until one brings an answer or the rule says to stop.
///
/// Each attempt is in the journal before it is made and again when it has ended. A crash, or this future dropped,
/// between the two leaves a begin without an end: that attempt may have been charged, and is never repeated here. A
/// crash during a wait leaves only whole pairs.
///
/// # Errors
/// See [`CallError`]; each says whether the call may be made again later.
pub async fn call(
    api: &dyn ClaudeApi,
    request: &MessageRequest,
    policy: &RetryPolicy,
    journal: &dyn CallJournal,
    pause: &dyn Pause,
) -> Result<Answer, CallError> {
    if !api.configured() {
        return Err(CallError::NotConfigured);
    }
    let mut retries_done: u32 = 0;
    let mut waited_until = None;
    loop {
        until_open(api, pause, waited_until).await?;
        let id = journal.begin(retries_done.saturating_add(1), request).await?;
        let span = tracing::info_span!(
            "claude.call",
            otel.kind = "client",
            claude.model = request.model,
            claude.attempt = retries_done.saturating_add(1),
            claude.status = field::Empty,
            claude.request_id = field::Empty,
            claude.input_tokens = field::Empty,
            claude.output_tokens = field::Empty,
            claude.code = field::Empty,
        );
        let outcome = api.attempt(request).instrument(span.clone()).await;
        let answer = interpret(request, &outcome, id);
        let finished = finished(request, &outcome, &answer);
        note_on(&span, &finished);
        drop(span);
        journal.end(id, &finished).await?;
        match classify(&outcome, retries_done, pause.jitter()) {
            Next::RetryAfter(wait) if retries_done < policy.retries_max => {
                tracing::warn!(
                    claude.model = request.model,
                    claude.status = outcome.status,
                    claude.request_id = outcome.request_id,
                    claude.retries_done = retries_done,
                    claude.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    claude.code = answer.as_ref().err().map(CallError::code),
                    "a Claude call failed and is tried again"
                );
                // One pause serves both waits, and none is sat through twice.
                let closed = api
                    .closed()
                    .filter(|closed| waited_until != Some(closed.until) && closed.left <= WAIT_MAX);
                pause.pause(closed.map_or(wait, |closed| closed.left.max(wait))).await;
                waited_until = closed.map(|closed| closed.until).or(waited_until);
                retries_done = retries_done.saturating_add(1);
            }
            Next::Done | Next::RetryAfter(_) | Next::Fail { .. } => return answer,
        }
    }
}

/// What came of an attempt, without a word of what was asked or answered.
fn note_on(span: &Span, finished: &Finished) {
    let tokens = finished.tokens();
    span.record("claude.status", finished.status);
    span.record("claude.request_id", finished.request_id.as_deref());
    span.record("claude.input_tokens", tokens.input);
    span.record("claude.output_tokens", tokens.output);
    span.record("claude.code", finished.error_code);
}

/// Waits while the API wants no calls, unless that was just waited for.
///
/// Nothing is in the journal yet, so a crash here leaves nothing behind.
async fn until_open(
    api: &dyn ClaudeApi,
    pause: &dyn Pause,
    mut waited_until: Option<DateTime<Utc>>,
) -> Result<(), CallError> {
    while let Some(closed) = api.closed().filter(|closed| waited_until != Some(closed.until)) {
        if closed.left > WAIT_MAX {
            let message = "nothing is left of a limit that it told of before".to_owned();
            return Err(CallError::RateLimited { message, retry_after: Some(closed.left) });
        }
        pause.pause(closed.left).await;
        waited_until = Some(closed.until);
    }
    Ok(())
}

/// How long an answer's headers ask to wait, if they ask.
///
/// `retry-after-ms` comes first, then `retry-after` in seconds, then as a date. The date is read against the answer's
/// own `date`, so that a wrong clock on this side cannot stretch the wait.
#[must_use]
pub fn retry_after(
    milliseconds: Option<&str>,
    seconds_or_date: Option<&str>,
    date: Option<&str>,
) -> Option<Duration> {
    let positive =
        |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero());
    let by_milliseconds = milliseconds
        .and_then(|text| text.trim().parse::<f64>().ok())
        .and_then(|milliseconds| positive(milliseconds / 1000.0));
    let by_seconds =
        || seconds_or_date.and_then(|text| text.trim().parse::<f64>().ok()).and_then(positive);
    let by_date = || {
        let until = httpdate::parse_http_date(seconds_or_date?.trim()).ok()?;
        let now = httpdate::parse_http_date(date?.trim()).ok()?;
        until.duration_since(now).ok().filter(|wait| !wait.is_zero())
    };
    by_milliseconds.or_else(by_seconds).or_else(by_date)
}

fn backoff(retries_done: u32, jitter: f64) -> Duration {
    let doublings = i32::try_from(retries_done.min(10)).unwrap_or(10);
    let base_seconds = (0.5 * 2_f64.powi(doublings)).min(8.0);
    let chance = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    Duration::try_from_secs_f64(base_seconds * (1.0 - 0.25 * chance))
        .unwrap_or(Duration::from_secs(8))
}

/// How an attempt is written down.
pub(super) fn finished(
    request: &MessageRequest,
    outcome: &AttemptOutcome,
    answer: &Result<Answer, CallError>,
) -> Finished {
    let (cost_usd, estimated) = charged(request, outcome);
    let response = outcome.result.as_ref().ok();
    let error = answer.as_ref().err();
    Finished {
        status: outcome.status,
        stop_reason: response
            .and_then(|response| response.stop_reason.as_ref())
            .map(StopReason::as_str)
            .map(str::to_owned),
        request_id: outcome.request_id.clone(),
        message_id: response.map(|response| response.id.clone()),
        model: response.map(|response| response.model.clone()),
        usage: response.map(|response| response.usage.clone()),
        cost_usd,
        estimated,
        response_text: response.map(super::MessageResponse::text),
        error_code: error.map(CallError::code),
        error_message: error.map(ToString::to_string),
        duration_ms: outcome.duration_ms,
    }
}

/// What the attempt cost, and whether that is a guess.
///
/// The API does not charge for an error it answers with. A gateway that gave up waiting says nothing about the model
/// behind it, which may have gone on.
fn charged(request: &MessageRequest, outcome: &AttemptOutcome) -> (Decimal, bool) {
    let guess = || estimate(&request.model, request.prompt_bytes(), request.max_tokens);
    let error = match &outcome.result {
        Ok(response) => {
            let cost = cost(&response.model, &response.usage);
            return (cost.usd, !cost.known_model);
        }
        Err(error) => error,
    };
    match &error.kind {
        AttemptErrorKind::NotConfigured | AttemptErrorKind::NotSent | AttemptErrorKind::Connect => {
            (Decimal::ZERO, false)
        }
        AttemptErrorKind::TimedOut
        | AttemptErrorKind::Interrupted
        | AttemptErrorKind::AnswerTooLarge
        | AttemptErrorKind::Unreadable => (guess(), true),
        AttemptErrorKind::Status { error_type: None, .. }
            if matches!(outcome.status, Some(408 | 499 | 504 | 524)) =>
        {
            (guess(), true)
        }
        AttemptErrorKind::Status { .. } => (Decimal::ZERO, false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempt::AttemptError;
    use super::*;
    use proptest::prelude::*;

    fn failed(status: Option<u16>, error: AttemptError) -> AttemptOutcome {
        AttemptOutcome { status, ..AttemptOutcome::unanswered(error, 1) }
    }

    fn with_status(status: u16) -> AttemptError {
        let kind = AttemptErrorKind::Status { error_type: Some("t".to_owned()), error_code: None };
        AttemptError::new(kind, format!("status {status}"))
    }

    fn with_code(code: &str) -> AttemptError {
        let kind = AttemptErrorKind::Status {
            error_type: Some("rate_limit_error".to_owned()),
            error_code: Some(code.to_owned()),
        };
        AttemptError::new(kind, "limit")
    }

    fn retried(outcome: &AttemptOutcome) -> bool {
        matches!(classify(outcome, 0, 0.0), Next::RetryAfter(_))
    }

    #[test]
    fn the_statuses_that_are_tried_again() {
        let again: Vec<u16> = (300..600)
            .filter(|status| retried(&failed(Some(*status), with_status(*status))))
            .collect();
        let expected: Vec<u16> = [408, 409, 429].into_iter().chain(500..600).collect();
        assert_eq!(again, expected);
    }

    #[test]
    fn failures_without_a_status_are_tried_again_when_the_network_is_to_blame() {
        let again = |kind| retried(&failed(None, AttemptError::new(kind, "")));
        assert!(again(AttemptErrorKind::Connect));
        assert!(again(AttemptErrorKind::TimedOut));
        assert!(again(AttemptErrorKind::Interrupted));
        assert!(!again(AttemptErrorKind::NotConfigured));
        assert!(!again(AttemptErrorKind::Unreadable));
        assert!(!again(AttemptErrorKind::AnswerTooLarge));
    }

    #[test]
    fn the_word_of_the_api_wins_over_the_status() {
        let told = |status, word| {
            let error = AttemptError { should_retry: Some(word), ..with_status(status) };
            retried(&failed(Some(status), error))
        };
        assert!(told(400, true));
        assert!(!told(529, false));
    }

    #[test]
    fn a_spend_limit_is_never_retried_and_a_ramp_is() {
        assert!(!retried(&failed(Some(429), with_code("enforced_spend_limit_reached"))));
        assert!(!retried(&failed(Some(429), with_code("contract_spend_limit_reached"))));
        assert!(retried(&failed(Some(429), with_code("ramp_limit_exceeded"))));
    }

    #[test]
    fn the_wait_doubles_to_eight_seconds_less_a_quarter_at_most() {
        let outcome = failed(Some(500), with_status(500));
        let wait_ms = |retries_done, jitter| match classify(&outcome, retries_done, jitter) {
            Next::RetryAfter(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, u32::MAX].map(|n| wait_ms(n, 0.0)),
            [500, 1000, 2000, 4000, 8000, 8000, 8000]
        );
        assert_eq!([0, 1, 4].map(|n| wait_ms(n, 0.5)), [437, 875, 7000]);
        assert_eq!(wait_ms(0, f64::NAN), 500);
    }

    #[test]
    fn a_stated_wait_is_kept_exactly_unless_it_is_absurd() {
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            let error = AttemptError { retry_after, ..with_status(429) };
            classify(&failed(Some(429), error), 5, 0.9)
        };
        assert_eq!(asked(37), Next::RetryAfter(Duration::from_secs(37)));
        assert_eq!(asked(600), Next::RetryAfter(WAIT_MAX));
        assert_eq!(asked(601), Next::Fail { retry_after: Some(Duration::from_secs(601)) });
    }

    #[test]
    fn the_headers_are_read_in_their_order() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let later = Some("Sun, 06 Nov 1994 08:50:07 GMT");
        let seconds = |s: f64| Some(Duration::from_secs_f64(s));
        assert_eq!(retry_after(Some("1500"), Some("9"), None), seconds(1.5));
        assert_eq!(retry_after(Some("soon"), Some("2.5"), None), seconds(2.5));
        assert_eq!(retry_after(None, later, date), seconds(30.0));
        assert_eq!(retry_after(None, date, later), None);
        assert_eq!(retry_after(None, later, None), None);
        for nothing in ["0", "-3", "NaN", "inf", "1e300", "", "soon"] {
            assert_eq!(retry_after(Some(nothing), Some(nothing), date), None, "{nothing}");
        }
    }

    fn any_request() -> MessageRequest {
        MessageRequest::structured("claude-opus-5-5", 10, vec![], "x".into(), serde_json::json!({}))
    }

    proptest! {
        #[test]
        fn what_is_retried_now_may_be_retried_later(status in 300_u16..600, retries_done: u32, jitter in 0.0..1.0) {
            let error = with_status(status);
            let later = CallError::from_attempt(&any_request(), Some(status), &error).retryable();
            let now = matches!(classify(&failed(Some(status), error), retries_done, jitter), Next::RetryAfter(_));
            prop_assert_eq!(now, later);
        }

        #[test]
        fn no_header_makes_it_panic(text in ".*", other in ".*") {
            let _ = retry_after(Some(&text), Some(&other), Some(&text));
        }
    }
}
