//! The report of a cycle for somebody who is no engineer: noticed, tried, gained, cost.
//!
//! Pure: [`report`] makes sentences of [`Facts`] in English or Greek, [`markdown`] makes a message of them.
//! `store::reports` reads the facts; pages, the command line and notifications show what comes out. What
//! Claude wrote (claims, summaries) stands in its own language and is quoted.

mod greek;
mod message;
mod sentences;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use message::markdown;
pub use sentences::{Target, report};

use crate::cycle::StateName;

/// Insights that a report tells; the cycle's page has the others.
pub const NOTICED_MAX: usize = 5;

/// The language of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Modern Greek.
    #[serde(rename = "el")]
    Greek,
}

impl Language {
    /// The code of BCP 47: `en` or `el`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Greek => "el",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A language that reports are not written in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reports are written in `en` (English) or `el` (Greek), not in {0:?}")]
pub struct UnknownLanguage(pub String);

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        match text {
            "en" => Ok(Self::English),
            "el" => Ok(Self::Greek),
            other => Err(UnknownLanguage(other.to_owned())),
        }
    }
}

/// What a report tells of a cycle.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ReportFacts)]
pub struct Facts {
    /// The workflow's name.
    pub workflow: String,
    /// The cycle's number.
    pub cycle: i64,
    /// Where it stands.
    pub state: StateName,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The workflow's time zone.
    #[schema(value_type = String)]
    pub time_zone: Tz,
    /// The best possible score.
    pub score_max: u32,
    /// Tasks that the analysis took; none before it.
    pub tasks: Option<i32>,
    /// What was found, the surest first.
    pub noticed: Vec<Noticed>,
    /// What was tried, by model.
    pub tried: Vec<Tried>,
    /// Models without a candidate, and why as stored.
    pub without: Vec<(String, String)>,
    /// What the calls of Claude cost, in US dollars.
    pub cost_usd: Decimal,
    /// How many they were.
    pub calls: usize,
    /// True where a part of the cost is an estimate.
    pub cost_estimated: bool,
    /// What holds the cycle now, in the words of the hold.
    pub holds: Vec<Held>,
}

/// A pattern that the analysis found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Noticed {
    /// The model, or `all`.
    pub model: String,
    /// The claim, in Claude's words.
    pub claim: String,
    /// How sure Claude is, 0 to 1.
    pub confidence: f64,
}

/// A candidate and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Tried {
    /// The model.
    pub model: String,
    /// The version that served.
    pub old_version: i32,
    /// The version that was tried.
    pub new_version: i32,
    /// What it changes, in Claude's words.
    pub summary: String,
    /// `testing`, `adopted`, `rejected` or `inconclusive`.
    pub status: String,
    /// Why it ended so, as stored.
    pub reason: Option<String>,
    /// How its probation stands, as stored.
    pub probation: Option<String>,
    /// Mean score and number of scores of the old version in the test.
    pub old: Option<(f64, i32)>,
    /// Those of the new version.
    pub new: Option<(f64, i32)>,
    /// `(new - old) / old`.
    pub improvement: Option<f64>,
    /// The improvement that is likely to last.
    pub likely: Option<f64>,
}

/// What holds a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReportHold)]
pub struct Held {
    /// The kind, as stored.
    pub kind: String,
    /// Why, in words.
    pub reason: String,
}

/// A report: sentences under headings, and where to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// Its language.
    pub language: Language,
    /// What it is a report of.
    pub title: String,
    /// From when to when.
    pub span: String,
    /// What came of the cycle, in a sentence.
    pub lead: String,
    /// Noticed, tried, gained, cost, in this order.
    pub parts: Vec<Part>,
    /// What can be done, and where.
    pub links: Vec<Link>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReportPart)]
pub struct Part {
    /// Its heading.
    pub heading: &'static str,
    /// Its first sentence.
    pub opening: String,
    /// One line each of what it lists.
    pub lines: Vec<String>,
}

/// Where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReportLink)]
pub struct Link {
    /// What can be done there.
    pub label: String,
    /// The page, from the server's root. It asks again before anything is changed.
    pub path: String,
}

#[cfg(test)]
mod tests;
