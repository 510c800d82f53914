//! The documented bodies, read and written.

use super::*;
use serde_json::json;

pub(crate) const STRUCTURED: &str = r#"{
  "id": "msg_01ThiEkppaEmAF7ATJzsjkaG", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5",
  "content": [{"type": "text", "text": "{\"enhanced_prompt\":\"Replace only the sky with a warm sunset gradient; keep all other pixels unchanged.\",\"rationale\":\"explicit preservation clause\"}"}],
  "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null, "container": null, "diagnostics": null,
  "usage": {"input_tokens": 812, "cache_creation_input_tokens": 1480, "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 1480, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 96, "output_tokens_details": {"thinking_tokens": 0}, "server_tool_use": null,
    "service_tier": "standard", "speed": "standard", "inference_geo": "global"}
}"#;
const THINKING_FIRST: &str = r#"{
  "id": "msg_01Validate", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
  "content": [
    {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk="},
    {"type": "text", "text": "{\"score\":8,\"passed\":true,\"issues\":[\"slight halo at treeline\"],\"reasoning\":\"Sky replaced, subject intact.\"}"}
  ],
  "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null,
  "usage": {"input_tokens": 4210, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1480,
            "output_tokens": 640, "output_tokens_details": {"thinking_tokens": 540}, "service_tier": "standard"}
}"#;
const TRUNCATED: &str = r#"{"id":"msg_01Trunc","type":"message","role":"assistant","model":"claude-haiku-5-5",
 "content":[{"type":"text","text":"{\"score\":7,\"passed\":tr"}],
 "stop_reason":"max_tokens","stop_sequence":null,"stop_details":null,
 "usage":{"input_tokens":3000,"output_tokens":256}}"#;
const REFUSED: &str = r#"{"id":"msg_01Refuse","type":"message","role":"assistant","model":"claude-haiku-5-5",
 "content":[], "stop_reason":"refusal","stop_sequence":null,
 "stop_details":{"type":"refusal","category":null,"explanation":null},
 "usage":{"input_tokens":3000,"output_tokens":4}}"#;
const PAUSED: &str = r#"{"id":"msg_01Pause","type":"message","role":"assistant","model":"claude-sonnet-5-5",
 "content":[{"type":"text","text":"..."}],"stop_reason":"pause_turn","stop_sequence":null,
 "usage":{"input_tokens":10,"output_tokens":2}}"#;

fn read(body: &str) -> MessageResponse {
    serde_json::from_str(body).expect("a documented body")
}

fn request(model: &str) -> MessageRequest {
    MessageRequest::structured(
        model,
        4096,
        vec![("You rewrite image-edit requests.".into(), true), ("Be brief.".into(), false)],
        "Request: change the sky to sunset".into(),
        json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false}),
    )
}

#[test]
fn a_request_has_the_documented_shape_and_no_temperature() {
    let body = serde_json::to_value(
        request("claude-sonnet-5-5").tuned(Some(Effort::Low), ThinkingWish::Least),
    )
    .unwrap();
    assert_eq!(
        body,
        json!({
            "model": "claude-sonnet-5-5",
            "max_tokens": 4096,
            "system": [
                {"type": "text", "text": "You rewrite image-edit requests.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Be brief."}
            ],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Request: change the sky to sunset"}]}],
            "thinking": {"type": "between_tools"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {
                "type": "object", "properties": {}, "required": [], "additionalProperties": false}}}
        })
    );
}

#[test]
fn the_least_thinking_is_what_the_model_accepts() {
    let thinking = |model: &str, effort| request(model).tuned(effort, ThinkingWish::Least).thinking;
    assert_eq!(thinking("claude-sonnet-5-5", None), Some(Thinking::BetweenTools));
    assert_eq!(thinking("claude-haiku-5-5", None), Some(Thinking::Disabled));
    assert_eq!(thinking("claude-haiku-5-5", Some(Effort::Low)), None);
    assert_eq!(thinking("claude-opus-5-5", Some(Effort::High)), None);
    let untouched =
        request("claude-sonnet-5-5").tuned(Some(Effort::High), ThinkingWish::ModelDefault);
    assert_eq!(untouched.thinking, None);
}

#[test]
fn a_request_can_be_read_back() {
    let sent = request("claude-opus-5-5").tuned(Some(Effort::Medium), ThinkingWish::ModelDefault);
    let body = serde_json::to_string(&sent).unwrap();
    assert_eq!(serde_json::from_str::<MessageRequest>(&body).unwrap(), sent);
}

#[test]
fn the_hash_tells_requests_apart_and_is_stable() {
    let one = request("claude-opus-5-5");
    let mut other = one.clone();
    assert_eq!(one.request_hash(), other.request_hash());
    assert_eq!(one.request_hash().len(), 64);
    other.max_tokens += 1;
    assert_ne!(one.request_hash(), other.request_hash());
}

#[test]
fn a_structured_answer_reads_whole() {
    let answer = read(STRUCTURED);
    assert!(answer.text().starts_with(r#"{"enhanced_prompt":"#));
    assert_eq!(answer.stop_reason, Some(StopReason::EndTurn));
    assert_eq!(answer.usage.cache_creation_input_tokens, Some(1480));
    let split = answer.usage.cache_creation.unwrap();
    assert_eq!(split.ephemeral_5m_input_tokens, Some(1480));
}

#[test]
fn the_text_is_found_behind_the_thinking() {
    let answer = read(THINKING_FIRST);
    assert!(answer.text().starts_with(r#"{"score":8"#));
    assert_eq!(answer.usage.output_tokens_details.unwrap().thinking_tokens, Some(540));
}

#[test]
fn an_answer_cut_short_a_refusal_and_a_pause_are_told_apart() {
    assert_eq!(read(TRUNCATED).stop_reason, Some(StopReason::MaxTokens));
    assert_eq!(read(REFUSED).stop_reason, Some(StopReason::Refusal));
    assert_eq!(read(REFUSED).stop_details, Some(StopDetails::default()));
    assert_eq!(read(PAUSED).stop_reason, Some(StopReason::PauseTurn));
}

#[test]
fn what_came_later_than_this_code_is_tolerated() {
    let answer = read(
        r#"{"id":"m","model":"claude-next","role":"assistant","type":"message","novel":[1],
            "content":[{"type":"hologram","beams":7},{"type":"text","text":"a","citations":null},{"type":"text","text":"b"}],
            "stop_reason":"sunset","stop_details":{"type":"refusal","category":"novel","depth":3},
            "usage":{"input_tokens":1,"output_tokens":2,"cache_creation":null,"cache_read_input_tokens":null,"novel":{}}}"#,
    );
    assert_eq!(answer.text(), "ab");
    assert_eq!(answer.stop_reason, Some(StopReason::Other("sunset".into())));
    assert_eq!(answer.content.first(), Some(&ContentBlock::Unknown));
}

#[test]
fn every_documented_error_body_reads() {
    let bodies = [
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50 requests per minute."},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}"#,
            "rate_limit_error",
            None,
        ),
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"Monthly usage threshold reached.","details":{"error_code":"enforced_spend_limit_reached"}},"request_id":"req_011A"}"#,
            "rate_limit_error",
            Some("enforced_spend_limit_reached"),
        ),
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011B"}"#,
            "overloaded_error",
            None,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content.1: image too large","details":{"error_code":"image_dimensions_too_large","max_side_length_pixels":8000,"paths":["messages.0.content.1"]}},"request_id":"req_011C"}"#,
            "invalid_request_error",
            Some("image_dimensions_too_large"),
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},"request_id":"req_011D"}"#,
            "invalid_request_error",
            None,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6507076 bytes > 5242880 bytes"},"request_id":"req_011E"}"#,
            "invalid_request_error",
            None,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"output_config.format.schema: Invalid schema: The compiled grammar is too large, which would cause performance issues. Simplify your tool schemas or reduce the number of strict tools."},"request_id":"req_011F"}"#,
            "invalid_request_error",
            None,
        ),
        (
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_011G"}"#,
            "authentication_error",
            None,
        ),
    ];
    for (body, error_type, error_code) in bodies {
        let envelope: ErrorEnvelope = serde_json::from_str(body).unwrap();
        assert_eq!(envelope.error.error_type, error_type);
        assert!(envelope.request_id.is_some_and(|id| id.starts_with("req_011")));
        let code = envelope.error.details.and_then(|details| details.error_code);
        assert_eq!(code.as_deref(), error_code);
    }
}
