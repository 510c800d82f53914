//! `mathesis demo`.

use clap::Args;

use super::failure::Failure;

/// Show everything at work, in about a minute, on made-up tasks.
///
/// A private database, a made-up pipeline and a stand-in for Claude play through whole learning
/// cycles with the real engine. Nothing outside a temporary folder is touched, and no key is needed.
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
