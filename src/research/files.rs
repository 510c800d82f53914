//! A model's config folder: where its files are, and what they hold.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::atomic::{create_folder, read_limited};
use super::backup::{self, Manifest};
use super::errors::FilesError;
use super::hash::file_hash;
use super::marker::{ConfigFile, FileHashes, MARKER_NAME, Marker};

/// Files larger than this are no prompts.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The lock's file name in a model's folder.
pub const LOCK_NAME: &str = ".mathesis.lock";

const LOCK_TRIES_MAX: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// One file's text, byte for byte as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileText {
    /// The whole file, line ends and byte order mark included.
    pub text: String,
    /// Its [`file_hash`].
    pub hash: String,
}

/// What a model's folder holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderState {
    /// `activation.txt`, if it is there.
    pub activation: Option<FileText>,
    /// `research.md`, if it is there.
    pub research: Option<FileText>,
    /// What was last written there, if anything ever was.
    pub marker: Option<Marker>,
    /// Backups of changes that began and have not reached the marker.
    pub unfinished: Vec<Manifest>,
}

impl FolderState {
    /// The hash of each file that is there.
    pub fn hashes(&self) -> FileHashes {
        FileHashes {
            activation: self.activation.as_ref().map(|file| file.hash.clone()),
            research: self.research.as_ref().map(|file| file.hash.clone()),
        }
    }
}

/// Reads both files and the marker of a model, under a shared lock, so never in the middle of a write.
/// A folder that does not exist is read as an empty one.
///
/// # Errors
/// A file that is not UTF-8, holds a NUL, is over [`FILE_BYTES_MAX`], or a link that leads out of
/// `config_folder` or to another model's; a marker that is not ours to read; [`FilesError::Locked`] after five seconds.
/// Reading changes nothing.
pub fn read_model(config_folder: &Path, model: &str) -> Result<FolderState, FilesError> {
    let paths = Paths::new(config_folder, model)?;
    if !paths.folder.exists() {
        return Ok(FolderState::default());
    }
    let _lock = paths.lock_shared()?;
    let text = |file| -> Result<Option<FileText>, FilesError> {
        let path = paths.file(file)?;
        read_limited(&path, FILE_BYTES_MAX)?.map(|bytes| file_text(&path, bytes)).transpose()
    };
    let activation = text(ConfigFile::Activation)?;
    let research = text(ConfigFile::Research)?;
    let marker = paths.marker()?;
    let hash = |file: &Option<FileText>| file.as_ref().map(|file| file.hash.clone());
    let as_marked = marker.as_ref().is_some_and(|marker| {
        marker.files.activation == hash(&activation) && marker.files.research == hash(&research)
    });
    // Backups are kept for ever, so they are looked through only when something needs explaining.
    let unfinished =
        if as_marked { Vec::new() } else { backup::unfinished(&paths.folder, marker.as_ref())? };
    Ok(FolderState { activation, research, marker, unfinished })
}

/// The models that have a folder, in alphabetical order. Hidden folders are none.
///
/// # Errors
/// If the folder cannot be listed. One that does not exist has no models.
pub fn list_models(config_folder: &Path) -> Result<Vec<String>, FilesError> {
    let entries = match fs::read_dir(config_folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FilesError::io("list", config_folder))?,
    };
    let mut models = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FilesError::io("list", config_folder))?;
        let name = entry.file_name();
        match name.to_str() {
            Some(name) if is_plain_name(name) && entry.path().is_dir() => {
                models.push(name.to_owned());
            }
            _ => {}
        }
    }
    models.sort();
    Ok(models)
}

fn file_text(path: &Path, bytes: Vec<u8>) -> Result<FileText, FilesError> {
    let not_text = |why| FilesError::NotText { path: path.to_owned(), why };
    let hash = file_hash(&bytes);
    let text = String::from_utf8(bytes).map_err(|_| not_text("it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(not_text("it contains a NUL"));
    }
    Ok(FileText { text, hash })
}

/// The longest name of a file that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// One path component that is not hidden, on any file system: a colon names a stream or a drive on some.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.starts_with('.')
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
        && matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Where a model's things are, with links checked.
pub(super) struct Paths {
    root: PathBuf,
    model: String,
    /// The model's folder, which may not exist yet.
    pub(super) folder: PathBuf,
}

impl Paths {
    pub(super) fn new(config_folder: &Path, model: &str) -> Result<Self, FilesError> {
        if !is_plain_name(model) {
            return Err(FilesError::BadName {
                name: model.to_owned(),
                folder: config_folder.to_owned(),
            });
        }
        let root = match fs::canonicalize(config_folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => config_folder.to_owned(),
            root => root.map_err(FilesError::io("open", config_folder))?,
        };
        let mut paths = Self { folder: root.join(model), model: model.to_owned(), root };
        paths.folder = paths.inside(paths.folder.clone())?;
        if paths.folder.exists() && !paths.folder.is_dir() {
            return Err(FilesError::WrongKind { path: paths.folder, wanted: "folder" });
        }
        Ok(paths)
    }

    /// The file itself, behind a link if there is one.
    pub(super) fn file(&self, file: ConfigFile) -> Result<PathBuf, FilesError> {
        self.inside(self.folder.join(file.file_name()))
    }

    fn inside(&self, path: PathBuf) -> Result<PathBuf, FilesError> {
        if !path.is_symlink() {
            return Ok(path);
        }
        let real = match fs::canonicalize(&path) {
            Ok(real) if real.starts_with(&self.root) => real,
            _ => return Err(FilesError::LinkOutside { path }),
        };
        match self.also_of(&real)? {
            None => Ok(real),
            Some(model) => Err(FilesError::LinkShared { path, model }),
        }
    }

    /// The other model whose folder or file this is, too: what stands directly in the config folder is a model's.
    fn also_of(&self, real: &Path) -> Result<Option<String>, FilesError> {
        let others = list_models(&self.root)?.into_iter().filter(|other| *other != self.model);
        Ok(others.into_iter().find(|other| {
            let folder = self.root.join(other);
            let files = ConfigFile::ALL.map(ConfigFile::file_name);
            let own = files.into_iter().chain([MARKER_NAME, LOCK_NAME]);
            let is = |path: &Path| fs::canonicalize(path).is_ok_and(|its| its == real);
            is(&folder) || own.into_iter().any(|name| is(&folder.join(name)))
        }))
    }

    pub(super) fn marker_path(&self) -> PathBuf {
        self.folder.join(MARKER_NAME)
    }

    pub(super) fn marker(&self) -> Result<Option<Marker>, FilesError> {
        let path = self.inside(self.marker_path())?;
        read_limited(&path, FILE_BYTES_MAX)?
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|source| FilesError::Unreadable { path, source })
    }

    /// The exclusive lock, and the folder if it was not there. Let go when dropped or when the process
    /// dies. Waits five seconds: whoever holds it longer is stopped, and the caller should come back.
    pub(super) fn lock(&self) -> Result<File, FilesError> {
        create_folder(&self.folder)?;
        let path = self.inside(self.folder.join(LOCK_NAME))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FilesError::io("lock", &path))?;
        wait(&path, || file.try_lock())?;
        Ok(file)
    }

    /// A lock that readers share; none where nobody has ever written.
    fn lock_shared(&self) -> Result<Option<File>, FilesError> {
        let path = self.inside(self.folder.join(LOCK_NAME))?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(FilesError::io("lock", &path))?,
        };
        wait(&path, || file.try_lock_shared())?;
        Ok(Some(file))
    }
}

fn wait(
    path: &Path,
    mut try_lock: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), FilesError> {
    for _ in 0..LOCK_TRIES_MAX {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(FilesError::io("lock", path)(error)),
        }
    }
    Err(FilesError::Locked { path: path.to_owned() })
}
