//! The rescuer: gives a dead worker's effects to the living, within a second of its death.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::claims::Claimed;
use super::engine::Engine;
use crate::store::pipeline::jobs;
use crate::store::{StoreError, effects, leases};

/// How often the rescuer looks for dead workers.
const POLL: Duration = Duration::from_millis(400);
/// A server that restarts or recovers drops every session and lock at once. Until the other workers had
/// this long to take theirs again, a missing lock proves nothing, and leases decide.
const TRUSTS_LOCKS_AFTER: Duration = Duration::from_secs(5);

/// Holds this worker's own lock on one session, renews its leases, and rescues the effects of others.
pub struct Rescuer {
    engine: Engine,
    session: Option<PgConnection>,
    trusts_locks_after: Duration,
    unknown_before: HashSet<Claimed>,
}

impl Rescuer {
    /// A rescuer that holds no lock yet.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            session: None,
            trusts_locks_after: TRUSTS_LOCKS_AFTER,
            unknown_before: HashSet::new(),
        }
    }

    /// How old this rescuer's own session must be before a missing lock counts as a death; 5 s where
    /// nothing is said. A test that knows that the server did not restart may say zero.
    #[must_use]
    pub const fn trusting_locks_after(mut self, age: Duration) -> Self {
        self.trusts_locks_after = age;
        self
    }

    /// Keeps the lock, the leases and the watch over others until the token is cancelled. The lock is
    /// given up last, so that nobody rescues what this process is still handing back.
    pub async fn run(mut self, stop: CancellationToken) {
        let third = self.engine.settings.lease / 3;
        let mut renewed = self.engine.now();
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(error = %error, "the worker's session failed; opening another");
                self.session = None;
            }
            let now = self.engine.now();
            // Leases run by the database's clock. Where this one was set back, its own word means nothing.
            if !(now - renewed).to_std().is_ok_and(|age| age < third) {
                match self.renew().await {
                    Ok(()) => renewed = now,
                    Err(error) => {
                        tracing::warn!(error = %error, "the leases could not be renewed; trying again")
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.engine.clock.sleep(POLL) => {}
            }
        }
    }

    /// Hands back claims of this worker that nobody in this process knows of, once they were seen on
    /// two looks running: in between, the answer of the commit that made them may still come.
    async fn hand_back_unknown(&mut self) -> Result<u64, StoreError> {
        let engine = &self.engine;
        let pool = engine.store.pool();
        let mut unknown = HashSet::new();
        let mut handed_back = 0;
        for (workflow_id, effect_id, fence) in leases::own_claims(pool, engine.worker_id).await? {
            let claimed = Claimed::Effect(effect_id);
            if engine.claims.knows(claimed) {
                continue;
            }
            if self.unknown_before.contains(&claimed) {
                let worker_id = engine.worker_id;
                handed_back +=
                    leases::hand_back_own(pool, workflow_id, effect_id, worker_id, fence).await?;
            } else {
                unknown.insert(claimed);
            }
        }
        for job in jobs::own_claims(pool, engine.worker_id).await? {
            let claimed = Claimed::Job(job.job_id);
            if engine.claims.knows(claimed) {
                continue;
            }
            if self.unknown_before.contains(&claimed) {
                jobs::hand_back(pool, &job).await?;
                handed_back += 1;
            } else {
                unknown.insert(claimed);
            }
        }
        self.unknown_before = unknown;
        Ok(handed_back)
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let engine = &self.engine;
        let (pool, lease) = (engine.store.pool(), engine.settings.lease);
        effects::renew(pool, engine.worker_id, lease).await?;
        jobs::renew(pool, engine.worker_id, lease).await?;
        Ok(())
    }

    /// Takes the lock if it is not held, then rescues what dead workers hold. Returns how many effects
    /// were rescued.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; the session is opened again then.
    pub async fn look(&mut self) -> Result<u64, StoreError> {
        let worker_id = self.engine.worker_id;
        let pool = self.engine.store.pool().clone();
        if self.session.is_none() {
            // Out of the pool for good: the lock lives as long as this very session, and goes with it.
            let mut session = pool.acquire().await?.detach();
            if !leases::take_own_lock(&mut session, worker_id).await? {
                // Our own old session is not gone yet; the next look tries again.
                return Ok(0);
            }
            self.session = Some(session);
        }
        let Some(session) = self.session.as_mut() else { return Ok(0) };
        session.ping().await?;
        let mut rescued = self.hand_back_unknown().await?;
        let Some(session) = self.session.as_mut() else { return Ok(rescued) };
        let holders = leases::holders(&pool, worker_id).await?;
        for holder in holders {
            let dead = is_dead(session, holder.worker_id, self.trusts_locks_after).await?;
            if dead || holder.lease_over {
                let only_expired = !dead;
                rescued += leases::rescue(&pool, holder.worker_id, only_expired, self.engine.now())
                    .await?;
                rescued += jobs::rescue(&pool, holder.worker_id, only_expired).await?;
            }
        }
        if rescued > 0 {
            tracing::info!(rescued, "effects and jobs that nobody performs were rescued");
            self.engine.work.notify_one();
        }
        Ok(rescued)
    }
}

async fn is_dead(
    session: &mut PgConnection,
    worker_id: uuid::Uuid,
    trusts_locks_after: Duration,
) -> Result<bool, StoreError> {
    Ok(leases::session_age_seconds(session).await? >= trusts_locks_after.as_secs_f64()
        && leases::lock_is_free(session, worker_id).await?)
}
