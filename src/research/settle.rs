//! Settling a hand edit: the one procedure that may replace an edited file, since a person ordered it.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::atomic::{Steps, Undisturbed, read_limited};
use super::errors::{DataState, FilesError};
use super::files::{FILE_BYTES_MAX, Paths};
use super::hash::{Texts, file_hash};
use super::marker::{ConfigFile, FileHashes, Marker};
use super::replace::{Job, perform};
use super::write::{Written, check_texts, hashes_of, tidied};

/// What a person ordered for an edited folder. A redo brings the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Unique to this order; a redo is recognised by it.
    pub change_id: String,
    /// `backup_YYYYMMDD_HHMMSS`, UTC.
    pub backup_name: String,
    /// The files as the person saw them when he decided.
    pub edited: FileHashes,
    /// The version that the files become: that of the edited texts themselves, or the active one.
    pub version: i32,
    /// Its texts.
    pub texts: Texts,
    /// The time of the decision, for marker and manifest.
    pub at: DateTime<Utc>,
}

/// Names both files of a folder together: 64 lower-case hex digits. An order to settle a conflict names
/// what it saw by this.
#[must_use]
pub fn edit_hash(files: &FileHashes) -> String {
    let name = |file| files.get(file).unwrap_or("missing");
    file_hash(
        format!(
            "activation.txt {}\nresearch.md {}\n",
            name(ConfigFile::Activation),
            name(ConfigFile::Research)
        )
        .as_bytes(),
    )
}

/// Makes the edited files of `model` those of the settlement, behind a backup of the edited bytes, under
/// the folder's lock. Where the version is that of the edited texts, no file changes and the marker alone
/// says that they are ours now; the backup is made all the same.
///
/// What a crash means is what it means in [`super::write_version`]: before the backup has its name, nothing was
/// changed; after it, a redo reuses it, and each file is wholly the edited one or wholly the new one; the
/// marker comes last.
///
/// # Errors
/// [`FilesError::HandEdited`] if a file is neither as the person saw it nor this order's own work: it was
/// edited again, or put back. Nothing is changed then, beyond what a redo found done already.
pub fn settle(
    config_folder: &Path,
    model: &str,
    settlement: &Settlement,
) -> Result<Written, FilesError> {
    tidied(config_folder, model, settle_in(config_folder, model, settlement, &mut Undisturbed))
}

/// As [`settle`], with a hook at each step and without tidying up after an error.
pub(super) fn settle_in(
    config_folder: &Path,
    model: &str,
    settlement: &Settlement,
    steps: &mut dyn Steps,
) -> Result<Written, FilesError> {
    let paths = Paths::new(config_folder, model)?;
    check_texts(&paths, &settlement.texts)?;
    let lock = paths.lock()?;
    let becomes = hashes_of(&settlement.texts);
    refuse_unseen(&paths, settlement, &becomes)?;
    let job = Job {
        change_id: &settlement.change_id,
        backup_name: &settlement.backup_name,
        at: settlement.at,
        version: settlement.version,
        contents: [
            (ConfigFile::Activation, Some(settlement.texts.activation.as_bytes())),
            (ConfigFile::Research, Some(settlement.texts.research.as_bytes())),
        ],
        marker_after: Some(Marker {
            version: settlement.version,
            files: becomes.clone(),
            change_id: settlement.change_id.clone(),
            written_at: settlement.at,
        }),
        marker_expected: None,
        unmarked: &settlement.edited,
        also_ours: &[settlement.edited.clone(), becomes],
        backup_always: true,
        backup_in_place: true,
    };
    let outcome = perform(&paths, &lock, &job, steps)?;
    Ok(Written { backup_path: outcome.backup, replaced: outcome.replaced })
}

/// A file that is what the marker says would count as ours elsewhere; here it would mean that the person
/// put it back after he decided.
fn refuse_unseen(
    paths: &Paths,
    settlement: &Settlement,
    becomes: &FileHashes,
) -> Result<(), FilesError> {
    for file in ConfigFile::ALL {
        let path = paths.file(file)?;
        let found = read_limited(&path, FILE_BYTES_MAX)?.map(|bytes| file_hash(&bytes));
        let found = found.as_deref();
        if found != settlement.edited.get(file) && found != becomes.get(file) {
            return Err(FilesError::HandEdited { path, file, data: DataState::default() });
        }
    }
    Ok(())
}
