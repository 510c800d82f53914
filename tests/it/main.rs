//! The integration tests: one binary, one PostgreSQL, real everything but Claude and the clock.

mod support;

mod engine;
mod holds;
mod invariants;
mod schedules;
mod stepping;
mod trigger;
