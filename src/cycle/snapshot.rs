//! The stored form of a cycle: versioned, and readable by every later version of the program.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::state::{State, UnknownName, names};
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::{self, Decision, GateRules, Look, Reason, Status};
use crate::experiment::strict::{self, Step};
use crate::experiment::{Guard, paired};

/// The format that this version of the program writes.
const FORMAT: u16 = 2;

/// All that the machine knows of a cycle. Stored as JSON in `cycles.snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The snapshot's format; older ones are upcast when read.
    pub format: u16,
    /// The cycle's number within its workflow, from 1.
    pub cycle: i64,
    /// How many events the cycle has taken; the next one gets `seq + 1`.
    pub seq: i64,
    /// The rules that the cycle started with. A later edit of the workflow does not change them.
    pub rules: Rules,
    /// Models that took part in no test, kept for the outcome.
    pub without: Vec<super::event::NoCandidate>,
    /// Where the cycle stands.
    pub state: State,
}

/// The part of a workflow's definition that steers the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Completed tasks that open an analysis.
    pub trigger_tasks: u32,
    /// The adoption gate.
    pub gate: GateRules,
    /// What watches an adoption.
    pub guard: Guard,
    /// The deck of a test.
    pub split: DeckRules,
    /// The deck of a probation.
    pub probation: DeckRules,
    /// Under the guard `strict`, the look that decides at the latest.
    pub strict_looks_max: u32,
    /// Pooled improvement, in basis points, that a probation must exceed to keep the adoption.
    pub retain_basis_points: u32,
    /// Probation scores an arm below which a probation cannot decide itself.
    pub probation_scores_per_arm_min: u32,
    /// When a person is asked.
    pub approval: Approval,
}

names! {
    /// When the cycle waits for a person's word.
    Approval {
        None => "none",
        BeforeTest => "before_test",
        BeforeApply => "before_apply",
    }
}

/// A stored snapshot that cannot be read. The row is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer version of the program.
    #[error(
        "the snapshot has format {found}, this program knows up to {known}; run the newer version that wrote it"
    )]
    FromTheFuture {
        /// The stored format.
        found: u64,
        /// The newest format that this program knows.
        known: u16,
    },
    /// Not a snapshot of the format that it claims.
    #[error("the snapshot does not have the shape of format {format}: {cause}")]
    Malformed {
        /// The format that it claims.
        format: u64,
        /// What serde said.
        cause: serde_json::Error,
    },
    /// No format number at all.
    #[error("the snapshot names no format")]
    NoFormat,
}

impl Rules {
    /// What the `number`-th look, from 1, at a test's frozen scores amounts to under the guard.
    #[must_use]
    pub fn look(&self, number: u32, look: &Look) -> Step {
        match self.guard {
            Guard::Off | Guard::Probation => Step::Decided(gate::decide(&self.gate, look)),
            Guard::Paired => Step::Decided(paired::decide(&self.gate, look)),
            Guard::Strict => match strict::step(&self.gate, number, look) {
                Step::GoesOn if number >= self.strict_looks_max => {
                    Step::Decided(self.at_the_last_look(look))
                }
                step => step,
            },
        }
    }

    /// The verdict on a candidate that is neither proven nor refuted when no further look is allowed.
    fn at_the_last_look(&self, look: &Look) -> Decision {
        let literal = gate::decide(&self.gate, look);
        let reason = match literal.status {
            Status::Adopted => Reason::NotProven,
            Status::Rejected | Status::Inconclusive => literal.reason,
        };
        Decision { status: Status::Rejected, reason }
    }
}

impl Snapshot {
    /// A fresh cycle in Collecting, before its first event.
    #[must_use]
    pub const fn open(cycle: i64, rules: Rules) -> Self {
        Self { format: FORMAT, cycle, seq: 0, rules, without: Vec::new(), state: State::Collecting }
    }

    /// Reads a stored snapshot, upcasting older formats.
    ///
    /// # Errors
    /// [`SnapshotError`] when the JSON is of a newer format or of none that is known.
    pub fn from_json(value: Value) -> Result<Self, SnapshotError> {
        let format = value.get("format").and_then(Value::as_u64).ok_or(SnapshotError::NoFormat)?;
        if format > u64::from(FORMAT) {
            return Err(SnapshotError::FromTheFuture { found: format, known: FORMAT });
        }
        let current = upcast(format, value);
        serde_json::from_value(current).map_err(|cause| SnapshotError::Malformed { format, cause })
    }
}

/// Brings an older format up to the current one, one step a format.
fn upcast(format: u64, mut value: Value) -> Value {
    let Some(object) = value.as_object_mut() else { return value };
    // Format 0 was a pre-release without `without`.
    if format < 1 {
        object.entry("without").or_insert_with(|| Value::Array(Vec::new()));
    }
    // Format 1 dealt one deck of ten an arm, and its rules named none.
    if format < 2
        && let Some(rules) = object.get_mut("rules").and_then(Value::as_object_mut)
    {
        rules.entry("split").or_insert_with(|| json!({ "per_arm": 10, "block": 4 }));
        rules.entry("probation").or_insert_with(|| json!({ "per_arm": 15, "block": 4 }));
        rules.entry("strict_looks_max").or_insert_with(|| json!(strict::LOOKS_MAX));
    }
    object.insert("format".to_owned(), Value::from(FORMAT));
    value
}
