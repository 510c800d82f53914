//! Telling a workflow's webhook what happened: verdicts, holds, rollbacks, the budget.
//!
//! The outbox (`store::notifications`) is written in the transactions of what it tells of. The [`Notifier`] sends what is
//! there: at least once, under one id, signed as the Standard Webhooks specification says, again and again with growing
//! pauses, until it is given up. It stands beside the engine and never in the way of ingest or of a cycle.

mod message;
mod notifier;
mod signature;

pub use message::{Link, Message, Parts};
pub use notifier::{Notifier, Secrets, Tested, delay_before, send_again};
pub use signature::{BadSecret, SigningKey};
