//! One event from its JSON, step by step, so that every refusal names its field and says what would
//! be right.
//!
//! A field that is `null` is a field that was left out, except in `score`, which must be a number
//! wherever it is required, and `winner`, where null says that nobody won. Texts are kept byte for
//! byte: no trimming, no Unicode normalisation.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::check::{misplaced, missing};
use super::error::{EventError, shown};
use super::event::{
    Completed, Enhancement, EventBody, EventType, Failure, Fault, Feedback, Generation, Judge,
    TaskEvent, TaskStarted, Validation, Winner,
};
use super::json;

pub(super) const COMMON_FIELDS: [&str; 6] =
    ["type", "task_id", "run_id", "at", "event_id", "metadata"];

/// Reads one event from the text of one JSON object.
///
/// # Errors
/// [`EventError`] with a stable code: `invalid_json`, `not_an_object`, `duplicate_field`,
/// `unknown_type`, `unknown_field`, `missing_field`, `wrong_type`, `invalid_score`, `invalid_name`,
/// `invalid_time`, `invalid_iteration`, `invalid_version`, `number_out_of_range`, `text_too_long`,
/// `nul_character` or `too_deep`.
pub fn parse_event(text: &str) -> Result<TaskEvent, EventError> {
    let Value::Object(map) = json::read(text)? else {
        return Err(EventError::new("not_an_object", "", "an event is a JSON object"));
    };
    let kind = event_type(&map)?;
    let mut fields = Fields { map, kind };
    fields.refuse_unknown()?;
    let body = fields.body()?;
    let event = TaskEvent {
        task_id: fields.required_text("task_id")?,
        run_id: fields.text("run_id")?.unwrap_or_default(),
        model: fields.text("model")?,
        iteration: fields.whole("iteration", "invalid_iteration")?.unwrap_or(1),
        version: fields.whole("version", "invalid_version")?,
        leg: fields.whole("leg", "invalid_version")?,
        at: fields.time("at")?,
        event_id: fields.uuid("event_id")?,
        metadata: fields.object("metadata")?.unwrap_or_default(),
        body,
    };
    event.check()?;
    Ok(event)
}

fn event_type(map: &Map<String, Value>) -> Result<EventType, EventError> {
    let type_name = match map.get("type") {
        Some(Value::String(type_name)) => type_name,
        None | Some(Value::Null) => {
            return Err(EventError::new("missing_field", "type", "`type` is missing"));
        }
        Some(other) => return Err(wrong_type("type", "a text", other)),
    };
    EventType::ALL.into_iter().find(|kind| kind.name() == type_name).ok_or_else(|| {
        let names = EventType::ALL.map(EventType::name);
        let hint = nearest(type_name, &names)
            .unwrap_or_else(|| format!("; the types are {}", names.join(", ")));
        EventError::new(
            "unknown_type",
            "type",
            format!("there is no event type {:?}{hint}", shown(type_name)),
        )
    })
}

/// "did you mean", where a known name is near.
fn nearest(name: &str, known: &[&str]) -> Option<String> {
    const ALIKE_MIN: f64 = 0.6;
    let name = shown(name);
    let near = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    near.map(|(_, known)| format!("; did you mean `{known}`?"))
}

pub(super) const fn own_fields(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::TaskStarted => &["original_prompt", "task_name", "task_type", "category"],
        EventType::Enhancement => &[
            "model",
            "iteration",
            "version",
            "leg",
            "original_prompt",
            "enhanced_prompt",
            "latency_ms",
        ],
        EventType::Generation => {
            &["model", "iteration", "leg", "image_url", "generation_time_ms", "cost_usd"]
        }
        EventType::Validation => {
            &["model", "iteration", "leg", "score", "passed", "issues", "reasoning", "judge"]
        }
        EventType::Winner => &["winner", "score", "total_iterations", "leg"],
        EventType::Completed => &["processing_time_ms"],
        EventType::Error => &["model", "iteration", "leg", "error", "stage", "fault"],
        EventType::Feedback => &["kept", "comment"],
    }
}

/// The fields of one object, taken out one by one.
struct Fields {
    map: Map<String, Value>,
    kind: EventType,
}

impl Fields {
    fn refuse_unknown(&self) -> Result<(), EventError> {
        let own = own_fields(self.kind);
        let stranger = self
            .map
            .keys()
            .find(|name| !COMMON_FIELDS.contains(&name.as_str()) && !own.contains(&name.as_str()));
        if let Some(name) = stranger {
            let elsewhere =
                EventType::ALL.into_iter().any(|kind| own_fields(kind).contains(&name.as_str()));
            if elsewhere {
                return Err(misplaced(name, self.kind.name()));
            }
            let known: Vec<&str> = own.iter().chain(&COMMON_FIELDS).copied().collect();
            let hint = nearest(name, &known)
                .unwrap_or_else(|| "; put what else is worth keeping into `metadata`".to_owned());
            return Err(EventError::new(
                "unknown_field",
                name,
                format!("`{}` has no field `{}`{hint}", self.kind.name(), shown(name)),
            ));
        }
        // An iteration of the run as a whole means nothing, and would be dropped without a word.
        let of_run = matches!(self.map.get("model"), None | Some(Value::Null));
        if self.kind == EventType::Error && of_run && self.map.contains_key("iteration") {
            return Err(misplaced("iteration", "error` without `model"));
        }
        Ok(())
    }

    fn body(&mut self) -> Result<EventBody, EventError> {
        Ok(match self.kind {
            EventType::TaskStarted => EventBody::TaskStarted(TaskStarted {
                original_prompt: self.required_text("original_prompt")?,
                task_name: self.text("task_name")?,
                task_type: self.text("task_type")?,
                category: self.text("category")?,
            }),
            EventType::Enhancement => EventBody::Enhancement(Enhancement {
                original_prompt: self.required_text("original_prompt")?,
                enhanced_prompt: self.required_text("enhanced_prompt")?,
                latency_ms: self.whole("latency_ms", "number_out_of_range")?,
            }),
            EventType::Generation => EventBody::Generation(Generation {
                image_url: self.required_text("image_url")?,
                generation_time_ms: self.whole("generation_time_ms", "number_out_of_range")?,
                cost_usd: self.cost("cost_usd")?,
            }),
            EventType::Validation => EventBody::Validation(Validation {
                score: self.required_score()?,
                passed: self.flag("passed")?.ok_or_else(|| self.missing("passed"))?,
                issues: self.texts("issues")?,
                reasoning: self.text("reasoning")?,
                judge: self.judge()?,
            }),
            EventType::Winner => {
                if !self.map.contains_key("winner") {
                    return Err(EventError::new(
                        "missing_field",
                        "winner",
                        "`winner` is missing; name the model, or send null when none won",
                    ));
                }
                EventBody::Winner(Winner {
                    winner: self.text("winner")?,
                    score: self.score()?,
                    leg: self.whole("leg", "invalid_version")?,
                    total_iterations: self
                        .whole("total_iterations", "invalid_iteration")?
                        .ok_or_else(|| self.missing("total_iterations"))?,
                })
            }
            EventType::Completed => EventBody::Completed(Completed {
                processing_time_ms: self.whole("processing_time_ms", "number_out_of_range")?,
            }),
            EventType::Error => EventBody::Error(Failure {
                error: self.required_text("error")?,
                stage: self.text("stage")?,
                fault: self.fault()?,
            }),
            EventType::Feedback => EventBody::Feedback(Feedback {
                kept: self.flag("kept")?,
                comment: self.text("comment")?,
            }),
        })
    }

    fn missing(&self, field: &str) -> EventError {
        missing(field, self.kind.name())
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Result<Option<String>, EventError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(field, "a text", &other)),
        }
    }

    fn required_text(&mut self, field: &str) -> Result<String, EventError> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    fn flag(&mut self, field: &str) -> Result<Option<bool>, EventError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(field, "true or false", &other)),
        }
    }

    fn object(&mut self, field: &str) -> Result<Option<Map<String, Value>>, EventError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong_type(field, "an object", &other)),
        }
    }

    fn texts(&mut self, field: &str) -> Result<Vec<String>, EventError> {
        let items = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong_type(field, "a list of texts", &other)),
        };
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(field, "a list of texts", &other)),
            })
            .collect()
    }

    /// A whole number, also when it is written 8.0.
    fn whole<N: TryFrom<i64>>(
        &mut self,
        field: &str,
        code: &'static str,
    ) -> Result<Option<N>, EventError> {
        let number = match self.take(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(other) => return Err(wrong_type(field, "a whole number", &other)),
        };
        whole_number(&Value::Number(number.clone()))
            .and_then(|whole| N::try_from(whole).ok())
            .map(Some)
            .ok_or_else(|| {
                EventError::new(
                    code,
                    field,
                    format!("`{field}` is {number}, which is not a whole number in its range"),
                )
            })
    }

    fn required_score(&mut self) -> Result<u16, EventError> {
        match self.map.get("score") {
            None => Err(self.missing("score")),
            Some(Value::Null) => Err(invalid_score(&Value::Null)),
            Some(_) => self.score()?.ok_or_else(|| self.missing("score")),
        }
    }

    fn score(&mut self) -> Result<Option<u16>, EventError> {
        self.take("score")
            .map(|value| {
                whole_number(&value)
                    .and_then(|whole| u16::try_from(whole).ok())
                    .ok_or_else(|| invalid_score(&value))
            })
            .transpose()
    }

    fn cost(&mut self, field: &str) -> Result<Option<Decimal>, EventError> {
        const DECIMALS_KEPT: u32 = 6;
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let digits = match &value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            other => return Err(wrong_type(field, "a number", other)),
        };
        digits
            .parse::<Decimal>()
            .or_else(|_| Decimal::from_scientific(&digits))
            .map(|cost| Some(cost.round_dp(DECIMALS_KEPT).normalize()))
            .map_err(|_| {
                EventError::new(
                    "number_out_of_range",
                    field,
                    format!("`{field}` is {:?}, which is not an amount of money", shown(&digits)),
                )
            })
    }

    fn time(&mut self, field: &str) -> Result<Option<DateTime<Utc>>, EventError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        DateTime::parse_from_rfc3339(&text)
            .map(|time| Some(to_microseconds(time.to_utc())))
            .map_err(|error| {
                EventError::new(
                    "invalid_time",
                    field,
                    format!(
                        "`{field}` is {:?}, which is not a time as in 2026-11-23T09:30:00Z: {error}",
                        shown(&text)
                    ),
                )
            })
    }

    fn uuid(&mut self, field: &str) -> Result<Option<Uuid>, EventError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        Uuid::try_parse(&text).map(Some).map_err(|_| {
            EventError::new(
                "wrong_type",
                field,
                format!("`{field}` is {:?}, which is not a UUID", shown(&text)),
            )
        })
    }

    fn fault(&mut self) -> Result<Option<Fault>, EventError> {
        let Some(text) = self.text("fault")? else {
            return Ok(None);
        };
        match text.as_str() {
            "prompt" => Ok(Some(Fault::Prompt)),
            "infrastructure" => Ok(Some(Fault::Infrastructure)),
            other => Err(EventError::new(
                "wrong_type",
                "fault",
                format!("`fault` is {:?}; it is `prompt` or `infrastructure`", shown(other)),
            )),
        }
    }

    fn judge(&mut self) -> Result<Option<Judge>, EventError> {
        let Some(map) = self.object("judge")? else {
            return Ok(None);
        };
        let mut model = None;
        let mut prompt_version = None;
        for (name, value) in map {
            let slot = match name.as_str() {
                "model" => &mut model,
                "prompt_version" => &mut prompt_version,
                other => {
                    return Err(EventError::new(
                        "unknown_field",
                        "judge",
                        format!(
                            "`judge` has no field `{}`; it has `model` and `prompt_version`",
                            shown(other)
                        ),
                    ));
                }
            };
            // Prompt versions are often plain numbers, and 3 names the same prompt as "3".
            *slot = Some(match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(wrong_type("judge", "an object of texts", &other)),
            });
        }
        let model = model.ok_or_else(|| self.missing("judge.model"))?;
        Ok(Some(Judge { model, prompt_version: prompt_version.unwrap_or_default() }))
    }
}

/// PostgreSQL keeps microseconds; what is finer would make a stored time differ from a sent one.
pub(super) fn to_microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// The value as a whole number, if it is one in whatever notation.
pub(super) fn whole_number(value: &Value) -> Option<i64> {
    // Up to here every whole number has a float of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let float = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and far inside the range of i64")]
    (value.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
}

fn invalid_score(value: &Value) -> EventError {
    EventError::new(
        "invalid_score",
        "score",
        format!("`score` is {}; a score is a whole number from 0 up", shown(&value.to_string())),
    )
}

fn wrong_type(field: &str, wanted: &str, value: &Value) -> EventError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    EventError::new("wrong_type", field, format!("`{field}` is {got}; it must be {wanted}"))
}

#[cfg(test)]
mod tests;
