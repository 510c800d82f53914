//! What an answer of the stand-in would have used: a token for every three bytes, and a cache that remembers.
//!
//! Claude's tokenizer is not public; three bytes a token is on the dear side for English, Greek and JSON alike. An answer
//! that begins with a thought counts as many tokens again for the thought, and 540 at least.
//!
//! A system prefix marked for the cache is written on first sight and read after that, until it was not used for five
//! minutes, or an hour where it asks for one.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Counts tokens and remembers the prefixes it has seen.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Each prefix with the time of its last use.
    cached: Mutex<HashMap<String, DateTime<Utc>>>,
}

/// How many tokens a request has as its prompt.
pub(super) fn prompt_tokens(request: &Value) -> u64 {
    tokens(text_bytes(request))
}

impl Meter {
    /// The `usage` of an answer.
    pub(super) fn usage(
        &self,
        request: &Value,
        content: &Value,
        stop_reason: &str,
        now: DateTime<Utc>,
    ) -> Value {
        let (prefix, ttl_is_hour) = cached_prefix(request);
        let prefix_tokens = tokens(prefix.len());
        let kept = TimeDelta::minutes(if ttl_is_hour { 60 } else { 5 });
        let seen = !prefix.is_empty()
            && self.last_use(request, &prefix, now).is_some_and(|last| now - last <= kept);
        let (written, read) = if seen { (0, prefix_tokens) } else { (prefix_tokens, 0) };
        let (brief, hourly) = if ttl_is_hour { (0, written) } else { (written, 0) };
        let text_tokens = tokens(text_bytes(content));
        let thinking_tokens = if has_thinking(content) { text_tokens.max(540) } else { 0 };
        let written_tokens = text_tokens.saturating_add(thinking_tokens);
        // A cut answer has, by definition, as many tokens as were allowed.
        let output_tokens = match (stop_reason, request["max_tokens"].as_u64()) {
            ("max_tokens", Some(most)) => most,
            _ => written_tokens,
        };
        json!({
            "input_tokens": prompt_tokens(request).saturating_sub(prefix_tokens),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": brief, "ephemeral_1h_input_tokens": hourly},
            "output_tokens": output_tokens,
            "output_tokens_details": {"thinking_tokens": thinking_tokens.min(output_tokens)},
            "server_tool_use": null,
            "service_tier": "standard",
            "speed": "standard",
            "inference_geo": "global",
        })
    }

    /// When the prefix was used before, if it was; it is used now.
    fn last_use(&self, request: &Value, prefix: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let name = format!("{}\n{prefix}", request["model"]);
        self.cached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hex::encode(Sha256::digest(name)), now)
    }
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(3)).unwrap_or(u64::MAX)
}

/// The system text up to the last block marked for the cache, and whether it is kept for an hour.
fn cached_prefix(request: &Value) -> (String, bool) {
    let no_blocks = Vec::new();
    let blocks = request["system"].as_array().unwrap_or(&no_blocks);
    let Some(last) = blocks.iter().rposition(|block| block["cache_control"].is_object()) else {
        return (String::new(), false);
    };
    let prefix = blocks
        .iter()
        .take(last.saturating_add(1))
        .filter_map(|block| block["text"].as_str())
        .collect();
    let ttl = blocks.get(last).map(|block| &block["cache_control"]["ttl"]);
    (prefix, ttl.and_then(Value::as_str) == Some("1h"))
}

/// The bytes of every text and schema within: all that a model reads or writes.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| match (name.as_str(), field) {
                ("text" | "system" | "content", Value::String(text)) => text.len(),
                ("schema", schema) => schema.to_string().len(),
                (_, other) => text_bytes(other),
            })
            .sum(),
        _ => 0,
    }
}

fn has_thinking(content: &Value) -> bool {
    content.as_array().is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "thinking"))
}
