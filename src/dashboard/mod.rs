//! The dashboard's pages: from numbers to HTML, with nothing of HTTP in it.
//!
//! The pages need no script and ask nothing of other hosts, so they work under
//! [`CONTENT_SECURITY_POLICY`]. Their one stylesheet, [`STYLESHEET`], is served at [`STYLESHEET_PATH`];
//! their one script, [`SCRIPT`], keeps an open page up to date and is served at [`SCRIPT_PATH`]. Every
//! text is escaped by the template engine.

pub mod chart;
pub mod data;
pub mod first;
pub mod links;
pub mod page;
pub mod pages;
mod spark;
mod statechart;
pub mod table;
mod view;
pub mod words;

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::analytics::Analytics;
use crate::store::notifications::Trouble;

/// The stylesheet of every page, `text/css`.
pub const STYLESHEET: &str = include_str!("templates/style.css");

/// Where the pages expect [`STYLESHEET`].
pub const STYLESHEET_PATH: &str = "/analytics/style.css";

/// The script of every page, `text/javascript`.
pub const SCRIPT: &str = include_str!("templates/live.js");

/// Where the pages expect [`SCRIPT`].
pub const SCRIPT_PATH: &str = "/analytics/live.js";

/// The policy under which the pages work, for the `Content-Security-Policy` header.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; \
    script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// One workflow's name and its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WorkflowAnalytics {
    /// The workflow's name.
    pub workflow: String,
    /// What it has done and learnt.
    pub analytics: Analytics,
    /// Notifications that could not be delivered so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Trouble>,
}
