//! The integration tests: one binary, one PostgreSQL, real everything but Claude and the clock.

mod support;

mod architecture;
mod stepping;
mod task_log;
