//! What the doctor says of the folders that Mathesis writes to: whether it may, and for how long there is room.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::{Finding, bad, good, note};
use crate::settings::Settings;
use crate::workflow::load::load_all;

/// Below this, a backup or a PostgreSQL checkpoint may soon fail.
const FREE_BYTES_MIN: u64 = 200 * MIB;
/// Below this, somebody should make room while there is time.
const FREE_BYTES_WANTED: u64 = 2 * 1024 * MIB;
/// The same for a file system with a fixed number of files.
const FREE_FILES_MIN: u64 = 1000;
const MIB: u64 = 1024 * 1024;

/// The private database's home, and each workflow's config folder.
pub(super) fn of_folders(settings: &Settings) -> Vec<Finding> {
    let mut folders: Vec<(String, PathBuf)> = Vec::new();
    if settings.database_url.is_none() && settings.home.exists() {
        folders.push(("home".to_owned(), settings.home.clone()));
    }
    for workflow in load_all(&settings.workflows).unwrap_or_default() {
        folders.push((
            format!("config folder of {}", workflow.name),
            PathBuf::from(&workflow.config_folder),
        ));
    }
    folders.into_iter().map(|(check, folder)| of_folder(check, &folder)).collect()
}

fn of_folder(check: String, folder: &Path) -> Finding {
    match Facts::of(folder) {
        Ok(facts) => facts.judge(check, folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => note(
            check,
            format!("there is no {} here", folder.display()),
            "A running server makes it. If the models' documents lie elsewhere, run the doctor in the folder where `mathesis serve` runs.",
        ),
        Err(error) => bad(
            check,
            format!("{} cannot be looked at: {error}", folder.display()),
            "Let the user that runs Mathesis read and write it.",
        ),
    }
}

/// What the system says of a folder.
struct Facts {
    writable: bool,
    mode: u32,
    free_bytes: u64,
    free_inodes: Option<u64>,
}

impl Facts {
    fn of(folder: &Path) -> io::Result<Self> {
        let mode = folder.metadata()?.permissions().mode();
        let disk = statvfs(folder)?;
        Ok(Self {
            writable: access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            mode,
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            // A file system without a fixed table of files counts none.
            free_inodes: (disk.f_files > 0).then_some(disk.f_favail),
        })
    }

    fn judge(&self, check: String, folder: &Path) -> Finding {
        let place = folder.display();
        let free = format!("{} MiB free", self.free_bytes / MIB);
        if !self.writable {
            return bad(
                check,
                format!("{place} cannot be written to by this user"),
                format!(
                    "Give it to the user that runs Mathesis: `chown -R USER {place}`, and mount it writable."
                ),
            );
        }
        if let Some(files) = self.free_inodes.filter(|files| *files < FREE_FILES_MIN) {
            return bad(
                check,
                format!("the disk of {place} has room for {files} more files only"),
                "Delete what is small and many, or move it to another disk; until then backups and writes fail, and what fails is held.",
            );
        }
        if self.free_bytes < FREE_BYTES_MIN {
            return bad(
                check,
                format!("the disk of {place} is full: {free}"),
                "Make room, or move it to a larger disk; until then backups and writes fail, and what fails is held.",
            );
        }
        if self.mode & 0o002 != 0 {
            return note(
                check,
                format!("whoever uses this machine may write to {place}"),
                format!("`chmod o-w {place}`"),
            );
        }
        if self.free_bytes < FREE_BYTES_WANTED {
            return note(
                check,
                format!("the disk of {place} fills up: {free}"),
                "Make room while there is time.",
            );
        }
        good(check, format!("{place} is writable, with room on its disk"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Health, in_words};
    use super::*;

    #[test]
    fn a_folder_is_judged_by_its_rights_and_its_room() {
        let sound =
            || Facts { writable: true, mode: 0o40755, free_bytes: 9000 * MIB, free_inodes: None };
        let cases = [
            sound(),
            Facts { writable: false, ..sound() },
            Facts { free_bytes: 100 * MIB, ..sound() },
            Facts { free_inodes: Some(12), ..sound() },
            Facts { mode: 0o40777, ..sound() },
            Facts { free_bytes: 1000 * MIB, ..sound() },
        ];
        let findings: Vec<Finding> =
            cases.iter().map(|facts| facts.judge("home".to_owned(), Path::new("/data"))).collect();
        insta::assert_snapshot!(in_words(&findings));
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_folder("home".to_owned(), &folder.path().join("none")).health, Health::Note);
        assert_eq!(of_folder("home".to_owned(), folder.path()).check, "home");
    }
}
