//! The dashboard's page: from numbers to HTML, with nothing of HTTP in it.
//!
//! The page needs no script, asks nothing of other hosts and carries no inline style, so it works
//! under [`CONTENT_SECURITY_POLICY`]. Its one stylesheet, [`STYLESHEET`], is served at
//! [`STYLESHEET_PATH`]. Every text is escaped by the template engine.

pub mod chart;
pub mod page;
mod view;
pub mod words;

use serde::Serialize;

use crate::store::analytics::Analytics;

/// The stylesheet of every page, `text/css`.
pub const STYLESHEET: &str = include_str!("templates/style.css");

/// Where the pages expect [`STYLESHEET`].
pub const STYLESHEET_PATH: &str = "/analytics/style.css";

/// The policy under which the pages work, for the `Content-Security-Policy` header.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'";

/// One workflow's name and its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkflowAnalytics {
    /// The workflow's name.
    pub workflow: String,
    /// What it has done and learnt.
    pub analytics: Analytics,
}
