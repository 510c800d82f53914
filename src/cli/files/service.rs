//! A Mathesis service as seen from another machine, as far as its versions are concerned.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::research::Texts;
use crate::settings::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The most of a refusal's words that are shown, in characters.
const WORDS_MAX: usize = 300;

/// Why a service did not tell what was asked for. No file was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServiceFailure {
    /// Nobody answered.
    #[error(
        "{url} does not answer: {cause}. No file was touched; see that MATHESIS_URL is right and `mathesis serve` runs there"
    )]
    NoAnswer {
        /// Where it should be.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// It said no.
    #[error("{url} answered {status} ({code}): {detail}. No file was touched")]
    Refused {
        /// Where it is.
        url: String,
        /// The status.
        status: u16,
        /// The problem's stable code; `none` where something else answered.
        code: String,
        /// Its words.
        detail: String,
    },
    /// What it said is not what Mathesis says.
    #[error(
        "{url} answered something else than Mathesis does: {cause}. No file was touched; see that MATHESIS_URL is right"
    )]
    Nonsense {
        /// Where it is.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// One workflow of a service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    client: reqwest::Client,
    workflow: Url,
    shown: String,
    key: Option<Secret>,
}

/// A model and the version that serves; none before the first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ModelHead {
    pub(super) model: String,
    pub(super) active_version: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Cycle {
    models: Vec<ModelHead>,
}

#[derive(Debug, Deserialize)]
struct Standing {
    active_version: i32,
}

#[derive(Debug, Deserialize)]
struct Heads {
    versions: Vec<Head>,
}

#[derive(Debug, Deserialize)]
struct Head {
    version: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: String,
    detail: String,
}

impl Service {
    /// The workflow of the service at `url`.
    ///
    /// # Errors
    /// In words, when the address cannot be one.
    pub(super) fn new(url: &str, workflow: &str, key: Option<Secret>) -> Result<Self, String> {
        let wrong = |why: String| format!("{url:?} is no address of a service: {why}");
        let mut base = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        base.path_segments_mut()
            .map_err(|()| wrong("it must begin with http:// or https://".to_owned()))?
            .pop_if_empty()
            .extend(["v1", "workflows", workflow]);
        // The build has no default provider of cryptography, and a client wants one even for plain HTTP.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
        let shown = crate::settings::shown_url(url);
        Ok(Self { client, workflow: base, shown, key })
    }

    /// The models with their active versions, as the open cycle shows them.
    pub(super) async fn models(&self) -> Result<Vec<ModelHead>, ServiceFailure> {
        Ok(self.get::<Cycle>(&["cycle"]).await?.models)
    }

    /// The version of one model that serves now.
    pub(super) async fn active(&self, model: &str) -> Result<i32, ServiceFailure> {
        Ok(self.get::<Standing>(&["models", model]).await?.active_version)
    }

    /// The numbers of a model's versions, newest first.
    pub(super) async fn versions(&self, model: &str) -> Result<Vec<i32>, ServiceFailure> {
        let heads: Heads = self.get(&["models", model, "versions"]).await?;
        Ok(heads.versions.into_iter().map(|head| head.version).collect())
    }

    /// One version's texts, which never change.
    pub(super) async fn texts(&self, model: &str, version: i32) -> Result<Texts, ServiceFailure> {
        self.get(&["models", model, "versions", &version.to_string()]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ServiceFailure> {
        let mut url = self.workflow.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let no_answer = |error: reqwest::Error| ServiceFailure::NoAnswer {
            url: self.shown.clone(),
            cause: innermost(&error.without_url()),
        };
        let mut request = self.client.get(url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose());
        }
        let answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(no_answer)?;
        if status != StatusCode::OK {
            return Err(self.refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| ServiceFailure::Nonsense {
            url: self.shown.clone(),
            cause: error.to_string(),
        })
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ServiceFailure {
        let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let detail: String = refusal.detail.chars().take(WORDS_MAX).collect();
        ServiceFailure::Refused {
            url: self.shown.clone(),
            status: status.as_u16(),
            code: or(refusal.code, "none"),
            detail: or(detail, "without words, so perhaps something before Mathesis answered"),
        }
    }
}

/// reqwest's own words only say that something failed; the cause is at the end of the chain.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
