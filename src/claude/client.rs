//! The real client: one HTTP attempt, and whatever comes back made into an [`AttemptOutcome`].

use super::attempt::{AttemptError, AttemptErrorKind, AttemptOutcome, ClaudeApi};
use super::error::ClientError;
use super::retry::retry_after;
use super::wire::{API_VERSION, ErrorEnvelope, MessageRequest, MessageResponse};
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use std::fmt;
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

/// Calls Claude over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpClaude {
    http: reqwest::Client,
    address: reqwest::Url,
    api_key: Option<ApiKey>,
    answer_bytes_max: usize,
}

impl HttpClaude {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// When the address is not one, or this machine's certificates cannot be read.
    pub fn new(settings: ClaudeSettings) -> Result<Self, ClientError> {
        install_crypto();
        let address = address_of(&settings.base_url)
            .ok_or_else(|| ClientError::BadAddress { base_url: settings.base_url.clone() })?;

        // The journal has one row an attempt, so neither a redirect nor a hidden retry may make a second one.
        let mut builder = reqwest::Client::builder()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("mathesis/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&address) {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|error| ClientError::Setup { message: with_causes(&error) })?;
        Ok(Self {
            http,
            address,
            api_key: settings.api_key,
            answer_bytes_max: settings.answer_bytes_max,
        })
    }

    async fn one_attempt(&self, request: &MessageRequest) -> AttemptOutcome {
        let began = Instant::now();
        let elapsed_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(error) => return AttemptOutcome::unanswered(error, elapsed_ms()),
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read_body(response, self.answer_bytes_max).await;
        let (body_request_id, mut result) = match body {
            Ok(body) => read_answer(status, &headers, &body),
            Err(error) => (None, Err(broken_body(status, &headers, error))),
        };
        if let (Err(error), Some(key)) = (&mut result, &self.api_key) {
            error.message = error.message.replace(&key.0, "(hidden)");
        }
        AttemptOutcome {
            request_id: header(&headers, "request-id").map(str::to_owned).or(body_request_id),
            status: Some(status),
            result,
            duration_ms: elapsed_ms(),
        }
    }

    async fn send(&self, request: &MessageRequest) -> Result<reqwest::Response, AttemptError> {
        let Some(key) = &self.api_key else {
            return Err(AttemptError::new(AttemptErrorKind::NotConfigured, "no API key is set"));
        };
        let not_sent = |message: String| AttemptError::new(AttemptErrorKind::NotSent, message);
        let mut key = HeaderValue::from_str(&key.0)
            .map_err(|_| not_sent("the API key cannot be a header".to_owned()))?;
        key.set_sensitive(true);
        let body = serde_json::to_vec(request).map_err(|error| not_sent(error.to_string()))?;
        self.http
            .post(self.address.clone())
            .header("x-api-key", key)
            .header("anthropic-version", API_VERSION)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|error| AttemptError::new(kind_of(&error), with_causes(&error)))
    }
}

impl ClaudeApi for HttpClaude {
    fn attempt<'a>(&'a self, request: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(self.one_attempt(request))
    }

    fn configured(&self) -> bool {
        self.api_key.is_some()
    }
}

const MESSAGE_CHARS_MAX: usize = 2000;

/// The build has no default provider of cryptography; another part of the process may have set one already.
fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

/// `http://` alone would become a host of the name `v1`, so the base is looked at before the path is added.
fn address_of(base_url: &str) -> Option<reqwest::Url> {
    let base = reqwest::Url::parse(base_url.trim()).ok()?;
    let usable = matches!(base.scheme(), "http" | "https") && base.query().is_none();
    let address = format!("{}/v1/messages", base.as_str().trim_end_matches('/'));
    reqwest::Url::parse(&address).ok().filter(|_| usable)
}

fn is_loopback(address: &reqwest::Url) -> bool {
    address.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}

async fn read_body(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Vec<u8>, AttemptError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > bytes_max => {
                return Err(AttemptError::new(
                    AttemptErrorKind::AnswerTooLarge,
                    format!("the answer is longer than {bytes_max} bytes"),
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                return Err(AttemptError::new(kind_of(&error), with_causes(&error)));
            }
        }
    }
}

type Answer = Result<MessageResponse, AttemptError>;

fn read_answer(status: u16, headers: &HeaderMap, body: &[u8]) -> (Option<String>, Answer) {
    if status == 200 {
        let answer = serde_json::from_slice(body).map_err(|error| {
            let message = format!(
                "{} bytes that are not a message: {}",
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
        retry_after: retry_after(
            header(headers, "retry-after-ms"),
            header(headers, "retry-after"),
            header(headers, "date"),
        ),
        should_retry: match header(headers, "x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        },
    }
}

/// A time-out while connecting is a failed connection: nothing was sent, so nothing can be charged.
fn kind_of(error: &reqwest::Error) -> AttemptErrorKind {
    if error.is_builder() {
        AttemptErrorKind::NotSent
    } else if error.is_connect() {
        AttemptErrorKind::Connect
    } else if error.is_timeout() {
        AttemptErrorKind::TimedOut
    } else {
        AttemptErrorKind::Interrupted
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// reqwest's own words seldom name the cause, and sometimes name an address that may hold a password.
fn with_causes(error: &reqwest::Error) -> String {
    let mut words = if error.is_timeout() {
        "it took too long".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the connection failed".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    shorten(&words, MESSAGE_CHARS_MAX)
}

/// At most this many characters of a text.
pub(super) fn shorten(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
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
