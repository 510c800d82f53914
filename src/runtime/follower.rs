//! Follows a replicated database to whichever host takes writes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use crate::store::hosts::Follower;

/// How often the host is asked. A failover is noticed within this time; a session that broke tells sooner only
/// to whoever uses it.
const POLL: Duration = Duration::from_millis(500);

/// Looks until the token is cancelled. Nothing is written, so a crash here means nothing.
pub(super) async fn run(engine: Engine, mut follower: Follower, stop: CancellationToken) {
    let mut told = false;
    while !stop.is_cancelled() {
        let looked = tokio::select! {
            looked = follower.look() => looked,
            () = stop.cancelled() => break,
        };
        match looked {
            Ok(turned) => {
                told = false;
                if turned {
                    engine.work.notify_one();
                    engine.watch.ring_any();
                }
            }
            Err(error) if told => tracing::debug!(error = %error, "the database is still away"),
            Err(error) => {
                told = true;
                tracing::warn!(error = %error, "no host of the database will do; looking on");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.clock.sleep(POLL) => {}
        }
    }
}
