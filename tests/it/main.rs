//! The integration tests: one binary, one PostgreSQL, real everything but Claude and the clock.

mod support;

mod analytics;
mod architecture;
mod cli;
mod costs;
mod http;
mod real_scores;
mod restart;
mod retention;
mod stepping;
mod task_log;
mod engine;
mod holds;
mod invariants;
mod schedules;
mod trigger;
