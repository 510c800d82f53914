//! Whole calls over HTTP, against the stand-in: what comes back, how often and after which pauses it is tried, and what
//! the journal says of each attempt.

mod counts;
mod ends;
mod limits;
mod records;

use super::scripted::{MemoryJournal, NoPause};
use super::*;
use crate::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Mutex;

const KEY: &str = "sk-ant-test-secret";

struct Stage {
    stand_in: ClaudeStandIn,
    settings: ClaudeSettings,
    journal: MemoryJournal,
    pause: NoPause,
}

impl Stage {
    /// A stand-in that gives these replies in turn, and the last of them for ever.
    async fn replying(replies: Vec<Reply>) -> Self {
        let turn = Mutex::new(replies.into_iter());
        let last = Mutex::new(Reply::Hang);
        Self::with(move |_: &Value| {
            let mut last = last.lock().unwrap();
            if let Some(reply) = turn.lock().unwrap().next() {
                *last = reply;
            }
            last.clone()
        })
        .await
    }

    async fn with(responder: impl crate::stand_in::claude::Responder) -> Self {
        let settings = StandInSettings { api_key: KEY.to_owned(), port: 0 };
        let stand_in = ClaudeStandIn::start(settings, responder).await.unwrap();
        let key = ApiKey::new(KEY).unwrap();
        Self {
            settings: ClaudeSettings::new(stand_in.base_url(), Some(key)),
            stand_in,
            journal: MemoryJournal::default(),
            pause: NoPause::default(),
        }
    }

    async fn call(&self, request: &MessageRequest) -> Result<Answer, CallError> {
        let api = HttpClaude::new(self.settings.clone()).unwrap();
        call(&api, request, &RetryPolicy::default(), &self.journal, &self.pause).await
    }

    /// The call's end, its waits, and one line an attempt.
    async fn story(&self, request: &MessageRequest) -> String {
        let mut story = match self.call(request).await {
            Ok(answer) => format!("answer {:?} for {} USD\n", answer.text, answer.cost),
            Err(error) => {
                let again =
                    if error.retryable() { "may be tried later" } else { "waits for a person" };
                assert!(!error.words().contains(KEY));
                format!("{} {again}\n", error.code())
            }
        };
        for wait in self.pause.waits() {
            writeln!(story, "waited {} ms", wait.as_millis()).unwrap();
        }
        for row in self.journal.rows() {
            let end = row.finished.expect("every begin has its end");
            writeln!(
                story,
                "{}: {} {} {} {}{} USD",
                row.attempt_no,
                end.status.map_or("no status".to_owned(), |status| status.to_string()),
                end.stop_reason.as_deref().unwrap_or("-"),
                end.error_code.unwrap_or("-"),
                if end.estimated { "about " } else { "" },
                end.cost_usd,
            )
            .unwrap();
            assert_eq!(end.request_id.is_some(), end.status.is_some());
        }
        story
    }
}

fn request() -> MessageRequest {
    let schema = json!({
        "type": "object", "required": ["ok"], "additionalProperties": false,
        "properties": {"ok": {"type": "boolean"}}
    });
    let system = vec![("You judge. ".repeat(40), true), ("Be brief.".to_owned(), false)];
    MessageRequest::structured("claude-opus-5-5", 1000, system, "Judge this.".to_owned(), schema)
        .tuned(Some(Effort::Medium), ThinkingWish::ModelDefault)
}

async fn story_of(replies: Vec<Reply>) -> String {
    Stage::replying(replies).await.story(&request()).await
}

fn error(status: u16, kind: &str, headers: &[(&str, &str)]) -> Reply {
    Reply::Error {
        status,
        kind: kind.to_owned(),
        message: format!("words about {kind}"),
        error_code: None,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn limit(code: &str) -> Reply {
    Reply::Error {
        status: 429,
        kind: "rate_limit_error".to_owned(),
        message: "Monthly usage threshold reached.".to_owned(),
        error_code: Some(code.to_owned()),
        headers: vec![],
    }
}

fn good() -> Reply {
    Reply::Text(r#"{"ok":true}"#.to_owned())
}
