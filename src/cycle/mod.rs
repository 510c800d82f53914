//! The learning cycle as a pure state machine.
//!
//! [`step`] takes a [`Snapshot`] and an [`Event`] and returns the next snapshot with the [`Effect`]s
//! that the transition asks for. It knows no clock, no randomness and no I/O, so a history of events
//! replays to the very same state on any machine. Everything that touches the world is done elsewhere:
//! `runtime::advance` commits a step, `effects` performs what it asked for.

mod diagram;
mod effect;
mod event;
mod machine;
mod outcome;
mod samples;
mod snapshot;
mod state;

pub use crate::experiment::Guard;
pub use diagram::{arrows, mermaid, state_machine_page, transition_table};
pub use effect::{ApprovalStage, Effect, EffectKind};
pub use event::{Event, EventName, NoCandidate, NoCandidateReason};
pub use machine::{InvalidTransition, step};
pub use outcome::{ModelOutcome, ModelResult, Outcome};
pub use samples::{sample_events, sample_rules, sample_states};
pub use snapshot::{Approval, Rules, Snapshot, SnapshotError};
pub use state::{
    Adoption, AnalysisSummary, Experiment, ModelVerdict, OnProbation, ProbationDecision, State,
    StateName, Window,
};

#[cfg(test)]
mod tests;
