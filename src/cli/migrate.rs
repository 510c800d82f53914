//! `mathesis migrate`.

use clap::Args;

use super::context::{Context, Need};
use super::failure::Failure;
use super::output;
use crate::settings::Settings;

/// Bring the database's schema up to date.
///
/// `serve` does it too; this is for platforms that run it as a step of its own before they switch
/// over. Run twice, or by several at once, it does its work once.
#[derive(Debug, Clone, Args)]
pub struct Migrate {}

/// Runs the command.
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    let context = Context::open(settings, Need::MayBegin).await?;
    let said = output::say(&format!("The schema is up to date in {}.", context.database()));
    context.close().await;
    said
}
