//! The limits that Claude tells of in its headers: when nothing is left, no attempt leaves before the reset.

use super::*;
use crate::clock::{Clock, HandHeldClock};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;

fn now() -> DateTime<Utc> {
    "2026-05-01T20:29:00Z".parse().unwrap()
}

/// A client after one attempt that was answered with these headers, and its clock.
async fn told(stage: &Stage) -> (HttpClaude, Arc<HandHeldClock>) {
    let clock = Arc::new(HandHeldClock::at(now()));
    let by = Arc::clone(&clock) as Arc<dyn Clock>;
    let api = HttpClaude::new(stage.settings.clone()).unwrap().by_clock(by);
    let _told = api.attempt(&request()).await;
    (api, clock)
}

fn limits(status: u16, headers: &[(&str, &str)]) -> Reply {
    // The date keeps the machine's own clock out of the test.
    let date = [("date", "Fri, 01 May 2026 20:29:00 GMT")];
    error(status, "rate_limit_error", &[headers, &date].concat())
}

async fn left(reply: Reply) -> Option<Duration> {
    let stage = Stage::replying(vec![reply]).await;
    told(&stage).await.0.closed().map(|closed| closed.left)
}

#[tokio::test]
async fn a_limit_that_is_used_up_closes_the_door_until_its_reset() {
    let reset = ("anthropic-ratelimit-input-tokens-reset", "2026-05-01T20:29:07Z");
    let none_left = ("anthropic-ratelimit-input-tokens-remaining", "0");
    assert_eq!(left(limits(529, &[none_left, reset])).await, Some(Duration::from_secs(7)));
    let some_left = ("anthropic-ratelimit-input-tokens-remaining", "1");
    assert_eq!(left(limits(529, &[some_left, reset])).await, None);
    let passed = ("anthropic-ratelimit-input-tokens-reset", "2026-05-01T20:28:00Z");
    assert_eq!(left(limits(529, &[none_left, passed])).await, None);
    let odd = ("anthropic-ratelimit-input-tokens-reset", "soon");
    assert_eq!(left(limits(529, &[none_left, odd])).await, None);
}

#[tokio::test]
async fn the_latest_reset_counts_and_so_does_retry_after() {
    let headers = [
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2026-05-01T20:29:30Z"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-05-01T20:29:09Z"),
        ("retry-after", "5"),
    ];
    assert_eq!(left(limits(429, &headers)).await, Some(Duration::from_secs(30)));
    assert_eq!(left(limits(429, &headers[4..])).await, Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn the_next_call_waits_before_it_is_in_the_journal_and_then_leaves() {
    let headers = [
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2026-05-01T20:29:07Z"),
    ];
    let stage = Stage::replying(vec![limits(429, &headers), good()]).await;
    let (api, clock) = told(&stage).await;
    let policy = RetryPolicy::default();
    call(&api, &request(), &policy, &stage.journal, &stage.pause).await.unwrap();
    assert_eq!(stage.pause.waits(), [Duration::from_secs(7)]);
    clock.advance(TimeDelta::seconds(8));
    call(&api, &request(), &policy, &stage.journal, &stage.pause).await.unwrap();
    assert_eq!(stage.pause.waits().len(), 1, "the door is open again");
}

#[tokio::test]
async fn a_wait_that_no_worker_sits_through_is_handed_back_without_an_attempt() {
    let headers = [
        ("anthropic-ratelimit-tokens-remaining", "0"),
        ("anthropic-ratelimit-tokens-reset", "2026-05-01T20:49:00Z"),
    ];
    let stage = Stage::replying(vec![limits(429, &headers), good()]).await;
    let (api, _clock) = told(&stage).await;
    let policy = RetryPolicy::default();
    let error = call(&api, &request(), &policy, &stage.journal, &stage.pause).await.unwrap_err();
    assert_eq!(error.code(), "claude_rate_limited");
    assert_eq!(error.retry_after(), Some(Duration::from_mins(20)));
    assert!(stage.journal.rows().is_empty());
}
