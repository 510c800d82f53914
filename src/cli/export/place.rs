//! Where a file of lines that was broken off is to be gone on with.

use std::io::{self, Read, Seek, SeekFrom};

use serde::Deserialize;

/// Read at a time, from the end backwards.
const STEP_BYTES: u64 = 64 << 10;

/// The end of the whole lines of an export.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes of whole lines.
    pub whole_bytes: u64,
    /// Task and run of the last of them.
    pub last: Option<(String, String)>,
}

#[derive(Deserialize)]
struct Names {
    task_id: String,
    run_id: String,
}

impl Place {
    /// Looks at the file's last lines; however long it is, only they are read.
    pub fn find(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let whole_bytes = match line_end_before(file, length)? {
            Some(end) => end + 1,
            None => return Ok(Self { whole_bytes: 0, last: None }),
        };
        let begins = line_end_before(file, whole_bytes - 1)?.map_or(0, |end| end + 1);
        file.seek(SeekFrom::Start(begins))?;
        let mut line = Vec::new();
        file.by_ref().take(whole_bytes - begins).read_to_end(&mut line)?;
        let names: Option<Names> = serde_json::from_slice(&line).ok();
        Ok(Self { whole_bytes, last: names.map(|names| (names.task_id, names.run_id)) })
    }
}

/// The place of the last line end among the first `length` bytes.
fn line_end_before(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut until = length;
    while until > 0 {
        let from = until.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut piece = Vec::new();
        file.by_ref().take(until - from).read_to_end(&mut piece)?;
        let found = piece.iter().rposition(|byte| *byte == b'\n');
        if let Some(place) = found.and_then(|place| u64::try_from(place).ok()) {
            return Ok(Some(from + place));
        }
        until = from;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn find(text: &str) -> (u64, Option<(String, String)>) {
        let place = Place::find(&mut Cursor::new(text.as_bytes().to_vec())).unwrap();
        (place.whole_bytes, place.last)
    }

    fn named(task: &str) -> Option<(String, String)> {
        Some((task.to_owned(), "r".to_owned()))
    }

    #[test]
    fn a_broken_last_line_is_not_counted() {
        let line = |task: &str| format!("{{\"task_id\":\"{task}\",\"run_id\":\"r\",\"x\":1}}\n");
        let two = line("a") + &line("β");
        let bytes = u64::try_from(two.len()).unwrap();
        assert_eq!(find(&two), (bytes, named("β")));
        assert_eq!(find(&format!("{two}{{\"task_id\":\"c")), (bytes, named("β")));
        assert_eq!(find("{\"task_id\":"), (0, None));
        assert_eq!(find(""), (0, None));
        assert_eq!(find("no task\n"), (8, None));
    }

    #[test]
    fn a_line_may_be_longer_than_what_is_read_at_a_time() {
        let long = "y".repeat(300_000);
        let line = format!("{{\"task_id\":\"{long}\",\"run_id\":\"r\"}}\n");
        let (bytes, last) = find(&format!("{line}{line}{}", &line[..200_000]));
        assert_eq!(bytes, u64::try_from(2 * line.len()).unwrap());
        assert_eq!(last, named(&long));
    }
}
