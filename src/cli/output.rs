//! What people read: tables, times and a little colour.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::failure::Failure;

/// Colours, as few as possible.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    /// Something is as it should be.
    Green,
    /// Somebody should look.
    Yellow,
    /// Something is wrong.
    Red,
    /// Something stands out.
    Bold,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Bold => "1",
        }
    }
}

fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// True when log lines may be coloured.
#[must_use]
pub fn colours_on_stderr() -> bool {
    io::stderr().is_terminal() && colours_wanted()
}

/// The text in a colour, on a terminal that has any.
#[must_use]
pub fn paint(colour: Colour, text: &str) -> String {
    if io::stdout().is_terminal() && colours_wanted() {
        format!("\x1b[{}m{text}\x1b[0m", colour.code())
    } else {
        text.to_owned()
    }
}

/// A table with these headings; as wide as the terminal, and unwrapped where there is none.
#[must_use]
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_col > 0
    {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(size.ws_col.max(60));
    }
    table
}

/// A time in the workflow's zone, to the second.
#[must_use]
pub fn time(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A time that may not have come yet.
#[must_use]
pub fn time_or_dash(at: Option<DateTime<Utc>>, zone: Tz) -> String {
    at.map_or_else(|| "-".to_owned(), |at| time(at, zone))
}

/// A value that may be missing.
#[must_use]
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The first line of a text, cut to so many characters.
#[must_use]
pub fn brief(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(chars_max).collect();
    if cut.len() < text.trim_end().len() { format!("{cut}…") } else { cut }
}

/// Writes text to standard output. A reader that has gone away (`| head`) is no failure.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    finished(written.and_then(|()| out.flush()))
}

/// Writes a value as JSON, indented.
///
/// # Errors
/// When it cannot be written.
pub fn say_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => say(&json),
        Err(error) => {
            Err(Failure::failed(format!("the answer could not be written as JSON: {error}")))
        }
    }
}

/// Writes a value as JSON on one line, for a reader that takes them as they come.
///
/// # Errors
/// When it cannot be written.
pub fn say_json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    match serde_json::to_string(value) {
        Ok(json) => say(&json),
        Err(error) => {
            Err(Failure::failed(format!("the answer could not be written as JSON: {error}")))
        }
    }
}

/// True where people read along.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Empties the terminal.
///
/// # Errors
/// When it cannot be written.
pub fn clear() -> Result<(), Failure> {
    finished(io::stdout().lock().write_all(b"\x1b[H\x1b[2J"))
}

/// Writes a table; words in its place when it has no row.
///
/// # Errors
/// When it cannot be written.
pub fn say_table(table: &Table, nothing: &str) -> Result<(), Failure> {
    if table.is_empty() {
        return say(nothing);
    }
    let text: String =
        table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    say(&text)
}

/// Takes a closed pipe for an end and not for a failure.
///
/// # Errors
/// Every other error of writing.
pub fn finished(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output could not be written: {error}")))
        }
        _ => Ok(()),
    }
}
