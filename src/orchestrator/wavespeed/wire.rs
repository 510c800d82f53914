//! What WaveSpeed says, read leniently: everything but the id may be missing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What stands around every answer. Errors have no `data`; a prediction that a webhook brings has no envelope.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Envelope {
    /// 200, or an error's number, whatever the HTTP status says.
    #[serde(default, deserialize_with = "whole_number")]
    pub(super) code: Option<i64>,
    /// Words about it.
    #[serde(default, deserialize_with = "text")]
    pub(super) message: String,
    /// What was asked for.
    #[serde(default)]
    pub(super) data: Value,
}

impl Envelope {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("it is no object".to_owned());
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// The data as what was asked for.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn data<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_value(self.data).map_err(|error| error.to_string())
    }
}

/// A picture that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Its id, with which it is looked for.
    #[serde(default, deserialize_with = "text_or_number")]
    pub id: String,
    /// `created`, `processing`, `completed`, `failed`, or a word that came later.
    #[serde(default, deserialize_with = "text")]
    pub status: String,
    /// What was made: addresses, or pictures as base64 text.
    #[serde(default, deserialize_with = "texts")]
    pub outputs: Vec<String>,
    /// Why it failed; empty if it has not.
    #[serde(default, deserialize_with = "text")]
    pub error: String,
    /// A finer code: 5004 says that a synchronous wait ran out while the prediction goes on.
    #[serde(default, deserialize_with = "whole_number")]
    pub code: Option<i64>,
    /// For each output, whether it was flagged as unsafe.
    #[serde(default, deserialize_with = "flags")]
    pub has_nsfw_contents: Vec<bool>,
    /// How long it took, in milliseconds; older answers only.
    #[serde(default, rename = "executionTime", deserialize_with = "whole_number")]
    pub execution_time_ms: Option<i64>,
    /// How long it took, by part.
    #[serde(default, deserialize_with = "or_default")]
    pub timings: Timings,
}

/// How long a prediction took, by part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// The model's own time, in milliseconds.
    #[serde(deserialize_with = "whole_number")]
    pub inference: Option<i64>,
}

/// A picture that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Where it is, or the picture itself as a `data:` address. It is read at once, for it does not stay for ever.
    pub url: String,
    /// How long the model worked, in milliseconds, where WaveSpeed says so.
    pub inference_ms: Option<u64>,
}

impl Prediction {
    /// The prediction if it has ended. An unknown status is one that has not.
    pub(super) fn ended(self) -> Option<Self> {
        const ENDS: [&str; 5] = ["completed", "failed", "cancelled", "timeout", "deleted"];
        ENDS.contains(&self.status.as_str()).then_some(self)
    }

    /// How long it took, in milliseconds.
    pub(super) fn inference_ms(&self) -> Option<u64> {
        let positive =
            |ms: Option<i64>| ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        positive(self.timings.inference).or_else(|| positive(self.execution_time_ms))
    }
}

/// Where a file is to be put, and where it can be read then.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct MediaUpload {
    pub(super) upload: UploadTarget,
    pub(super) download_url: String,
}

/// A signed address, good for one upload.
#[derive(Clone, Deserialize)]
pub(super) struct UploadTarget {
    #[serde(default, deserialize_with = "text")]
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) headers: std::collections::BTreeMap<String, String>,
}

impl std::fmt::Debug for UploadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadTarget").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Whether a text could be an id of WaveSpeed's, and can stand in an address.
pub(super) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn text<'de, D: Deserializer<'de>>(reader: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

fn text_or_number<'de, D: Deserializer<'de>>(reader: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

fn texts<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::Array(items) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        Value::String(text) => vec![text],
        _ => Vec::new(),
    })
}

fn flags<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<bool>, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::Array(items) => items.iter().map(|item| item.as_bool().unwrap_or(false)).collect(),
        _ => Vec::new(),
    })
}

fn whole_number<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<i64>, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(rounded)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

/// A time with a fraction is rounded; what no time can be is none.
fn rounded(number: f64) -> Option<i64> {
    let whole = number.round();
    let text = format!("{whole:.0}");
    text.parse().ok()
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    reader: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(reader).map(Option::unwrap_or_default)
}
