//! What a pipeline's spool folder holds: events that still wait for the service, and those that it
//! refused. The Python package writes it, and `docs/python.md` describes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// The file of the events that were refused, in a workflow's folder.
const DEAD_LETTERS: &str = "dead_letters.ndjson";
const SEGMENT_PREFIX: &str = "segment-";
const SEGMENT_SUFFIX: &str = ".ndjson";
/// Beside a segment: how many of its bytes have arrived.
const SENT_SUFFIX: &str = ".sent";

/// What the spool of one workflow holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SpoolState {
    /// The workflow's folder.
    pub(super) workflow: String,
    /// Bytes of events that have not arrived yet.
    pub(super) waiting_bytes: u64,
    /// The refused events by their code: how many, and the words of the last.
    pub(super) refused: BTreeMap<String, (u64, String)>,
}

#[derive(Deserialize)]
#[serde(default)]
struct DeadLetter {
    code: String,
    detail: String,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self { code: "unreadable".to_owned(), detail: "a line that cannot be read".to_owned() }
    }
}

/// Reads the spool, one entry a workflow. Changes nothing, and takes no lock: a pipeline may be at it.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn read(folder: &Path) -> io::Result<Vec<SpoolState>> {
    let mut states = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            states.push(of_workflow(&path)?);
        }
    }
    states.sort_by(|one, other| one.workflow.cmp(&other.workflow));
    Ok(states)
}

fn of_workflow(folder: &Path) -> io::Result<SpoolState> {
    let workflow = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut state = SpoolState { workflow, ..SpoolState::default() };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(SEGMENT_PREFIX) && name.ends_with(SEGMENT_SUFFIX) {
            // A segment goes the moment that it has arrived.
            let size_bytes = fs::metadata(&path).map_or(0, |found| found.len());
            state.waiting_bytes += size_bytes.saturating_sub(sent_bytes(folder, &name));
        }
    }
    match File::open(folder.join(DEAD_LETTERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        file => count_refused(BufReader::new(file?), &mut state.refused)?,
    }
    Ok(state)
}

fn sent_bytes(folder: &Path, segment: &str) -> u64 {
    let text = fs::read_to_string(folder.join(format!("{segment}{SENT_SUFFIX}")));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn count_refused(
    lines: impl BufRead,
    refused: &mut BTreeMap<String, (u64, String)>,
) -> io::Result<()> {
    for line in lines.split(b'\n') {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let letter: DeadLetter = serde_json::from_slice(&line).unwrap_or_default();
        let (count, detail) = refused.entry(letter.code).or_default();
        *count += 1;
        *detail = letter.detail.chars().take(200).collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_was_refused_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let workflow = folder.path().join("image-editing");
        fs::create_dir(&workflow).expect("a folder");
        let write = |name: &str, text: &str| fs::write(workflow.join(name), text).expect("a file");
        write("segment-1.ndjson", "0123456789");
        write("segment-1.ndjson.sent", "4");
        write("segment-2.ndjson", "0123456789");
        write("process-1.lock", "");
        write(
            DEAD_LETTERS,
            "{\"code\":\"invalid_score\",\"detail\":\"7.5\",\"event\":{}}\n{\"code\":\"invalid_score\",\"detail\":\"6.5\"}\n{\"co",
        );
        let states = read(folder.path()).expect("the spool reads");
        let [state] = states.as_slice() else { panic!("{states:?}") };
        assert_eq!((state.workflow.as_str(), state.waiting_bytes), ("image-editing", 16));
        assert_eq!(state.refused["invalid_score"], (2, "6.5".to_owned()));
        assert_eq!(state.refused["unreadable"].0, 1);
    }
}
