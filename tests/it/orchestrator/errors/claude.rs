//! Claude's errors.

use mathesis::stand_in::documented::Documented;
use mathesis::stand_in::fault::{Answer, Fault};
use mathesis::stand_in::script::Matcher;
use serde_json::json;

use super::{Call, Case, Obstacle, case, hold_to_the_page, play_all, shown};

/// The enhancement for wan-2.5-edit.
fn enhancement() -> Call {
    Call {
        name: "wan-2.5-edit's enhancement",
        kind: "an enhancement",
        matcher: Matcher::claude().body("Write the prompt for wan-2.5-edit"),
    }
}

/// The enhancements for both models.
fn enhancements() -> Call {
    Call {
        name: "both enhancements",
        kind: "an enhancement",
        matcher: Matcher::claude().body("Write the prompt for "),
    }
}

/// The validation of wan-2.5-edit's picture.
fn validation() -> Call {
    Call {
        name: "wan-2.5-edit's validation",
        kind: "a validation",
        matcher: Matcher::claude()
            .body(r"Target model: wan-2.5-edit\n\nAbove are the original picture"),
    }
}

fn stopped(reason: &str) -> Fault {
    let message = json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5",
        "content": [{"type": "text", "text": "half"}], "stop_reason": reason, "stop_sequence": null,
        "usage": {"input_tokens": 100, "output_tokens": 20},
    });
    Fault::status(200, message.to_string())
}

fn no_text() -> Fault {
    let message = json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5",
        "content": [], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 100, "output_tokens": 1},
    });
    Fault::status(200, message.to_string())
}

fn error(status: u16, kind: &str, code: Option<&str>) -> Fault {
    let mut error = json!({"type": kind, "message": "why"});
    if let Some(code) = code {
        error["details"] = json!({"error_code": code});
    }
    Fault::status(status, json!({"type": "error", "error": error}).to_string())
}

/// What passes by itself: asked again at once by the client, and after its three tries by the run.
fn passing() -> Vec<Case> {
    let rows = [
        ("429 `rate_limit_error`, with `retry-after`", Documented::ClaudeRateLimited),
        ("429 `rate_limit_error`", Documented::ClaudeRateLimitedWithoutRetryAfter),
        (
            "429 `rate_limit_error` `ramp_limit_exceeded`, with `retry-after`",
            Documented::ClaudeRampLimit,
        ),
        ("529 `overloaded_error`", Documented::ClaudeOverloaded),
        ("409 `conflict_error`", Documented::ClaudeConflict),
        ("500 `api_error`", Documented::ClaudeApiError),
        ("503 `api_error`", Documented::ClaudeUnavailable),
        ("504 `timeout_error`", Documented::ClaudeTimeout),
    ];
    let both = |row: &'static str, fault: Fault| {
        [case(row, enhancement(), 2, fault.clone()), case(row, validation(), 3, fault)]
    };
    let mut cases: Vec<Case> =
        rows.into_iter().flat_map(|(row, error)| both(row, Fault::Documented(error))).collect();
    cases.extend(both("502, a page of a proxy", Fault::Html(502)));
    // Three calls without an answer may all have been billed: the attempt ends.
    cases.extend(both("the connection broke", Fault::DropBeforeAnswer));
    cases.extend(both("more: the connection broke in the middle of the answer", Fault::CutBody));
    let busy = Fault::Documented(Documented::ClaudeOverloaded);
    let then = |last: Fault| Obstacle::InTurn(vec![busy.clone(), busy.clone(), last]);
    cases.push(case("the connection broke", enhancement(), 3, then(Fault::DropBeforeWork)));
    cases.push(case("no answer in time", enhancement(), 3, then(Fault::Hang)));
    cases.extend(both("more: 408", error(408, "timeout_error", None)));
    cases.push(case("no answer in time", enhancement(), 2, Obstacle::Silence));
    cases.push(case("no answer in time", validation(), 3, Obstacle::Silence));
    cases.push(case("no connection", enhancements(), 0, Obstacle::Nowhere));
    cases
}

/// What only a person mends.
fn for_a_person() -> Vec<Case> {
    let rows = [
        ("429 `rate_limit_error` `enforced_spend_limit_reached`", Documented::ClaudeSpendLimit),
        ("400 `invalid_request_error`", Documented::ClaudeCreditTooLow),
        (
            "400 `invalid_request_error` at `output_config.format.schema`",
            Documented::ClaudeSchemaTooLarge,
        ),
        ("401 `authentication_error`", Documented::ClaudeInvalidKey),
        ("402 `billing_error`", Documented::ClaudeBilling),
        ("403 `permission_error`", Documented::ClaudePermission),
        ("404 `not_found_error`", Documented::ClaudeUnknownModel),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(row, error)| case(row, enhancements(), 2, Fault::Documented(error)))
        .collect();
    // One model's picture is judged, so the other is not waited for.
    let key = Fault::Documented(Documented::ClaudeInvalidKey);
    cases.push(case("401 `authentication_error`", validation(), 1, key));
    let spent = error(429, "rate_limit_error", Some("contract_spend_limit_reached"));
    cases.push(case("more: 429 `contract_spend_limit_reached`", enhancements(), 2, spent));
    cases.push(case("no key is set", enhancements(), 0, Obstacle::NoKey));
    cases
}

/// What ends the attempt, and what an answer of no use does.
fn ending() -> Vec<Case> {
    let rows = [
        (
            "400 `invalid_request_error` `image_dimensions_too_large`",
            Documented::ClaudeImageDimensions,
        ),
        (
            "400 `invalid_request_error` at `messages.0.content.1.image.source.base64`",
            Documented::ClaudeImageBytes,
        ),
        ("413 `request_too_large`", Documented::ClaudeTooLarge),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .flat_map(|(row, error)| {
            let fault = Fault::Documented(error);
            [case(row, enhancement(), 1, fault.clone()), case(row, validation(), 1, fault)]
        })
        .collect();
    let answers = [
        ("stopped by `refusal`", 1, Fault::Answer(Answer::Refusal)),
        ("stopped by `model_context_window_exceeded`", 1, stopped("model_context_window_exceeded")),
        ("200, not a message, twice", 2, Fault::status(200, "<html>")),
        ("stopped by `max_tokens`, twice", 2, Fault::Answer(Answer::Truncated)),
        ("stopped by `pause_turn`, twice", 2, Fault::Answer(Answer::PauseTurn)),
        ("no text, twice", 2, no_text()),
        ("not the JSON that was asked for, twice", 2, Fault::Answer(Answer::NotJson)),
        ("more: 200, without a body, twice", 2, Fault::Answer(Answer::Empty)),
        (
            "more: stopped by `max_tokens` while thinking, twice",
            2,
            Fault::Answer(Answer::ThinkingOnly),
        ),
        ("more: stopped by a word that nobody knows", 1, stopped("tired")),
    ];
    for (row, times, fault) in answers {
        cases.push(case(row, enhancement(), times, fault.clone()));
        cases.push(case(row, validation(), times, fault.clone()));
        if times == 2 {
            cases.push(case(row, enhancement(), 1, fault));
        }
    }
    let thinking = Fault::Answer(Answer::ThinkingFirst);
    cases.push(case("more: a thinking block first", enhancement(), 1, thinking.clone()));
    cases.push(case("more: a thinking block first", validation(), 1, thinking));
    cases
}

#[tokio::test]
async fn whatever_claude_does_no_answer_is_paid_twice_and_no_task_is_lost() {
    let passes = play_all(passing()).await;
    let person = play_all(for_a_person()).await;
    let ends = play_all(ending()).await;
    insta::assert_snapshot!("passes", shown(&passes));
    insta::assert_snapshot!("for_a_person", shown(&person));
    insta::assert_snapshot!("ends", shown(&ends));
    let all: Vec<_> = [passes, person, ends].into_iter().flatten().collect();
    hold_to_the_page("Claude", &all);
}
