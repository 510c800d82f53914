//! The reference pipeline: a ClickUp task comes in, Claude rewrites its prompt for each model, WaveSpeed edits the
//! picture, Claude scores the results, and the best one goes back to the task.
//!
//! It stands on the public interfaces of the learning layer only: it asks `VersionAssigner` which version a task gets
//! and tells `TaskLogger` every step, as an orchestrator in another process would over HTTP.
//!
//! Reading order: `definition` (what may be configured), `webhook` (how a task comes in), `queue` (who works on it),
//! `run` (the walk of one task, with `reading`, `attempt` and `finishing` for its parts), `journal` (what a redo reads),
//! `select` (what follows from what happened), `events` (what the task log is told), `rounds` (what comes round).

mod asking;
mod attempt;
pub mod claude_calls;
pub mod clickup;
pub mod comments;
pub mod definition;
pub mod enhance;
pub mod events;
mod finishing;
mod journal;
pub mod pictures;
mod pipeline;
mod probe;
mod prompts;
mod queue;
mod reading;
pub mod record;
mod rounds;
mod run;
pub mod select;
pub mod service;
pub mod validate;
pub mod wavespeed;
pub mod webhook;

pub use definition::PipelineDefinition;
pub use pipeline::{Fates, Pipeline, ServiceSettings, Services};
pub use probe::Probe;
pub use queue::Worked;
pub use rounds::{RoundError, run as run_rounds};

#[cfg(test)]
mod prompt_tests;
#[cfg(test)]
mod services_table;
#[cfg(test)]
mod testing;
