//! What every part of the runtime shares: the store, the clock, Claude, the workflows, this worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use super::bell::Bell;
use super::claims::Claims;
use super::registry::Registry;
use crate::claude::{ClaudeApi, Pause};
use crate::clock::Clock;
use crate::store::Store;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The folder that the workflows' config folders are relative to.
    pub root: PathBuf,
    /// This machine's name, for telling apart the config folders of several replicas.
    pub host: String,
    /// How long a claim outlives the last sign of life of its worker.
    pub lease: Duration,
    /// How long a shutdown waits for running effects before it hands them back.
    pub shutdown_grace: Duration,
}

/// Where the seeds of decks come from: randomness is drawn here and nowhere else.
pub type DrawSeed = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What every part of the runtime shares. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Claude, real or scripted.
    pub claude: Arc<dyn ClaudeApi>,
    /// Waiting and jitter between a call's retries.
    pub pause: Arc<dyn Pause>,
    /// Where the seeds of decks come from.
    pub draw_seed: DrawSeed,
    /// The workflows by name.
    pub registry: Registry,
    /// This process, as claims and calls name it.
    pub worker_id: Uuid,
    /// How it is set up.
    pub settings: Arc<EngineSettings>,
    /// The claims that this process knows it holds.
    pub claims: Claims,
    /// Rung when there may be effects to claim.
    pub work: Arc<Notify>,
    /// Rung for a workflow that may have its trigger reached or a deck complete.
    pub watch: Bell,
}

impl Engine {
    /// Now, by the injected clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A workflow's config folder on this machine.
    #[must_use]
    pub fn config_folder(&self, config_folder: &str) -> PathBuf {
        let folder = Path::new(config_folder);
        if folder.is_absolute() { folder.to_owned() } else { self.settings.root.join(folder) }
    }
}
