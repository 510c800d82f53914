//! The states of a cycle. Each carries the data that only it has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::outcome::Outcome;
use crate::experiment::gate::{Decision, Reason, Status};

/// Where a cycle stands, with what that state carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum State {
    /// Completed tasks are being counted; nothing is under way.
    Collecting,
    /// Claude looks for patterns in the window.
    Analyzing {
        /// The tasks that opened this analysis.
        window: Window,
    },
    /// Claude turns the insights into one candidate a model.
    Generating {
        /// What the analysis found.
        analysis: AnalysisSummary,
    },
    /// One experiment a model, each with its dealt deck.
    Testing {
        /// Every experiment of the cycle, decided or not.
        experiments: Vec<Experiment>,
    },
    /// Every experiment has its verdict; they are being settled.
    Deciding {
        /// One verdict a model.
        verdicts: Vec<ModelVerdict>,
    },
    /// The adopted versions are being written to the files and made active.
    Applying {
        /// One verdict a model, for the outcome.
        verdicts: Vec<ModelVerdict>,
        /// What is being adopted.
        adoptions: Vec<Adoption>,
    },
    /// Adopted versions serve on watch, dealt one to one against their predecessors.
    Probation {
        /// One verdict a model, for the outcome.
        verdicts: Vec<ModelVerdict>,
        /// The versions on probation.
        on_probation: Vec<OnProbation>,
    },
    /// Adoptions are being taken back, files included.
    Reverting {
        /// One verdict a model, for the outcome.
        verdicts: Vec<ModelVerdict>,
        /// What is being put back.
        reverts: Vec<Adoption>,
        /// Adoptions that stand.
        kept: Vec<Adoption>,
        /// Set when an operator's cancel asked for the revert; the cycle then ends Cancelled.
        cancelled_because: Option<String>,
    },
    /// Terminal: at least one adoption stands.
    Applied {
        /// How each model ended.
        outcome: Outcome,
    },
    /// Terminal: the old versions stay.
    Rejected {
        /// How each model ended.
        outcome: Outcome,
    },
    /// Terminal: every adoption was taken back.
    RolledBack {
        /// How each model ended.
        outcome: Outcome,
    },
    /// Terminal: an operator ended the cycle.
    Cancelled {
        /// How each model ended.
        outcome: Outcome,
        /// The operator's reason.
        reason: String,
    },
}

/// The tasks that one analysis consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TaskWindow)]
pub struct Window {
    /// How many completed tasks are in it; at least the workflow's trigger.
    pub tasks: u32,
}

/// What an analysis produced, by count; the insights themselves are rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisSummary {
    /// Tasks in the analysed window.
    pub tasks: u32,
    /// Insights kept from the answer. Zero is a valid answer.
    pub insights: u32,
}

/// One model's test of its active version against a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CycleExperiment)]
pub struct Experiment {
    /// The image model.
    pub model: String,
    /// Version number of the control, active when the test opened.
    pub control: i32,
    /// Version number of the candidate.
    pub candidate: i32,
    /// Looks taken so far that decided nothing; only the guard `strict` takes more than one.
    #[serde(default)]
    pub looks: u32,
    /// The verdict, once its look was taken or the experiment ended otherwise.
    pub decision: Option<Decision>,
    /// Why an adopting verdict is not carried out after all, where the others still wait for theirs.
    pub dropped: Option<Reason>,
}

/// A verdict as Deciding and the later states carry it. Once committed it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVerdict {
    /// The image model.
    pub model: String,
    /// Version number of the control.
    pub control: i32,
    /// Version number of the candidate.
    pub candidate: i32,
    /// What the gate said, or why there was no look.
    pub decision: Decision,
    /// Why an adopting verdict is not carried out after all: refused, superseded or retired.
    pub dropped: Option<Reason>,
}

/// A change of a model's active version that a cycle makes or takes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The image model.
    pub model: String,
    /// Version number before.
    pub from: i32,
    /// Version number after.
    pub to: i32,
}

/// An adopted version under observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnProbation {
    /// What was adopted.
    pub adoption: Adoption,
    /// Set once the probation was extended; it is extended at most once.
    pub extended: bool,
    /// Set once a person was asked, because the extended probation could not decide itself either.
    #[serde(default)]
    pub asked: bool,
    /// How it ended, once it has.
    pub decision: Option<ProbationDecision>,
}

/// How a model's probation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbationDecision {
    /// The pooled improvement holds; the adoption stands.
    Kept,
    /// The pooled improvement is gone; the old version comes back.
    Regressed,
    /// An operator's rollback took the model out of the cycle.
    Superseded,
    /// The model left the workflow.
    Retired,
}

impl State {
    /// The state's name, without its data.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Collecting => StateName::Collecting,
            Self::Analyzing { .. } => StateName::Analyzing,
            Self::Generating { .. } => StateName::Generating,
            Self::Testing { .. } => StateName::Testing,
            Self::Deciding { .. } => StateName::Deciding,
            Self::Applying { .. } => StateName::Applying,
            Self::Probation { .. } => StateName::Probation,
            Self::Reverting { .. } => StateName::Reverting,
            Self::Applied { .. } => StateName::Applied,
            Self::Rejected { .. } => StateName::Rejected,
            Self::RolledBack { .. } => StateName::RolledBack,
            Self::Cancelled { .. } => StateName::Cancelled,
        }
    }

    /// How each model ended, for the four terminal states.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Applied { outcome }
            | Self::Rejected { outcome }
            | Self::RolledBack { outcome }
            | Self::Cancelled { outcome, .. } => Some(outcome),
            _ => None,
        }
    }
}

impl ModelVerdict {
    /// True when the gate adopted the candidate and nothing took that back since.
    #[must_use]
    pub fn stands_adopted(&self) -> bool {
        self.decision.status == Status::Adopted && self.dropped.is_none()
    }

    /// The change of versions that carrying this verdict out means.
    #[must_use]
    pub fn adoption(&self) -> Adoption {
        Adoption { model: self.model.clone(), from: self.control, to: self.candidate }
    }
}

macro_rules! names {
    ($(#[$meta:meta])* $type:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $(#[doc = concat!("`", $text, "`.")] $variant),+
        }

        impl $type {
            /// Every name, in the order of the design.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as stored and as spoken over the interfaces.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|name| name.as_str() == text)
                    .ok_or_else(|| UnknownName { kind: stringify!($type), text: text.to_owned() })
            }
        }
    };
}
pub(super) use names;

/// A stored name that this version of the program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no known {kind}; was it written by a newer version of the program?")]
pub struct UnknownName {
    /// Which kind of name was asked for.
    pub kind: &'static str,
    /// What was found.
    pub text: String,
}

names! {
    /// A state's name without its data, as stored in `cycles.state` and `cycle_transitions`.
    StateName {
        Collecting => "collecting",
        Analyzing => "analyzing",
        Generating => "generating",
        Testing => "testing",
        Deciding => "deciding",
        Applying => "applying",
        Probation => "probation",
        Reverting => "reverting",
        Applied => "applied",
        Rejected => "rejected",
        RolledBack => "rolled_back",
        Cancelled => "cancelled",
    }
}

impl StateName {
    /// True for the four states that a cycle never leaves.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Applied | Self::Rejected | Self::RolledBack | Self::Cancelled)
    }

    /// The state's name as a person reads it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Collecting => "Collecting",
            Self::Analyzing => "Analyzing",
            Self::Generating => "Generating",
            Self::Testing => "Testing",
            Self::Deciding => "Deciding",
            Self::Applying => "Applying",
            Self::Probation => "Probation",
            Self::Reverting => "Reverting",
            Self::Applied => "Applied",
            Self::Rejected => "Rejected",
            Self::RolledBack => "RolledBack",
            Self::Cancelled => "Cancelled",
        }
    }
}
