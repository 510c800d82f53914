//! The limits that every event is held to, whether it came as JSON or from this program.

use chrono::{DateTime, Datelike, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::error::{EventError, shown};
use super::event::{EventBody, TaskEvent, value_bytes_of_map};
use crate::workflow::names;

/// The longest task id, run id, type, category and judge's prompt version, in characters.
pub const ID_CHARS_MAX: usize = 200;
/// The longest prompt, in bytes of UTF-8.
pub const PROMPT_BYTES_MAX: usize = 1 << 20;
/// The highest iteration of a run.
pub const ITERATION_MAX: i32 = 1000;
/// How deep metadata may be nested; the object itself is the first level.
pub const METADATA_DEPTH_MAX: usize = 32;

pub(super) const TITLE_CHARS_MAX: usize = 2_000;
pub(super) const URL_CHARS_MAX: usize = 8_192;
pub(super) const REMARK_CHARS_MAX: usize = 20_000;
pub(super) const REASONING_CHARS_MAX: usize = 100_000;
pub(super) const ISSUES_MAX: usize = 500;
const METADATA_BYTES_MAX: usize = 256 << 10;
pub(super) const NAME_CHARS_MAX: usize = 64;
// A hundred years: anything longer is a unit gone wrong, and sums of it stay far from overflow.
pub(super) const DURATION_MS_MAX: i64 = 100 * 366 * 86_400_000;
pub(super) const COST_USD_MAX: i64 = 1_000_000;

impl TaskEvent {
    /// Holds the event to every limit that does not depend on its workflow.
    ///
    /// # Errors
    /// [`EventError`] naming the first field that is out of its limits.
    pub fn check(&self) -> Result<(), EventError> {
        id("task_id", &self.task_id)?;
        if self.task_id.is_empty() {
            return Err(EventError::new("missing_field", "task_id", "`task_id` is empty"));
        }
        id("run_id", &self.run_id)?;
        self.check_attempt()?;
        if let Some(at) = self.at {
            time("at", at)?;
        }
        metadata(&self.metadata)?;
        check_body(&self.body)
    }

    /// Refuses a score that the workflow's scale does not have.
    ///
    /// # Errors
    /// [`EventError`] with code `score_out_of_range`.
    pub fn check_score(&self, score_max: u16) -> Result<(), EventError> {
        let score = match &self.body {
            EventBody::Validation(body) => Some(body.score),
            EventBody::Winner(body) => body.score,
            _ => None,
        };
        match score {
            Some(score) if score > score_max => Err(EventError::new(
                "score_out_of_range",
                "score",
                format!("`score` is {score}, and this workflow's scores go from 0 to {score_max}"),
            )),
            _ => Ok(()),
        }
    }

    fn check_attempt(&self) -> Result<(), EventError> {
        let kind = self.event_type();
        match &self.model {
            Some(model) => {
                if !kind.needs_model() && !matches!(self.body, EventBody::Error(_)) {
                    return Err(misplaced("model", kind.name()));
                }
                name("model", model)?;
            }
            None if kind.needs_model() => return Err(missing("model", kind.name())),
            None => {}
        }
        iteration("iteration", self.iteration)?;
        self.check_leg()?;
        match self.version {
            Some(_) if !matches!(self.body, EventBody::Enhancement(_)) => {
                Err(misplaced("version", kind.name()))
            }
            Some(version) if version < 1 => Err(EventError::new(
                "invalid_version",
                "version",
                format!("`version` is {version}; versions are whole numbers from 1"),
            )),
            _ => Ok(()),
        }
    }

    fn check_leg(&self) -> Result<(), EventError> {
        let wrong = |words: String| Err(EventError::new("invalid_version", "leg", words));
        match (self.leg, self.version) {
            (None, _) => Ok(()),
            (Some(_), _) if self.model.is_none() => Err(misplaced("leg", self.event_type().name())),
            (Some(leg), _) if leg < 1 => Err(no_version(leg)),
            (Some(leg), Some(version)) if leg != version => wrong(format!(
                "`leg` is {leg} and `version` is {version}; a leg is the attempt under its version"
            )),
            _ => Ok(()),
        }
    }
}

fn no_version(leg: i32) -> EventError {
    let words = format!("`leg` is {leg}; it names a version, a whole number from 1");
    EventError::new("invalid_version", "leg", words)
}

fn check_body(body: &EventBody) -> Result<(), EventError> {
    match body {
        EventBody::TaskStarted(body) => {
            prompt("original_prompt", &body.original_prompt)?;
            optional("task_name", body.task_name.as_ref(), TITLE_CHARS_MAX)?;
            optional("task_type", body.task_type.as_ref(), ID_CHARS_MAX)?;
            optional("category", body.category.as_ref(), ID_CHARS_MAX)
        }
        EventBody::Enhancement(body) => {
            prompt("original_prompt", &body.original_prompt)?;
            prompt("enhanced_prompt", &body.enhanced_prompt)?;
            duration("latency_ms", body.latency_ms)
        }
        EventBody::Generation(body) => {
            text("image_url", &body.image_url, URL_CHARS_MAX)?;
            duration("generation_time_ms", body.generation_time_ms)?;
            cost("cost_usd", body.cost_usd)
        }
        EventBody::Validation(body) => {
            if body.issues.len() > ISSUES_MAX {
                return Err(EventError::new(
                    "text_too_long",
                    "issues",
                    format!("`issues` has {} entries; the most is {ISSUES_MAX}", body.issues.len()),
                ));
            }
            for issue in &body.issues {
                text("issues", issue, REMARK_CHARS_MAX)?;
            }
            optional("reasoning", body.reasoning.as_ref(), REASONING_CHARS_MAX)?;
            match &body.judge {
                Some(judge) => {
                    text("judge.model", &judge.model, ID_CHARS_MAX)?;
                    text("judge.prompt_version", &judge.prompt_version, ID_CHARS_MAX)
                }
                None => Ok(()),
            }
        }
        EventBody::Winner(body) => {
            if let Some(winner) = &body.winner {
                name("winner", winner)?;
            }
            match (body.leg, &body.winner) {
                (Some(leg), _) if leg < 1 => return Err(no_version(leg)),
                (Some(_), None) => return Err(misplaced("leg", "winner` that is null")),
                _ => {}
            }
            iteration("total_iterations", body.total_iterations)
        }
        EventBody::Completed(body) => duration("processing_time_ms", body.processing_time_ms),
        EventBody::Error(body) => {
            text("error", &body.error, REMARK_CHARS_MAX)?;
            optional("stage", body.stage.as_ref(), ID_CHARS_MAX)
        }
        EventBody::Feedback(body) => {
            if body.kept.is_none() && body.comment.is_none() {
                return Err(EventError::new(
                    "missing_field",
                    "kept",
                    "a feedback event says `kept`, `comment` or both",
                ));
            }
            optional("comment", body.comment.as_ref(), REMARK_CHARS_MAX)
        }
    }
}

/// The error for a required field that is not there.
pub(super) fn missing(field: &str, kind: &str) -> EventError {
    EventError::new("missing_field", field, format!("`{field}` is missing; `{kind}` needs it"))
}

/// The error for a known field that another type of event has.
pub(super) fn misplaced(field: &str, kind: &str) -> EventError {
    EventError::new("unknown_field", field, format!("`{field}` does not belong to `{kind}`"))
}

fn id(field: &str, value: &str) -> Result<(), EventError> {
    text(field, value, ID_CHARS_MAX)
}

fn optional(field: &str, value: Option<&String>, chars_max: usize) -> Result<(), EventError> {
    value.map_or(Ok(()), |value| text(field, value, chars_max))
}

fn text(field: &str, value: &str, chars_max: usize) -> Result<(), EventError> {
    no_nul(field, value)?;
    // Bytes are never fewer than characters, so that most texts need not be counted.
    if value.len() > chars_max && value.chars().count() > chars_max {
        return Err(EventError::new(
            "text_too_long",
            field,
            format!("`{field}` has {} characters; the most is {chars_max}", value.chars().count()),
        ));
    }
    Ok(())
}

fn prompt(field: &str, value: &str) -> Result<(), EventError> {
    no_nul(field, value)?;
    if value.len() > PROMPT_BYTES_MAX {
        return Err(EventError::new(
            "text_too_long",
            field,
            format!("`{field}` has {} bytes; the most is {PROMPT_BYTES_MAX}", value.len()),
        ));
    }
    Ok(())
}

fn no_nul(field: &str, value: &str) -> Result<(), EventError> {
    if value.contains('\0') {
        return Err(EventError::new(
            "nul_character",
            field,
            format!("`{field}` holds the character U+0000, which PostgreSQL cannot store"),
        ));
    }
    Ok(())
}

/// The rule of `workflow::ModelName`, under this module's codes.
fn name(field: &str, value: &str) -> Result<(), EventError> {
    if names::is_name(value) {
        return Ok(());
    }
    Err(EventError::new(
        "invalid_name",
        field,
        format!(
            "`{field}` is {:?}; a model's name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore, begins with a letter or a digit, does not end with a dot, has no two dots in a row, and is no device of Windows (con, nul, com1)",
            shown(value)
        ),
    ))
}

fn iteration(field: &str, value: i32) -> Result<(), EventError> {
    if (1..=ITERATION_MAX).contains(&value) {
        return Ok(());
    }
    Err(EventError::new(
        "invalid_iteration",
        field,
        format!("`{field}` is {value}; it is a whole number from 1 to {ITERATION_MAX}"),
    ))
}

fn duration(field: &str, value: Option<i64>) -> Result<(), EventError> {
    match value {
        Some(ms) if !(0..=DURATION_MS_MAX).contains(&ms) => Err(EventError::new(
            "number_out_of_range",
            field,
            format!("`{field}` is {ms}; it is milliseconds, from 0 to {DURATION_MS_MAX}"),
        )),
        _ => Ok(()),
    }
}

fn cost(field: &str, value: Option<Decimal>) -> Result<(), EventError> {
    match value {
        Some(cost) if cost.is_sign_negative() && !cost.is_zero() || cost_is_absurd(value) => {
            Err(EventError::new(
                "number_out_of_range",
                field,
                format!("`{field}` is {cost}; it is US dollars, from 0 to {COST_USD_MAX}"),
            ))
        }
        _ => Ok(()),
    }
}

fn cost_is_absurd(value: Option<Decimal>) -> bool {
    value.is_some_and(|cost| cost > Decimal::from(COST_USD_MAX))
}

/// Times are stamped as text of a fixed width, so that years have four digits.
fn time(field: &str, at: DateTime<Utc>) -> Result<(), EventError> {
    if (1970..=9999).contains(&at.year()) {
        return Ok(());
    }
    Err(EventError::new(
        "invalid_time",
        field,
        format!("`{field}` is in the year {}; it must be from 1970 to 9999", at.year()),
    ))
}

fn metadata(map: &Map<String, Value>) -> Result<(), EventError> {
    let size_bytes = value_bytes_of_map(map);
    if size_bytes > METADATA_BYTES_MAX {
        return Err(EventError::new(
            "text_too_long",
            "metadata",
            format!("`metadata` has about {size_bytes} bytes; the most is {METADATA_BYTES_MAX}"),
        ));
    }
    metadata_map(map, 1)
}

fn metadata_map(map: &Map<String, Value>, depth: usize) -> Result<(), EventError> {
    if depth > METADATA_DEPTH_MAX {
        return Err(too_deep());
    }
    map.iter().try_for_each(|(key, value)| {
        no_nul("metadata", key)?;
        metadata_value(value, depth)
    })
}

fn metadata_value(value: &Value, depth: usize) -> Result<(), EventError> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => no_nul("metadata", text),
        Value::Array(_) if depth == METADATA_DEPTH_MAX => Err(too_deep()),
        Value::Array(items) => items.iter().try_for_each(|item| metadata_value(item, depth + 1)),
        Value::Object(map) => metadata_map(map, depth + 1),
    }
}

/// The error for metadata that is nested too deep.
pub(super) fn too_deep() -> EventError {
    EventError::new(
        "too_deep",
        "metadata",
        format!("`metadata` is nested more than {METADATA_DEPTH_MAX} deep"),
    )
}
