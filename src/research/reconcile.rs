//! Where a model's folder stands against the active version, and how it is brought back in step.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::atomic::{Undisturbed, read_limited};
use super::errors::{DataState, FilesError};
use super::files::{FILE_BYTES_MAX, FolderState, Paths};
use super::hash::file_hash;
use super::marker::{ConfigFile, FileHashes, Marker};
use super::replace::save_marker;
use super::write::{Change, Written, refresh_in, tidied};

/// The active version, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its number.
    pub version: i32,
    /// Hash of its `activation.txt`.
    pub activation_hash: String,
    /// Hash of its `research.md`.
    pub research_hash: String,
}

impl Expected {
    /// The hash of one file.
    pub fn get(&self, file: ConfigFile) -> &str {
        match file {
            ConfigFile::Activation => &self.activation_hash,
            ConfigFile::Research => &self.research_hash,
        }
    }
}

/// What a folder is, compared with the active version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Files, marker and active version agree.
    InStep,
    /// These files are gone, as in a fresh container: [`write_missing`].
    Missing(Vec<ConfigFile>),
    /// The files are what was last written, but another version is active now: [`write_missing`].
    Stale,
    /// A person changed these files: a conflict, for a person to settle.
    HandEdited(Vec<ConfigFile>),
    /// A change began here and did not end: run that change again, or any later one.
    HalfWritten {
        /// The change.
        change_id: String,
    },
    /// Nobody has written here yet, and the files may be taken as the active version: [`adopt`].
    Unmarked,
}

/// Compares a folder with the active version. Pure.
///
/// The marker decides: a file that differs from it was edited by a person, even into a version that is
/// known. Without a marker, a file that differs from the active version counts as edited too, unless
/// `is_first_start`, when the files are where version 1 comes from.
pub fn standing(folder: &FolderState, active: &Expected, is_first_start: bool) -> Standing {
    let hashes = folder.hashes();
    let missing: Vec<_> =
        ConfigFile::ALL.into_iter().filter(|file| hashes.get(*file).is_none()).collect();
    let differing = |wanted: &dyn Fn(ConfigFile) -> Option<String>| -> Vec<ConfigFile> {
        let present = |file: &ConfigFile| hashes.get(*file).is_some();
        ConfigFile::ALL
            .into_iter()
            .filter(present)
            .filter(|file| hashes.get(*file) != wanted(*file).as_deref())
            .collect()
    };
    let off_marker = match &folder.marker {
        Some(marker) => differing(&|file| marker.files.get(file).map(str::to_owned)),
        None => differing(&|file| Some(active.get(file).to_owned())),
    };
    let explained = |file: &ConfigFile| {
        folder.unfinished.iter().rfind(|change| change.becomes.get(*file) == hashes.get(*file))
    };
    let edited: Vec<_> =
        off_marker.iter().copied().filter(|file| explained(file).is_none()).collect();
    if !edited.is_empty() {
        let may_take = is_first_start && folder.marker.is_none();
        return if may_take { Standing::Unmarked } else { Standing::HandEdited(edited) };
    }
    if let Some(change) = off_marker.iter().find_map(explained) {
        return Standing::HalfWritten { change_id: change.change_id.clone() };
    }
    match &folder.marker {
        Some(marker) if !names(marker, active) => Standing::Stale,
        _ if !missing.is_empty() => Standing::Missing(missing),
        None => Standing::Unmarked,
        Some(_) => Standing::InStep,
    }
}

fn names(marker: &Marker, active: &Expected) -> bool {
    marker.version == active.version
        && ConfigFile::ALL.into_iter().all(|file| marker.files.get(file) == Some(active.get(file)))
}

/// Brings a folder in step with the active version that `active` describes: writes absent files, and
/// replaces stale ones behind a backup. For [`Standing::Missing`] and [`Standing::Stale`];
/// `expected_before` is not looked at, since a replica's own disk may be any number of versions behind.
///
/// Crashes are mended as in [`super::write_version`]. Where only absent files are written there is
/// nothing to back up, and a redo finds files of the active version.
///
/// # Errors
/// As [`super::write_version`]: a file edited by hand is never overwritten.
pub fn write_missing(
    config_folder: &Path,
    model: &str,
    active: &Change,
) -> Result<Written, FilesError> {
    let written = refresh_in(config_folder, model, active, &mut Undisturbed);
    tidied(config_folder, model, written)
}

/// Writes the marker for files that already are `version`: on the first start, or when a person's edit
/// has been taken over as a version. No file is touched; one that is missing stays so, and is written
/// by [`write_missing`]. A crash leaves the marker as it was or as it should be.
///
/// # Errors
/// [`FilesError::HandEdited`] if a file is not what `files` says (it changed since it was read).
pub fn adopt(
    config_folder: &Path,
    model: &str,
    version: i32,
    files: &FileHashes,
    change_id: &str,
    at: DateTime<Utc>,
) -> Result<(), FilesError> {
    let paths = Paths::new(config_folder, model)?;
    let _lock = paths.lock()?;
    for file in ConfigFile::ALL {
        let path = paths.file(file)?;
        let found = read_limited(&path, FILE_BYTES_MAX)?.map(|bytes| file_hash(&bytes));
        if found.is_some() && found.as_deref() != files.get(file) {
            return Err(FilesError::HandEdited { path, file, data: DataState::default() });
        }
    }
    let marker =
        Marker { version, files: files.clone(), change_id: change_id.to_owned(), written_at: at };
    save_marker(&mut Undisturbed, &paths.marker_path(), &marker)
}
