//! The integration tests: one binary, one PostgreSQL, real everything but Claude and the clock.

mod support;

mod analytics;
mod architecture;
mod changes;
mod costs;
mod dealing;
mod learning;
mod retention;
mod stepping;
mod task_log;
mod texts;
