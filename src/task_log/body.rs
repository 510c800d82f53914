//! The body of a request, divided into events: one object, an array, or a line an event.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::{BodyError, EventError};
use super::event::TaskEvent;
use super::parse::parse_event;

/// The most events that one body may hold.
pub const EVENTS_MAX: usize = 10_000;

/// Divides a body into its events and reads each of them.
///
/// A body is one JSON object, an array of them, or one object a line: always with the content type
/// `application/x-ndjson` (`application/ndjson`, `application/jsonl`), and without it when more than one line begins an object.
/// An event that cannot be read does not spoil the others: its place holds the reason. Blank lines
/// are no events.
///
/// # Errors
/// [`BodyError`] `invalid_json` when the body cannot be divided (an array that is not JSON), and
/// `too_many_events` beyond [`EVENTS_MAX`]. Nothing of the body may be logged then.
pub fn parse_body(
    content_type: &str,
    bytes: &[u8],
) -> Result<Vec<Result<TaskEvent, EventError>>, BodyError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    if is_line_by_line(content_type) {
        return lines(bytes);
    }
    match bytes.first() {
        None => Err(invalid("the body is empty")),
        Some(b'[') => array(bytes),
        // serde_json stops at the first error, so this costs little where the lines are apart.
        Some(b'{') if has_several_objects(bytes) && !is_one_value(bytes) => lines(bytes),
        Some(_) => Ok(vec![event(bytes)]),
    }
}

fn is_line_by_line(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

fn has_several_objects(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').filter(|line| line.first() == Some(&b'{')).nth(1).is_some()
}

fn is_one_value(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

fn lines(bytes: &[u8]) -> Result<Vec<Result<TaskEvent, EventError>>, BodyError> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut events = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if events.len() == EVENTS_MAX {
            return Err(too_many());
        }
        events.push(event(line));
    }
    Ok(events)
}

fn array(bytes: &[u8]) -> Result<Vec<Result<TaskEvent, EventError>>, BodyError> {
    let items: RawItems<'_> = serde_json::from_slice(bytes).map_err(|error| {
        if error.classify() == Category::Data { too_many() } else { invalid(&error.to_string()) }
    })?;
    Ok(items.0.into_iter().map(|item| parse_event(item.get())).collect())
}

fn event(bytes: &[u8]) -> Result<TaskEvent, EventError> {
    std::str::from_utf8(bytes)
        .map_err(|error| EventError::new("invalid_json", "", error.to_string()))
        .and_then(parse_event)
}

fn invalid(detail: &str) -> BodyError {
    BodyError {
        code: "invalid_json",
        detail: format!("{detail}; send one event, an array of events, or one event a line"),
    }
}

fn too_many() -> BodyError {
    BodyError {
        code: "too_many_events",
        detail: format!("a body holds at most {EVENTS_MAX} events; send the rest in another"),
    }
}

/// The items of an array, unread, and no more of them than are allowed.
struct RawItems<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawItems<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == EVENTS_MAX {
                        return Err(A::Error::custom("too many"));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_seq(Items).map(RawItems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"type":"completed","task_id":"86c1"}"#;

    /// Which events were taken, as `+`, and the codes of those that were not.
    fn outcome(content_type: &str, body: &str) -> Vec<&'static str> {
        parse_body(content_type, body.as_bytes())
            .unwrap()
            .iter()
            .map(|event| event.as_ref().map_or_else(|error| error.code, |_| "+"))
            .collect()
    }

    fn refusal(content_type: &str, body: &[u8]) -> &'static str {
        parse_body(content_type, body).unwrap_err().code
    }

    #[test]
    fn one_object_an_array_and_lines_are_bodies() {
        assert_eq!(outcome("application/json", GOOD), ["+"]);
        assert_eq!(outcome("application/json", &format!("[{GOOD},{GOOD}]")), ["+", "+"]);
        assert_eq!(
            outcome("application/x-ndjson; charset=utf-8", &format!("{GOOD}\r\n\n{GOOD}\n")),
            ["+", "+"]
        );
        assert_eq!(outcome("application/json", &format!("{GOOD}\n{GOOD}\n")), ["+", "+"]);
        assert_eq!(outcome("", &format!("\u{feff}  {GOOD}")), ["+"]);
        assert_eq!(outcome("application/json", "[]"), [""; 0]);
        assert_eq!(outcome("application/x-ndjson", ""), [""; 0]);
    }

    #[test]
    fn an_object_over_several_lines_is_one_event() {
        assert_eq!(
            outcome(
                "application/json",
                "{\n\"type\":\"completed\",\n\"task_id\":\"a\",\n\"metadata\":\n{\n}\n}"
            ),
            ["+"]
        );
    }

    #[test]
    fn a_bad_event_does_not_spoil_the_good_ones() {
        let lines = format!("{GOOD}\n{{\"type\":\n[{GOOD}]\n7\n{GOOD}");
        assert_eq!(
            outcome("application/x-ndjson", &lines),
            ["+", "invalid_json", "not_an_object", "not_an_object", "+"]
        );
        let array = format!(
            r#"[{GOOD}, 7, {{"type":"x"}}, {{"type":"completed","metadata":{{"a":1e999}}}}, {GOOD}]"#
        );
        assert_eq!(
            outcome("application/json", &array),
            ["+", "not_an_object", "unknown_type", "number_out_of_range", "+"]
        );
        assert_eq!(outcome("application/json", "7"), ["not_an_object"]);
        let broken = [GOOD.as_bytes(), b"\n{\"type\":\"\xff\"}\n", GOOD.as_bytes()].concat();
        let read = parse_body("application/x-ndjson", &broken).unwrap();
        assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn what_cannot_be_divided_is_refused_whole() {
        assert_eq!(refusal("application/json", b"  "), "invalid_json");
        assert_eq!(refusal("application/json", b"[{}"), "invalid_json");
        assert_eq!(refusal("application/json", b"[{\"score\": NaN}]"), "invalid_json");
        assert_eq!(refusal("application/json", b"[\"\xff\"]"), "invalid_json");
    }

    #[test]
    fn ten_thousand_events_are_taken_and_one_more_is_not() {
        let most = vec![GOOD; EVENTS_MAX];
        let array = |events: &[&str]| format!("[{}]", events.join(","));
        assert_eq!(outcome("", &array(&most)).len(), EVENTS_MAX);
        assert_eq!(outcome("application/jsonl", &most.join("\n")).len(), EVENTS_MAX);
        let more = vec![GOOD; EVENTS_MAX + 1];
        assert_eq!(refusal("", array(&more).as_bytes()), "too_many_events");
        assert_eq!(refusal("", more.join("\n").as_bytes()), "too_many_events");
    }

    #[test]
    fn nesting_without_end_neither_crashes_nor_spoils() {
        let deep = format!(
            r#"{{"type":"completed","task_id":"a","metadata":{{"a":{}1{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(outcome("application/x-ndjson", &format!("{deep}\n{GOOD}")), ["too_deep", "+"]);
        assert_eq!(outcome("application/json", &format!("[{deep},{GOOD}]")), ["too_deep", "+"]);
    }
}
