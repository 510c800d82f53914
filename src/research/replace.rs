//! The one procedure that replaces a model's files: check, back up, write, mark.
//!
//! [`perform`] runs with the folder's lock held. Its contract, line by line, stands on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::atomic::{self, Steps, Undisturbed, display_name, read_limited, sync_folder};
use super::backup::{self, Manifest};
use super::errors::{DataState, FilesError};
use super::files::{FILE_BYTES_MAX, Paths};
use super::hash::file_hash;
use super::marker::{ConfigFile, FileHashes, Marker};

/// What the folder should hold afterwards, and what may be there before.
pub(super) struct Job<'a> {
    pub(super) change_id: &'a str,
    pub(super) backup_name: &'a str,
    pub(super) at: DateTime<Utc>,
    pub(super) version: i32,
    /// The bytes of each file; `None` takes it away.
    pub(super) contents: [(ConfigFile, Option<&'a [u8]>); 2],
    /// The marker that ends the change; `None` takes it away.
    pub(super) marker_after: Option<Marker>,
    /// What the marker must say, if the caller relies on something.
    pub(super) marker_expected: Option<&'a FileHashes>,
    /// The files that count as ours where no marker says so.
    pub(super) unmarked: &'a FileHashes,
    /// More contents that count as ours.
    pub(super) also_ours: &'a [FileHashes],
    /// Whether missing files are worth a backup too.
    pub(super) backup_always: bool,
    /// Whether files that stay as they are, under a new marker, are worth one.
    pub(super) backup_in_place: bool,
}

/// What came of a job.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) backup: Option<PathBuf>,
    pub(super) replaced: bool,
}

/// A file as it was found.
struct Found<'a> {
    file: ConfigFile,
    path: PathBuf,
    bytes: Option<Vec<u8>>,
    hash: Option<String>,
    wanted: Option<&'a [u8]>,
    wanted_hash: Option<String>,
}

impl Found<'_> {
    fn is_in_place(&self) -> bool {
        self.hash == self.wanted_hash
    }
}

/// Does the job under `_lock`. Calling it again with the same job, after a crash at any line, ends in
/// the same bytes on disk, the same marker and one backup.
///
/// 1. Sweep temporary files. They are a dead writer's; nothing refers to them.
/// 2. Check the marker, then every file. A refusal leaves all as it was. A crash too.
/// 3. Back up: built aside, synced, read back, renamed. A crash before the rename leaves rubbish for
///    line 1; after it, the manifest tells the next call that the change has begun, so the backup is
///    reused and a file that already has the new content is not taken for a hand edit. Without such a
///    manifest it would be, since a person may have put it there.
/// 4. Each file in turn: stage, sync, look again whether it is still what was backed up, rename, sync
///    the folder. A crash between leaves some files new and some old, none torn, the marker old.
///    Between the last look and the rename a few microseconds remain in which an edit would be lost.
/// 5. The marker, in the same way. Before it the change is unfinished, after it done: a redo finds
///    files and marker as they should be and touches nothing.
pub(super) fn perform(
    paths: &Paths,
    _lock: &File,
    job: &Job<'_>,
    steps: &mut dyn Steps,
) -> Result<Outcome, FilesError> {
    let mut done = DataState::default();
    perform_telling(paths, job, steps, &mut done).map_err(|error| error.after(&done))
}

fn perform_telling(
    paths: &Paths,
    job: &Job<'_>,
    steps: &mut dyn Steps,
    done: &mut DataState,
) -> Result<Outcome, FilesError> {
    backup::check_name(&paths.folder, job.backup_name)?;
    atomic::sweep(&paths.folder)?;
    let marker = paths.marker()?;
    let backups = backup::all(&paths.folder)?;
    let found = find(paths, job)?;
    let target = hashes(&found, |found| found.wanted_hash.clone());
    let own = own_backups(&backups, job, &target)?;
    check_marker(paths, job, marker.as_ref(), &target)?;

    let open = own.iter().rev().filter(|(_, manifest)| manifest.marker_before == marker);
    if let Some((path, manifest)) = open.clone().next() {
        done.backup = Some(path.clone());
        done.replaced = half_done(manifest, &found);
    }
    refuse_hand_edits(job, marker.as_ref(), &backups, &found)?;

    let begun = open.clone().find(|(_, manifest)| covers(manifest, &found));
    let in_place = found.iter().all(Found::is_in_place);
    // A settlement may end under a marker that says the same as before; its own backup tells that it ran.
    let settling = job.backup_in_place && begun.is_some();
    if in_place && !settling && says_the_same(marker.as_ref(), job.marker_after.as_ref()) {
        let finished = own
            .last()
            .filter(|_| marker.as_ref().is_some_and(|marker| marker.change_id == job.change_id));
        return Ok(Outcome {
            backup: finished.map(|(path, _)| path.clone()),
            replaced: finished.is_some(),
        });
    }
    let overwrites = found.iter().any(|found| !found.is_in_place() && found.bytes.is_some());
    let marker_moves = marker.as_ref().is_some_and(|marker| marker.files != target);
    if let Some((path, manifest)) = begun {
        backup::verify(path, manifest)?;
        done.backup = Some(path.clone());
    } else if job.backup_in_place || !in_place && (job.backup_always || overwrites || marker_moves)
    {
        done.backup = Some(back_up(paths, job, steps, marker.clone(), target, &found)?);
    }
    for found in found.iter().filter(|found| !found.is_in_place()) {
        put(steps, found, done)?;
    }
    write_marker(paths, job, steps)?;
    Ok(Outcome { replaced: !in_place || begun.is_some(), backup: done.backup.clone() })
}

fn find<'a>(paths: &Paths, job: &Job<'a>) -> Result<Vec<Found<'a>>, FilesError> {
    let find = |(file, wanted): (ConfigFile, Option<&'a [u8]>)| {
        let path = paths.file(file)?;
        let bytes = read_limited(&path, FILE_BYTES_MAX)?;
        Ok(Found {
            file,
            path,
            hash: bytes.as_deref().map(file_hash),
            bytes,
            wanted,
            wanted_hash: wanted.map(file_hash),
        })
    };
    job.contents.into_iter().map(find).collect()
}

fn hashes(found: &[Found<'_>], hash: impl Fn(&Found<'_>) -> Option<String>) -> FileHashes {
    FileHashes::from_fn(|file| {
        let found = found.iter().find(|found| found.file == file);
        found.and_then(&hash)
    })
}

fn own_backups<'a>(
    backups: &'a [(PathBuf, Manifest)],
    job: &Job<'_>,
    target: &FileHashes,
) -> Result<Vec<&'a (PathBuf, Manifest)>, FilesError> {
    let own = backups.iter().filter(|(_, manifest)| manifest.change_id == job.change_id);
    let own: Vec<_> = own.collect();
    match own.iter().find(|(_, manifest)| manifest.becomes != *target) {
        None => Ok(own),
        Some((path, _)) => Err(FilesError::ChangeReused { backup: path.clone() }),
    }
}

fn check_marker(
    paths: &Paths,
    job: &Job<'_>,
    marker: Option<&Marker>,
    target: &FileHashes,
) -> Result<(), FilesError> {
    match (marker, job.marker_expected) {
        (Some(marker), Some(expected)) if marker.files != *expected && marker.files != *target => {
            Err(FilesError::OutOfStep { folder: paths.folder.clone(), found: marker.version })
        }
        _ => Ok(()),
    }
}

/// The files that this change has replaced already.
fn half_done(manifest: &Manifest, found: &[Found<'_>]) -> Vec<ConfigFile> {
    let done = found.iter().filter(|found| {
        found.is_in_place() && found.hash.as_deref() != manifest.before.get(found.file)
    });
    done.map(|found| found.file).collect()
}

/// Whether everything that would be overwritten is in that backup.
fn covers(manifest: &Manifest, found: &[Found<'_>]) -> bool {
    found.iter().all(|found| {
        found.is_in_place()
            || found.hash.is_none()
            || found.hash.as_deref() == manifest.before.get(found.file)
    })
}

/// A file is ours if it is what the marker says, or what a change that began under this marker writes.
fn refuse_hand_edits(
    job: &Job<'_>,
    marker: Option<&Marker>,
    backups: &[(PathBuf, Manifest)],
    found: &[Found<'_>],
) -> Result<(), FilesError> {
    let written = marker.map_or(job.unmarked, |marker| &marker.files);
    for found in found {
        let Some(hash) = found.hash.as_deref() else {
            continue;
        };
        let unfinished = backups
            .iter()
            .filter(|(_, manifest)| manifest.marker_before.as_ref() == marker)
            .map(|(_, manifest)| &manifest.becomes);
        let mut ours = unfinished.chain(job.also_ours).chain([written]);
        if !ours.any(|hashes| hashes.get(found.file) == Some(hash)) {
            return Err(hand_edited(found));
        }
    }
    Ok(())
}

fn hand_edited(found: &Found<'_>) -> FilesError {
    FilesError::HandEdited {
        path: found.path.clone(),
        file: found.file,
        data: DataState::default(),
    }
}

fn says_the_same(one: Option<&Marker>, other: Option<&Marker>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.version == other.version && one.files == other.files,
        _ => false,
    }
}

fn back_up(
    paths: &Paths,
    job: &Job<'_>,
    steps: &mut dyn Steps,
    marker_before: Option<Marker>,
    becomes: FileHashes,
    found: &[Found<'_>],
) -> Result<PathBuf, FilesError> {
    let manifest = Manifest {
        change_id: job.change_id.to_owned(),
        at: job.at,
        before: hashes(found, |found| found.hash.clone()),
        marker_before,
        version: job.version,
        becomes,
    };
    let files: Vec<_> = found
        .iter()
        .map(|found| (found.file, found.path.clone(), found.bytes.as_deref()))
        .collect();
    backup::create(steps, &paths.folder, job.backup_name, &manifest, &files)
}

fn put(steps: &mut dyn Steps, found: &Found<'_>, done: &mut DataState) -> Result<(), FilesError> {
    let path = &found.path;
    let staged = found
        .wanted
        .map(|bytes| {
            let mode = fs::metadata(path).ok().map(|found| found.permissions());
            atomic::stage(steps, path, bytes, mode)
        })
        .transpose()?;
    steps
        .before(&format!("look again at and replace {}", display_name(path)))
        .map_err(FilesError::io("replace", path))?;
    let now = read_limited(path, FILE_BYTES_MAX)?;
    if now.as_deref().map(file_hash) != found.hash {
        return Err(hand_edited(found));
    }
    match &staged {
        Some(temporary) => fs::rename(temporary, path),
        None => fs::remove_file(path),
    }
    .map_err(FilesError::io("replace", path))?;
    done.replaced.push(found.file);
    steps
        .before(&format!("sync folder of {}", display_name(path)))
        .and_then(|()| sync_folder(path.parent()))
        .map_err(FilesError::io("sync", path))
}

fn write_marker(paths: &Paths, job: &Job<'_>, steps: &mut dyn Steps) -> Result<(), FilesError> {
    let path = paths.marker_path();
    match &job.marker_after {
        Some(marker) => save_marker(steps, &path, marker),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FilesError::io("remove", &path)(error))
            }
            _ => sync_folder(path.parent()).map_err(FilesError::io("sync", &path)),
        },
    }
}

pub(super) fn save_marker(
    steps: &mut dyn Steps,
    path: &Path,
    marker: &Marker,
) -> Result<(), FilesError> {
    let json = serde_json::to_vec_pretty(marker)
        .map_err(|source| FilesError::Unreadable { path: path.to_owned(), source })?;
    atomic::replace(steps, path, &json)
}

/// Puts a backup's files and marker back, behind a backup of what is there now.
pub(super) fn restore(
    paths: &Paths,
    lock: &File,
    name: &str,
    from: &Path,
    manifest: &Manifest,
) -> Result<(), FilesError> {
    let [activation, research] = [
        backup::content(from, ConfigFile::Activation)?,
        backup::content(from, ConfigFile::Research)?,
    ];
    let job = Job {
        change_id: &format!("restore {name}"),
        backup_name: &format!("{name}_undone"),
        at: manifest.at,
        version: manifest.marker_before.as_ref().map_or(0, |marker| marker.version),
        contents: [
            (ConfigFile::Activation, activation.as_deref()),
            (ConfigFile::Research, research.as_deref()),
        ],
        marker_after: manifest.marker_before.clone(),
        marker_expected: None,
        unmarked: &manifest.before,
        also_ours: &[manifest.before.clone(), manifest.becomes.clone()],
        backup_always: true,
        backup_in_place: false,
    };
    perform(paths, lock, &job, &mut Undisturbed).map(|_| ())
}
