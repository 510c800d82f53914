//! One owner at a time: the lock file of a home's private server.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::account::Account;
use super::error::PostgresError;
use super::home::Layout;

/// Held for as long as this process runs the server. The system lets go of it when the process
/// dies, however it dies.
#[derive(Debug)]
pub(super) struct OwnerLock {
    file: File,
}

/// What the owner wrote into its lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub pid: u32,
    /// The database it serves, once that is there.
    pub database: Option<String>,
}

impl OwnerLock {
    /// Takes the lock, and notes who we are.
    pub fn take(layout: &Layout, account: &Account) -> Result<Self, PostgresError> {
        let path = layout.owner_lock();
        let refused = || PostgresError::io("lock", &path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(refused())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PostgresError::AlreadyOwned {
                    home: layout.home.clone(),
                    owner: Owner::read(layout).map(|owner| owner.pid),
                });
            }
            Err(TryLockError::Error(error)) => return Err(refused()(error)),
        }
        account.own(&file).map_err(refused())?;
        let mut lock = Self { file };
        lock.write(&format!("{}\n", std::process::id())).map_err(refused())?;
        Ok(lock)
    }

    /// Notes that `database` is there to be used; until then nobody attaches.
    pub fn announce(&mut self, layout: &Layout, database: &str) -> Result<(), PostgresError> {
        self.write(&format!("{}\n{database}\n", std::process::id()))
            .map_err(PostgresError::io("write to", layout.owner_lock()))
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Closing would do, but for a copy of the descriptor in a child about to exec.
        let _ = self.file.unlock();
    }
}

impl Owner {
    /// The last owner's note; says nothing about whether it still runs.
    pub fn read(layout: &Layout) -> Option<Self> {
        let mut text = String::new();
        File::open(layout.owner_lock()).ok()?.take(4096).read_to_string(&mut text).ok()?;
        let (pid, rest) = text.split_once('\n')?;
        Some(Self { pid: pid.parse().ok()?, database: rest.strip_suffix('\n').map(str::to_owned) })
    }
}

/// Root may work in a folder of somebody else, who could have put a link there.
pub(super) fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}
