//! Writing a version's texts into a model's config folder.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::atomic::{self, Steps, Undisturbed};
use super::errors::FilesError;
use super::files::{FILE_BYTES_MAX, Paths};
use super::hash::{Texts, file_hash};
use super::marker::{ConfigFile, FileHashes, Marker};
use super::replace::{Job, perform};

/// A change to a model's files, as its intent row fixed it. A redo brings the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Unique to this change; a redo is recognised by it.
    pub change_id: String,
    /// `backup_YYYYMMDD_HHMMSS`, UTC.
    pub backup_name: String,
    /// The version to write.
    pub version: i32,
    /// Its texts; the template has no file.
    pub texts: Texts,
    /// What the marker says before the change. Where there is no marker, the files that are ours.
    pub expected_before: FileHashes,
    /// The time of the decision, for marker and manifest.
    pub at: DateTime<Utc>,
}

/// What [`write_version`] did, over all calls for the same change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The backup of this change; none if it had nothing to replace.
    pub backup_path: Option<PathBuf>,
    /// Whether this change replaced a file.
    pub replaced: bool,
}

/// The hashes that the files of these texts have.
pub fn hashes_of(texts: &Texts) -> FileHashes {
    FileHashes {
        activation: Some(file_hash(texts.activation.as_bytes())),
        research: Some(file_hash(texts.research.as_bytes())),
    }
}

/// Makes the files of `model` those of the change, behind a backup, under the folder's lock.
///
/// What a crash means, in order. Calling again with the same change ends each the same way:
/// - before or while the files are checked: nothing was changed;
/// - while the backup is built: a temporary folder is left, and swept by the next call;
/// - once the backup has its name: it is whole and checked, its manifest names the change, and a redo
///   reuses it instead of backing up its own half-done work;
/// - between the files: each is wholly old or wholly new, the marker still names the old version, and
///   the manifest tells the redo that the new one is no hand edit;
/// - before the marker: both files are new; the redo only writes the marker;
/// - after it: a redo finds all in place, changes nothing and gives the same answer.
///
/// If files and marker already are this version: no backup, `replaced` is false.
///
/// # Errors
/// [`FilesError::HandEdited`] if a file is neither what the marker says nor this change's own work: an
/// edit found at the start leaves all as it was. [`FilesError::OutOfStep`] if the marker names neither
/// `expected_before` nor this version. Each error says what became of the data and what to do.
pub fn write_version(
    config_folder: &Path,
    model: &str,
    change: &Change,
) -> Result<Written, FilesError> {
    let written = write_version_in(config_folder, model, change, &mut Undisturbed);
    tidied(config_folder, model, written)
}

/// As [`write_version`], with a hook at each step and without tidying up after an error.
pub(super) fn write_version_in(
    config_folder: &Path,
    model: &str,
    change: &Change,
    steps: &mut dyn Steps,
) -> Result<Written, FilesError> {
    let expected = Some(&change.expected_before);
    run(config_folder, model, change, expected, &change.expected_before, true, steps)
}

/// As [`super::write_missing`], with a hook at each step.
pub(super) fn refresh_in(
    config_folder: &Path,
    model: &str,
    change: &Change,
    steps: &mut dyn Steps,
) -> Result<Written, FilesError> {
    let active = hashes_of(&change.texts);
    run(config_folder, model, change, None, &active, false, steps)
}

fn run(
    config_folder: &Path,
    model: &str,
    change: &Change,
    marker_expected: Option<&FileHashes>,
    unmarked: &FileHashes,
    backup_always: bool,
    steps: &mut dyn Steps,
) -> Result<Written, FilesError> {
    let paths = Paths::new(config_folder, model)?;
    check_texts(&paths, &change.texts)?;
    let lock = paths.lock()?;
    let job = Job {
        change_id: &change.change_id,
        backup_name: &change.backup_name,
        at: change.at,
        version: change.version,
        contents: [
            (ConfigFile::Activation, Some(change.texts.activation.as_bytes())),
            (ConfigFile::Research, Some(change.texts.research.as_bytes())),
        ],
        marker_after: Some(Marker {
            version: change.version,
            files: hashes_of(&change.texts),
            change_id: change.change_id.clone(),
            written_at: change.at,
        }),
        marker_expected,
        unmarked,
        also_ours: &[],
        backup_always,
        backup_in_place: false,
    };
    let outcome = perform(&paths, &lock, &job, steps)?;
    Ok(Written { backup_path: outcome.backup, replaced: outcome.replaced })
}

/// After an error that was no crash, temporary files need not wait for the next call.
pub(super) fn tidied(
    config_folder: &Path,
    model: &str,
    written: Result<Written, FilesError>,
) -> Result<Written, FilesError> {
    if matches!(&written, Err(FilesError::Io { .. } | FilesError::HandEdited { .. }))
        && let Ok(paths) = Paths::new(config_folder, model)
        && let Ok(_lock) = paths.lock()
        && let Err(error) = atomic::sweep(&paths.folder)
    {
        tracing::warn!(model.name = model, error = %error, "temporary files are left in a config folder");
    }
    written
}

/// What could not be read back must not be written.
pub(super) fn check_texts(paths: &Paths, texts: &Texts) -> Result<(), FilesError> {
    for (file, text) in
        [(ConfigFile::Activation, &texts.activation), (ConfigFile::Research, &texts.research)]
    {
        let path = paths.folder.join(file.file_name());
        if text.contains('\0') {
            return Err(FilesError::NotText { path, why: "the new text contains a NUL" });
        }
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(FilesError::TooLarge {
                path,
                size_bytes: text.len() as u64,
                limit_bytes: FILE_BYTES_MAX,
            });
        }
    }
    Ok(())
}
