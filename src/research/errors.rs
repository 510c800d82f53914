//! What can go wrong with a config folder, and what it means for the user's data.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::marker::ConfigFile;

/// What had been done to the folder when an error ended a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataState {
    /// The backup of this change, once it is complete and checked.
    pub backup: Option<PathBuf>,
    /// The files that already hold the new version.
    pub replaced: Vec<ConfigFile>,
}

impl fmt::Display for DataState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.replaced.is_empty() {
            write!(out, "Nothing was changed.")?;
        } else {
            let names: Vec<_> = self.replaced.iter().map(|file| file.file_name()).collect();
            write!(out, "{} already holds the new version.", names.join(" and "))?;
        }
        if let Some(backup) = &self.backup {
            write!(out, " The files from before are in {}.", backup.display())?;
        }
        Ok(())
    }
}

/// Why a config folder was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}. {data} {}", path.display(), remedy(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What had been done by then.
        data: DataState,
        /// What the system said.
        source: io::Error,
    },
    /// A person changed a file since it was last written. It is never overwritten.
    #[error(
        "{} was edited by hand since it was last written, and is left alone. {data} `mathesis files conflict list` shows the edit and the ways out", path.display()
    )]
    HandEdited {
        /// The file.
        path: PathBuf,
        /// Which one it is.
        file: ConfigFile,
        /// What had been done by then.
        data: DataState,
    },
    /// The folder holds another version than the caller took for granted.
    #[error(
        "{} holds version {found}, not the one this change replaces. Nothing was changed. Read the folder again and retry", folder.display()
    )]
    OutOfStep {
        /// The model's folder.
        folder: PathBuf,
        /// The version that the marker names.
        found: i32,
    },
    /// A backup of the same change was made for other texts.
    #[error(
        "the backup {} belongs to this change but to other texts. Nothing was changed. Give each change an id of its own", backup.display()
    )]
    ChangeReused {
        /// The backup.
        backup: PathBuf,
    },
    /// What was read back from a backup is not what it should hold.
    #[error(
        "the backup {} is damaged: {what}. {data} Check the disk before anything else is changed", backup.display()
    )]
    BackupDamaged {
        /// The backup.
        backup: PathBuf,
        /// What does not agree.
        what: String,
        /// What had been done by then.
        data: DataState,
    },
    /// Not UTF-8, or with a NUL in it, so it cannot be stored as a text.
    #[error("{} is not a text: {why}. Nothing was changed. Save it as UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Larger than a prompt can be.
    #[error("{} has {size_bytes} bytes, more than the {limit_bytes} allowed. Nothing was changed. Shorten it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A folder, pipe or device where a file should be, or a file where a folder should be.
    #[error("{} is not a {wanted}. Nothing was changed. Move it away", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// A link that leads out of the config folder, or nowhere.
    #[error(
        "{} is a link that leads out of the config folder or nowhere. Nothing was changed. Put the file itself there", path.display()
    )]
    LinkOutside {
        /// The link.
        path: PathBuf,
    },
    /// A link to what is another model's.
    #[error(
        "{} is a link to what is model {model}'s too, so that two models would write the same file. Nothing was changed. Give each its own", path.display()
    )]
    LinkShared {
        /// The link.
        path: PathBuf,
        /// The other model.
        model: String,
    },
    /// The marker or a backup's manifest cannot be read as such.
    #[error(
        "{} cannot be read: {source}. Nothing was changed. If the files beside it are as they should be, move it away", path.display()
    )]
    Unreadable {
        /// The JSON file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The model's or the backup's name could lead elsewhere.
    #[error("{name:?} is no name for a folder in {}. Nothing was changed. Use letters, digits, `.`, `-` and `_`", folder.display())]
    BadName {
        /// The name.
        name: String,
        /// Where it would have been.
        folder: PathBuf,
    },
    /// Another process works on the folder.
    #[error("another process holds {}. Nothing was changed. Retry in a moment", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

impl FilesError {
    /// A stable name for programs and for statistics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "read_only",
                _ => "file_error",
            },
            Self::HandEdited { .. } => "hand_edited",
            Self::OutOfStep { .. } => "out_of_step",
            Self::ChangeReused { .. } => "change_reused",
            Self::BackupDamaged { .. } => "backup_damaged",
            Self::NotText { .. } => "not_text",
            Self::TooLarge { .. } => "too_large",
            Self::WrongKind { .. } => "wrong_kind",
            Self::LinkOutside { .. } => "link_outside",
            Self::LinkShared { .. } => "link_shared",
            Self::Unreadable { .. } => "unreadable",
            Self::BadName { .. } => "bad_name",
            Self::Locked { .. } => "locked",
        }
    }

    /// True where a person put something into the folder that only a person can put right.
    #[must_use]
    pub const fn is_for_a_person(&self) -> bool {
        matches!(
            self,
            Self::HandEdited { .. }
                | Self::NotText { .. }
                | Self::TooLarge { .. }
                | Self::WrongKind { .. }
                | Self::LinkOutside { .. }
                | Self::LinkShared { .. }
                | Self::Unreadable { .. }
        )
    }

    /// A file that a person edited, found while nothing was being changed.
    #[must_use]
    pub fn hand_edited(path: PathBuf, file: ConfigFile) -> Self {
        Self::HandEdited { path, file, data: DataState::default() }
    }

    /// Work on the disk that broke off in this process.
    #[must_use]
    pub fn interrupted(cause: impl fmt::Display) -> Self {
        Self::Io {
            action: "work on",
            path: PathBuf::from("the config folder"),
            data: DataState::default(),
            source: io::Error::other(cause.to_string()),
        }
    }

    /// For `map_err`: an error of the system, before anything was done.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, data: DataState::default(), source }
    }

    /// The same error, telling what had been done by then.
    pub(super) fn after(mut self, done: &DataState) -> Self {
        match &mut self {
            Self::Io { data, .. }
            | Self::HandEdited { data, .. }
            | Self::BackupDamaged { data, .. } => *data = done.clone(),
            _ => {}
        }
        self
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free space on that disk, then retry."
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Let this process write there, then retry."
        }
        _ => "Mend that, then retry: the same change picks up where it stopped.",
    }
}
