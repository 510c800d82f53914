//! What the task log says, as `mathesis export` writes it, and how it fits what the services have on record.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::stand_in::wavespeed::Billed;
use crate::stand_in::world::Model;

/// First-iteration scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sum: u64,
    pub(super) count: u64,
}

impl Tally {
    /// The mean score; none without scores.
    pub(super) fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }
}

/// The log, summed up.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    scores: BTreeMap<(String, i64), Tally>,
    predictions: BTreeSet<String>,
    predictions_twice: usize,
    failed_attempts: usize,
}

impl Ledger {
    /// Reads what `export` wrote, one task a line. A line that is no JSON counts for nothing.
    pub(super) fn read(exported: &str) -> Self {
        let mut ledger = Self::default();
        for line in exported.lines() {
            let task: Value = serde_json::from_str(line).unwrap_or_default();
            for attempt in task["attempts"].as_array().map(Vec::as_slice).unwrap_or_default() {
                ledger.count(attempt);
            }
        }
        ledger
    }

    fn count(&mut self, attempt: &Value) {
        if attempt["error"].is_string() {
            self.failed_attempts += 1;
        }
        if let Some(prediction) = prediction_of(attempt)
            && !self.predictions.insert(prediction.to_owned())
        {
            self.predictions_twice += 1;
        }
        let scored = (attempt["prompt_version"].as_i64(), attempt["validation_score"].as_u64());
        if let (Some(version), Some(score)) = scored
            && attempt["iteration"] == 1
        {
            let model = attempt["model"].as_str().unwrap_or_default().to_owned();
            let tally = self.scores.entry((model, version)).or_default();
            tally.sum += score;
            tally.count += 1;
        }
    }

    /// First-iteration scores of a model's version.
    pub(super) fn tally(&self, model: Model, version: i64) -> Tally {
        self.scores.get(&(model.name().to_owned(), version)).copied().unwrap_or_default()
    }

    /// How the log fits WaveSpeed's bill.
    pub(super) fn compare(&self, billed: &[Billed]) -> Bill {
        let unlogged =
            billed.iter().filter(|billed| !self.predictions.contains(&billed.id)).count();
        Bill {
            billed: billed.len(),
            unlogged,
            is_sound: self.predictions_twice == 0 && unlogged <= self.failed_attempts,
        }
    }
}

/// WaveSpeed's bill beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bill {
    /// Pictures on the bill.
    pub(super) billed: usize,
    /// Those that no attempt of the log has: their answers were lost when the server was killed.
    pub(super) unlogged: usize,
    /// False when a picture was asked for twice: an attempt of the log stands for each, and each attempt for one.
    pub(super) is_sound: bool,
}

/// The prediction of an attempt, which the pipeline logs with the generation.
fn prediction_of(attempt: &Value) -> Option<&str> {
    super::api::find(&attempt["metadata"], "prediction")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn billed(id: &str) -> Billed {
        Billed {
            id: id.to_owned(),
            endpoint: String::new(),
            prompt: String::new(),
            images: Vec::new(),
            at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn exported() -> String {
        let attempt = |iteration: u64, score: u64, prediction: &str| {
            json!({
                "model": "nano-banana", "iteration": iteration, "prompt_version": 2,
                "validation_score": score, "metadata": {"generation": {"prediction": prediction}},
            })
        };
        let failed =
            json!({"model": "nano-banana", "iteration": 1, "error": "wavespeed_unknown: …"});
        let first = json!({"attempts": [attempt(1, 6, "a"), attempt(2, 9, "b")]});
        let second = json!({"attempts": [attempt(1, 8, "c"), failed]});
        format!("{first}\n{second}\n")
    }

    #[test]
    fn only_first_scores_count() {
        let ledger = Ledger::read(&exported());
        assert_eq!(ledger.tally(Model::Nano, 2).mean(), Some(7.0));
        assert_eq!(ledger.tally(Model::Nano, 1).mean(), None);
    }

    #[test]
    fn a_bill_is_sound_as_long_as_every_picture_has_an_attempt_that_stands_for_it() {
        let ledger = Ledger::read(&exported());
        let bill =
            |ids: &[&str]| ledger.compare(&ids.iter().map(|id| billed(id)).collect::<Vec<_>>());
        assert_eq!(bill(&["a", "b", "c"]), Bill { billed: 3, unlogged: 0, is_sound: true });
        assert!(bill(&["a", "b", "c", "lost"]).is_sound, "the failed attempt stands for it");
        assert!(!bill(&["a", "b", "c", "lost", "again"]).is_sound);
    }
}
