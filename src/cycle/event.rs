//! What can happen to a cycle.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::state::{Experiment, UnknownName, Window, names};
use crate::experiment::ByArm;
use crate::experiment::gate::{Look, Sum};

/// Something that happened, as submitted to the machine and stored in `cycle_transitions`.
///
/// An event holds all that the machine needs, so a history replays without the tables beside it.
/// Long texts are not in it: it names rows by their natural keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
#[schema(as = CycleEvent)]
pub enum Event {
    /// Enough completed tasks wait for an analysis; they were marked in the same transaction.
    TriggerReached {
        /// The window that was consumed.
        window: Window,
    },
    /// Claude's answer was parsed and its insights are stored.
    AnalysisFinished {
        /// How many insights were kept.
        insights: u32,
    },
    /// Candidates are stored as inactive versions, and their decks are dealt.
    CandidatesGenerated {
        /// One experiment a model that got a candidate.
        experiments: Vec<Experiment>,
        /// Models that got none, and why.
        without: Vec<NoCandidate>,
    },
    /// One model's deck is complete: its counted scores, frozen in the same transaction.
    LookTaken {
        /// The image model.
        model: String,
        /// The frozen scores by block, those of earlier looks included, and what went missing.
        look: Look,
        /// True when more than one validator gave them: they decide nothing then.
        #[serde(default)]
        judge_changed: bool,
    },
    /// The test's time is out for every experiment that has no verdict yet.
    TestTimedOut,
    /// The verdicts were checked against the frozen scores and can be carried out.
    VerdictsSettled,
    /// Files and database agree on the adopted versions.
    FilesApplied,
    /// A model's probation has its scores, or its time is out.
    ProbationLookTaken {
        /// The image model.
        model: String,
        /// Sums over the test and the probation together.
        pooled: ByArm<Sum>,
        /// Sums over the probation alone.
        probation: ByArm<Sum>,
        /// True when the validator changed since the test began: scores of two judges are never
        /// pooled.
        #[serde(default)]
        judge_changed: bool,
    },
    /// A person decided a probation that could not decide itself.
    ProbationSettled {
        /// The image model.
        model: String,
        /// True keeps the adoption, false takes it back.
        keep: bool,
    },
    /// Files and database agree on the versions that were put back.
    FilesReverted,
    /// An operator refused candidates before their test or before their adoption.
    CandidatesRefused {
        /// The models whose candidates are refused; empty means all.
        models: Vec<String>,
    },
    /// An operator put a model back to an earlier version.
    RollbackRequested {
        /// The image model.
        model: String,
        /// The version that was active.
        from: i32,
        /// The version to activate.
        to: i32,
    },
    /// A model left the workflow's definition.
    ModelRetired {
        /// The image model.
        model: String,
    },
    /// An operator ended the cycle.
    CancelRequested {
        /// Why.
        reason: String,
    },
}

/// A model that enters no test in this cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoCandidate {
    /// The image model.
    pub model: String,
    /// Why it got no candidate.
    pub reason: NoCandidateReason,
    /// The same in words, where there is more to say: the rule that the candidate broke.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

names! {
    /// Why a model got no candidate.
    NoCandidateReason {
        AtCeiling => "at_ceiling",
        NothingProposed => "nothing_proposed",
        TestedBefore => "tested_before",
        RuleBroken => "rule_broken",
        Superseded => "superseded",
        Retired => "retired",
    }
}

names! {
    /// An event's name without its data.
    EventName {
        TriggerReached => "trigger_reached",
        AnalysisFinished => "analysis_finished",
        CandidatesGenerated => "candidates_generated",
        LookTaken => "look_taken",
        TestTimedOut => "test_timed_out",
        VerdictsSettled => "verdicts_settled",
        FilesApplied => "files_applied",
        ProbationLookTaken => "probation_look_taken",
        ProbationSettled => "probation_settled",
        FilesReverted => "files_reverted",
        CandidatesRefused => "candidates_refused",
        RollbackRequested => "rollback_requested",
        ModelRetired => "model_retired",
        CancelRequested => "cancel_requested",
    }
}

impl Event {
    /// The event's name, without its data.
    #[must_use]
    pub const fn name(&self) -> EventName {
        match self {
            Self::TriggerReached { .. } => EventName::TriggerReached,
            Self::AnalysisFinished { .. } => EventName::AnalysisFinished,
            Self::CandidatesGenerated { .. } => EventName::CandidatesGenerated,
            Self::LookTaken { .. } => EventName::LookTaken,
            Self::TestTimedOut => EventName::TestTimedOut,
            Self::VerdictsSettled => EventName::VerdictsSettled,
            Self::FilesApplied => EventName::FilesApplied,
            Self::ProbationLookTaken { .. } => EventName::ProbationLookTaken,
            Self::ProbationSettled { .. } => EventName::ProbationSettled,
            Self::FilesReverted => EventName::FilesReverted,
            Self::CandidatesRefused { .. } => EventName::CandidatesRefused,
            Self::RollbackRequested { .. } => EventName::RollbackRequested,
            Self::ModelRetired { .. } => EventName::ModelRetired,
            Self::CancelRequested { .. } => EventName::CancelRequested,
        }
    }
}
