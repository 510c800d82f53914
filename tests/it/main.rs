//! The integration tests: one binary, one PostgreSQL, real everything but Claude and the clock.

mod support;

mod analytics;
mod architecture;
mod batches;
mod blame;
mod brakes;
mod browser;
mod candidates;
mod changes;
mod cli;
mod costs;
mod dealing;
mod engine;
mod fifty_cycles;
mod figures;
mod holds;
mod http;
mod insights;
mod invariants;
mod learning;
mod month;
mod orchestrator;
mod paired;
mod probation;
mod real_scores;
mod restart;
mod retention;
mod schedules;
mod stand_ins;
mod stepping;
mod strict;
mod task_log;
mod texts;
mod trigger;
mod watch;
