//! One request and its whole answer, or why there is none.

use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::{NotPublic, shorten};

const WORDS_CHARS_MAX: usize = 2000;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty when it broke off behind an error status, for the status says more than the break.
    pub body: Bytes,
}

/// Why an exchange brought no whole answer. It never holds a key or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind, on which decisions rest.
    pub kind: FailureKind,
    /// Words about the cause.
    pub words: String,
}

/// The kinds of failure of an exchange, by what the service can have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request could not be put on the wire: nothing was sent.
    NotSent,
    /// No connection, or none in time: nothing was sent.
    NoConnection,
    /// No answer in time; the service may have done the work.
    TimedOut,
    /// The connection broke before the whole answer was here; the service may have done the work.
    Interrupted,
    /// The answer was longer than the bound; the service did the work.
    TooLarge,
}

impl Failure {
    /// Whether it is certain that the service has seen nothing of the request.
    #[must_use]
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self.kind, FailureKind::NotSent | FailureKind::NoConnection)
    }
}

/// Makes one exchange, with at most `bytes_max` bytes of answer.
///
/// # Errors
/// See [`FailureKind`]. A status of an error is no failure here, whatever became of its body.
pub async fn exchange(
    request: reqwest::RequestBuilder,
    bytes_max: usize,
) -> Result<Reply, Failure> {
    let mut response = request.send().await.map_err(|error| failure_of(&error))?;
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let body = match read_body(response, bytes_max).await {
        Ok(body) => body,
        Err(_) if !status.is_success() => Bytes::new(),
        Err(failure) => return Err(failure),
    };
    Ok(Reply { status: status.as_u16(), headers, body })
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// [`FailureKind::TooLarge`], [`FailureKind::TimedOut`] or [`FailureKind::Interrupted`].
pub async fn read_body(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > bytes_max => {
                return Err(Failure {
                    kind: FailureKind::TooLarge,
                    words: format!("the answer is longer than {bytes_max} bytes"),
                });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.into()),
            Err(error) => return Err(failure_of(&error)),
        }
    }
}

/// What a failure of the HTTP client means.
///
/// A time-out while connecting is a failed connection: nothing was sent. reqwest's own words seldom name the cause, and
/// sometimes name an address that may hold a password, so only its causes speak.
#[must_use]
pub fn failure_of(error: &reqwest::Error) -> Failure {
    let kind = if error.is_builder() || is_not_public(error) {
        FailureKind::NotSent
    } else if error.is_connect() {
        FailureKind::NoConnection
    } else if error.is_timeout() {
        FailureKind::TimedOut
    } else {
        FailureKind::Interrupted
    };
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
    Failure { kind, words: shorten(&words, WORDS_CHARS_MAX) }
}

/// Whether a name was not connected to, for where it leads.
fn is_not_public(error: &reqwest::Error) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = Some(error);
    std::iter::successors(first, |error| error.source())
        .any(|cause| matches!(cause.downcast_ref(), Some(NotPublic::Private(_))))
}

/// The text of a header, where it is one.
#[must_use]
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
