//! Everything that runs in a serving process, started together and stopped in order.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assigner::VersionAssigner;
use super::engine::Engine;
use super::rescuer::Rescuer;
use super::worker::Worker;
use super::{batches, follower, reconciler, refresher, scheduler, watcher};

/// How long to wait before listening again after the connection broke.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The background work of a serving process.
pub struct Runtime {
    engine: Engine,
    worker: Arc<Worker>,
    assigner: VersionAssigner,
    stop_taking: CancellationToken,
    stop_lock: CancellationToken,
    chores: TaskTracker,
    lock: TaskTracker,
}

impl Runtime {
    /// Starts every chore. Before this returns the memory of active versions is filled, and before the
    /// first claim this worker's lock is taken, since a claim without one looks like a dead worker's.
    ///
    /// # Errors
    /// [`crate::store::StoreError`] when the database fails.
    pub async fn start(engine: Engine) -> Result<Self, crate::store::StoreError> {
        let assigner = VersionAssigner::new(engine.clone());
        assigner.refresh().await?;
        let mut rescuer = Rescuer::new(engine.clone());
        rescuer.look().await?;
        let runtime = Self {
            worker: Arc::new(Worker::new(engine.clone())),
            assigner,
            stop_taking: CancellationToken::new(),
            stop_lock: CancellationToken::new(),
            chores: TaskTracker::new(),
            lock: TaskTracker::new(),
            engine,
        };
        runtime.spawn_all(rescuer);
        Ok(runtime)
    }

    fn spawn_all(&self, rescuer: Rescuer) {
        let stop = || self.stop_taking.clone();
        let engine = || self.engine.clone();
        let worker = || Arc::clone(&self.worker);
        self.lock.spawn(rescuer.run(self.stop_lock.clone()));
        self.chores.spawn(worker().run(stop()));
        self.chores.spawn(watcher::run(engine(), worker(), stop()));
        self.chores.spawn(scheduler::run(engine(), worker(), stop()));
        self.chores.spawn(reconciler::run(engine(), stop()));
        self.chores.spawn(refresher::run(engine(), stop()));
        self.chores.spawn(batches::run(engine(), stop()));
        for follower in self.engine.store.followers() {
            self.chores.spawn(follower::run(engine(), follower, stop()));
        }
        self.chores.spawn(self.assigner.clone().run(stop()));
        self.chores.spawn(listen(engine(), self.assigner.clone(), stop()));
    }

    /// Answers which version a run gets.
    #[must_use]
    pub const fn assigner(&self) -> &VersionAssigner {
        &self.assigner
    }

    /// The engine that everything shares.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Claims nothing new from now on; the grace time of running effects begins. For a process that has more to stop than
    /// this runtime, so that all of it has one grace time and not one after the other.
    pub fn stop_taking(&self) {
        self.stop_taking.cancel();
    }

    /// Stops in order: nothing new is claimed, running effects get their grace time and are handed
    /// back after it without spending a try, and only then is this worker's lock given up.
    pub async fn shut_down(self) {
        self.stop_taking();
        self.chores.close();
        self.chores.wait().await;
        // A watcher may have moved a cycle after the worker's last look.
        self.worker.hand_back_waiting().await;
        self.stop_lock.cancel();
        self.lock.close();
        self.lock.wait().await;
    }
}

/// Listens for hints of other processes. Polling is the truth; this only makes it quicker.
async fn listen(engine: Engine, assigner: VersionAssigner, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let listening = hear_hints(&engine, &assigner);
        tokio::select! {
            () = stop.cancelled() => {}
            heard = listening => {
                if let Err(error) = heard {
                    tracing::debug!(error = %error, "listening for hints failed; polling goes on");
                }
                engine.clock.sleep(LISTEN_AGAIN).await;
            }
        }
    }
}

async fn hear_hints(engine: &Engine, assigner: &VersionAssigner) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(engine.store.pool()).await?;
    listener.listen("mathesis").await?;
    loop {
        let hint = listener.recv().await?;
        assigner.hint();
        engine.work.notify_one();
        // A hint names its workflow.
        match hint.payload().parse() {
            Ok(workflow_id) => engine.watch.ring(workflow_id),
            Err(_) => engine.watch.ring_any(),
        }
    }
}
