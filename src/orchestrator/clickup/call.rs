//! One call of ClickUp: held back by its rate limit, made, and repeated where that is safe.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use chrono::DateTime;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Url, multipart};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ClickUp, errors};
use crate::orchestrator::service::{Next, ServiceError};
use crate::outbound::{
    Failure, FailureKind, Reply, WAIT_MAX, address_below, exchange, failure_of, header,
    secret_header, shorten,
};

/// The longest answer that is read. A task with its fields and files is far below.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often a failed call is repeated at once; after that the caller waits.
const REPEATS_MAX: usize = 2;

/// Limits are counted a minute, so that is how long a 429 without a moment closes the door.
const LIMIT_PERIOD: Duration = Duration::from_mins(1);

/// A call, which may be made more than once.
pub(super) struct Call<'a> {
    method: Method,
    /// What has happened when it succeeds, for the log.
    what: &'static str,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    payload: Payload,
}

/// What a call carries.
pub(super) enum Payload {
    /// Nothing.
    None,
    /// A JSON text.
    Json(Value),
    /// A file, as a form with one part.
    File {
        /// Its name.
        name: String,
        /// Its media type.
        media_type: String,
        /// Its content.
        bytes: Bytes,
    },
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, what: &'static str, path: &[&'a str]) -> Self {
        let path = ["api", "v2"].into_iter().chain(path.iter().copied()).collect();
        Self { method, what, path, query: Vec::new(), payload: Payload::None }
    }

    pub(super) fn with_query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }
}

impl ClickUp {
    /// Makes a call and reads its answer.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<T, ServiceError> {
        let repeats = ExponentialBuilder::default().with_jitter().with_max_times(REPEATS_MAX);
        (|| self.attempt(call)).retry(repeats).sleep(self.sleeper()).when(worth_repeating).await
    }

    fn sleeper(&self) -> impl backon::Sleeper<Sleep: Send> + use<> {
        let clock = Arc::clone(&self.inner.clock);
        move |wait| {
            let clock = Arc::clone(&clock);
            async move { clock.sleep(wait).await }
        }
    }

    async fn attempt<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ServiceError> {
        let throttle = &self.inner.throttle;
        throttle.ready().await.map_err(|left| errors::rate_limited(Some(left)))?;
        let request = self.request(call).map_err(|failure| self.failed(call, &failure))?;
        let reply = exchange(request, ANSWER_BYTES_MAX)
            .await
            .map_err(|failure| self.failed(call, &failure))?;
        let after = self.note_limit(&reply);
        if !(200..300).contains(&reply.status) {
            let error = errors::of_reply(&call.method, &reply, after);
            return Err(self.told(call, Some(reply.status), error));
        }
        serde_json::from_slice(&reply.body).map_err(|problem| {
            let error = errors::unreadable(&call.method, reply.body.len(), &problem.to_string());
            self.told(call, Some(reply.status), error)
        })
    }

    fn request(&self, call: &Call<'_>) -> Result<reqwest::RequestBuilder, Failure> {
        let not_sent =
            |words: &str| Failure { kind: FailureKind::NotSent, words: words.to_owned() };
        let address = self.address(call).ok_or_else(|| not_sent("no address can be made of it"))?;
        let token = secret_header(&authorization(self.inner.token.expose()))
            .ok_or_else(|| not_sent("the token cannot be a header"))?;
        let request =
            self.inner.http.request(call.method.clone(), address).header(AUTHORIZATION, token);
        Ok(match &call.payload {
            Payload::None => request.timeout(self.inner.timeout),
            Payload::Json(value) => request.timeout(self.inner.timeout).json(value),
            Payload::File { name, media_type, bytes } => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let part = multipart::Part::stream_with_length(bytes.clone(), length)
                    .file_name(name.clone())
                    .mime_str(media_type)
                    .map_err(|error| failure_of(&error))?;
                request.multipart(multipart::Form::new().part("attachment", part))
            }
        })
    }

    fn address(&self, call: &Call<'_>) -> Option<Url> {
        let mut address = address_below(&self.inner.base, &call.path)?;
        for (name, value) in &call.query {
            address.query_pairs_mut().append_pair(name, value);
        }
        Some(address)
    }

    /// Closes the door when the answer says that nothing is left, and says for how long.
    fn note_limit(&self, reply: &Reply) -> Option<Duration> {
        let number = |name| header(&reply.headers, name).and_then(|text| text.trim().parse().ok());
        let reset =
            number("x-ratelimit-reset").and_then(|unix_s| DateTime::from_timestamp(unix_s, 0));
        let date = header(&reply.headers, "date");
        let until_reset = reset.and_then(|reset| self.inner.throttle.wait_until(reset, date));
        let nothing_left = number("x-ratelimit-remaining").is_some_and(|left: i64| left <= 0);
        let wait = match reply.status {
            429 => until_reset.or(Some(LIMIT_PERIOD)),
            _ if nothing_left => until_reset,
            _ => None,
        };
        if let Some(wait) = wait {
            self.inner.throttle.close_for(wait);
        }
        wait.filter(|_| reply.status == 429)
    }

    fn failed(&self, call: &Call<'_>, failure: &Failure) -> ServiceError {
        self.told(call, None, errors::of_failure(&call.method, failure))
    }

    /// The error without the token in its words, and in the log.
    fn told(&self, call: &Call<'_>, status: Option<u16>, error: ServiceError) -> ServiceError {
        let token = self.inner.token.expose().trim();
        let error = ServiceError { words: error.words.replace(token, "(hidden)"), ..error };
        tracing::warn!(
            clickup.wanted = call.what,
            clickup.status = status,
            clickup.code = error.code,
            clickup.words = shorten(&error.words, 200),
            "a ClickUp call failed"
        );
        error
    }
}

/// A personal token stands bare; one of OAuth is a bearer's.
pub(super) fn authorization(token: &str) -> String {
    let token = token.trim();
    if token.starts_with("pk_") || token.starts_with("Bearer ") {
        token.to_owned()
    } else {
        format!("Bearer {token}")
    }
}

/// What may be made later may be made now: a call that is not repeatable never says so unless nothing was done.
fn worth_repeating(error: &ServiceError) -> bool {
    matches!(error.next, Next::Later { after } if after.is_none_or(|after| after <= WAIT_MAX))
}
