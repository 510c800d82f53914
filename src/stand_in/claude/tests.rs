//! The script at Claude's stand-in; what the responder says is tested with the client, in `crate::claude`.

use serde_json::{Value, json};

use super::*;
use crate::claude::wire::API_VERSION;
use crate::stand_in::documented::Documented;
use crate::stand_in::script::Matcher;

struct Stage {
    stand_in: ClaudeStandIn,
    script: Script,
    http: reqwest::Client,
}

impl Stage {
    async fn new() -> Self {
        let script = Script::new(1);
        let settings = StandInSettings { api_key: "sk".to_owned(), port: 0 };
        let responder = |_: &Value| Reply::Text(r#"{"score":8}"#.to_owned());
        let stand_in = ClaudeStandIn::start_scripted(settings, script.clone(), responder).await;
        let http = listener::client(Duration::from_secs(5)).expect("a client");
        Self { stand_in: stand_in.expect("it starts"), script, http }
    }

    async fn ask(&self) -> Result<reqwest::Response, reqwest::Error> {
        let body = json!({
            "model": "claude-haiku-5-5", "max_tokens": 100,
            "messages": [{"role": "user", "content": "hello"}],
        });
        self.http
            .post(format!("{}/v1/messages", self.stand_in.base_url()))
            .header("x-api-key", "sk")
            .header("anthropic-version", API_VERSION)
            .json(&body)
            .send()
            .await
    }
}

#[tokio::test]
async fn every_documented_error_arrives_in_the_envelope_with_the_headers() {
    let stage = Stage::new().await;
    for error in Documented::all().filter(|error| error.service() == Service::Claude) {
        stage.script.when(Matcher::claude(), 1, Fault::Documented(error));
        let answer = stage.ask().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), error.status());
        assert!(answer.headers().contains_key("anthropic-ratelimit-tokens-reset"));
        if let Some((name, value)) = error.header() {
            assert_eq!(answer.headers()[name], value);
        }
        let id = answer.headers()["request-id"].to_str().expect("text").to_owned();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!(id)));
        assert!(body["error"]["type"].is_string());
    }
    assert_eq!(stage.stand_in.calls(), 0, "the script kept them from it");
}

#[tokio::test]
async fn every_useless_answer_shows_as_documented() {
    let stage = Stage::new().await;
    let mut told = Vec::new();
    for answer in [
        Answer::Truncated,
        Answer::Refusal,
        Answer::ThinkingFirst,
        Answer::ThinkingOnly,
        Answer::PauseTurn,
        Answer::NotJson,
        Answer::Empty,
    ] {
        stage.script.when(Matcher::claude(), 1, Fault::Answer(answer));
        let response = stage.ask().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("a text");
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        told.push(format!("{answer:?}: {} {}", body["stop_reason"], body["content"]));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn a_broken_connection_tells_nothing_of_whether_the_work_was_done() {
    let stage = Stage::new().await;
    for (fault, calls) in [(Fault::DropBeforeWork, 0), (Fault::DropBeforeAnswer, 1)] {
        stage.script.when(Matcher::claude(), 1, fault);
        assert!(stage.ask().await.is_err());
        assert_eq!(stage.stand_in.calls(), calls);
    }
    stage.script.when(Matcher::claude(), 1, Fault::CutBody);
    let cut = stage.ask().await.expect("a head");
    assert!(cut.text().await.is_err(), "the body breaks off");
    assert_eq!(stage.script.seen(&Matcher::claude().path("/v1/messages")).len(), 3);
}
