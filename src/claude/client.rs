//! The real client: one HTTP attempt, and whatever comes back made into an [`AttemptOutcome`].

mod batches;
mod models;

use super::attempt::{AttemptError, AttemptErrorKind, AttemptOutcome, ClaudeApi};
use super::batch::BatchApi;
use super::error::ClientError;
use super::retry::retry_after;
use super::wire::{API_VERSION, ErrorEnvelope, MessageRequest, TokenCount};
use crate::clock::{Clock, SystemClock};
use crate::outbound::{
    self, Closed, Failure, FailureKind, Throttle, failure_of, header, read_body, shorten,
};
use chrono::DateTime;
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// How to reach Claude.
#[derive(Debug, Clone)]
pub struct ClaudeSettings {
    /// Such as `https://api.anthropic.com`, without the path.
    pub base_url: String,
    /// Without a key no call is made, and everything else works.
    pub api_key: Option<ApiKey>,
    /// For the connection.
    pub connect_timeout: Duration,
    /// For the whole attempt, from the connection to the answer's last byte.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes.
    pub answer_bytes_max: usize,
}

impl ClaudeSettings {
    /// The address and the key, with 5 s to connect, 600 s in all and answers of up to 32 MB.
    #[must_use]
    pub fn new(base_url: impl Into<String>, api_key: Option<ApiKey>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_mins(10),
            answer_bytes_max: 32 * 1024 * 1024,
        }
    }
}

/// A key for the API. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes the key, without the white space around it.
    ///
    /// # Errors
    /// When it is empty or holds a character that no HTTP header may hold.
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidApiKey> {
        let key = key.as_ref().trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidApiKey);
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ApiKey(hidden)")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(hidden)")
    }
}

/// A key that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the Claude API key is empty or holds a space or a sign that no key has; copy it again from the Claude Console"
)]
pub struct InvalidApiKey;

/// Calls Claude over HTTPS. A clone is the same client, with the same rate limit.
#[derive(Debug, Clone)]
pub struct HttpClaude {
    throttle: Arc<Throttle>,
    http: reqwest::Client,
    address: reqwest::Url,
    counting: reqwest::Url,
    batches: reqwest::Url,
    models: reqwest::Url,
    api_key: Option<ApiKey>,
    answer_bytes_max: usize,
}

impl HttpClaude {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// When the address is not one, or this machine's certificates cannot be read.
    pub fn new(settings: ClaudeSettings) -> Result<Self, ClientError> {
        let below = |segments: &[&str]| {
            outbound::base_address(&settings.base_url)
                .and_then(|base| outbound::address_below(&base, segments))
                .ok_or_else(|| ClientError::BadAddress { base_url: settings.base_url.clone() })
        };
        let address = below(&["v1", "messages"])?;
        let counting = below(&["v1", "messages", "count_tokens"])?;
        let batches = below(&["v1", "messages", "batches"])?;
        let models = below(&["v1", "models"])?;

        // The journal has one row an attempt, so neither a redirect nor a hidden retry may make a second one.
        let http = outbound::client(&address, settings.connect_timeout, settings.timeout)
            .map_err(|message| ClientError::Setup { message })?;
        Ok(Self {
            throttle: Arc::new(Throttle::new(Arc::new(SystemClock))),
            http,
            address,
            counting,
            batches,
            models,
            api_key: settings.api_key,
            answer_bytes_max: settings.answer_bytes_max,
        })
    }

    /// The same, with the rate limit by this clock.
    #[must_use]
    pub fn by_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.throttle = Arc::new(Throttle::new(clock));
        self
    }

    async fn one_attempt(&self, request: &MessageRequest) -> AttemptOutcome {
        let began = Instant::now();
        let elapsed_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let body = serde_json::to_vec(request).map_err(|error| error.to_string());
        let response = match self.send(self.http.post(self.address.clone()), body).await {
            Ok(response) => response,
            Err(error) => return AttemptOutcome::unanswered(error, elapsed_ms()),
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        note_limits(&self.throttle, status, &headers);
        let body = read_body(response, self.answer_bytes_max).await;
        let (body_request_id, mut result) = match body {
            Ok(body) => read_answer(status, &headers, &body),
            Err(failure) => (None, Err(broken_body(status, &headers, attempt_error(failure)))),
        };
        self.hide_key(&mut result);
        AttemptOutcome {
            request_id: header(&headers, "request-id").map(str::to_owned).or(body_request_id),
            status: Some(status),
            result,
            duration_ms: elapsed_ms(),
        }
    }

    /// Counting has limits of its own, so it neither waits at the door nor closes it.
    async fn count(&self, request: &MessageRequest) -> Result<u64, AttemptError> {
        let body = serde_json::to_vec(&request.count_body()).map_err(|error| error.to_string());
        let post = self.http.post(self.counting.clone()).timeout(COUNT_TIMEOUT);
        let mut counted = self.counted(post, body).await;
        self.hide_key(&mut counted);
        counted.map(|count| count.input_tokens)
    }

    async fn counted(
        &self,
        post: reqwest::RequestBuilder,
        body: Result<Vec<u8>, String>,
    ) -> Result<TokenCount, AttemptError> {
        let response = self.send(post, body).await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read_body(response, self.answer_bytes_max)
            .await
            .map_err(|failure| broken_body(status, &headers, attempt_error(failure)))?;
        read_answer(status, &headers, &body).1
    }

    fn hide_key<T>(&self, result: &mut Result<T, AttemptError>) {
        if let (Err(error), Some(key)) = (result, &self.api_key) {
            error.message = error.message.replace(&key.0, "(hidden)");
        }
    }

    async fn send(
        &self,
        post: reqwest::RequestBuilder,
        body: Result<Vec<u8>, String>,
    ) -> Result<reqwest::Response, AttemptError> {
        let body = body.map_err(|message| AttemptError::new(AttemptErrorKind::NotSent, message))?;
        self.headed(post.body(body))?
            .send()
            .await
            .map_err(|error| attempt_error(failure_of(&error)))
    }

    /// The request with the key and the version.
    fn headed(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::RequestBuilder, AttemptError> {
        let Some(key) = &self.api_key else {
            return Err(AttemptError::new(AttemptErrorKind::NotConfigured, "no API key is set"));
        };
        let key = outbound::secret_header(&key.0).ok_or_else(|| {
            AttemptError::new(AttemptErrorKind::NotSent, "the API key cannot be a header")
        })?;
        Ok(request
            .header("x-api-key", key)
            .header("anthropic-version", API_VERSION)
            .header(CONTENT_TYPE, "application/json"))
    }
}

impl ClaudeApi for HttpClaude {
    fn attempt<'a>(&'a self, request: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(self.one_attempt(request))
    }

    fn count_tokens<'a>(
        &'a self,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<u64, AttemptError>> {
        Box::pin(self.count(request))
    }

    fn configured(&self) -> bool {
        self.api_key.is_some()
    }

    fn closed(&self) -> Option<Closed> {
        self.throttle.closed()
    }

    fn batches(&self) -> Option<&dyn BatchApi> {
        Some(self)
    }
}

/// The limits that the API tells of in its headers, each with what remains and when it is whole again.
const LIMITS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// Closes the door until the latest moment at which a limit that is used up is whole again, and for as long as a 429
/// asks to wait: what one call was told holds for all.
fn note_limits(throttle: &Throttle, status: u16, headers: &HeaderMap) {
    let date = header(headers, "date");
    for limit in LIMITS {
        let told = |what| header(headers, &format!("anthropic-ratelimit-{limit}-{what}"));
        let used_up = told("remaining").is_some_and(|left| left.trim().parse() == Ok(0_u64));
        let reset = told("reset").and_then(|reset| DateTime::parse_from_rfc3339(reset.trim()).ok());
        if let (true, Some(reset)) = (used_up, reset)
            && let Some(wait) = throttle.wait_until(reset.to_utc(), date)
        {
            throttle.close_for(wait);
        }
    }
    if status == 429
        && let Some(wait) = asked_wait(headers)
    {
        throttle.close_for(wait);
    }
}

fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(
        header(headers, "retry-after-ms"),
        header(headers, "retry-after"),
        header(headers, "date"),
    )
}

const MESSAGE_CHARS_MAX: usize = 2000;
/// Counting is quick, and there is an estimate to fall back on.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);

fn read_answer<T: DeserializeOwned>(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> (Option<String>, Result<T, AttemptError>) {
    if status == 200 {
        let answer = serde_json::from_slice(body).map_err(|error| {
            let message = format!(
                "{} bytes that are not an answer: {}",
                body.len(),
                shorten(&error.to_string(), 200)
            );
            AttemptError::new(AttemptErrorKind::Unreadable, message)
        });
        return (None, answer);
    }
    let (request_id, kind, message) = match serde_json::from_slice::<ErrorEnvelope>(body) {
        Ok(envelope) => (
            envelope.request_id,
            AttemptErrorKind::Status {
                error_type: Some(envelope.error.error_type),
                error_code: envelope.error.details.and_then(|details| details.error_code),
            },
            shorten(&envelope.error.message, MESSAGE_CHARS_MAX),
        ),
        Err(_) => (
            None,
            AttemptErrorKind::Status { error_type: None, error_code: None },
            format!(
                "status {status} with a body that is not the API's ({}, {} bytes)",
                header(headers, "content-type").unwrap_or("of no stated type"),
                body.len()
            ),
        ),
    };
    (request_id, Err(status_error(headers, kind, message)))
}

/// A body that broke off behind an error status is that error: the status says more than the break.
fn broken_body(status: u16, headers: &HeaderMap, error: AttemptError) -> AttemptError {
    if status == 200 {
        return error;
    }
    let kind = AttemptErrorKind::Status { error_type: None, error_code: None };
    let message = format!("status {status}, and its body broke off: {}", error.message);
    status_error(headers, kind, message)
}

fn status_error(headers: &HeaderMap, kind: AttemptErrorKind, message: String) -> AttemptError {
    AttemptError {
        kind,
        message,
        retry_after: asked_wait(headers),
        should_retry: match header(headers, "x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        },
    }
}

fn attempt_error(failure: Failure) -> AttemptError {
    let kind = match failure.kind {
        FailureKind::NotSent => AttemptErrorKind::NotSent,
        FailureKind::NoConnection => AttemptErrorKind::Connect,
        FailureKind::TimedOut => AttemptErrorKind::TimedOut,
        FailureKind::Interrupted => AttemptErrorKind::Interrupted,
        FailureKind::TooLarge => AttemptErrorKind::AnswerTooLarge,
    };
    AttemptError::new(kind, failure.words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = ApiKey::new(" sk-ant-secret\n").unwrap();
        assert_eq!(format!("{key} {key:?}"), "(hidden) ApiKey(hidden)");
        let client = HttpClaude::new(ClaudeSettings::new("http://127.0.0.1:1", Some(key))).unwrap();
        assert!(!format!("{client:?}").contains("sk-ant-secret"));
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused() {
        assert_eq!(ApiKey::new("  "), Err(InvalidApiKey));
        assert_eq!(ApiKey::new("sk-ant\nx: y"), Err(InvalidApiKey));
        assert_eq!(ApiKey::new("sk-änt"), Err(InvalidApiKey));
    }

    #[test]
    fn an_address_that_is_not_one_is_refused() {
        for wrong in
            ["", "api.anthropic.com", "ftp://api.anthropic.com", "https://a?b=c", "http://"]
        {
            let refused = HttpClaude::new(ClaudeSettings::new(wrong, None));
            assert!(matches!(refused, Err(ClientError::BadAddress { .. })), "{wrong}");
        }
    }

    #[test]
    fn without_a_key_the_client_is_not_configured() {
        let client =
            HttpClaude::new(ClaudeSettings::new("https://api.anthropic.com/", None)).unwrap();
        assert!(!client.configured());
        assert_eq!(client.address.as_str(), "https://api.anthropic.com/v1/messages");
    }
}
