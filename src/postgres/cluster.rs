//! Making the data once, and clearing away what an earlier run left in its way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresError;
use super::home::{Layout, make_private, sync_folder};
use super::pidfile::{Occupant, PidFile, path_in, to_pid};
use super::{Purpose, ROLE, shim};

/// How long a server of an earlier run may take to write out its memory and end.
const EARLIER_RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait between two looks at a process or file that is about to change.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Makes the data folder unless it is there.
///
/// A crash in it leaves `data.tmp`, which the next run removes; `data` appears by a rename, whole
/// or not at all.
pub(super) fn ensure_data(
    layout: &Layout,
    account: &Account,
    binaries: &Binaries,
    purpose: Purpose,
    shim_executable: Option<&Path>,
) -> Result<(), PostgresError> {
    let data = layout.data();
    if layout.data_major().is_some() {
        return Ok(());
    }
    if data.exists() {
        return Err(PostgresError::NotADataFolder { data });
    }
    let temporary = layout.folder.join("data.tmp");
    let mut result = Ok(());
    // Not every system has C.UTF-8, and before PostgreSQL 17 it is the system's affair.
    for locale in ["C.UTF-8", "C"] {
        remove_if_there(&temporary)?;
        make_private(&temporary, account)?;
        let mut command = shim::command(shim_executable, account, &binaries.initdb());
        command
            .arg("-D")
            .arg(&temporary)
            .args(["--encoding=UTF8", "--auth=trust", "--no-instructions"])
            .arg(format!("--locale={locale}"))
            .arg(format!("--username={ROLE}"));
        if purpose != Purpose::Durable {
            command.arg("--no-sync");
        }
        let output = command.output().map_err(PostgresError::io("run", binaries.initdb()))?;
        if output.status.success() {
            fs::rename(&temporary, &data).map_err(PostgresError::io("put in place", &data))?;
            return sync_folder(&layout.folder);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_locale = said.contains("locale");
        result = Err(init_failed(output.status, &said));
        if !about_locale {
            break;
        }
    }
    remove_if_there(&temporary)?;
    result
}

/// Makes sure that no server of an earlier run still uses the data.
///
/// Call it with the owner's lock held: then nobody needs that server any more, and it is told to
/// stop if it has not been told already. A file left by a server that was killed, whose number
/// went to a process that is no PostgreSQL, would keep the new server from starting; it is removed.
pub(super) fn clear_earlier_run(data: &Path) -> Result<(), PostgresError> {
    let deadline = Instant::now() + EARLIER_RUN_TIMEOUT;
    let mut told = false;
    loop {
        let Some(found) = PidFile::read(data)? else {
            return Ok(());
        };
        match found.occupant(data) {
            Occupant::Nobody => return Ok(()),
            Occupant::Stranger => return remove_stale_pid_file(data, &found),
            Occupant::Server if !told => {
                tracing::info!(
                    postgres.pid = found.pid,
                    "waiting for the private PostgreSQL of an earlier run to end"
                );
                if let Some(pid) = to_pid(found.pid) {
                    // It may end in this very moment; the loop will see.
                    let _ = kill_process(pid, Signal::INT);
                }
                told = true;
            }
            Occupant::Server | Occupant::Unknown => {}
        }
        if Instant::now() >= deadline {
            return Err(PostgresError::StillInUse {
                pid: found.pid,
                data: data.to_path_buf(),
                waited_seconds: EARLIER_RUN_TIMEOUT.as_secs(),
            });
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn remove_stale_pid_file(data: &Path, seen: &PidFile) -> Result<(), PostgresError> {
    // The server may have ended, and its number been given out, between the two looks.
    if PidFile::read(data)?.as_ref() != Some(seen) {
        return Ok(());
    }
    let path = path_in(data);
    tracing::warn!(
        postgres.pid = seen.pid,
        "removing the postmaster.pid of a PostgreSQL that was killed"
    );
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PostgresError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn remove_if_there(folder: &PathBuf) -> Result<(), PostgresError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PostgresError::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

fn init_failed(status: ExitStatus, said: &str) -> PostgresError {
    PostgresError::InitFailed { status: status.to_string(), output: last_lines(said) }
}

/// The end of a text, short enough for a terminal.
pub(super) fn last_lines(text: &str) -> String {
    const LINES_MAX: usize = 12;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES_MAX);
    lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
}
