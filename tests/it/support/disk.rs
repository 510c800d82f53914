//! A small disk of its own for a config folder, which a test fills or takes the right to write from. The rights of
//! files would not do: tests run as root in CI, and root may write everywhere.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Enough for the documents of the tests and their backups.
const SIZE_KIB: u32 = 512;
const FILLER: &str = ".filler";

/// A mounted disk; unmounted when dropped.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts a disk at the folder, which is made; says why where that is not permitted.
    pub fn mounted(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let size = format!("size={SIZE_KIB}k");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Whether this machine lets its disks be mounted; what it says where it does not.
    pub fn is_permitted() -> Result<(), String> {
        let folder = tempfile::TempDir::new().map_err(|error| error.to_string())?;
        Self::mounted(&folder.path().join("disk")).map(drop)
    }

    /// Leaves not a byte free.
    pub fn fill(&self) {
        let mut filler = File::create(self.folder.join(FILLER)).expect("the filler is made");
        for size in [4096, 1] {
            let block = vec![0_u8; size];
            loop {
                match filler.write(&block) {
                    Ok(written) if written > 0 => {}
                    Err(error) if error.kind() != io::ErrorKind::StorageFull => {
                        panic!("the disk cannot be filled: {error}")
                    }
                    _ => break,
                }
            }
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(self.folder.join(FILLER)).expect("the filler goes");
    }

    /// Takes the right to write from everybody, root included. A file that is being written keeps a disk busy for a
    /// moment.
    pub fn lock(&self) {
        self.remount("remount,ro");
    }

    /// Lets it be written again.
    pub fn unlock(&self) {
        self.remount("remount,rw");
    }

    fn remount(&self, how: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match run(Command::new("mount").args(["-o", how]).arg(&self.folder)) {
                Ok(()) => return,
                Err(busy) => assert!(Instant::now() < until, "{how}: {busy}"),
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = run(Command::new("umount").arg("-l").arg(&self.folder));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("mount cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
