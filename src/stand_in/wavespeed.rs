//! A stand-in for WaveSpeed: a real HTTP server on 127.0.0.1 with its media upload, submits, results and webhooks.
//!
//! What a picture shows is drawn by a [`Painter`]. Every submit that is taken goes on the [`bill`](WaveSpeedStandIn::billed),
//! so that a test can say that nothing was billed twice. Pictures that a submit names must have been uploaded here.

mod api;
mod media;
mod painter;
mod predictions;
mod webhook;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::listener::{Bound, Listener};
use super::script::Script;
use crate::clock::{Clock, SystemClock};
use media::Media;
pub use painter::{Order, Painter, PlainPainter, picture};
use predictions::Predictions;
pub use webhook::signature;

/// A model that the stand-in serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedModel {
    /// The path behind `/api/v3/`, such as `google/nano-banana/edit`.
    pub endpoint: String,
    /// How many pictures a submit may name.
    pub pictures_max: usize,
    /// The shortest and the longest side that a picture may have, in pixels.
    pub side_pixels: (u32, u32),
}

/// How to start a stand-in.
#[derive(Clone)]
pub struct WaveSpeedStandInSettings {
    /// The one key it accepts.
    pub key: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// How long a picture takes. Default: no time, so that the first look finds it done.
    pub inference: Duration,
    /// Submits that are taken in any minute; none for no limit, the default.
    pub submits_per_minute: Option<u32>,
    /// Pictures that may be in the making at a time; none for no limit, the default.
    pub concurrent_max: Option<u32>,
    /// The models; the default has the two of the shipped workflow with their documented limits.
    pub models: Vec<ServedModel>,
    /// Signs what `?webhook=` asked for. Begins with `whsec_`.
    pub webhook_secret: String,
    /// Dates what it answers, and counts the minute of the limit.
    pub clock: Arc<dyn Clock>,
}

impl Default for WaveSpeedStandInSettings {
    fn default() -> Self {
        let model = |endpoint: &str, pictures_max, side_pixels| ServedModel {
            endpoint: endpoint.to_owned(),
            pictures_max,
            side_pixels,
        };
        Self {
            key: "ws-stand-in".to_owned(),
            port: 0,
            inference: Duration::ZERO,
            submits_per_minute: None,
            concurrent_max: None,
            models: vec![
                model("google/nano-banana/edit", 10, (1, u32::MAX)),
                model("alibaba/wan-2.5/image-edit", 2, (384, 5_000)),
            ],
            webhook_secret: "whsec_0123456789abcdef0123456789abcdef".to_owned(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// The prediction.
    pub id: String,
    /// The model's path, such as `google/nano-banana/edit`.
    pub endpoint: String,
    /// The prompt.
    pub prompt: String,
    /// The addresses of the pictures that it was given.
    pub images: Vec<String>,
    /// When it was taken.
    pub at: DateTime<Utc>,
}

/// A running stand-in. Dropping it stops it.
pub struct WaveSpeedStandIn {
    listener: Listener,
    site: Arc<Site>,
}

/// What the server works on.
struct Site {
    settings: WaveSpeedStandInSettings,
    base_url: String,
    seed: u64,
    painter: Box<dyn Painter>,
    http: reqwest::Client,
    media: Mutex<Media>,
    predictions: Mutex<Predictions>,
}

impl WaveSpeedStandIn {
    /// Starts a stand-in and returns when it listens.
    ///
    /// # Errors
    /// When the port is taken, or no HTTP client for the webhooks can be made.
    pub async fn start(
        settings: WaveSpeedStandInSettings,
        script: Script,
        painter: impl Painter,
    ) -> io::Result<Self> {
        let bound = Bound::take(settings.port).await?;
        let site = Arc::new(Site {
            base_url: bound.base_url().to_owned(),
            seed: script.seed(),
            painter: Box::new(painter),
            http: super::listener::client(Duration::from_secs(10))?,
            media: Mutex::default(),
            predictions: Mutex::default(),
            settings,
        });
        let listener = bound.serve(script, Arc::new(api::Api(Arc::clone(&site))));
        Ok(Self { listener, site })
    }

    /// Its address, such as `http://127.0.0.1:41234`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.listener.base_url()
    }

    /// Every submit that was taken, the oldest first; failed ones too, which the real service refunds.
    #[must_use]
    pub fn billed(&self) -> Vec<Billed> {
        lock(&self.site.predictions).billed()
    }

    /// Stops it; no request is answered once this returns.
    pub async fn stop(mut self) {
        self.listener.stop().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
