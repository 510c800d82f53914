//! The reference pipeline's own tables: deliveries, jobs, the journal of their steps, paid calls.
//!
//! A job is one run of one task. Whoever claims it names its fence in every write; a write that names an older
//! one affects no row and is [`StoreError::JobLost`](super::StoreError::JobLost). Paid calls stand outside the
//! fence, so that even a worker that lost its job records what it cost.

pub mod calls;
pub mod deliveries;
pub mod feedback;
pub mod jobs;
pub mod overview;
pub mod prune;
pub mod rounds;
pub mod steps;

pub use jobs::ClaimedJob;
