//! The invariants of the design, one by one. Each test is named after the one that it watches.

mod calls;
mod files;
mod history;
mod learning;
mod production;
