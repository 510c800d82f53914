//! One file a row, or two rows that share what they drive.

pub mod age;
pub mod assignment;
pub mod build;
pub mod claim;
pub mod client;
pub mod dashboard;
pub mod events;
pub mod first_assignment;
pub mod retention;
pub mod start;
pub mod transitions;
pub mod trigger;
