//! `mathesis export`.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::Args;

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{OfWorkflow, output};
use crate::settings::Settings;
use crate::store::export;

/// Runs read at a time.
const PAGE: i64 = 200;

/// Write every task with its attempts to standard output, one JSON object a line.
///
/// Oldest first, and as far as retention has kept them. Tasks that arrive meanwhile may be in it or not.
#[derive(Debug, Clone, Args)]
pub struct Export {
    #[command(flatten)]
    of: OfWorkflow,
}

/// Runs the command.
pub async fn run(command: Export, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| write_all(command, &context))
}

async fn write_all(command: Export, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let mut out = BufWriter::new(io::stdout());
    let mut after = 0;
    loop {
        let pool = context.engine.store.reads();
        let page = export::page(pool, workflow.workflow_id, after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, task) in &page {
            match write_line(&mut out, task) {
                // Nobody reads on: the rest is not wanted.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => output::finished(written)?,
            }
        }
    }
    output::finished(out.flush())
}

fn write_line<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
