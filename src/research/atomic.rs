//! The few file operations that must survive a crash, and the hook that lets tests crash them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::errors::FilesError;

/// Whatever starts with this was left by a writer that died, and may go once the lock is held.
pub(super) const TEMPORARY_PREFIX: &str = ".mathesis-tmp-";

/// Called before each step that changes the disk. An error ends the call there, as a crash would.
pub(super) trait Steps {
    /// The step about to be taken.
    fn before(&mut self, step: &str) -> io::Result<()>;
}

/// The one for real use: nothing interferes.
pub(super) struct Undisturbed;

impl Steps for Undisturbed {
    fn before(&mut self, _step: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `bytes` to a temporary file beside `path` and syncs it. Returns where it is.
///
/// A crash here leaves a temporary file and nothing else.
pub(super) fn stage(
    steps: &mut dyn Steps,
    path: &Path,
    bytes: &[u8],
    mode: Option<Permissions>,
) -> Result<PathBuf, FilesError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{TEMPORARY_PREFIX}{name}"));
    let step = |what: &str| format!("{what} {name}");
    // An earlier try may have left one, and `create_new` follows no link that somebody put there.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FilesError::io("remove", &temporary)(error));
        }
        _ => {}
    }
    let write = |steps: &mut dyn Steps| -> io::Result<()> {
        steps.before(&step("create temporary for"))?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        steps.before(&step("write first half of"))?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        steps.before(&step("write second half of"))?;
        file.write_all(second)?;
        if let Some(mode) = mode.or_else(default_mode) {
            file.set_permissions(mode)?;
        }
        steps.before(&step("sync"))?;
        file.sync_all()
    };
    write(steps).map_err(FilesError::io("write", &temporary))?;
    Ok(temporary)
}

/// Stages `bytes` and puts them in the place of `path`, so that a reader sees the old or the new.
pub(super) fn replace(steps: &mut dyn Steps, path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let temporary = stage(steps, path, bytes, None)?;
    steps
        .before(&format!("rename {}", display_name(path)))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(FilesError::io("replace", path))?;
    steps
        .before(&format!("sync folder of {}", display_name(path)))
        .and_then(|()| sync_folder(path.parent()))
        .map_err(FilesError::io("sync", path))
}

pub(super) fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes a rename in the folder durable.
pub(super) fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    match folder {
        // Windows cannot open a folder, and makes renames durable by itself.
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Up to `limit_bytes` of a regular file; `None` if it is not there.
pub(super) fn read_limited(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, FilesError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FilesError::io("read", path)(error)),
    };
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(FilesError::WrongKind { path: path.to_owned(), wanted: "file" });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit_bytes + 1).read_to_end(&mut bytes))
        .map_err(FilesError::io("read", path))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(FilesError::TooLarge {
            path: path.to_owned(),
            size_bytes: metadata.len().max(bytes.len() as u64),
            limit_bytes,
        });
    }
    Ok(Some(bytes))
}

/// Removes what a dead writer left. Call it with the lock held.
pub(super) fn sweep(folder: &Path) -> Result<(), FilesError> {
    let entries = fs::read_dir(folder).map_err(FilesError::io("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(FilesError::io("list", folder))?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(FilesError::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(unix)]
fn default_mode() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn default_mode() -> Option<Permissions> {
    None
}

/// Makes a folder that everybody may read, with those above it.
pub(super) fn create_folder(path: &Path) -> Result<(), FilesError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| open_folder(path))
        .and_then(|()| sync_folder(path.parent()))
        .map_err(FilesError::io("create", path))
}

#[cfg(unix)]
fn open_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
