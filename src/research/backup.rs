//! Backups: the files as they were before a change, and a manifest that says so.
//!
//! A backup is put together in a temporary folder, synced, read back, and only then given its name. A
//! folder with a manifest in it is therefore a whole backup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::atomic::{Steps, TEMPORARY_PREFIX, create_folder, read_limited, sync_folder};
use super::errors::{DataState, FilesError};
use super::files::{FILE_BYTES_MAX, Paths, is_plain_name};
use super::hash::file_hash;
use super::marker::{ConfigFile, FileHashes, Marker};
use super::replace;

/// The manifest's file name in a backup.
pub const MANIFEST_NAME: &str = "manifest.json";

const NAME_PREFIX: &str = "backup_";
const COLLISIONS_MAX: u32 = 10_000;

/// What a backup holds and which change it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The change that made it.
    pub change_id: String,
    /// When that change was decided.
    pub at: DateTime<Utc>,
    /// The files in the backup; `None` records that the file was missing.
    pub before: FileHashes,
    /// The marker as it was. While it stands, the change is unfinished.
    pub marker_before: Option<Marker>,
    /// The version that the change writes.
    pub version: i32,
    /// The files that the change writes.
    pub becomes: FileHashes,
}

/// Puts the files of a backup back, byte for byte, and the marker as it was; a file recorded as missing
/// is removed. What stands there now is backed up first, under the same name with `_undone`.
///
/// # Errors
/// [`FilesError::BackupDamaged`] if a hash does not agree, [`FilesError::HandEdited`] if a file is
/// neither what the backup's change found nor what it wrote nor what the marker says; nothing is
/// changed then. A crash in it is mended by calling it again.
pub fn restore_backup(
    config_folder: &Path,
    model: &str,
    backup: &Path,
) -> Result<Manifest, FilesError> {
    let paths = Paths::new(config_folder, model)?;
    let name = backup.file_name().and_then(|name| name.to_str());
    let Some(name) = name.filter(|name| is_plain_name(name)) else {
        return Err(FilesError::BadName {
            name: backup.display().to_string(),
            folder: paths.folder,
        });
    };
    let lock = paths.lock()?;
    let backup = paths.folder.join(name);
    let manifest = read_manifest(&backup)?.ok_or_else(|| FilesError::BackupDamaged {
        backup: backup.clone(),
        what: format!("it has no {MANIFEST_NAME}"),
        data: DataState::default(),
    })?;
    verify(&backup, &manifest)?;
    replace::restore(&paths, &lock, name, &backup, &manifest)?;
    Ok(manifest)
}

/// One file of a backup, `None` if it was missing.
pub(super) fn content(backup: &Path, file: ConfigFile) -> Result<Option<Vec<u8>>, FilesError> {
    read_limited(&backup.join(file.file_name()), FILE_BYTES_MAX)
}

/// Every whole backup of the folder, oldest name first.
pub(super) fn all(folder: &Path) -> Result<Vec<(PathBuf, Manifest)>, FilesError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FilesError::io("list", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FilesError::io("list", folder))?;
        let is_backup = entry.file_name().to_string_lossy().starts_with(NAME_PREFIX);
        if !is_backup || !entry.path().is_dir() {
            continue;
        }
        // A damaged manifest of one backup must not block the others: it explains no file.
        match read_manifest(&entry.path()) {
            Ok(Some(manifest)) => found.push((entry.path(), manifest)),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                backup.path = %entry.path().display(), error = %error, "a backup's manifest cannot be read"
            ),
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// The changes that began under this marker and have not replaced it.
pub(super) fn unfinished(
    folder: &Path,
    marker: Option<&Marker>,
) -> Result<Vec<Manifest>, FilesError> {
    let manifests = all(folder)?.into_iter().map(|(_, manifest)| manifest);
    Ok(manifests.filter(|manifest| manifest.marker_before.as_ref() == marker).collect())
}

fn read_manifest(backup: &Path) -> Result<Option<Manifest>, FilesError> {
    let path = backup.join(MANIFEST_NAME);
    read_limited(&path, FILE_BYTES_MAX)?
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(|source| FilesError::Unreadable { path, source })
}

/// Reads a backup from the disk and compares every hash.
pub(super) fn verify(backup: &Path, manifest: &Manifest) -> Result<(), FilesError> {
    for file in ConfigFile::ALL {
        let found = content(backup, file)?.map(|bytes| file_hash(&bytes));
        if found.as_deref() != manifest.before.get(file) {
            return Err(FilesError::BackupDamaged {
                backup: backup.to_owned(),
                what: format!("{} does not have its hash", file.file_name()),
                data: DataState::default(),
            });
        }
    }
    Ok(())
}

/// Backs up `files` (path and bytes; no bytes for a missing one). Returns the backup's path.
///
/// A crash before the rename leaves a temporary folder, which the next call sweeps; no file has been
/// touched then. A crash after it leaves a whole backup, which the next call finds by its change id.
pub(super) fn create(
    steps: &mut dyn Steps,
    folder: &Path,
    name: &str,
    manifest: &Manifest,
    files: &[(ConfigFile, PathBuf, Option<&[u8]>)],
) -> Result<PathBuf, FilesError> {
    let building = folder.join(format!("{TEMPORARY_PREFIX}backup"));
    steps.before("create backup folder").map_err(FilesError::io("create", &building))?;
    create_folder(&building)?;
    for (file, original, bytes) in files {
        if let Some(bytes) = bytes {
            let mode = fs::metadata(original).ok().map(|found| found.permissions());
            write_synced(steps, &building.join(file.file_name()), bytes, mode)?;
        }
    }
    let path = building.join(MANIFEST_NAME);
    let json = serde_json::to_vec_pretty(manifest)
        .map_err(|source| FilesError::Unreadable { path: path.clone(), source })?;
    write_synced(steps, &path, &json, None)?;
    steps
        .before("sync backup folder")
        .and_then(|()| sync_folder(Some(&building)))
        .map_err(FilesError::io("sync", &building))?;
    let read_back = read_manifest(&building)?;
    if read_back.as_ref() != Some(manifest) {
        return Err(FilesError::BackupDamaged {
            backup: building,
            what: format!("{MANIFEST_NAME} is not what was written"),
            data: DataState::default(),
        });
    }
    verify(&building, manifest)?;
    let backup = free_name(folder, name)?;
    steps
        .before("name backup")
        .and_then(|()| fs::rename(&building, &backup))
        .and_then(|()| steps.before("sync folder of backup"))
        .and_then(|()| sync_folder(Some(folder)))
        .map_err(FilesError::io("create", &backup))?;
    Ok(backup)
}

fn write_synced(
    steps: &mut dyn Steps,
    path: &Path,
    bytes: &[u8],
    mode: Option<fs::Permissions>,
) -> Result<(), FilesError> {
    let temporary = super::atomic::stage(steps, path, bytes, mode)?;
    fs::rename(&temporary, path).map_err(FilesError::io("write", path))
}

/// `name`, or with `_2`, `_3` and so on if something has that name.
fn free_name(folder: &Path, name: &str) -> Result<PathBuf, FilesError> {
    let numbered = (2..=COLLISIONS_MAX).map(|number| format!("{name}_{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .map(|name| folder.join(name))
        .find(|path| fs::symlink_metadata(path).is_err())
        .ok_or_else(|| FilesError::BadName { name: name.to_owned(), folder: folder.to_owned() })
}

/// Whether a caller's name for a backup is one: `backup_` and a plain rest.
pub(super) fn check_name(folder: &Path, name: &str) -> Result<(), FilesError> {
    if is_plain_name(name) && name.starts_with(NAME_PREFIX) {
        return Ok(());
    }
    Err(FilesError::BadName { name: name.to_owned(), folder: folder.to_owned() })
}
