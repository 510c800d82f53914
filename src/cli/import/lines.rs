//! The lines of a file, in batches of bounded size, each with its place in the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// Events that are committed together.
const BATCH_LINES: usize = 1_000;
/// A batch takes no further line beyond so many bytes, so that memory stays constant.
const BATCH_BYTES: usize = 4 << 20;
/// The longest line that is read; the largest event that can be valid is shorter.
pub const LINE_BYTES_MAX: u64 = 8 << 20;

/// Lines of the input, each with its number from 1.
pub struct Batch {
    /// The lines that are not blank.
    pub lines: Vec<(u64, Line)>,
    /// Where the batch begins, in bytes.
    pub from_bytes: u64,
    /// Where it ends.
    pub to_bytes: u64,
    /// SHA-256 of its bytes.
    pub hash: String,
    /// The number of its last line, blank ones counted.
    pub line_number: u64,
}

/// A line as read.
pub enum Line {
    /// Its bytes, the end of the line included.
    Text(Vec<u8>),
    /// One beyond the limit, which was passed over.
    TooLong,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// Bytes before it.
    pub bytes: u64,
    /// Lines before it.
    pub lines: u64,
}

/// Goes to the place behind the last batch that is stored; false when the file is not the one that this batch was
/// read from.
pub fn go_behind(
    file: &mut File,
    from_bytes: u64,
    to_bytes: u64,
    batch_hash: &str,
) -> io::Result<bool> {
    if to_bytes == 0 {
        file.seek(SeekFrom::Start(0))?;
        return Ok(true);
    }
    file.seek(SeekFrom::Start(from_bytes))?;
    let mut hasher = Sha256::new();
    let mut read = 0;
    let mut last = BufReader::with_capacity(1 << 20, file.by_ref().take(to_bytes - from_bytes));
    loop {
        let buffer = last.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        hasher.update(buffer);
        let taken = buffer.len();
        read += to_u64(taken);
        last.consume(taken);
    }
    file.seek(SeekFrom::Start(to_bytes))?;
    Ok(read == to_bytes - from_bytes && hex::encode(hasher.finalize()) == batch_hash)
}

/// Reads lines into batches until the input ends or nobody takes them any more. Blocks.
pub fn read_batches(
    input: Box<dyn Read + Send>,
    start: Start,
    batches: &mpsc::Sender<Batch>,
) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let (mut number, mut place) = (start.lines, start.bytes);
    loop {
        let mut hasher = Sha256::new();
        let mut lines = Vec::new();
        let from_bytes = place;
        let mut held = 0;
        let ended = loop {
            let Some((line, bytes)) = read_line(&mut input, &mut hasher)? else {
                break true;
            };
            number += 1;
            place += bytes;
            let line = if number == 1 { without_mark(line) } else { line };
            if let Line::Text(text) = &line {
                if text.trim_ascii().is_empty() {
                    continue;
                }
                held += text.len();
            }
            lines.push((number, line));
            if lines.len() == BATCH_LINES || held >= BATCH_BYTES {
                break false;
            }
        };
        let batch = Batch {
            lines,
            from_bytes,
            to_bytes: place,
            hash: hex::encode(hasher.finalize()),
            line_number: number,
        };
        let gone = !batch.lines.is_empty() && batches.blocking_send(batch).is_err();
        if ended || gone {
            return Ok(());
        }
    }
}

/// The next line and how many bytes it took; a line beyond the limit is passed over.
fn read_line(input: &mut impl BufRead, hasher: &mut Sha256) -> io::Result<Option<(Line, u64)>> {
    let mut text = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
    let mut bytes = to_u64(read);
    if read == 0 {
        return Ok(None);
    }
    hasher.update(&text);
    if bytes < LINE_BYTES_MAX || text.ends_with(b"\n") {
        return Ok(Some((Line::Text(text), bytes)));
    }
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let ended = end.is_some() || buffer.is_empty();
        hasher.update(buffer.get(..taken).unwrap_or_default());
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

/// As many as can be counted.
pub fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
