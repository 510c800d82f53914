//! `mathesis export`.

mod place;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{OfWorkflow, output};
use crate::runtime::Workflow;
use crate::settings::Settings;
use crate::store::export;
use place::Place;

/// Runs read at a time.
const PAGE: i64 = 200;

/// Write every task with its attempts, one JSON object a line.
///
/// To standard output, or to a file. Oldest first, and as far as retention has kept them. Tasks that arrive
/// meanwhile may be in it or not. An export to a file that was broken off, even by a kill, goes on behind
/// its last whole line with --resume.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// The file to write; without it standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on with the file behind its last whole line
    #[arg(long, requires = "output")]
    resume: bool,
    #[command(flatten)]
    of: OfWorkflow,
}

/// Runs the command.
pub async fn run(command: Export, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| write_all(command, &context))
}

async fn write_all(command: Export, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let Some(path) = &command.output else {
        let written = write_from(0, io::stdout(), &workflow, context).await?;
        return output::finished(written.map(|_| ()));
    };
    let (file, after) =
        if command.resume { go_on(path, &workflow, context).await? } else { (create(path)?, 0) };
    let written = write_from(after, file, &workflow, context).await?;
    // What is said to be written is on the disk.
    written.and_then(|file| file.sync_all()).map_err(|error| not_written(path, &error))
}

fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::refused(format!(
            "{} is there already and was left as it is; --resume goes on with it",
            path.display()
        )),
        _ => Failure::failed(format!("{} cannot be made: {error}", path.display())),
    })
}

/// Cuts a broken last line off, and finds the run of the last whole one.
async fn go_on(
    path: &Path,
    workflow: &Workflow,
    context: &Context,
) -> Result<(File, i64), Failure> {
    let refused = |error: io::Error| {
        let message = format!("{} cannot be gone on with: {error}", path.display());
        match error.kind() {
            ErrorKind::NotFound => Failure::not_found(message),
            _ => Failure::failed(message),
        }
    };
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(refused)?;
    let place = Place::find(&mut file).map_err(refused)?;
    let after = match &place.last {
        None if place.whole_bytes == 0 => 0,
        None => {
            return Err(Failure::refused(format!(
                "the last whole line of {} is no task, so this is no export; it was left as it is",
                path.display()
            )));
        }
        Some((task, run)) => {
            let pool = context.engine.store.reads();
            let row = export::row_of(pool, workflow.workflow_id, task, run).await?;
            row.ok_or_else(|| {
                Failure::refused(format!(
                    "task {task:?}, the last in {}, is not in {} any more, so it is not known where to go on; the file was left as it is. Export to a new one",
                    path.display(),
                    workflow.name()
                ))
            })?
        }
    };
    file.set_len(place.whole_bytes).map_err(refused)?;
    file.seek(SeekFrom::End(0)).map_err(refused)?;
    Ok((file, after))
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "{} could not be written to its end: {error}. Its whole lines are right; once there is room, --resume goes on behind them",
        path.display()
    ))
}

/// Writes the runs behind that row. Memory does not grow with their number.
async fn write_from<W: Write>(
    mut after: i64,
    out: W,
    workflow: &Workflow,
    context: &Context,
) -> Result<io::Result<W>, Failure> {
    let pool = context.engine.store.reads();
    let bar = progress(after, workflow, context).await?;
    let mut out = BufWriter::new(out);
    loop {
        let page = export::page(pool, workflow.workflow_id, after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, task) in &page {
            if let Err(error) = write_line(&mut out, task) {
                return Ok(Err(error));
            }
        }
        bar.inc(u64::try_from(page.len()).unwrap_or_default());
    }
    bar.finish_and_clear();
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|mut out| {
        out.flush()?;
        Ok(out)
    }))
}

/// A bar for people, where what is exported does not go to the terminal itself.
async fn progress(
    after: i64,
    workflow: &Workflow,
    context: &Context,
) -> Result<ProgressBar, Failure> {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let pool = context.engine.store.reads();
    let number = export::count_behind(pool, workflow.workflow_id, after).await?;
    let bar = ProgressBar::new(u64::try_from(number).unwrap_or_default());
    let template = "{wide_bar} {percent}%  {human_pos} tasks  {eta} left";
    // The template is constant, so that a wrong one shows as the plain bar and in no other way.
    Ok(match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    })
}

fn write_line<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
