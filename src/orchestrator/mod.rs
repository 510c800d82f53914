//! The reference pipeline: a ClickUp task comes in, Claude rewrites its prompt for each model, WaveSpeed edits the
//! picture, Claude scores the results, and the best one goes back to the task.
//!
//! It stands on the public interfaces of the learning layer only: it asks `VersionAssigner` which version a task gets
//! and tells `TaskLogger` every step, as an orchestrator in another process would over HTTP.

pub mod claude_calls;
pub mod clickup;
pub mod enhance;
pub mod pictures;
mod prompts;
pub mod service;
pub mod validate;
pub mod wavespeed;

#[cfg(test)]
mod prompt_tests;
#[cfg(test)]
mod services_table;
#[cfg(test)]
mod testing;
