//! The marker beside a model's files: what this program last wrote there, and when.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The marker's file name in a model's folder.
pub const MARKER_NAME: &str = ".mathesis.json";

/// One of the two files of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigFile {
    /// `activation.txt`
    Activation,
    /// `research.md`
    Research,
}

impl ConfigFile {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Activation, Self::Research];

    /// The file's name in the model's folder and in a backup.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Activation => "activation.txt",
            Self::Research => "research.md",
        }
    }
}

/// The SHA-256 of each file, as [`super::file_hash`] gives it; `None` for a file that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHashes {
    /// Of `activation.txt`.
    pub activation: Option<String>,
    /// Of `research.md`.
    pub research: Option<String>,
}

impl FileHashes {
    /// The hash of one file.
    pub fn get(&self, file: ConfigFile) -> Option<&str> {
        match file {
            ConfigFile::Activation => self.activation.as_deref(),
            ConfigFile::Research => self.research.as_deref(),
        }
    }

    /// Builds the pair from what `hash` says of each file.
    pub(super) fn from_fn(mut hash: impl FnMut(ConfigFile) -> Option<String>) -> Self {
        Self { activation: hash(ConfigFile::Activation), research: hash(ConfigFile::Research) }
    }
}

/// What `.mathesis.json` holds. A file that differs from its hash here was edited by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The version whose texts were written.
    pub version: i32,
    /// The files as they were written.
    pub files: FileHashes,
    /// The change that wrote them.
    pub change_id: String,
    /// The time of that change, as its caller gave it.
    pub written_at: DateTime<Utc>,
}
