//! Every way a call of Claude can end, and what a run makes of it.

use serde_json::json;

use super::*;
use crate::claude::scripted::{MemoryJournal, NoPause, ScriptedClaude};
use crate::claude::wire::ErrorEnvelope;
use crate::orchestrator::enhance;

const PROMPT: Next = Next::Never { fault: Fault::Prompt };

fn request() -> MessageRequest {
    MessageRequest::structured("claude-opus-5-5", 10, vec![], "x".into(), json!({}))
}

async fn asked(script: &ScriptedClaude) -> (Result<Asked<enhance::Enhanced>, ServiceError>, usize) {
    let journal = MemoryJournal::default();
    let policy = RetryPolicy { retries_max: 0 };
    let pause = NoPause::default();
    let asked = ask(script, &request(), &policy, &journal, &pause, enhance::read).await;
    assert!(journal.rows().iter().all(|row| row.finished.is_some()));
    (asked, journal.rows().len())
}

const GOOD: &str = r#"{"enhanced_prompt":"p","rationale":"r"}"#;

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_asked_for_once_more() {
    for bad in [
        (|script: &ScriptedClaude| {
            script.truncated();
        }) as fn(&ScriptedClaude),
        |script| {
            script.answer_text("not JSON");
        },
        |script| {
            script.answer_text("");
        },
        |script| {
            script.answer_text(r#"{"enhanced_prompt":"","rationale":""}"#);
        },
    ] {
        let script = ScriptedClaude::new();
        bad(&script);
        script.answer_text(GOOD);
        let (asked, attempts) = asked_twice(&script).await;
        assert_eq!((asked.unwrap().value.prompt.as_str(), attempts), ("p", 2));

        let script = ScriptedClaude::new();
        bad(&script);
        bad(&script);
        let (asked, attempts) = asked_twice(&script).await;
        assert_eq!((asked.unwrap_err().next, attempts), (NEVER, 2));
    }
}

async fn asked_twice(
    script: &ScriptedClaude,
) -> (Result<Asked<enhance::Enhanced>, ServiceError>, usize) {
    script.answer_text(GOOD);
    asked(script).await
}

#[tokio::test]
async fn a_refusal_is_the_prompts_fault_and_is_not_asked_for_again() {
    let script = ScriptedClaude::new();
    script.refusal();
    let (asked, attempts) = asked(&script).await;
    let error = asked.unwrap_err();
    assert_eq!((error.code, error.next, attempts), ("claude_refused", PROMPT, 1));
}

#[tokio::test]
async fn a_rate_limit_says_how_long_it_lasts() {
    let script = ScriptedClaude::new();
    script.status(429, &[("retry-after", "7")]);
    let (asked, _) = asked(&script).await;
    let after = Some(std::time::Duration::from_secs(7));
    assert_eq!(asked.unwrap_err().next, Next::Later { after });
}

#[test]
fn a_400_about_the_messages_is_the_tasks_own_and_any_other_is_everybodys() {
    for (body, next) in [
        (include_str!("fixtures/image_dimensions.json"), NEVER),
        (include_str!("fixtures/image_bytes.json"), NEVER),
        (include_str!("fixtures/credit_balance.json"), Next::Operator),
        (include_str!("fixtures/grammar.json"), Next::Operator),
    ] {
        let envelope: ErrorEnvelope = serde_json::from_str(body).unwrap();
        let error = CallError::BadRequest { status: 400, message: envelope.error.message };
        let error = service_error(&error);
        assert_eq!((error.code, error.next), ("claude_bad_request", next), "{body}");
    }
}

/// What came back, and what it means.
pub(in crate::orchestrator) fn meanings() -> Vec<(String, ServiceError)> {
    use crate::claude::{AttemptError, AttemptErrorKind};
    use crate::stand_in::documented::Documented;

    let attempt = |status: Option<u16>, kind: AttemptErrorKind, message: &str| {
        let error = AttemptError::new(kind, message);
        service_error(&CallError::from_attempt(&request(), status, &error))
    };
    let mut all: Vec<_> = Documented::all()
        .filter(|error| error.service() == Service::Claude)
        .map(|error| {
            let body: serde_json::Value = serde_json::from_str(error.body()).unwrap();
            let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
            let error_code = text(&body["details"]["error_code"]);
            let message = text(&body["message"]).unwrap();
            let finer = match (&error_code, message.split_once(": ")) {
                (Some(code), _) => format!(" `{code}`"),
                (None, Some((place, _))) if error.status() == 400 => format!(" at `{place}`"),
                (None, _) => String::new(),
            };
            let wait = if error.header().is_some_and(|(name, _)| name == "retry-after") {
                ", with `retry-after`"
            } else {
                ""
            };
            let kind = text(&body["type"]).unwrap();
            let what = format!("{} `{kind}`{finer}{wait}", error.status());
            let kind = AttemptErrorKind::Status { error_type: Some(kind), error_code };
            let retry_after = (!wait.is_empty()).then_some(std::time::Duration::from_secs(1));
            let seen = AttemptError { retry_after, ..AttemptError::new(kind, message) };
            let seen = CallError::from_attempt(&request(), Some(error.status()), &seen);
            (what, service_error(&seen))
        })
        .collect();
    let answer = |error: CallError| service_error(&error);
    let unusable = || CallError::InvalidJson { path: "score".to_owned(), message: "x".to_owned() };
    let page = AttemptErrorKind::Status { error_type: None, error_code: None };
    all.extend([
        ("502, a page of a proxy".to_owned(), attempt(Some(502), page, "why")),
        ("no key is set".to_owned(), attempt(None, AttemptErrorKind::NotConfigured, "why")),
        ("no connection".to_owned(), attempt(None, AttemptErrorKind::Connect, "why")),
        ("no answer in time".to_owned(), attempt(None, AttemptErrorKind::TimedOut, "why")),
        ("the connection broke".to_owned(), attempt(None, AttemptErrorKind::Interrupted, "why")),
        (
            "200, not a message, twice".to_owned(),
            attempt(None, AttemptErrorKind::Unreadable, "why"),
        ),
        (
            "stopped by `refusal`".to_owned(),
            answer(CallError::Refused { category: None, explanation: None }),
        ),
        (
            "stopped by `max_tokens`, twice".to_owned(),
            answer(CallError::Truncated { max_tokens: 10, only_thought: false }),
        ),
        ("stopped by `pause_turn`, twice".to_owned(), answer(CallError::Paused)),
        (
            "stopped by `model_context_window_exceeded`".to_owned(),
            answer(CallError::ContextWindowExceeded),
        ),
        ("no text, twice".to_owned(), answer(CallError::Empty { only_thought: true })),
        ("not the JSON that was asked for, twice".to_owned(), answer(unusable())),
    ]);
    all
}
