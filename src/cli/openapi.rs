//! `mathesis openapi`: the description of the interface over HTTP.

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::http::of_routes;
use crate::orchestrator::webhook;

/// Print the description of the HTTP interface: OpenAPI 3.1, in JSON
///
/// A running server answers the same at /openapi.json; the webhook is there only under `mathesis orchestrate`.
#[derive(Debug, Clone, Args)]
pub struct Openapi {}

/// Runs the command. It needs no database.
pub fn run() -> Result<(), Failure> {
    output::say_json(&of_routes(&[webhook::described()]))
}
