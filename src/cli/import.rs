//! `mathesis import`.

mod lines;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::runtime::Workflow;
use crate::settings::Settings;
use crate::store::imports::{self, Step};
use crate::task_log::{Importer, TaskEvent, WorkflowDirectory, parse_event};
use lines::{Batch, LINE_BYTES_MAX, Line, Start, go_behind, read_batches, to_u64};

/// Rejected lines that are told in full.
const REJECTED_SHOWN: u64 = 20;

/// Take task events from a file, one JSON object a line.
///
/// The events are those of `POST /v1/workflows/NAME/events`. Each counts once, however often it is
/// imported. The tasks that it adds are history: no analysis takes them, unless --learn says so. A task
/// that was logged live before stays what it is.
///
/// An import of a file that was broken off, even by a kill, is simply run again: it goes on behind the last
/// batch that was stored, and the counts are those of the whole file. Standard input begins anew each
/// time.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// Let the tasks count towards the next analysis, as if they had just been logged
    #[arg(long)]
    learn: bool,
    /// Begin at the file's first line, even if an import of it was broken off
    #[arg(long)]
    from_start: bool,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// What an import came to.
#[derive(Debug, Default, Serialize)]
struct Counts {
    lines: u64,
    accepted: u64,
    duplicate: u64,
    rejected: u64,
    /// The last line that an earlier import of the file had stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_after_line: Option<u64>,
}

/// Where the lines come from.
struct Input {
    reader: Source,
    length: Option<u64>,
}

enum Source {
    Stream(Box<dyn Read + Send>),
    /// A file that can be gone on with; its full path.
    File(File, String),
}

/// An import of a file, as far as it has come.
struct Begun {
    import_id: Option<i64>,
    reader: Box<dyn Read + Send>,
    start: Start,
    counts: Counts,
}

/// Runs the command.
pub async fn run(command: Import, settings: &Settings) -> Result<(), Failure> {
    // The file is opened first: a wrong name should not start a database.
    let input = open(&command.file)?;
    with_context!(settings, Need::MayBegin, |context| import(command, input, &context))
}

fn open(path: &Path) -> Result<Input, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Input { reader: Source::Stream(Box::new(io::stdin())), length: None });
    }
    let refused = |error: io::Error| {
        let message = format!("{} cannot be read: {error}. Nothing was imported", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(message),
            _ => Failure::failed(message),
        }
    };
    let file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!(
            "{} is a folder; name a file of events",
            path.display()
        )));
    }
    if !metadata.is_file() {
        return Ok(Input { reader: Source::Stream(Box::new(file)), length: None });
    }
    let full = std::fs::canonicalize(path).map_err(refused)?;
    let reader = Source::File(file, full.display().to_string());
    Ok(Input { reader, length: Some(metadata.len()) })
}

async fn import(command: Import, input: Input, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let engine = &context.engine;
    let Some(info) = WorkflowDirectory::find(&engine.registry, workflow.name()) else {
        return Err(Failure::not_found(format!("there is no workflow {:?}", workflow.name())));
    };
    let pool = engine.store.pool();
    let clock = Arc::clone(&engine.clock);
    let importer = Importer::new(pool.clone(), clock, info, command.learn);
    let begun = begin(&command, input.reader, &workflow, context).await?;
    if let Some(line) = begun.counts.resumed_after_line {
        eprintln!(
            "Going on behind line {}, where an earlier import of this file was broken off.",
            HumanCount(line)
        );
    }
    let bar = progress(input.length, command.as_json.json);
    bar.set_position(begun.start.bytes);
    let import_id = begun.import_id;
    let now = || engine.now();
    let (counts, broken) = take_all(&importer, begun, &now, &bar).await;
    bar.finish_and_clear();
    if let (Some(import_id), None) = (import_id, &broken) {
        imports::end(pool, workflow.workflow_id, import_id, engine.now()).await?;
    }
    tell(&counts, command.as_json)?;
    match broken {
        Some(failure) => Err(failure),
        None if counts.rejected > 0 => Err(Failure::told()),
        None => Ok(()),
    }
}

/// Goes to where an earlier import of the same file was broken off.
async fn begin(
    command: &Import,
    source: Source,
    workflow: &Workflow,
    context: &Context,
) -> Result<Begun, Failure> {
    let (mut file, name) = match source {
        Source::Stream(reader) => {
            let (start, counts) = (Start::default(), Counts::default());
            return Ok(Begun { import_id: None, reader, start, counts });
        }
        Source::File(file, name) => (file, name),
    };
    let (pool, id) = (context.engine.store.pool(), workflow.workflow_id);
    let now = context.engine.now();
    let mut known = imports::open(pool, id, &name, command.learn, now).await?;
    if command.from_start && known.offset_bytes > 0 {
        imports::end(pool, id, known.import_id, now).await?;
        known = imports::open(pool, id, &name, command.learn, now).await?;
    }
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    let (from, to) = (unsigned(known.batch_from_bytes), unsigned(known.offset_bytes));
    match go_behind(&mut file, from, to, &known.batch_hash) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::refused(format!(
                "{} has changed since an import of it was broken off at line {}, so that import cannot go on. Nothing was imported now; --from-start begins at the first line, and what is stored already counts once",
                command.file.display(),
                known.line_number
            )));
        }
        Err(error) => {
            return Err(Failure::failed(format!(
                "{} cannot be read: {error}. Nothing was imported",
                command.file.display()
            )));
        }
    }
    let lines = unsigned(known.line_number);
    let counts = Counts {
        lines: unsigned(known.lines),
        accepted: unsigned(known.accepted),
        duplicate: unsigned(known.duplicate),
        rejected: unsigned(known.rejected),
        resumed_after_line: (to > 0).then_some(lines),
    };
    let start = Start { bytes: to, lines };
    Ok(Begun { import_id: Some(known.import_id), reader: Box::new(file), start, counts })
}

async fn take_all(
    importer: &Importer,
    begun: Begun,
    now: &(dyn Fn() -> chrono::DateTime<chrono::Utc> + Sync),
    bar: &ProgressBar,
) -> (Counts, Option<Failure>) {
    let Begun { import_id, reader, start, mut counts } = begun;
    let (batches, mut waiting) = mpsc::channel(2);
    let reader = tokio::task::spawn_blocking(move || read_batches(reader, start, &batches));
    while let Some(batch) = waiting.recv().await {
        let step = import_id.map(|import_id| Step {
            import_id,
            from_bytes: to_i64(batch.from_bytes),
            to_bytes: to_i64(batch.to_bytes),
            batch_hash: batch.hash.clone(),
            line_number: to_i64(batch.line_number),
            refused: 0,
            at: now(),
        });
        if let Err(failure) = take(importer, batch, step, &mut counts, bar).await {
            return (counts, Some(failure));
        }
    }
    let read = match reader.await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(panic) => Err(panic.to_string()),
    };
    let broken = read.err().map(|error| {
        Failure::failed(format!("the input could not be read to its end: {error}. What is counted above is stored; run the import again for the rest"))
    });
    (counts, broken)
}

async fn take(
    importer: &Importer,
    batch: Batch,
    step: Option<Step>,
    counts: &mut Counts,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let first = batch.lines.first().map_or(0, |(number, _)| *number);
    let mut numbers = Vec::with_capacity(batch.lines.len());
    let mut events: Vec<TaskEvent> = Vec::with_capacity(batch.lines.len());
    let mut refused = Vec::new();
    let lines = to_u64(batch.lines.len());
    for (number, line) in batch.lines {
        match parse(line) {
            Ok(event) => {
                numbers.push(number);
                events.push(event);
            }
            Err(detail) => refused.push((number, detail)),
        }
    }
    let step = step.map(|step| Step { refused: to_i64(to_u64(refused.len())), ..step });
    let report = importer.take(events, step).await.map_err(|error| {
        Failure::failed(format!(
            "{error}. Everything before line {first} is stored; run the import again for the rest"
        ))
    })?;
    counts.lines += lines;
    counts.accepted += to_u64(report.accepted);
    counts.duplicate += to_u64(report.duplicate);
    for rejection in report.rejected {
        let number = numbers.get(rejection.index).copied().unwrap_or_default();
        refused.push((number, format!("{}: {}", rejection.code, rejection.detail)));
    }
    refused.sort_by_key(|(number, _)| *number);
    for (number, detail) in refused {
        reject(counts, number, &detail, bar);
    }
    bar.set_position(batch.to_bytes);
    bar.set_message(format!("{} events", HumanCount(counts.lines)));
    Ok(())
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn parse(line: Line) -> Result<TaskEvent, String> {
    let Line::Text(bytes) = line else {
        return Err(format!("text_too_long: the line is longer than {} MiB", LINE_BYTES_MAX >> 20));
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("invalid_json: {error}"))?;
    parse_event(text).map_err(|error| error.to_string())
}

fn reject(counts: &mut Counts, number: u64, detail: &str, bar: &ProgressBar) {
    counts.rejected += 1;
    if counts.rejected <= REJECTED_SHOWN {
        bar.suspend(|| eprintln!("line {number}: {detail}"));
    }
}

fn tell(counts: &Counts, as_json: AsJson) -> Result<(), Failure> {
    if counts.rejected > REJECTED_SHOWN {
        eprintln!("and {} more lines", HumanCount(counts.rejected - REJECTED_SHOWN));
    }
    if as_json.json {
        return output::say_json(counts);
    }
    output::say(&format!(
        "{} events: {} new, {} known already, {} rejected.",
        HumanCount(counts.lines),
        HumanCount(counts.accepted),
        HumanCount(counts.duplicate),
        HumanCount(counts.rejected)
    ))
}

fn progress(length: Option<u64>, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{wide_bar} {percent}%  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    // The templates are constant, so that a wrong one shows as the plain bar and in no other way.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
