//! The section `[notify]`.

use serde::{Deserialize, Serialize};

use crate::report::Language;

/// Whom the workflow tells what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// The webhook; empty where nobody is told.
    pub url: String,
    /// What it is told.
    pub kinds: Vec<NotifyKind>,
    /// The environment variable that holds the secret by which messages are signed.
    pub secret_env: String,
    /// True where the webhook may be at a private, loopback or link-local address.
    pub allow_private: bool,
    /// The language of the summary and of the report.
    pub language: Language,
    /// Where the dashboard is for whoever reads the message; empty: no links.
    pub dashboard_url: String,
}

/// What may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyKind {
    /// How a test or a probation ended.
    Verdict,
    /// Something waits, and why.
    Hold,
    /// A version is put back.
    Rollback,
    /// 80% of the month's budget is spent.
    Budget,
}

impl NotifyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Verdict, Self::Hold, Self::Rollback, Self::Budget];

    /// The name as `workflow.toml` and the database write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
            Self::Budget => "budget",
        }
    }
}

impl Notify {
    /// True where somebody is told.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// Who is told what, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        if !self.is_on() {
            return "nobody is told".to_owned();
        }
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let private = if self.allow_private { ", which may be private" } else { "" };
        format!("{} is told: {}{private}", self.host(), kinds.join(", "))
    }

    /// The webhook's host alone: the rest of its address may be a secret.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            url: String::new(),
            kinds: NotifyKind::ALL.to_vec(),
            secret_env: "MATHESIS_NOTIFY_SECRET".to_owned(),
            allow_private: false,
            language: Language::English,
            dashboard_url: String::new(),
        }
    }
}
