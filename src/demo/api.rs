//! The demo as a client of the real interface. It only reads, and reads again while the server is away.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::documents::WORKFLOW;

/// How long a call is made again before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A call that was answered with a refusal, or not at all for a minute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// The server said no.
    #[error("GET {path} was answered {status}: {body}")]
    Refused {
        /// The path.
        path: String,
        /// The status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// Nobody answered.
    #[error("GET {path} had no answer for {} s: {cause}", PATIENCE.as_secs())]
    NoAnswer {
        /// The path.
        path: String,
        /// The last failure.
        cause: String,
    },
    /// The client could not be made.
    #[error("the HTTP client could not be made: {0}")]
    Client(String),
}

/// The interface of the demo's server.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: reqwest::Client,
    base: String,
}

impl Api {
    /// A client of the server on that port of this machine.
    ///
    /// # Errors
    /// [`ApiError::Client`].
    pub(super) fn new(port: u16) -> Result<Self, ApiError> {
        // The build has no default provider of cryptography, and a client wants one even for plain HTTP.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|error| ApiError::Client(error.to_string()))?;
        Ok(Self { client, base: format!("http://127.0.0.1:{port}") })
    }

    /// Its address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// True when the server says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let sent = self.client.get(format!("{}/readyz", self.base)).send().await;
        sent.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads something of the workflow; `path` begins behind the workflow's name.
    pub(super) async fn workflow(&self, path: &str) -> Result<Value, ApiError> {
        self.call(&format!("/v1/workflows/{WORKFLOW}{path}")).await
    }

    /// Everything that the dashboard shows.
    pub(super) async fn analytics(&self) -> Result<Value, ApiError> {
        self.call("/analytics").await
    }

    /// One call, made again for as long as the server is away.
    async fn call(&self, path: &str) -> Result<Value, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let cause = match self.once(path).await {
                Ok((status, answer)) if status.is_success() => return Ok(answer),
                Ok((status, answer)) if is_final(status) => {
                    return Err(ApiError::Refused {
                        path: path.to_owned(),
                        status: status.as_u16(),
                        body: answer.to_string(),
                    });
                }
                Ok((status, answer)) => format!("{status}: {answer}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(ApiError::NoAnswer { path: path.to_owned(), cause });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn once(&self, path: &str) -> Result<(StatusCode, Value), reqwest::Error> {
        let request = self.client.get(format!("{}{path}", self.base));
        let answer = request.header("accept", "application/json").send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}

/// A refusal that the same call would get again.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && status != StatusCode::TOO_MANY_REQUESTS
        && status != StatusCode::REQUEST_TIMEOUT
}

/// The first value under that name, however deep it lies: the demo shows figures, and does not care for their place.
pub(super) fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => {
            map.get(name).or_else(|| map.values().find_map(|inner| find(inner, name)))
        }
        Value::Array(items) => items.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_is_found_wherever_it_lies() {
        let page = json!([{"workflow": "w", "analytics": {"cost": {"spent_usd": "0.12"}}}]);
        assert_eq!(find(&page, "spent_usd"), Some(&json!("0.12")));
        assert_eq!(find(&page, "nothing"), None);
    }

    #[test]
    fn a_refusal_is_final_and_a_server_that_is_away_is_not() {
        assert!(is_final(StatusCode::UNPROCESSABLE_ENTITY));
        assert!(!is_final(StatusCode::TOO_MANY_REQUESTS));
        assert!(!is_final(StatusCode::SERVICE_UNAVAILABLE));
    }
}
