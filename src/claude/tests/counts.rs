//! Counting a request's tokens, over HTTP.

use super::*;

#[tokio::test]
async fn a_request_is_counted_without_being_answered_or_paid() {
    let stage = Stage::replying(vec![]).await;
    let api = HttpClaude::new(stage.settings.clone()).unwrap();
    let mut request = request();
    let short = api.count_tokens(&request).await.unwrap();
    let wire::InputBlock::Text { text } = &mut request.messages[0].content[0] else {
        panic!("the request is a text")
    };
    text.push_str(&"more ".repeat(400));
    let long = api.count_tokens(&request).await.unwrap();
    assert!(long >= short + 400, "{short}, then {long}");
    assert_eq!(stage.stand_in.calls(), 0);
}

#[tokio::test]
async fn what_cannot_be_counted_says_why_and_hides_the_key() {
    let stage = Stage::replying(vec![]).await;
    let mut settings = stage.settings.clone();
    settings.api_key = Some(ApiKey::new("sk-ant-another").unwrap());
    let refused = HttpClaude::new(settings.clone()).unwrap().count_tokens(&request()).await;
    let error = refused.unwrap_err();
    assert!(matches!(error.kind, AttemptErrorKind::Status { .. }), "{error:?}");
    assert_eq!(error.message, "invalid x-api-key");

    settings.api_key = None;
    let unasked = HttpClaude::new(settings).unwrap().count_tokens(&request()).await;
    assert_eq!(unasked.unwrap_err().kind, AttemptErrorKind::NotConfigured);

    stage.stand_in.stop().await;
    let unreached = HttpClaude::new(stage.settings).unwrap().count_tokens(&request()).await;
    assert_eq!(unreached.unwrap_err().kind, AttemptErrorKind::Connect);
}

#[test]
fn the_body_to_count_is_all_that_is_read_and_nothing_that_is_done() {
    let body = request().count_body();
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert!(
        names.iter().all(|name| ["model", "system", "messages", "thinking", "output_config"]
            .contains(&name.as_str())),
        "{names:?}"
    );
    assert_eq!(body["messages"], serde_json::to_value(request()).unwrap()["messages"]);
}
