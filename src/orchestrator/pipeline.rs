//! The pipeline of one workflow in this process: what it works with, and the three services.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::asking::Timed;
use super::clickup::{ClickUp, ClickUpSettings};
use super::definition::{PipelineDefinition, PipelineKeys};
use super::pictures::PictureHttp;
use super::probe::Probe;
use super::service::{Service, ServiceError};
use super::wavespeed::{WaveSpeed, WaveSpeedSettings};
use crate::claude::ClaudeApi;
use crate::clock::Clock;
use crate::runtime::{Engine, VersionAssigner, Workflow};
use crate::settings::Secret;
use crate::store::pipeline::feedback::Place;
use crate::task_log::TaskLogger;

/// Where the services are, and the keys for them.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Such as `https://api.clickup.com`.
    pub clickup_base_url: String,
    /// ClickUp's token.
    pub clickup_token: Secret,
    /// What ClickUp signs its deliveries with.
    pub clickup_webhook_secret: Secret,
    /// Such as `https://api.wavespeed.ai`.
    pub wavespeed_base_url: String,
    /// WaveSpeed's key.
    pub wavespeed_key: Secret,
    /// Whether pictures may be read from private addresses, and sent there.
    pub pictures_allow_private: bool,
}

/// The clients of the three services.
#[derive(Clone)]
pub struct Services {
    /// Holds the tasks.
    pub clickup: ClickUp,
    /// Makes pictures.
    pub wavespeed: WaveSpeed,
    /// Enhances prompts and judges pictures.
    pub claude: Arc<dyn ClaudeApi>,
    /// Fetches originals.
    pub clickup_pictures: PictureHttp,
    /// Fetches results.
    pub wavespeed_pictures: PictureHttp,
}

impl Services {
    /// Prepares the clients; connects to nothing yet.
    ///
    /// # Errors
    /// [`ServiceError`] when an address or a key cannot be one.
    pub fn new(
        settings: &ServiceSettings,
        keys: &PipelineKeys,
        claude: Arc<dyn ClaudeApi>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServiceError> {
        let seconds = |number: u32| Duration::from_secs(number.into());
        let timeouts = &keys.timeouts;
        let clickup = ClickUpSettings {
            base_url: settings.clickup_base_url.clone(),
            token: settings.clickup_token.clone(),
            timeout: seconds(timeouts.clickup_seconds),
        };
        let allow_private = settings.pictures_allow_private;
        let limit = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let wavespeed = WaveSpeedSettings {
            poll_interval: seconds(timeouts.poll_seconds),
            submits_per_minute: limit(keys.wavespeed.submits_per_minute),
            concurrent_max: limit(keys.wavespeed.concurrent_max),
            timeout: seconds(timeouts.wavespeed_seconds),
            allow_private,
            ..WaveSpeedSettings::new(
                settings.wavespeed_base_url.clone(),
                settings.wavespeed_key.clone(),
            )
        };
        let pictures = |service, base_url: &str| {
            let timeout = seconds(timeouts.download_seconds);
            PictureHttp::new(service, base_url, allow_private, timeout)
        };
        Ok(Self {
            clickup: ClickUp::new(clickup, Arc::clone(&clock))?,
            wavespeed: WaveSpeed::new(wavespeed, clock)?,
            claude: Arc::new(Timed { inner: claude, limit: seconds(timeouts.claude_seconds) }),
            clickup_pictures: pictures(Service::ClickUp, &settings.clickup_base_url)?,
            wavespeed_pictures: pictures(Service::WaveSpeed, &settings.wavespeed_base_url)?,
        })
    }
}

/// The pipeline of one workflow.
pub struct Pipeline {
    /// The database, the clock, this worker.
    pub engine: Engine,
    /// The workflow.
    pub workflow: Workflow,
    /// How it runs.
    pub definition: PipelineDefinition,
    /// Whom it calls.
    pub services: Services,
    /// Whom it tells.
    pub logger: TaskLogger,
    /// Whom it asks for versions.
    pub assigner: VersionAssigner,
    /// Where a test lets it die; nowhere else.
    pub probe: Probe,
    /// Rung when there may be a job to claim.
    pub wake: Notify,
    /// Where the next round that looks after pictures begins.
    pub fates: Fates,
}

/// How far the round that looks after pictures has come, in this process; without it, looks that always fail would be
/// all that is ever tried.
#[derive(Debug, Default)]
pub struct Fates(Mutex<Option<Place>>);

impl Fates {
    pub(super) fn begin(&self) -> Place {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Place::FIRST)
    }

    /// `None`: from the oldest again.
    pub(super) fn go_on(&self, after: Option<Place>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }
}
