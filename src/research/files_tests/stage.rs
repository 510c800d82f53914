//! A config folder to try things on, and a script of what goes wrong in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::atomic::Steps;
use super::super::write::write_version_in;
use super::super::*;

pub(super) const MODEL: &str = "wan-2.5-edit";
pub(super) const OLD: [&str; 2] = ["Είσαι βοηθός.\r\n", "\u{feff}# Light\n\nsoft"];
pub(super) const NEW: [&str; 2] = ["Είσαι ακριβής.\n", "# Light\n\nhard\n"];

/// What a test wants to happen before the step with this index.
pub(super) enum Disturbance {
    None,
    Crash(usize),
    Fail(usize, io::ErrorKind),
    Edit(usize, PathBuf),
}

pub(super) struct Script {
    disturbance: Disturbance,
    pub(super) taken: Vec<String>,
}

impl Script {
    pub(super) fn new(disturbance: Disturbance) -> Self {
        Self { disturbance, taken: Vec::new() }
    }
}

impl Steps for Script {
    fn before(&mut self, step: &str) -> io::Result<()> {
        let at = self.taken.len();
        self.taken.push(step.to_owned());
        match &self.disturbance {
            Disturbance::Crash(index) if *index == at => Err(io::Error::other("crash")),
            Disturbance::Fail(index, kind) if *index == at => Err(io::Error::from(*kind)),
            Disturbance::Edit(index, path) if *index == at => fs::write(path, "mine"),
            _ => Ok(()),
        }
    }
}

pub(super) struct Stage {
    _home: tempfile::TempDir,
    pub(super) config: PathBuf,
}

impl Stage {
    pub(super) fn empty() -> Self {
        // Thousands of syncs: in memory where the system has such a place.
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let config = home.path().join("config");
        fs::create_dir(&config).unwrap();
        Self { _home: home, config }
    }

    /// Version 1 on disk and marked.
    pub(super) fn with_version_1() -> Self {
        let stage = Self::empty();
        fs::create_dir(stage.folder()).unwrap();
        fs::write(stage.path("activation.txt"), OLD[0]).unwrap();
        fs::write(stage.path("research.md"), OLD[1]).unwrap();
        adopt(&stage.config, MODEL, 1, &hashes_of(&texts(OLD)), "first", at()).unwrap();
        stage
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.config.join(MODEL)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(super) fn write(&self, change: &Change) -> Result<Written, FilesError> {
        write_version(&self.config, MODEL, change)
    }

    pub(super) fn disturbed(
        &self,
        disturbance: Disturbance,
    ) -> (Result<Written, FilesError>, Vec<String>) {
        let mut script = Script::new(disturbance);
        let written = write_version_in(&self.config, MODEL, &to_version_2(), &mut script);
        (written, script.taken)
    }

    pub(super) fn read(&self) -> FolderState {
        read_model(&self.config, MODEL).unwrap()
    }

    pub(super) fn standing(&self, version: i32, active: [&str; 2]) -> Standing {
        standing(&self.read(), &expected(version, active), false)
    }

    pub(super) fn content(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn backups(&self) -> Vec<String> {
        let names = self.everything().into_keys();
        let folders = names.filter_map(|name| Some(name.split_once('/')?.0.to_owned()));
        folders.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Every file below the model's folder, with its bytes.
    pub(super) fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.folder(), "", &mut found);
        found
    }
}

pub(super) fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
}

pub(super) fn at() -> chrono::DateTime<chrono::Utc> {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

pub(super) fn texts([activation, research]: [&str; 2]) -> Texts {
    Texts { template: String::new(), activation: activation.into(), research: research.into() }
}

pub(super) fn expected(version: i32, active: [&str; 2]) -> Expected {
    Expected {
        version,
        activation_hash: file_hash(active[0].as_bytes()),
        research_hash: file_hash(active[1].as_bytes()),
    }
}

pub(super) fn change(id: &str, version: i32, from: [&str; 2], to: [&str; 2]) -> Change {
    Change {
        change_id: id.into(),
        backup_name: "backup_20261122_100000".into(),
        version,
        texts: texts(to),
        expected_before: hashes_of(&texts(from)),
        at: at(),
    }
}

pub(super) fn to_version_2() -> Change {
    change("cycle 7", 2, OLD, NEW)
}

pub(super) fn step_count() -> usize {
    Stage::with_version_1().disturbed(Disturbance::None).1.len()
}
