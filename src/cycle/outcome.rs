//! How a cycle ended, model by model.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{NoCandidate, NoCandidateReason};
use super::state::{ModelVerdict, ProbationDecision, UnknownName, names};
use crate::experiment::gate::{Reason, Status};

/// How every model of a finished cycle ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// One entry a model, in the order of the experiments, then those without a candidate.
    pub models: Vec<ModelOutcome>,
}

/// How one model of a finished cycle ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelOutcome {
    /// The image model.
    pub model: String,
    /// What became of its candidate.
    pub result: ModelResult,
    /// The candidate's version number, where there was one.
    pub candidate: Option<i32>,
    /// Why, as the gate or the machine put it.
    pub reason: String,
    /// The same in words, where there is more to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

names! {
    /// What became of a model's candidate.
    ModelResult {
        Adopted => "adopted",
        Rejected => "rejected",
        Inconclusive => "inconclusive",
        NoCandidate => "no_candidate",
        Refused => "refused",
        Superseded => "superseded",
        Retired => "retired",
        RolledBack => "rolled_back",
        Cancelled => "cancelled",
    }
}

impl Outcome {
    /// The outcome of a cycle in which no model got a candidate.
    #[must_use]
    pub fn without_candidates(without: &[NoCandidate]) -> Self {
        let models = without.iter().map(ModelOutcome::without_candidate).collect();
        Self { models }
    }

    /// The outcome that a set of verdicts amounts to.
    #[must_use]
    pub fn of(verdicts: &[ModelVerdict]) -> Self {
        let models = verdicts.iter().map(ModelOutcome::of).collect();
        Self { models }
    }

    /// The same outcome, with one model's adoption ended by its probation.
    #[must_use]
    pub fn after_probation(mut self, model: &str, decision: ProbationDecision) -> Self {
        let (result, reason) = match decision {
            ProbationDecision::Kept => return self,
            ProbationDecision::Regressed => (ModelResult::RolledBack, "regressed"),
            ProbationDecision::Superseded => (ModelResult::Superseded, Reason::Superseded.as_str()),
            ProbationDecision::Retired => (ModelResult::Retired, Reason::ModelRetired.as_str()),
        };
        self.set(model, result, reason);
        self
    }

    /// Overwrites one model's result.
    pub(super) fn set(&mut self, model: &str, result: ModelResult, reason: &str) {
        for entry in self.models.iter_mut().filter(|entry| entry.model == model) {
            entry.result = result;
            reason.clone_into(&mut entry.reason);
        }
    }
}

impl ModelOutcome {
    fn without_candidate(none: &NoCandidate) -> Self {
        let result = match none.reason {
            NoCandidateReason::Retired => ModelResult::Retired,
            NoCandidateReason::Superseded => ModelResult::Superseded,
            _ => ModelResult::NoCandidate,
        };
        Self {
            model: none.model.clone(),
            result,
            candidate: None,
            reason: none.reason.as_str().to_owned(),
            detail: none.detail.clone(),
        }
    }

    fn of(verdict: &ModelVerdict) -> Self {
        let reason = verdict.dropped.unwrap_or(verdict.decision.reason);
        let result = match reason {
            Reason::Superseded => ModelResult::Superseded,
            Reason::ModelRetired => ModelResult::Retired,
            Reason::Refused => ModelResult::Refused,
            _ => match verdict.decision.status {
                Status::Adopted => ModelResult::Adopted,
                Status::Rejected => ModelResult::Rejected,
                Status::Inconclusive => ModelResult::Inconclusive,
            },
        };
        Self {
            model: verdict.model.clone(),
            result,
            candidate: Some(verdict.candidate),
            reason: reason.as_str().to_owned(),
            detail: String::new(),
        }
    }
}
