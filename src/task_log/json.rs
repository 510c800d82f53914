//! JSON as this log reads it: what is ambiguous is refused, not guessed.
//!
//! A name that occurs twice in one object is refused at every level. JSON leaves open which of the two
//! counts, parsers differ, and an event with two scores has none that could be trusted.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use super::check::too_deep;
use super::error::{EventError, shown};

/// Reads one JSON value that fills `text`.
///
/// # Errors
/// [`EventError`] with code `invalid_json`, `duplicate_field`, `number_out_of_range`, `too_deep`, or
/// `invalid_score` for a score of `NaN`, which some serialisers write although JSON has no such word.
pub(super) fn read(text: &str) -> Result<Value, EventError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(text, &error))
}

fn explain(text: &str, error: &serde_json::Error) -> EventError {
    let message = error.to_string();
    // serde_json tells its own failures apart by message only; what this module raises is "data".
    if error.classify() == Category::Data {
        let field = message.split('`').nth(1).unwrap_or_default();
        return EventError::new("duplicate_field", field, message.clone());
    }
    if message.starts_with("recursion limit exceeded") {
        return too_deep();
    }
    if message.starts_with("number out of range") {
        return EventError::new("number_out_of_range", "", message);
    }
    match not_a_number(text, error) {
        Some("score") => EventError::new(
            "invalid_score",
            "score",
            "`score` is not a number; leave the event out when there is no score",
        ),
        Some(field) => EventError::new(
            "invalid_json",
            field,
            format!("{message}: NaN and Infinity are not JSON; leave the field out, or send null"),
        ),
        None => EventError::new("invalid_json", "", message),
    }
}

/// The name of the field whose value is `NaN` or `Infinity`, when that is where reading stopped.
fn not_a_number<'a>(text: &'a str, error: &serde_json::Error) -> Option<&'a str> {
    let line = text.lines().nth(error.line().checked_sub(1)?)?;
    // The column is that of the first byte that was refused; for -Infinity, the one after the sign.
    let at = error.column().checked_sub(1)?;
    let (head, tail) = (line.get(..at)?, line.get(at..)?);
    if !tail.starts_with("NaN") && !tail.starts_with("Infinity") {
        return None;
    }
    let head = head.trim_end_matches('-').trim_end().strip_suffix(':')?;
    head.trim_end().strip_suffix('"')?.rsplit('"').next()
}

/// Builds a [`Value`], refusing objects that name a field twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if map.contains_key(&name) {
                let name = shown(&name);
                return Err(A::Error::custom(format_args!(
                    "the field `{name}` occurs twice in one object"
                )));
            }
            let value = fields.next_value_seed(Self)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}
