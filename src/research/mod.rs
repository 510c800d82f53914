//! The texts that a prompt version consists of, and the files that are their image.
//!
//! The first half is pure: [`document`] splits a Markdown text into sections, [`edits`] changes some of
//! them under rules, [`diff`] shows two versions to a person, [`hash`] names a content. The second half
//! touches the disk and blocks: [`files`] reads a config folder, [`write`](mod@write) replaces its files
//! behind a backup, [`reconcile`] says where a folder stands. Async callers use `spawn_blocking`.

pub mod blame;
pub mod diff;
pub mod document;
pub mod edits;
pub mod hash;
pub mod overfit;
pub mod quotes;
pub mod three_way;

pub mod backup;
pub mod errors;
pub mod files;
pub mod marker;
pub mod reconcile;
pub mod settle;
pub mod write;

mod atomic;
mod replace;

#[cfg(test)]
mod files_tests;

pub use backup::{Manifest, restore_backup};
pub use diff::{unified, version_diff};
pub use document::{Document, Section};
pub use edits::{
    Applied, BytesMax, Edit, EditNote, EditRefusal, EditRules, Operation, Origin, Which, apply,
    kept_prefix_bytes,
};
pub use errors::{DataState, FilesError};
pub use files::{FileText, FolderState, list_models, read_model};
pub use hash::{Texts, content_hash, file_hash};
pub use marker::{ConfigFile, FileHashes, Marker};
pub use overfit::check_copies;
pub use reconcile::{Expected, Standing, adopt, standing, write_missing};
pub use settle::{Settlement, edit_hash, settle};
pub use three_way::{ThreeWay, three_way};
pub use write::{Change, Written, hashes_of, write_version};
