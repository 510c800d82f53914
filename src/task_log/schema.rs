//! What an event looks like, as JSON Schema: made from the same table of fields that `parse` reads by,
//! and the same limits that `check` holds to, so that it cannot say anything else.

use serde_json::{Map, Value, json};

use super::check::{
    COST_USD_MAX, DURATION_MS_MAX, ID_CHARS_MAX, ISSUES_MAX, ITERATION_MAX, NAME_CHARS_MAX,
    PROMPT_BYTES_MAX, REASONING_CHARS_MAX, REMARK_CHARS_MAX, TITLE_CHARS_MAX, URL_CHARS_MAX,
};
use super::event::EventType;
use super::parse::{COMMON_FIELDS, own_fields};

/// The schema of one event: one object a type, each without any other field.
#[must_use]
pub fn event_schema() -> Value {
    json!({
        "description": "One step of one run of a task. A field that may be left out may be null, too.",
        "oneOf": EventType::ALL.map(of_type),
    })
}

fn of_type(kind: EventType) -> Value {
    let required = required(kind);
    let fields = COMMON_FIELDS.iter().chain(own_fields(kind)).copied();
    let properties: Map<String, Value> = fields
        .map(|field| {
            let schema = match field {
                "type" => json!({ "const": kind.name() }),
                named => field_schema(named),
            };
            let needed = required.contains(&field) && field != "winner";
            (field.to_owned(), if needed { schema } else { or_null(schema) })
        })
        .collect();
    let mut schema = json!({
        "type": "object",
        "title": kind.name(),
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    });
    match kind {
        EventType::Error => {
            schema["dependentRequired"] = json!({ "iteration": ["model"], "leg": ["model"] })
        }
        EventType::Feedback => {
            schema["anyOf"] = json!([
                { "required": ["kept"], "properties": { "kept": { "type": "boolean" } } },
                { "required": ["comment"], "properties": { "comment": { "type": "string" } } },
            ]);
        }
        _ => {}
    }
    schema
}

/// What an event of that type cannot do without.
const fn required(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::TaskStarted => &["type", "task_id", "original_prompt"],
        EventType::Enhancement => {
            &["type", "task_id", "model", "original_prompt", "enhanced_prompt"]
        }
        EventType::Generation => &["type", "task_id", "model", "image_url"],
        EventType::Validation => &["type", "task_id", "model", "score", "passed"],
        EventType::Winner => &["type", "task_id", "winner", "total_iterations"],
        EventType::Error => &["type", "task_id", "error"],
        EventType::Completed | EventType::Feedback => &["type", "task_id"],
    }
}

fn field_schema(field: &str) -> Value {
    match field {
        "task_id" => text(1, ID_CHARS_MAX),
        "run_id" | "task_type" | "category" | "stage" => text(0, ID_CHARS_MAX),
        "task_name" => text(0, TITLE_CHARS_MAX),
        "original_prompt" | "enhanced_prompt" => json!({
            "type": "string", "pattern": NO_NUL,
            "description": format!("At most {PROMPT_BYTES_MAX} bytes of UTF-8"),
        }),
        "image_url" => text(0, URL_CHARS_MAX),
        "error" | "comment" => text(0, REMARK_CHARS_MAX),
        "reasoning" => text(0, REASONING_CHARS_MAX),
        "issues" => json!({
            "type": "array", "maxItems": ISSUES_MAX, "items": text(0, REMARK_CHARS_MAX),
        }),
        "model" | "winner" => json!({
            "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX,
            "pattern": r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*\.?$",
        }),
        "iteration" | "total_iterations" => whole(1, i64::from(ITERATION_MAX)),
        "version" | "leg" => whole(1, i64::from(i32::MAX)),
        "score" => json!({
            "type": "integer", "minimum": 0, "maximum": u16::MAX,
            "description": "To the workflow's `score_max`, and no further",
        }),
        "latency_ms" | "generation_time_ms" | "processing_time_ms" => whole(0, DURATION_MS_MAX),
        "cost_usd" => json!({
            "type": ["number", "string"], "minimum": 0, "maximum": COST_USD_MAX,
            "description": "US dollars, kept to a millionth; as text where a float would not be exact",
            "pattern": r"^\d{1,6}(\.\d{1,20})?$",
        }),
        "passed" | "kept" => json!({ "type": "boolean" }),
        "judge" => json!({
            "type": "object", "required": ["model"], "additionalProperties": false,
            "properties": {
                "model": text(0, ID_CHARS_MAX),
                "prompt_version": { "type": ["string", "integer"], "maxLength": ID_CHARS_MAX, "pattern": NO_NUL },
            },
        }),
        "fault" => json!({ "type": "string", "enum": ["prompt", "infrastructure"] }),
        "at" => json!({
            "type": "string", "format": "date-time",
            "description": "RFC 3339 with an offset, from 1970 to 9999; its arrival counts where it is left out",
        }),
        "event_id" => json!({
            "type": "string", "format": "uuid",
            "description": "The sender's own; without one the natural key counts the event once",
        }),
        "metadata" => json!({
            "type": "object", "description": "Whatever else is worth keeping, up to 256 KiB",
        }),
        _ => json!({}),
    }
}

/// PostgreSQL's texts hold every character but this one.
const NO_NUL: &str = r"^[^\u0000]*$";

fn text(chars_min: usize, chars_max: usize) -> Value {
    json!({ "type": "string", "minLength": chars_min, "maxLength": chars_max, "pattern": NO_NUL })
}

fn whole(min: i64, max: i64) -> Value {
    json!({ "type": "integer", "minimum": min, "maximum": max })
}

/// The schema, or null: a field that is null is one that was left out.
fn or_null(mut schema: Value) -> Value {
    let types = match schema.get("type") {
        Some(Value::String(one)) => vec![json!(one)],
        Some(Value::Array(several)) => several.clone(),
        _ => return schema,
    };
    schema["type"] = json!([types, vec![json!("null")]].concat());
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_log::parse_event;

    /// A value that the field's schema describes.
    fn example(field: &str, kind: EventType) -> Value {
        match field {
            "type" => json!(kind.name()),
            "model" | "winner" => json!("nano-banana"),
            "score" => json!(7),
            "passed" | "kept" => json!(true),
            "issues" => json!(["blurred"]),
            "judge" => json!({ "model": "claude", "prompt_version": 3 }),
            "fault" => json!("prompt"),
            "at" => json!("2026-11-23T09:30:00Z"),
            "event_id" => json!("0199a3b0-0000-7000-8000-000000000000"),
            "metadata" => json!({ "a": 1 }),
            "cost_usd" => json!("0.04"),
            "iteration" | "total_iterations" | "version" | "leg" => json!(2),
            field if field.ends_with("_ms") => json!(1200),
            _ => json!("text"),
        }
    }

    #[test]
    fn every_field_has_a_schema_and_an_event_with_all_of_them_is_taken() {
        for kind in EventType::ALL {
            let schema = of_type(kind);
            let fields = schema["properties"].as_object().unwrap();
            assert!(fields.values().all(|schema| *schema != json!({})), "{kind:?}");
            let event: Map<String, Value> =
                fields.keys().map(|field| (field.clone(), example(field, kind))).collect();
            parse_event(&json!(event).to_string())
                .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        }
    }

    #[test]
    fn what_the_schema_requires_is_what_the_parser_misses() {
        for kind in EventType::ALL {
            let full: Map<String, Value> = required(kind)
                .iter()
                .chain((kind == EventType::Feedback).then_some(&"kept"))
                .map(|field| ((*field).to_owned(), example(field, kind)))
                .collect();
            parse_event(&json!(full).to_string())
                .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            for field in full.keys() {
                let mut lacking = full.clone();
                lacking.remove(field);
                let error = parse_event(&json!(lacking).to_string()).unwrap_err();
                assert_eq!((error.code, error.field.as_str()), ("missing_field", field.as_str()));
            }
        }
    }

    #[test]
    fn what_is_not_required_may_be_null() {
        let schema = of_type(EventType::Validation);
        assert_eq!(schema["properties"]["judge"]["type"], json!(["object", "null"]));
        assert_eq!(schema["properties"]["score"]["type"], "integer");
        let of_run = of_type(EventType::Winner);
        assert_eq!(of_run["properties"]["winner"]["type"], json!(["string", "null"]));
    }
}
