//! `mathesis demo`.

use clap::Args;

use super::failure::Failure;

/// Show everything at work, in about a minute, on made-up tasks.
///
/// A private database, the real server with its pipeline, and stand-ins for Claude, WaveSpeed and
/// ClickUp play through whole learning cycles. Nothing outside a temporary folder is touched, and no key is needed.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// End after the last step instead of staying open for a look around
    #[arg(long)]
    exit: bool,
    /// The port of the pages [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// Runs the command.
pub async fn run(command: Demo) -> Result<(), Failure> {
    let options = crate::demo::Options { exit: command.exit, port: command.port };
    match crate::demo::run(options).await {
        0 => Ok(()),
        _ => Err(Failure::told()),
    }
}
