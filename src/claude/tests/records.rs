//! What is written down and said: the journal, the cost, the key that shows nowhere, the words for a person.

use super::*;
use crate::claude::scripted::ScriptedClaude;
use futures::future::BoxFuture;
use rust_decimal::Decimal;
use std::sync::atomic::{AtomicU64, Ordering};

#[tokio::test]
async fn an_answer_is_paid_once_and_the_prefix_is_cached_for_the_next() {
    let stage = Stage::replying(vec![good()]).await;
    let first = stage.call(&request()).await.unwrap();
    let second = stage.call(&request()).await.unwrap();
    assert_eq!(first.text, r#"{"ok":true}"#);
    assert_eq!(first.usage.cache_creation_input_tokens, Some(147));
    assert_eq!(second.usage.cache_read_input_tokens, Some(147));
    assert!(second.cost < first.cost);
    assert_eq!(first.request_id.as_deref(), Some("req_standin_000001"));
    assert_eq!(second.call_id, CallId(uuid::Uuid::from_u128(2)));
    let rows = stage.journal.rows();
    let end = rows[0].finished.as_ref().unwrap();
    assert_eq!(end.cost_usd, first.cost);
    assert_eq!(end.response_text.as_deref(), Some(r#"{"ok":true}"#));
    assert_eq!(rows[0].request_hash, request().request_hash());
    assert_eq!(stage.stand_in.calls(), 2);
}

#[tokio::test]
async fn a_stand_in_that_was_stopped_answers_no_more() {
    let stage = Stage::replying(vec![good()]).await;
    let api = HttpClaude::new(stage.settings.clone()).unwrap();
    assert!(api.attempt(&request()).await.result.is_ok());
    stage.stand_in.stop().await;
    let kind = api.attempt(&request()).await.result.unwrap_err().kind;
    assert_eq!(kind, AttemptErrorKind::Connect);
}

#[tokio::test]
async fn without_a_key_nothing_is_written_and_nothing_sent() {
    let mut stage = Stage::replying(vec![good()]).await;
    stage.settings.api_key = None;
    assert_eq!(stage.call(&request()).await, Err(CallError::NotConfigured));
    assert_eq!((stage.journal.rows(), stage.stand_in.calls()), (vec![], 0));
}

#[tokio::test]
async fn a_wrong_key_and_a_retired_model_are_turned_down() {
    let mut stage = Stage::replying(vec![good()]).await;
    let retired = MessageRequest { model: "claude-opus-3".to_owned(), ..request() };
    assert_eq!(stage.call(&retired).await.unwrap_err().code(), "claude_model_not_found");
    stage.settings.api_key = Some(ApiKey::new("sk-ant-other").unwrap());
    assert_eq!(stage.call(&request()).await.unwrap_err().code(), "claude_invalid_key");
    stage.settings.base_url.push_str("/elsewhere");
    assert_eq!(stage.call(&request()).await.unwrap_err().code(), "claude_model_not_found");
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_get_it_into_the_records() {
    let reply = Reply::Error {
        status: 401,
        kind: "authentication_error".to_owned(),
        message: format!("no such key: {KEY}"),
        error_code: None,
        headers: vec![],
    };
    let stage = Stage::replying(vec![reply]).await;
    let error = stage.call(&request()).await.unwrap_err();
    assert_eq!(error.to_string(), "Claude does not accept the API key: no such key: (hidden).");
    assert!(!format!("{:?}", stage.journal.rows()).contains(KEY));
}

#[tokio::test]
async fn a_call_dropped_on_its_way_leaves_a_begin_without_an_end() {
    let claude = ScriptedClaude::new();
    claude.answer_text("{}").hold();
    let journal = MemoryJournal::default();
    let (request, policy, pause) = (request(), RetryPolicy::default(), NoPause::default());
    tokio::select! {
        _ = call(&claude, &request, &policy, &journal, &pause) => panic!("it is held"),
        () = claude.asked(1) => {}
    }
    let rows = journal.rows();
    assert_eq!((rows.len(), rows[0].finished.as_ref()), (1, None));

    claude.release();
    let again = call(&claude, &request, &policy, &journal, &pause).await;
    assert_eq!(again.unwrap().call_id, CallId(uuid::Uuid::from_u128(2)));
    assert_eq!(journal.rows().iter().filter(|row| row.finished.is_none()).count(), 1);
}

#[tokio::test]
async fn a_script_at_its_end_is_an_error_that_says_so() {
    let claude = ScriptedClaude::new();
    claude.status(529, &[]).connection_error();
    let journal = MemoryJournal::default();
    let pause = NoPause::default();
    let end = call(&claude, &request(), &RetryPolicy::default(), &journal, &pause).await;
    let words = end.unwrap_err().to_string();
    assert_eq!(
        words,
        "The call to Claude was not sent: the script is at its end, and this is attempt 3."
    );
    assert_eq!(claude.requests(), vec![request(), request(), request()]);
}

/// A journal that fails at the begin or at the end.
struct BrokenJournal {
    at_begin: bool,
    begun: AtomicU64,
}

impl CallJournal for BrokenJournal {
    fn begin<'a>(
        &'a self,
        _: u32,
        _: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<CallId, JournalError>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let broken = Err(JournalError("the database is gone".to_owned()));
        Box::pin(std::future::ready(if self.at_begin {
            broken
        } else {
            Ok(CallId(uuid::Uuid::from_u128(1)))
        }))
    }

    fn end<'a>(&'a self, _: CallId, _: &'a Finished) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(std::future::ready(Err(JournalError("the database is gone".to_owned()))))
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_sent() {
    for (at_begin, requests) in [(true, 0), (false, 1)] {
        let claude = ScriptedClaude::new();
        claude.status(529, &[]);
        let journal = BrokenJournal { at_begin, begun: AtomicU64::new(0) };
        let end =
            call(&claude, &request(), &RetryPolicy::default(), &journal, &NoPause::default()).await;
        assert_eq!(end.unwrap_err().code(), "claude_journal");
        assert_eq!((journal.begun.into_inner(), claude.requests().len()), (1, requests));
    }
}

#[test]
fn the_words_for_a_person() {
    let status = |status: u16, message: &str| {
        let kind = AttemptErrorKind::Status { error_type: Some("t".to_owned()), error_code: None };
        CallError::from_attempt(&request(), Some(status), &AttemptError::new(kind, message)).words()
    };
    let credit = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.";
    let words = [
        status(400, credit),
        status(401, "invalid x-api-key"),
        status(404, "model: claude-opus-5-5"),
        status(413, "Request exceeds the maximum size"),
        status(529, "Overloaded"),
        CallError::SpendLimitReached { message: "Monthly usage threshold reached".to_owned() }
            .words(),
        CallError::Truncated { max_tokens: 4096, only_thought: true }.words(),
        CallError::Refused { category: Some("cyber".to_owned()), explanation: None }.words(),
        CallError::NotConfigured.words(),
    ];
    insta::assert_snapshot!(words.join("\n\n"), @r#"
    Claude turned the request down with status 400: Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits. Nothing is lost: the tasks and the cycle stay as they are. Buy credits in the Claude Console under Plans & Billing, then retry.

    Claude does not accept the API key: invalid x-api-key. Nothing is lost: the tasks and the cycle stay as they are. Make a key in the Claude Console, set it as ANTHROPIC_API_KEY, start again, then retry.

    Claude has no model "claude-opus-5-5", or has retired it: model: claude-opus-5-5. Nothing is lost: the tasks and the cycle stay as they are. Name a model that Claude serves today in the workflow's file, then retry.

    The request is too large for Claude, at about 563 bytes of text: Request exceeds the maximum size. Nothing is lost: the tasks and the cycle stay as they are. Lower the number of tasks that one analysis reads, or shorten the documents, then retry.

    Claude is overloaded: Overloaded. Nothing is lost: the tasks and the cycle stay as they are. It is tried again by itself; if it goes on, look at status.claude.com.

    The Claude account has reached its spend limit: Monthly usage threshold reached. Nothing is lost: the tasks and the cycle stay as they are. Raise the spend limit in the Claude Console, or wait for the next month, then retry.

    Claude's answer was cut off at its limit of 4096 tokens, for all of it went on thinking. Nothing is lost: the tasks and the cycle stay as they are. Raise the limit of answer tokens in the workflow's file, or lower the effort, then retry.

    Claude declined to answer (cyber). Nothing is lost: the tasks and the cycle stay as they are. Look at the recorded request for what gave offence, or name another model, then retry.

    No Claude API key is set, so no call was made. Nothing is lost: the tasks and the cycle stay as they are. Set ANTHROPIC_API_KEY and start again.
    "#);
}

#[test]
fn an_estimate_is_never_zero() {
    assert!(estimate("claude-haiku-5-5", 0, 1) > Decimal::ZERO);
}
