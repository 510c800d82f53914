//! What the API refuses before any model is asked: the head of a request, its fields, and its schema.

use crate::claude::cost::is_known_model;
use crate::claude::wire::API_VERSION;
use axum::http::Method;
use axum::http::request::Parts;
use serde_json::Value;

/// A request turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub kind: String,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self { status, kind: kind.to_owned(), message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }
}

/// Where the tokens of a request are counted.
pub(super) const COUNT_PATH: &str = "/v1/messages/count_tokens";

/// The path, the key and the version, in the order in which the API looks at them.
pub(super) fn check_head(head: &Parts, api_key: &str) -> Result<(), Refusal> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let path = head.uri.path();
    let of_batches = path.starts_with(super::batches::PATH);
    let of_models = path.starts_with(super::models::PATH);
    if !of_batches && !of_models && !["/v1/messages", COUNT_PATH].contains(&path) {
        return Err(Refusal::new(404, "not_found_error", "Not Found"));
    }
    let wanted = if of_models { Method::GET } else { Method::POST };
    if !of_batches && head.method != wanted {
        return Err(Refusal::new(405, "invalid_request_error", "Method Not Allowed"));
    }
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match (header("x-api-key"), bearer) {
        (Some(key), None) | (None, Some(key)) if key == api_key => {}
        _ => {
            return Err(Refusal::new(401, "authentication_error", "invalid x-api-key"));
        }
    }
    match header("anthropic-version") {
        Some(API_VERSION) => Ok(()),
        Some(other) => {
            Err(Refusal::invalid(format!("anthropic-version: {other:?} is not a valid version")))
        }
        None => Err(Refusal::invalid("anthropic-version: header is required")),
    }
}

/// The body as JSON, if every field is one that the API takes: to answer it, or only to count it.
pub(super) fn check_body(body: &[u8], counting: bool) -> Result<Value, Refusal> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| Refusal::invalid("The request body is not valid JSON"))?;
    check_fields(&body, counting)?;
    Ok(body)
}

/// The same for a body that is JSON already.
pub(super) fn check_fields(body: &Value, counting: bool) -> Result<(), Refusal> {
    for gone in ["temperature", "top_p", "top_k"] {
        if body.get(gone).is_some() {
            return Err(Refusal::invalid(format!("{gone}: Extra inputs are not permitted")));
        }
    }
    let Some(model) = body["model"].as_str() else {
        return Err(Refusal::invalid("model: Field required"));
    };
    if !is_known_model(model) {
        return Err(Refusal::new(404, "not_found_error", format!("model: {model}")));
    }
    if counting && !body["max_tokens"].is_null() {
        return Err(Refusal::invalid("max_tokens: Extra inputs are not permitted"));
    }
    if !counting && body["max_tokens"].as_u64().is_none_or(|most| most == 0) {
        return Err(Refusal::invalid("max_tokens: Input should be greater than or equal to 1"));
    }
    if body["messages"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::invalid("messages: at least one message is required"));
    }
    check_thinking(model, body)?;
    let schema = &body["output_config"]["format"]["schema"];
    if !schema.is_null() {
        check_schema(schema, "output_config.format.schema").map_err(Refusal::invalid)?;
    }
    Ok(())
}

fn check_thinking(model: &str, body: &Value) -> Result<(), Refusal> {
    let thinking = &body["thinking"]["type"];
    let effort = body["output_config"]["effort"].as_str();
    let problem = match thinking.as_str() {
        None | Some("adaptive") => None,
        Some("disabled") if model.starts_with("claude-haiku-5-5") && effort.is_none() => None,
        Some("between_tools") if model.starts_with("claude-sonnet-5-5") => match effort {
            None | Some("low" | "medium" | "high") => None,
            Some(_) => Some("between_tools requires effort low, medium or high"),
        },
        Some(_) => Some("this setting is not supported on this model"),
    };
    match problem {
        Some(problem) => Err(Refusal::invalid(format!("thinking.type: {problem}"))),
        None => Ok(()),
    }
}

/// Keywords that the API's grammar does not know.
const UNSUPPORTED: [&str; 7] =
    ["minimum", "maximum", "multipleOf", "minLength", "maxLength", "maxItems", "oneOf"];

fn check_schema(schema: &Value, path: &str) -> Result<(), String> {
    let Some(fields) = schema.as_object() else {
        return Err(format!("{path}: a schema must be an object"));
    };
    if let Some(keyword) = UNSUPPORTED.iter().find(|word| fields.contains_key(**word)) {
        return Err(format!("{path}: '{keyword}' is not supported"));
    }
    if schema["minItems"].as_u64().is_some_and(|items| items > 1) {
        return Err(format!("{path}: 'minItems' above 1 is not supported"));
    }
    if schema["type"] == "object" && schema["additionalProperties"] != Value::Bool(false) {
        return Err(format!("{path}: 'additionalProperties' must be explicitly set to false"));
    }
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        match (name.as_str(), field) {
            ("properties" | "$defs", Value::Object(named)) => {
                for (name, inner) in named {
                    check_schema(inner, &format!("{path}.{name}"))?;
                }
            }
            ("anyOf" | "allOf", Value::Array(choices)) => {
                for choice in choices {
                    check_schema(choice, &path)?;
                }
            }
            ("items", inner) => check_schema(inner, &path)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(change: impl Fn(&mut Value)) -> String {
        let mut body = json!({
            "model": "claude-sonnet-5-5", "max_tokens": 10,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            "output_config": {"format": {"type": "json_schema", "schema": {
                "type": "object", "additionalProperties": false, "required": ["items"],
                "properties": {"items": {"type": "array", "items": {"type": "integer", "enum": [1, 2]}}}}}}
        });
        change(&mut body);
        match check_body(body.to_string().as_bytes(), false) {
            Ok(_) => "accepted".to_owned(),
            Err(refusal) => format!("{} {}", refusal.status, refusal.message),
        }
    }

    #[test]
    fn a_sound_request_passes() {
        assert_eq!(refused(|_| ()), "accepted");
    }

    #[test]
    fn what_the_api_refuses_is_refused() {
        assert_eq!(
            refused(|body| body["temperature"] = json!(1.0)),
            "400 temperature: Extra inputs are not permitted"
        );
        assert_eq!(
            refused(|body| body["model"] = json!("claude-opus-3")),
            "404 model: claude-opus-3"
        );
        assert_eq!(
            refused(|body| body["thinking"] = json!({"type": "disabled"})),
            "400 thinking.type: this setting is not supported on this model"
        );
        assert_eq!(refused(|body| body["thinking"] = json!({"type": "between_tools"})), "accepted");
        assert!(refused(|body| body["max_tokens"] = json!(0)).starts_with("400 max_tokens"));
        assert!(refused(|body| body["messages"] = json!([])).starts_with("400 messages"));
    }

    #[test]
    fn a_schema_outside_the_grammar_is_named_by_its_place() {
        let schema = |place: &str, value: Value| {
            refused(move |body| {
                let schema = body.pointer_mut("/output_config/format/schema").unwrap();
                *schema.pointer_mut(place).unwrap() = value.clone();
            })
        };
        assert_eq!(
            schema("/properties/items/items", json!({"type": "integer", "minimum": 0})),
            "400 output_config.format.schema.properties.items.items: 'minimum' is not supported"
        );
        assert_eq!(
            schema("/properties/items", json!({"type": "object", "properties": {}})),
            "400 output_config.format.schema.properties.items: 'additionalProperties' must be explicitly set to false"
        );
    }
}
