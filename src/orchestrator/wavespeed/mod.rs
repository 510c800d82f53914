//! WaveSpeed: a picture is asked for with one paid request, and looked for until it is there.
//!
//! Written from WaveSpeed's API documentation (wavespeed.ai/docs) and the sources of its own clients (Python 2.0.5,
//! npm 0.3.2). Reading order: [`wire`] is what is said, `errors` says what a failure means, `slots` counts what is
//! running, [`webhook`] checks what WaveSpeed sends by itself.
//!
//! What must never be: a submit made twice because its end was not seen. Each one may be billed, so only a refused
//! connection, after which nothing was sent, is tried again here.

mod errors;
mod slots;
#[cfg(test)]
pub(super) mod tests;
mod upload;
pub mod webhook;
pub mod wire;

pub use wire::{Finished, Prediction};

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use chrono::{DateTime, TimeDelta, Utc};
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::service::{Next, ServiceError};
use crate::claude::retry_after;
use crate::clock::Clock;
use crate::outbound::{
    self, Failure, FailureKind, Reach, Reply, Throttle, WAIT_MAX, address_below, exchange, header,
    shorten,
};
use crate::settings::Secret;
use errors::Step;
use slots::Slots;
use wire::Envelope;

/// How to reach WaveSpeed, and how much it may be asked for.
#[derive(Debug, Clone)]
pub struct WaveSpeedSettings {
    /// Such as `https://api.wavespeed.ai`, without the path.
    pub base_url: String,
    /// The key.
    pub key: Secret,
    /// Between two looks at a prediction.
    pub poll_interval: Duration,
    /// How many predictions may be asked for in a minute; the account's level says (10 to 5,000).
    pub submits_per_minute: NonZeroU32,
    /// How many predictions may run at once; the account's level says (3 to 5,000).
    pub concurrent_max: NonZeroU32,
    /// For one call, from the connection to the answer's last byte.
    pub timeout: Duration,
    /// Whether a picture may be put at a private address that WaveSpeed names.
    pub allow_private: bool,
}

impl WaveSpeedSettings {
    /// The address and the key, with a look a second and the limits of the smallest account.
    #[must_use]
    pub fn new(base_url: impl Into<String>, key: Secret) -> Self {
        Self {
            base_url: base_url.into(),
            key,
            poll_interval: Duration::from_secs(1),
            submits_per_minute: NonZeroU32::MIN.saturating_add(9),
            concurrent_max: NonZeroU32::MIN.saturating_add(2),
            timeout: Duration::from_secs(30),
            allow_private: false,
        }
    }
}

/// The longest answer that is read: long enough for a picture as text.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often a refused connection is tried again at once.
const CONNECTS_AGAIN_MAX: usize = 2;

/// How often a look at a prediction that failed is repeated at once, as WaveSpeed's own clients do.
const LOOKS_AGAIN_MAX: usize = 5;

/// How long a 429 that names no time closes the door. Limits are counted a minute.
const LIMITED_WAIT: Duration = Duration::from_secs(15);

/// Calls WaveSpeed. A clone is the same client, with the same limits.
#[derive(Clone)]
pub struct WaveSpeed {
    inner: Arc<Inner>,
}

/// Leave to ask for one picture: a slot of the account, and a share of its minute.
#[derive(Debug)]
#[must_use = "dropping it gives the slot back"]
pub struct Permit {
    slot: Option<OwnedSemaphorePermit>,
}

type Submits = RateLimiter<NotKeyed, InMemoryState, ByClock, NoOpMiddleware<Duration>>;

struct Inner {
    http: reqwest::Client,
    reach: Reach,
    base: Url,
    key: Secret,
    poll_interval: Duration,
    timeout: Duration,
    throttle: Throttle,
    submits: Submits,
    slots: Slots,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for WaveSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaveSpeed").field("throttle", &self.inner.throttle).finish_non_exhaustive()
    }
}

impl WaveSpeed {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// `wavespeed_bad_settings` when the address or the key cannot be one, or the machine's certificates cannot be read.
    pub fn new(settings: WaveSpeedSettings, clock: Arc<dyn Clock>) -> Result<Self, ServiceError> {
        let bad = |words: &str| errors::error("wavespeed_bad_settings", words, Next::Operator);
        let base = outbound::base_address(&settings.base_url).ok_or_else(|| {
            bad("WAVESPEED_BASE_URL is not a web address; write it like https://api.wavespeed.ai.")
        })?;
        let key = settings.key.expose().trim();
        if key.is_empty() || outbound::secret_header(key).is_none() {
            return Err(bad("WAVESPEED_API_KEY is empty or holds a sign that no key has."));
        }
        let connect_timeout = settings.timeout.min(Duration::from_secs(5));
        let no_client =
            |words: String| bad(&format!("The HTTPS client could not be set up: {words}."));
        let timeout = settings.timeout.saturating_mul(4);
        let http = outbound::client(&base, connect_timeout, timeout).map_err(no_client)?;
        let reach = Reach::new(base.clone(), settings.allow_private, connect_timeout, timeout)
            .map_err(no_client)?;
        let by_clock = ByClock(Arc::clone(&clock));
        let inner = Inner {
            http,
            reach,
            base,
            key: settings.key,
            poll_interval: settings.poll_interval.max(Duration::from_millis(1)),
            timeout: settings.timeout,
            throttle: Throttle::new(Arc::clone(&clock)),
            submits: RateLimiter::direct_with_clock(
                Quota::per_minute(settings.submits_per_minute),
                by_clock,
            ),
            slots: Slots::new(settings.concurrent_max),
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until one more picture may be asked for: for a running prediction to end, and for the limits.
    ///
    /// Nothing is sent here, so whoever keeps a record of what may have been billed begins it after this wait. Dropping
    /// the permit, or the wait, gives the slot back.
    ///
    /// # Errors
    /// `Later` when the wait would be long. Nothing was asked for.
    pub async fn ready(&self) -> Result<Permit, ServiceError> {
        let slot = self.inner.slots.take(self.inner.clock.as_ref()).await;
        self.may_submit().await?;
        Ok(Permit { slot })
    }

    /// Asks for a picture. This is what is billed, and it takes the leave to do so with it.
    ///
    /// It does not wait: where another call was told of a limit since the permit was given, nothing is sent. A refused
    /// connection is tried again, since nothing was sent; nothing else is.
    ///
    /// # Errors
    /// `Later` when certainly nothing was asked for; `Unknown` when it may have been, and may be billed.
    pub async fn submit(
        &self,
        permit: Permit,
        endpoint: &str,
        body: &Value,
    ) -> Result<Prediction, ServiceError> {
        let path = endpoint_path(endpoint)?;
        let repeats =
            ExponentialBuilder::default().with_jitter().with_max_times(CONNECTS_AGAIN_MAX);
        let prediction = (|| async {
            if let Some(closed) = self.inner.throttle.closed() {
                return Err(errors::rate_limited(Some(closed.left)));
            }
            let request = self.request(Method::POST, &path, Step::Submit)?.json(body);
            self.call::<Prediction>(request, Step::Submit).await
        })
        .retry(repeats)
        .sleep(self.sleeper())
        .when(|error: &ServiceError| error.code == errors::UNREACHABLE)
        .await?;
        if !wire::is_id(&prediction.id) {
            return Err(errors::no_id());
        }
        self.inner.slots.keep(&prediction.id, permit.slot, self.inner.clock.now());
        Ok(prediction)
    }

    /// Looks for a prediction until it has ended, or until `deadline`. It may be called again for the same prediction,
    /// also after a crash and from another process.
    ///
    /// # Errors
    /// `Never` with WaveSpeed's words when it has failed; `Later` at the deadline, when the prediction may yet end.
    pub async fn wait(&self, id: &str, deadline: DateTime<Utc>) -> Result<Finished, ServiceError> {
        // Given back when this ends, however it ends.
        let _slot = self.inner.slots.of(id);
        if !wire::is_id(id) {
            return Err(errors::bad_id());
        }
        loop {
            if let Some(ended) = self.look(id).await?.ended() {
                return errors::of_end(ended);
            }
            let left = (deadline - self.inner.clock.now()).to_std().unwrap_or_default();
            if left.is_zero() {
                return Err(errors::not_finished());
            }
            self.inner.clock.sleep(self.inner.poll_interval.min(left)).await;
        }
    }

    /// One look, repeated where it failed: it changes nothing and costs nothing.
    async fn look(&self, id: &str) -> Result<Prediction, ServiceError> {
        let path = ["predictions", id, "result"].map(str::to_owned);
        let repeats = ConstantBuilder::default()
            .with_delay(Duration::from_secs(1))
            .with_max_times(LOOKS_AGAIN_MAX);
        (|| async {
            self.inner.throttle.ready().await.map_err(|left| errors::rate_limited(Some(left)))?;
            let request = self.request(Method::GET, &path, Step::Look)?;
            self.call::<Prediction>(request, Step::Look).await
        })
        .retry(repeats)
        .sleep(self.sleeper())
        .when(worth_repeating)
        .await
    }

    /// Waits for the service's own limit and for the account's submits a minute.
    async fn may_submit(&self) -> Result<(), ServiceError> {
        self.inner.throttle.ready().await.map_err(|left| errors::rate_limited(Some(left)))?;
        // A clock that stands still, as in a test, must not keep this waiting for ever.
        for _round in 0..ROUNDS_MAX {
            let Err(not_yet) = self.inner.submits.check() else { return Ok(()) };
            let wait = not_yet.wait_time_from(ByClock(Arc::clone(&self.inner.clock)).now());
            if wait > WAIT_MAX {
                return Err(errors::own_limit(wait));
            }
            self.inner.clock.sleep(wait).await;
        }
        Err(errors::own_limit(LIMITED_WAIT))
    }

    fn request(
        &self,
        method: Method,
        path: &[String],
        step: Step,
    ) -> Result<reqwest::RequestBuilder, ServiceError> {
        let segments: Vec<&str> =
            ["api", "v3"].into_iter().chain(path.iter().map(String::as_str)).collect();
        let not_sent = |words: &str| {
            errors::of_failure(
                step,
                &Failure { kind: FailureKind::NotSent, words: words.to_owned() },
            )
        };
        let address = address_below(&self.inner.base, &segments)
            .ok_or_else(|| not_sent("no address can be made of it"))?;
        let key = outbound::secret_header(&format!("Bearer {}", self.inner.key.expose().trim()))
            .ok_or_else(|| not_sent("the key cannot be a header"))?;
        let request = self.inner.http.request(method, address).header(AUTHORIZATION, key);
        Ok(request.timeout(self.inner.timeout))
    }

    /// One exchange and what it means.
    async fn call<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        step: Step,
    ) -> Result<T, ServiceError> {
        let reply = exchange(request, ANSWER_BYTES_MAX)
            .await
            .map_err(|failure| self.told(errors::of_failure(step, &failure)))?;
        let envelope = Envelope::read(&reply.body);
        if reply.status == 429 || envelope.as_ref().is_ok_and(|envelope| envelope.code == Some(429))
        {
            self.inner.throttle.close_for(limited_wait(&reply));
        }
        errors::read(step, &reply, envelope, limited_wait(&reply)).map_err(|error| self.told(error))
    }

    /// The error without the key in its words, and in the log.
    fn told(&self, error: ServiceError) -> ServiceError {
        let key = self.inner.key.expose().trim();
        let error = ServiceError { words: error.words.replace(key, "(hidden)"), ..error };
        tracing::warn!(
            wavespeed.code = error.code,
            wavespeed.words = shorten(&error.words, 200),
            "a WaveSpeed call failed"
        );
        error
    }

    fn sleeper(&self) -> impl backon::Sleeper<Sleep: Send> + Send + use<> {
        let clock = Arc::clone(&self.inner.clock);
        move |wait| {
            let clock = Arc::clone(&clock);
            async move { clock.sleep(wait).await }
        }
    }
}

/// How often the account's own limit is waited for in one call.
const ROUNDS_MAX: usize = 10;

/// What may be made later may be made now, unless the service asked for a long wait.
fn worth_repeating(error: &ServiceError) -> bool {
    matches!(error.next, Next::Later { after } if after.is_none_or(|after| after <= WAIT_MAX))
}

fn limited_wait(reply: &Reply) -> Duration {
    let asked =
        retry_after(None, header(&reply.headers, "retry-after"), header(&reply.headers, "date"));
    asked.unwrap_or(LIMITED_WAIT)
}

/// An endpoint is configuration, such as `google/nano-banana/edit`.
fn endpoint_path(endpoint: &str) -> Result<Vec<String>, ServiceError> {
    let segments: Vec<String> = endpoint.trim_matches('/').split('/').map(str::to_owned).collect();
    let good = |segment: &String| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if segments.iter().all(good) { Ok(segments) } else { Err(errors::bad_endpoint(endpoint)) }
}

/// The injected clock, as governor wants one: the time since 1970.
#[derive(Clone)]
struct ByClock(Arc<dyn Clock>);

impl GovernorClock for ByClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0
            .now()
            .signed_duration_since(DateTime::UNIX_EPOCH)
            .max(TimeDelta::zero())
            .to_std()
            .unwrap_or_default()
    }
}
