//! The identity of an event: its natural key, and a hash of its content.
//!
//! Two events with one key are the same event when their hashes agree (a repetition, which counts
//! once) and a conflict when they do not.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::event::{EventBody, Fault, Judge, TaskEvent};
use super::parse::whole_number;

/// The key under which an event counts once. The order of keys is the order in which rows are
/// written, so that two replicas with the same tasks wait for each other instead of deadlocking.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The workflow.
    pub workflow_id: i64,
    /// The task.
    pub task_id: String,
    /// The run of the task.
    pub run_id: String,
    /// The event's type, by its name on the wire.
    pub event_type: &'static str,
    /// The model; empty for events of the run as a whole.
    pub model: String,
    /// The iteration; 0 for events of the run as a whole.
    pub iteration: i32,
    /// The prompt version that was named; 0 when none was.
    pub version: i32,
    /// The content hash for types that may repeat under one key, else empty.
    pub discriminator: Vec<u8>,
}

impl EventKey {
    /// The key of an event whose content hash is known.
    #[must_use]
    pub fn of(workflow_id: i64, event: &TaskEvent, hash: &ContentHash) -> Self {
        Self {
            workflow_id,
            task_id: event.task_id.clone(),
            run_id: event.run_id.clone(),
            event_type: event.event_type().name(),
            model: event.model.clone().unwrap_or_default(),
            iteration: if event.is_of_attempt() { event.iteration } else { 0 },
            version: event.leg.or(event.version).unwrap_or(0),
            discriminator: if event.event_type().may_repeat() {
                hash.0.to_vec()
            } else {
                Vec::new()
            },
        }
    }
}

/// SHA-256 over everything that an event says, in one notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl ContentHash {
    /// The hash of everything but the event id and the arrival.
    ///
    /// Fields that were left out are left out of the hash too, so that a later version of this
    /// program may add fields without changing the hash of what is stored already.
    #[must_use]
    pub fn of(event: &TaskEvent) -> Self {
        let mut fields = body_fields(&event.body);
        fields.insert("type".to_owned(), event.event_type().name().into());
        fields.insert("task_id".to_owned(), event.task_id.as_str().into());
        fields.insert("run_id".to_owned(), event.run_id.as_str().into());
        if let Some(model) = &event.model {
            fields.insert("model".to_owned(), model.as_str().into());
            fields.insert("iteration".to_owned(), event.iteration.into());
        }
        fields.insert("version".to_owned(), event.version.into());
        if let Some(leg) = event.leg {
            fields.insert("leg".to_owned(), leg.into());
        }
        fields.insert("at".to_owned(), event.at.map(stamp_text).into());
        fields.retain(|_, value| !value.is_null());
        if !event.metadata.is_empty() {
            fields.insert("metadata".to_owned(), Value::Object(event.metadata.clone()));
        }
        let mut canonical = String::new();
        write_map(&fields, &mut canonical);
        Self(Sha256::digest(canonical).into())
    }
}

/// A time as text of a fixed width, so that the order of texts is the order of times.
pub(super) fn stamp_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn body_fields(body: &EventBody) -> Map<String, Value> {
    let fields = match body {
        EventBody::TaskStarted(body) => json!({
            "original_prompt": body.original_prompt, "task_name": body.task_name,
            "task_type": body.task_type, "category": body.category,
        }),
        EventBody::Enhancement(body) => json!({
            "original_prompt": body.original_prompt, "enhanced_prompt": body.enhanced_prompt,
            "latency_ms": body.latency_ms,
        }),
        EventBody::Generation(body) => json!({
            "image_url": body.image_url, "generation_time_ms": body.generation_time_ms,
            "cost_usd": body.cost_usd.map(|cost| cost.normalize().to_string()),
        }),
        EventBody::Validation(body) => json!({
            "score": body.score, "passed": body.passed, "issues": body.issues,
            "reasoning": body.reasoning, "judge": body.judge.as_ref().map(judge_fields),
        }),
        EventBody::Winner(body) => json!({
            "winner": body.winner, "score": body.score, "total_iterations": body.total_iterations,
            "leg": body.leg,
        }),
        EventBody::Completed(body) => json!({ "processing_time_ms": body.processing_time_ms }),
        EventBody::Error(body) => json!({
            "error": body.error, "stage": body.stage, "fault": body.fault.map(Fault::name),
        }),
        EventBody::Feedback(body) => json!({ "kept": body.kept, "comment": body.comment }),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn judge_fields(judge: &Judge) -> Value {
    json!({ "model": judge.model, "prompt_version": judge.prompt_version })
}

/// JSON in one notation: names sorted, no blanks, whole numbers without a point. (serde_json's own
/// maps keep the order of arrival when any crate in the build asks for it, so they cannot be relied on.)
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Number(_) => match whole_number(value) {
            Some(whole) => out.push_str(&whole.to_string()),
            None => out.push_str(&value.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => write_map(map, out),
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn write_map(map: &Map<String, Value>, out: &mut String) {
    let mut fields: Vec<(&String, &Value)> = map.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (place, (name, value)) in fields.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write_value(&Value::from(name.as_str()), out);
        out.push(':');
        write_value(value, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse_event;
    use super::*;

    fn hash(event: &str) -> ContentHash {
        ContentHash::of(&parse_event(event).unwrap())
    }

    #[test]
    fn notation_does_not_change_the_hash() {
        let plain = hash(
            r#"{"type":"validation","task_id":"a","model":"m","score":8,"passed":true,"metadata":{"x":1,"y":[2]}}"#,
        );
        let other = hash(
            r#"{ "metadata":{"y":[2.0],"x":1e0}, "passed":true, "score":8.0, "iteration":1, "run_id":"", "reasoning":null,
            "issues":[], "model":"m", "task_id":"\u0061", "type":"validation", "event_id":"018f0000-0000-7000-8000-000000000000"}"#,
        );
        assert_eq!(plain, other);
    }

    #[test]
    fn times_are_compared_as_instants_and_costs_as_amounts() {
        let here = hash(
            r#"{"type":"generation","task_id":"a","model":"m","image_url":"u","cost_usd":0.040,"at":"2026-11-22T12:00:00+02:00"}"#,
        );
        let there = hash(
            r#"{"type":"generation","task_id":"a","model":"m","image_url":"u","cost_usd":"0.04","at":"2026-11-22T10:00:00.000Z"}"#,
        );
        assert_eq!(here, there);
    }

    #[test]
    fn whatever_an_event_says_changes_the_hash() {
        let events = [
            r#"{"type":"error","task_id":"a","error":"e"}"#,
            r#"{"type":"error","task_id":"b","error":"e"}"#,
            r#"{"type":"error","task_id":"a","run_id":"r","error":"e"}"#,
            r#"{"type":"error","task_id":"a","model":"m","error":"e"}"#,
            r#"{"type":"error","task_id":"a","model":"m","iteration":2,"error":"e"}"#,
            r#"{"type":"error","task_id":"a","error":"e","stage":"s"}"#,
            r#"{"type":"error","task_id":"a","error":"e","fault":"prompt"}"#,
            r#"{"type":"error","task_id":"a","error":"e","at":"2026-11-22T10:00:00Z"}"#,
            r#"{"type":"error","task_id":"a","error":"e","metadata":{"k":null}}"#,
            r#"{"type":"error","task_id":"a","error":"e","metadata":{"k":"1"}}"#,
            r#"{"type":"error","task_id":"a","error":"e","metadata":{"k":1}}"#,
            r#"{"type":"feedback","task_id":"a","comment":"e"}"#,
        ];
        let hashes: std::collections::BTreeSet<_> =
            events.iter().map(|event| hash(event)).collect();
        assert_eq!(hashes.len(), events.len());
    }

    #[test]
    fn the_hash_is_that_of_every_release() {
        // It is stored, and compared with what a client repeats after an upgrade.
        insta::assert_snapshot!(
            hash(r#"{"type":"winner","task_id":"86c1","run_id":"2","winner":"wan-2.5-edit","score":9,"total_iterations":2,"at":"2026-11-22T10:00:00Z","metadata":{"b":{"d":1,"c":2},"a":0.5}}"#),
            @"c265abb4f05e815139ad2d4c3a438c2cf9aa74377b4f7a4dcff3f43d8fb89326"
        );
    }

    #[test]
    fn keys_have_no_gaps() {
        let key = |event: &str| {
            let event = parse_event(event).unwrap();
            EventKey::of(7, &event, &ContentHash::of(&event))
        };
        let started = key(r#"{"type":"task_started","task_id":"a","original_prompt":"p"}"#);
        assert_eq!((started.model.as_str(), started.iteration, started.version), ("", 0, 0));
        assert_eq!(started.discriminator, Vec::<u8>::new());
        let enhanced = key(
            r#"{"type":"enhancement","task_id":"a","model":"m","version":3,"original_prompt":"p","enhanced_prompt":"q"}"#,
        );
        assert_eq!((enhanced.model.as_str(), enhanced.iteration, enhanced.version), ("m", 1, 3));
        let failed = key(r#"{"type":"error","task_id":"a","error":"e"}"#);
        assert_eq!(
            (failed.model.as_str(), failed.iteration, failed.discriminator.len()),
            ("", 0, 32)
        );
    }

    proptest! {
        #[test]
        fn stamps_sort_as_their_times(a in 0_i64..253_402_300_799_000_000, b in 0_i64..253_402_300_799_000_000) {
            let time = |micros| DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(stamp_text(time(a)).cmp(&stamp_text(time(b))), a.cmp(&b));
        }
    }
}
