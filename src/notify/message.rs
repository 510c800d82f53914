//! What the webhook is told, as JSON: a sentence, the report of the cycle, and where to act.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::report::Language;

/// Where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// What can be done there.
    pub label: String,
    /// The page. It asks again before anything is changed.
    pub url: String,
}

/// What a message is made of.
#[derive(Debug, Clone)]
pub struct Parts<'p> {
    /// The workflow's name.
    pub workflow: &'p str,
    /// `verdict`, `hold`, `rollback`, `budget` or `test`.
    pub kind: &'p str,
    /// The cycle, where it concerns one.
    pub cycle: Option<i64>,
    /// The model, or the kind of the hold.
    pub subject: &'p str,
    /// What happened, in the words on record.
    pub said: &'p str,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The language of the summary.
    pub language: Language,
    /// The cycle's report as Markdown, where there is one.
    pub report: Option<String>,
    /// Where to act; empty where it is not known where the dashboard is.
    pub links: Vec<Link>,
}

/// A message as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    r#type: String,
    timestamp: DateTime<Utc>,
    /// The whole as one text, which chats show.
    text: String,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Data {
    workflow: String,
    cycle: Option<i64>,
    subject: String,
    summary: String,
    detail: String,
    language: Language,
    report: Option<String>,
    links: Vec<Link>,
}

impl Message {
    /// Puts a message together.
    #[must_use]
    pub fn of(parts: Parts<'_>) -> Self {
        let summary = summary(&parts);
        let mut text = format!("{summary}\n{}", parts.said);
        match &parts.report {
            // It ends with the links.
            Some(report) => text.push_str(&format!("\n\n{report}")),
            None => {
                for link in &parts.links {
                    text.push_str(&format!("\n{}: {}", link.label, link.url));
                }
            }
        }
        Self {
            r#type: format!("mathesis.{}", parts.kind),
            timestamp: parts.at,
            text,
            data: Data {
                workflow: parts.workflow.to_owned(),
                cycle: parts.cycle,
                subject: parts.subject.to_owned(),
                summary,
                detail: parts.said.to_owned(),
                language: parts.language,
                report: parts.report,
                links: parts.links,
            },
        }
    }
}

/// What happened, for somebody who is no engineer.
fn summary(parts: &Parts<'_>) -> String {
    let Parts { workflow, subject, cycle, .. } = parts;
    match (parts.language, parts.kind, cycle) {
        (Language::English, "verdict", Some(cycle)) => {
            format!("{workflow}, cycle {cycle}: there is a verdict on {subject}.")
        }
        (Language::English, "hold", Some(cycle)) => {
            format!("{workflow}, cycle {cycle} is on hold. Tasks go on being logged.")
        }
        (Language::English, "hold", None) => {
            format!("{workflow} is on hold. Tasks go on being logged.")
        }
        (Language::English, "rollback", _) => {
            format!("{workflow}: an earlier version of {subject} is put back.")
        }
        (Language::English, "budget", _) => {
            format!("{workflow}: 80% of this month's budget for Claude is spent.")
        }
        (Language::English, _, _) => format!("{workflow}: this is a test of the webhook."),
        (Language::Greek, "verdict", Some(cycle)) => {
            format!("{workflow}, κύκλος {cycle}: βγήκε η απόφαση για το {subject}.")
        }
        (Language::Greek, "hold", Some(cycle)) => {
            format!("{workflow}, κύκλος {cycle}: σε αναμονή. Οι εργασίες καταγράφονται κανονικά.")
        }
        (Language::Greek, "hold", None) => {
            format!("{workflow}: σε αναμονή. Οι εργασίες καταγράφονται κανονικά.")
        }
        (Language::Greek, "rollback", _) => {
            format!("{workflow}: επανέρχεται προηγούμενη έκδοση του {subject}.")
        }
        (Language::Greek, "budget", _) => {
            format!("{workflow}: ξοδεύτηκε το 80% του μηνιαίου ορίου για το Claude.")
        }
        (Language::Greek, _, _) => format!("{workflow}: δοκιμή του webhook."),
    }
}
