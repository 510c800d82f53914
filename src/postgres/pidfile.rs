//! `postmaster.pid`: what a running server says of itself.
//!
//! Line 1 is its process, 2 the data folder, 5 the socket folder and 8 its state (PostgreSQL's
//! `miscadmin.h`, "lock file contents"). Later lines appear as the server comes up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::error::PostgresError;

/// The parts of `postmaster.pid` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub pid: u32,
    pub socket_folder: Option<PathBuf>,
    pub state: State,
}

/// Line 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Starting, or not said yet.
    Starting,
    /// It takes connections.
    Ready,
    /// It is shutting down.
    Stopping,
}

/// Who has the process id that `postmaster.pid` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupant {
    /// Nobody.
    Nobody,
    /// A PostgreSQL on this very data.
    Server,
    /// Certainly no PostgreSQL: the file is stale and the number was given out again.
    Stranger,
    /// A PostgreSQL on other data, or something that cannot be looked into.
    Unknown,
}

impl PidFile {
    /// Reads the file of `data`; `None` when there is none, or none that can be understood.
    pub fn read(data: &Path) -> Result<Option<Self>, PostgresError> {
        let path = path_in(data);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PostgresError::io("read", path)(error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let line = |number: usize| lines.get(number - 1).copied().unwrap_or_default();
        // A standalone backend writes its own number below zero.
        let pid: i32 = line(1).trim().parse().ok()?;
        Some(Self {
            pid: pid.unsigned_abs(),
            socket_folder: Some(line(5))
                .filter(|folder| folder.starts_with('/'))
                .map(PathBuf::from),
            state: match line(8) {
                "ready" | "standby" => State::Ready,
                "stopping" => State::Stopping,
                _ => State::Starting,
            },
        })
    }

    /// Who has the number now.
    pub fn occupant(&self, data: &Path) -> Occupant {
        let Some(pid) = to_pid(self.pid) else {
            return Occupant::Nobody;
        };
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return Occupant::Nobody;
        }
        match arguments_of(self.pid) {
            Some(arguments) => judge(&arguments, data),
            None => Occupant::Unknown,
        }
    }
}

/// The path of the file in `data`.
pub(super) fn path_in(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// A process id as the system calls want it.
pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The words a process was started with; none for one that is dead but not yet buried.
fn arguments_of(pid: u32) -> Option<Vec<String>> {
    if let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) {
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        return Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect());
    }
    let output =
        Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.split_whitespace().map(str::to_owned).collect())
}

fn judge(arguments: &[String], data: &Path) -> Occupant {
    let named_postgres =
        arguments.first().and_then(|program| Path::new(program).file_name()).is_some_and(|name| {
            let name = name.to_string_lossy();
            name.contains("postgres") || name.contains("postmaster")
        });
    if !named_postgres {
        return Occupant::Stranger;
    }
    let data = data.to_string_lossy();
    if arguments.iter().any(|argument| *argument == data) {
        Occupant::Server
    } else {
        Occupant::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "4711\n/srv/data\n1700000000\n5432\n/srv/socket\n\n  123 456\nready   \n";

    #[test]
    fn a_running_server_is_read() {
        let found = PidFile::parse(RUNNING).expect("readable");
        assert_eq!(found.pid, 4711);
        assert_eq!(found.socket_folder, Some("/srv/socket".into()));
        assert_eq!(found.state, State::Ready);
    }

    #[test]
    fn a_file_cut_at_any_byte_never_panics_and_is_never_ready_too_early() {
        for end in 0..RUNNING.trim_end().len() {
            let found = PidFile::parse(&RUNNING[..end]);
            assert!(found.is_none_or(|found| found.state == State::Starting), "{end}");
        }
    }

    #[test]
    fn a_stopping_server_is_not_ready() {
        let found = PidFile::parse(&RUNNING.replace("ready   ", "stopping")).expect("readable");
        assert_eq!(found.state, State::Stopping);
    }

    #[test]
    fn only_a_postgres_on_this_data_is_the_server() {
        let judged = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            judge(&words, Path::new("/srv/data"))
        };
        assert_eq!(judged(&["/usr/bin/postgres", "-D", "/srv/data"]), Occupant::Server);
        assert_eq!(judged(&["/usr/bin/postgres", "-D", "/srv/other"]), Occupant::Unknown);
        assert_eq!(judged(&["/usr/bin/vim", "/srv/data"]), Occupant::Stranger);
        assert_eq!(judged(&[]), Occupant::Stranger);
    }

    #[test]
    fn a_number_nobody_has_is_nobody() {
        let found =
            PidFile { pid: i32::MAX.unsigned_abs(), socket_folder: None, state: State::Ready };
        assert_eq!(found.occupant(Path::new("/srv/data")), Occupant::Nobody);
    }
}
