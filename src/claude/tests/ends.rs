//! Every stop reason and every error: how often it is tried, after which pauses, and at what cost.

use super::*;
use std::time::Duration;

#[tokio::test]
async fn every_stop_reason_has_its_end() {
    let stopped =
        |word: &str| Reply::Stopped { stop_reason: word.to_owned(), text: "{}".to_owned() };
    let cases = [
        (good(), "answer"),
        (stopped("stop_sequence"), "answer"),
        (Reply::ThinkingThenText("{}".to_owned()), "answer"),
        (Reply::Truncated("{\"o".to_owned()), "claude_truncated waits for a person"),
        (Reply::ThinkingOnly, "claude_truncated waits for a person"),
        (Reply::Refusal, "claude_refused waits for a person"),
        (stopped("pause_turn"), "claude_paused may be tried later"),
        (stopped("tool_use"), "claude_tool_use waits for a person"),
        (
            stopped("model_context_window_exceeded"),
            "claude_context_window_exceeded waits for a person",
        ),
        (stopped("sunset"), "claude_unknown_stop waits for a person"),
        (Reply::Text(String::new()), "claude_empty may be tried later"),
    ];
    for (reply, expected) in cases {
        let story = story_of(vec![reply.clone()]).await;
        assert!(story.starts_with(expected), "{reply:?}: {story}");
        assert_eq!(story.lines().count(), 2, "{reply:?} is paid once: {story}");
        assert!(story.contains("1: 200 ") && !story.contains("about"), "{story}");
    }
}

#[tokio::test]
async fn thinking_that_used_up_the_answer_says_so() {
    let stage = Stage::replying(vec![Reply::ThinkingOnly]).await;
    let error = stage.call(&request()).await.unwrap_err();
    assert_eq!(error, CallError::Truncated { max_tokens: 1000, only_thought: true });
}

#[tokio::test]
async fn errors_that_wait_for_a_person_are_made_once() {
    let cases = [
        (400, "invalid_request_error", "claude_bad_request"),
        (401, "authentication_error", "claude_invalid_key"),
        (402, "billing_error", "claude_billing"),
        (403, "permission_error", "claude_forbidden"),
        (404, "not_found_error", "claude_model_not_found"),
        (413, "request_too_large", "claude_request_too_large"),
        (422, "invalid_request_error", "claude_bad_request"),
        (499, "api_error", "claude_bad_request"),
    ];
    for (status, kind, code) in cases {
        let story = story_of(vec![error(status, kind, &[])]).await;
        assert_eq!(story, format!("{code} waits for a person\n1: {status} - {code} 0 USD\n"));
    }
    for code in ["enforced_spend_limit_reached", "contract_spend_limit_reached"] {
        let story = story_of(vec![limit(code)]).await;
        let expected = "claude_spend_limit_reached waits for a person\n1: 429 - claude_spend_limit_reached 0 USD\n";
        assert_eq!(story, expected);
    }
}

#[tokio::test]
async fn errors_that_pass_are_made_three_times() {
    let cases = [
        (error(408, "timeout_error", &[]), 408, "claude_server_failed", "0"),
        (error(409, "conflict_error", &[]), 409, "claude_server_failed", "0"),
        (error(429, "rate_limit_error", &[]), 429, "claude_rate_limited", "0"),
        (limit("ramp_limit_exceeded"), 429, "claude_rate_limited", "0"),
        (error(500, "api_error", &[]), 500, "claude_server_failed", "0"),
        (error(503, "overloaded_error", &[]), 503, "claude_overloaded", "0"),
        (error(504, "timeout_error", &[]), 504, "claude_server_failed", "0"),
        (error(529, "overloaded_error", &[]), 529, "claude_overloaded", "0"),
        (Reply::Html(502), 502, "claude_server_failed", "0"),
        (Reply::Html(503), 503, "claude_overloaded", "0"),
        (Reply::Raw { status: 500, body: String::new() }, 500, "claude_server_failed", "0"),
        (Reply::Html(504), 504, "claude_server_failed", "about 0.02094"),
    ];
    for (reply, status, code, usd) in cases {
        let story = story_of(vec![reply]).await;
        let line = |n| format!("{n}: {status} - {code} {usd} USD\n");
        let rows = [1, 2, 3].map(line).concat();
        assert_eq!(
            story,
            format!("{code} may be tried later\nwaited 500 ms\nwaited 1000 ms\n{rows}")
        );
    }
}

#[tokio::test]
async fn the_answer_after_two_failures_is_taken_and_the_stated_waits_are_kept() {
    let story = story_of(vec![
        error(429, "rate_limit_error", &[("retry-after", "37")]),
        error(529, "overloaded_error", &[("retry-after-ms", "250"), ("retry-after", "9")]),
        good(),
    ])
    .await;
    insta::assert_snapshot!(story, @r#"
    answer "{\"ok\":true}" for 0.000979 USD
    waited 37000 ms
    waited 250 ms
    1: 429 - claude_rate_limited 0 USD
    2: 529 - claude_overloaded 0 USD
    3: 200 end_turn - 0.000979 USD
    "#);
}

#[tokio::test]
async fn a_wait_of_an_hour_is_handed_back() {
    let stage =
        Stage::replying(vec![error(429, "rate_limit_error", &[("retry-after", "3600")])]).await;
    let error = stage.call(&request()).await.unwrap_err();
    assert_eq!(error.code(), "claude_rate_limited");
    assert!(error.retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
    assert_eq!((stage.pause.waits(), stage.stand_in.calls()), (vec![], 1));
}

#[tokio::test]
async fn the_word_of_the_api_about_a_retry_is_followed() {
    let never = story_of(vec![error(500, "api_error", &[("x-should-retry", "false")])]).await;
    assert_eq!(never.lines().count(), 2, "{never}");
    let please =
        story_of(vec![error(400, "invalid_request_error", &[("x-should-retry", "true")]), good()])
            .await;
    assert!(please.starts_with("answer"), "{please}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_tried_again_and_its_cost_is_guessed() {
    insta::assert_snapshot!(story_of(vec![Reply::CutBody, good()]).await, @r#"
    answer "{\"ok\":true}" for 0.0002734 USD
    waited 500 ms
    1: 200 - claude_interrupted about 0.02094 USD
    2: 200 end_turn - 0.0002734 USD
    "#);
}

#[tokio::test]
async fn a_body_that_is_no_message_is_not_tried_at_once() {
    let raw = |body: &str| Reply::Raw { status: 200, body: body.to_owned() };
    for reply in [
        raw(""),
        raw("<html>"),
        raw(r#"{"id":"msg_1","content":[{"type""#),
        raw("{}"),
        Reply::Html(200),
    ] {
        let story = story_of(vec![reply]).await;
        let expected =
            "claude_unreadable may be tried later\n1: 200 - claude_unreadable about 0.02094 USD\n";
        assert_eq!(story, expected);
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_dropped() {
    let mut stage = Stage::replying(vec![Reply::Text("x".repeat(5000))]).await;
    stage.settings.answer_bytes_max = 4096;
    let story = stage.story(&request()).await;
    assert!(story.starts_with("claude_answer_too_large waits for a person\n1: 200 "), "{story}");
}

#[tokio::test]
async fn no_answer_in_time_is_tried_again_and_its_cost_is_guessed() {
    let mut stage = Stage::replying(vec![Reply::Hang]).await;
    stage.settings.timeout = Duration::from_millis(50);
    insta::assert_snapshot!(stage.story(&request()).await, @r#"
    claude_timed_out may be tried later
    waited 500 ms
    waited 1000 ms
    1: no status - claude_timed_out about 0.02094 USD
    2: no status - claude_timed_out about 0.02094 USD
    3: no status - claude_timed_out about 0.02094 USD
    "#);
    assert_eq!(stage.stand_in.calls(), 3);
}

#[tokio::test]
async fn nobody_listening_costs_nothing() {
    let mut stage = Stage::replying(vec![good()]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.settings.base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    insta::assert_snapshot!(stage.story(&request()).await, @r#"
    claude_unreachable may be tried later
    waited 500 ms
    waited 1000 ms
    1: no status - claude_unreachable 0 USD
    2: no status - claude_unreachable 0 USD
    3: no status - claude_unreachable 0 USD
    "#);
}
