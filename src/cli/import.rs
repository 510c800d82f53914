//! `mathesis import`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::settings::Settings;
use crate::task_log::{LoggerLimits, TaskEvent, TaskLogger, parse_event};

/// Events that are committed together.
const BATCH_LINES: usize = 1_000;
/// A batch takes no further line beyond so many bytes, so that memory stays constant.
const BATCH_BYTES: usize = 4 << 20;
/// The longest line that is read; the largest event that can be valid is shorter.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// Rejected lines that are told in full.
const REJECTED_SHOWN: u64 = 20;

/// Take task events from a file, one JSON object a line.
///
/// The events are those of `POST /v1/workflows/NAME/events`. Each counts once, however often it is
/// imported, so that an import that was broken off is simply run again. The tasks that it adds are
/// history: no analysis takes them, unless --learn says so. A task that was logged live before stays
/// what it is.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// Let the tasks count towards the next analysis, as if they had just been logged
    #[arg(long)]
    learn: bool,
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
}

/// Lines of the input, each with its number from 1.
struct Batch {
    lines: Vec<(u64, Line)>,
    bytes: u64,
}

enum Line {
    Text(Vec<u8>),
    TooLong,
}

/// Runs the command.
pub async fn run(command: Import, settings: &Settings) -> Result<(), Failure> {
    // The file is opened first: a wrong name should not start a database.
    let (input, length) = open(&command.file)?;
    with_context!(settings, Need::MayBegin, |context| import(command, input, length, &context))
}

fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
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
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

async fn import(
    command: Import,
    input: Box<dyn Read + Send>,
    length: Option<u64>,
    context: &Context,
) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let engine = &context.engine;
    let begin = if command.learn { TaskLogger::start } else { TaskLogger::start_for_history };
    let logger = begin(
        engine.store.pool().clone(),
        Arc::clone(&engine.clock),
        Arc::new(engine.registry.clone()),
        LoggerLimits::default(),
        &tasks,
        stop.clone(),
    );
    let bar = progress(length, command.as_json.json);
    let counted = take_all(&logger, workflow.name(), input, &bar).await;
    bar.finish_and_clear();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let (counts, broken) = counted;
    tell(&counts, command.as_json)?;
    match broken {
        Some(failure) => Err(failure),
        None if counts.rejected > 0 => Err(Failure::told()),
        None => Ok(()),
    }
}

async fn take_all(
    logger: &TaskLogger,
    workflow: &str,
    input: Box<dyn Read + Send>,
    bar: &ProgressBar,
) -> (Counts, Option<Failure>) {
    let (batches, mut waiting) = mpsc::channel(2);
    let reader = tokio::task::spawn_blocking(move || read_batches(input, &batches));
    let mut counts = Counts::default();
    while let Some(batch) = waiting.recv().await {
        if let Err(failure) = take(logger, workflow, batch, &mut counts, bar).await {
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
    logger: &TaskLogger,
    workflow: &str,
    batch: Batch,
    counts: &mut Counts,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut numbers = Vec::with_capacity(batch.lines.len());
    let mut events: Vec<TaskEvent> = Vec::with_capacity(batch.lines.len());
    for (number, line) in batch.lines {
        counts.lines += 1;
        match parse(line) {
            Ok(event) => {
                numbers.push(number);
                events.push(event);
            }
            Err(detail) => reject(counts, number, &detail, bar),
        }
    }
    let report = logger.log(workflow, events).await.map_err(|error| {
        let first = numbers.first().copied().unwrap_or_default();
        Failure::failed(format!(
            "{error}. Everything before line {first} is stored; run the import again for the rest"
        ))
    })?;
    counts.accepted += to_u64(report.accepted);
    counts.duplicate += to_u64(report.duplicate);
    for rejection in report.rejected {
        let number = numbers.get(rejection.index).copied().unwrap_or_default();
        reject(counts, number, &format!("{}: {}", rejection.code, rejection.detail), bar);
    }
    bar.inc(batch.bytes);
    bar.set_message(format!("{} events", HumanCount(counts.lines)));
    Ok(())
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

/// Reads lines into batches until the input ends or nobody takes them any more. Blocks.
fn read_batches(input: Box<dyn Read + Send>, batches: &mpsc::Sender<Batch>) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut number = 0;
    loop {
        let mut batch = Batch { lines: Vec::new(), bytes: 0 };
        let mut held = 0;
        let ended = loop {
            let Some((line, bytes)) = read_line(&mut input)? else {
                break true;
            };
            number += 1;
            batch.bytes += bytes;
            let line = if number == 1 { without_mark(line) } else { line };
            if let Line::Text(text) = &line {
                if text.trim_ascii().is_empty() {
                    continue;
                }
                held += text.len();
            }
            batch.lines.push((number, line));
            if batch.lines.len() == BATCH_LINES || held >= BATCH_BYTES {
                break false;
            }
        };
        let gone = !batch.lines.is_empty() && batches.blocking_send(batch).is_err();
        if ended || gone {
            return Ok(());
        }
    }
}

/// The next line and how many bytes it took; a line beyond the limit is passed over.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<(Line, u64)>> {
    let mut text = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
    let mut bytes = to_u64(read);
    if read == 0 {
        return Ok(None);
    }
    if bytes < LINE_BYTES_MAX || text.ends_with(b"\n") {
        return Ok(Some((Line::Text(text), bytes)));
    }
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let ended = end.is_some() || buffer.is_empty();
        input.consume(taken);
        bytes += to_u64(taken);
        if ended {
            return Ok(Some((Line::TooLong, bytes)));
        }
    }
}

fn without_mark(line: Line) -> Line {
    match line {
        Line::Text(text) => match text.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => Line::Text(rest.to_vec()),
            None => Line::Text(text),
        },
        Line::TooLong => Line::TooLong,
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
