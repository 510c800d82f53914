//! Predictions: what was taken, how far it is, and what it costs.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Billed;
use crate::stand_in::fault::Prediction as Fate;

/// How a prediction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With these outputs: addresses, or pictures in base64.
    Outputs(Vec<String>),
    /// In these words.
    Failed(String),
    /// With a status that no documentation names.
    Unknown,
    /// Never.
    None,
}

/// One prediction.
#[derive(Debug, Clone)]
pub(super) struct Prediction {
    pub(super) billed: Billed,
    pub(super) end: End,
    pub(super) inference: Duration,
    pub(super) begun: Instant,
    /// The submit's body, which the webhook repeats.
    pub(super) input: Value,
}

impl Prediction {
    /// Whether it is still in the making.
    pub(super) fn is_running(&self) -> bool {
        self.end == End::None || self.begun.elapsed() < self.inference
    }

    /// The prediction as an answer shows it: `created` right after the submit, then `processing`, then its end.
    pub(super) fn shown(&self, base_url: &str, just_taken: bool) -> Value {
        let inference_ms = u64::try_from(self.inference.as_millis()).unwrap_or(u64::MAX);
        let id = &self.billed.id;
        let mut shown = json!({
            "id": id,
            "model": self.billed.endpoint,
            "outputs": [],
            "urls": {"get": format!("{base_url}/api/v3/predictions/{id}/result")},
            "has_nsfw_contents": [],
            "status": if just_taken { "created" } else { "processing" },
            "created_at": self.billed.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "error": "",
            "timings": {"inference": 0},
        });
        if just_taken || self.is_running() {
            return shown;
        }
        match &self.end {
            End::Outputs(outputs) => {
                shown["status"] = json!("completed");
                shown["has_nsfw_contents"] = outputs.iter().map(|_| json!(false)).collect();
                shown["outputs"] = json!(outputs);
                shown["executionTime"] = json!(inference_ms);
                shown["timings"] = json!({"inference": inference_ms});
            }
            End::Failed(words) => {
                shown["status"] = json!("failed");
                shown["error"] = json!(words);
            }
            End::Unknown => shown["status"] = json!("archived"),
            End::None => {}
        }
        shown
    }

    /// What the webhook carries: the bare prediction and its input.
    pub(super) fn delivered(&self, base_url: &str) -> Value {
        let mut shown = self.shown(base_url, false);
        shown["input"] = self.input.clone();
        shown
    }
}

/// What the fate that a script chose makes of the end that the painter gave.
pub(super) fn end_of(fate: Option<&Fate>, painted: Result<Vec<String>, String>) -> End {
    match fate {
        Some(Fate::Failed { words }) => End::Failed(words.clone()),
        Some(Fate::NeverFinishes) => End::None,
        Some(Fate::EmptyOutputs) => End::Outputs(Vec::new()),
        Some(Fate::UnknownStatus) => End::Unknown,
        Some(Fate::SyncTimedOut | Fate::BrokenPicture | Fate::CodeNot200) | None => match painted {
            Ok(outputs) => End::Outputs(outputs),
            Err(words) => End::Failed(words),
        },
    }
}

/// All predictions, in the order of their submits.
#[derive(Debug, Default)]
pub(super) struct Predictions {
    taken: Vec<Prediction>,
    by_id: HashMap<String, usize>,
    /// Ids given out; more than the predictions while some are being drawn.
    given: u64,
}

impl Predictions {
    /// The number of the next prediction.
    pub(super) fn next(&mut self) -> u64 {
        self.given = self.given.saturating_add(1);
        self.given
    }

    /// Puts a prediction on the bill.
    pub(super) fn take(&mut self, prediction: Prediction) {
        self.by_id.insert(prediction.billed.id.clone(), self.taken.len());
        self.taken.push(prediction);
    }

    /// The prediction of that id.
    pub(super) fn get(&self, id: &str) -> Option<&Prediction> {
        self.taken.get(*self.by_id.get(id)?)
    }

    /// Those in the making.
    pub(super) fn running(&self) -> usize {
        self.taken.iter().rev().filter(|prediction| prediction.is_running()).count()
    }

    /// Those taken within the last minute.
    pub(super) fn taken_since_a_minute(&self, now: DateTime<Utc>) -> usize {
        let since = now - TimeDelta::minutes(1);
        self.taken.iter().rev().take_while(|prediction| prediction.billed.at > since).count()
    }

    /// The bill.
    pub(super) fn billed(&self) -> Vec<Billed> {
        self.taken.iter().map(|prediction| prediction.billed.clone()).collect()
    }
}
