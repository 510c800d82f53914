//! Whom the server runs as: the current user, or for root somebody else, for PostgreSQL refuses root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::PostgresError;

/// The user that the server and its files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name, for messages.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Whether this differs from the current user, so that the server has to be started as them.
    pub switched: bool,
}

impl Account {
    /// Picks the user for the server whose data is, or will be, in `data`.
    ///
    /// An ordinary user runs it as themselves. Root runs it as the owner of the data where there
    /// is some (so installing a `postgres` user later changes nothing), else as `postgres`, else
    /// as `nobody`.
    ///
    /// # Errors
    /// [`PostgresError::NoAccount`] when root finds none of them.
    pub fn for_data(data: &Path) -> Result<Self, PostgresError> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self {
                name: format!("with id {uid}"),
                uid,
                gid: rustix::process::getegid().as_raw(),
                switched: false,
            });
        }
        if let Ok(found) = fs::metadata(data)
            && found.uid() != 0
        {
            return Ok(Self {
                name: format!("with id {}", found.uid()),
                uid: found.uid(),
                gid: found.gid(),
                switched: true,
            });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| in_passwd(&passwd, name))
            .ok_or(PostgresError::NoAccount)
    }

    /// The first folder on the way to `wanted` (itself included) that this user cannot enter.
    ///
    /// Goes by the mode bits, of the path with its links resolved; folders that do not exist are
    /// passed over.
    #[must_use]
    pub fn blocked_at(&self, wanted: &Path) -> Option<PathBuf> {
        let resolved = fs::canonicalize(wanted).unwrap_or_else(|_| wanted.to_path_buf());
        let mut folders: Vec<&Path> = resolved.ancestors().collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| {
                fs::metadata(folder)
                    .is_ok_and(|found| !self.may_enter(found.mode(), found.uid(), found.gid()))
            })
            .map(Path::to_path_buf)
    }

    /// Gives an open file to this user, so that a home made by root is still theirs to use.
    pub(super) fn own(&self, file: &fs::File) -> std::io::Result<()> {
        if self.switched {
            std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }

    fn may_enter(&self, mode: u32, owner: u32, group: u32) -> bool {
        let bit = if self.uid == owner {
            0o100
        } else if self.gid == group {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

fn in_passwd(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        (uid != 0).then(|| Account { name: name.to_owned(), uid, gid, switched: true })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_passwd_line_gives_the_account() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:PostgreSQL:/var:/bin/bash\n";
        let account = in_passwd(passwd, "postgres").expect("it is there");
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(in_passwd(passwd, "nobody"), None);
    }

    #[test]
    fn root_and_broken_lines_are_never_an_account() {
        assert_eq!(in_passwd("nobody:x:0:0:::", "nobody"), None);
        assert_eq!(in_passwd("nobody:*:-2:-2:::", "nobody"), None);
        assert_eq!(in_passwd("nobody", "nobody"), None);
    }

    #[test]
    fn the_closed_folder_on_the_way_is_named() {
        let top = tempfile::tempdir().expect("a folder");
        let closed = top.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).expect("folders");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
        let stranger =
            Account { name: "stranger".into(), uid: 61_234, gid: 61_234, switched: true };
        let closed = fs::canonicalize(closed).expect("resolved");
        assert_eq!(stranger.blocked_at(&inner), Some(closed.clone()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).expect("opened");
        assert_eq!(stranger.blocked_at(&inner), None);
    }
}
