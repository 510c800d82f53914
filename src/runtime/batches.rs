//! Batches that nobody waits for any more: cancelled where that is still possible, and their cost put on record.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use crate::store::StoreError;

/// How often abandoned batches are looked at.
const POLL: Duration = Duration::from_secs(30);

/// Looks until the token is cancelled. Every step may be left and done again.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let settled = tokio::select! {
            settled = settle_abandoned_batches(&engine) => settled,
            () = stop.cancelled() => break,
        };
        if let Err(error) = settled {
            tracing::warn!(error = %error, "abandoned batches could not be looked at; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.clock.sleep(POLL) => {}
        }
    }
}

/// Cancels the batches of cycles that went on without them, and writes down what they came to; returns how many are
/// settled.
///
/// # Errors
/// [`StoreError`] when the database fails; the next look goes on.
pub async fn settle_abandoned_batches(engine: &Engine) -> Result<u32, StoreError> {
    crate::effects::settle_abandoned(engine).await
}
