//! What a site has on its disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use super::{NANO, Site, WAN};

impl Site {
    /// Where the site's files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The documents of both models, by name.
    pub fn documents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for model in [WAN, NANO] {
            for name in ["activation.txt", "research.md"] {
                let text = std::fs::read(self.config(model).join(name)).expect("the file reads");
                found.insert(format!("{model}/{name}"), text);
            }
        }
        found
    }

    pub fn backups(&self, model: &str) -> usize {
        std::fs::read_dir(self.config(model))
            .expect("the folder is there")
            .filter(|entry| {
                let name = entry.as_ref().expect("an entry").file_name();
                name.to_string_lossy().starts_with("backup_")
            })
            .count()
    }

    /// The files of a model's newest backup, by name.
    pub fn newest_backup(&self, model: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.config(model)).expect("the folder is there");
        let folders = entries.map(|entry| entry.expect("an entry").path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("backup_"))
        });
        let newest = folders.max_by_key(|path| (path.as_os_str().len(), path.clone()));
        let files = std::fs::read_dir(newest.expect("a backup")).expect("it is a folder");
        files
            .map(|file| file.expect("an entry").path())
            .map(|path| {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                (name, std::fs::read(&path).expect("the file reads"))
            })
            .collect()
    }

    /// Keeps every writer out of a model's folder until it is dropped.
    pub fn lock_files(&self, model: &str) -> File {
        let path = self.config_root().join(model).join(".mathesis.lock");
        let file = File::options().write(true).open(path).expect("the lock is there");
        file.lock().expect("the folder is locked");
        file
    }

    pub fn config_root(&self) -> PathBuf {
        self.folder.path().join("config/deep_research")
    }

    fn config(&self, model: &str) -> PathBuf {
        self.config_root().join(model)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}
