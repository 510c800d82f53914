//! The running server: starting it, keeping it, stopping it.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::binaries::Binaries;
use super::cluster::{POLL_INTERVAL, clear_earlier_run, ensure_data, last_lines};
use super::error::PostgresError;
use super::home::{self, Layout, SocketPlaces};
use super::owner::{OwnerLock, no_follow};
use super::pidfile::{PidFile, State};
use super::{Purpose, ServerOptions, shim, wire};

/// Recovery after a power cut can take a while; a server that comes up says so in its log.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Sessions of a server that was killed may take a moment to notice.
const ORPHANS_TIMEOUT: Duration = Duration::from_secs(15);
/// A fast shutdown writes everything out; after it, the next start has to recover.
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(30);
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_millis(250);
const LOG_BYTES_MAX: u64 = 8 << 20;

/// A private PostgreSQL server, owned by this value and stopped with it.
///
/// The server is started from a thread of its own that lives as long as this value, because the
/// system's signal of the parent's death fires when the thread that started the child ends, and
/// a worker of an async runtime may end at any time.
///
/// Starting, stopping and dropping block (about a second, 50 ms and 50 ms); from async code, use
/// a thread for blocking work.
#[derive(Debug)]
pub struct PrivateServer {
    url: String,
    pid: u32,
    alive: Arc<AtomicBool>,
    /// Dropping it asks the keeper to stop the server.
    stop: Option<Sender<Infallible>>,
    keeper: Option<JoinHandle<Result<(), PostgresError>>>,
}

impl PrivateServer {
    /// Starts the server, making its data and its database first where they are missing.
    ///
    /// When this process dies in it, or at any time later, the server stops by itself (on Linux,
    /// with the shim), and the next start finds the data whole.
    ///
    /// # Errors
    /// [`PostgresError::AlreadyOwned`] when another process runs the server of this home, and all
    /// the others of [`PostgresError`]; the server is not running then.
    pub fn start(options: ServerOptions) -> Result<Self, PostgresError> {
        let alive = Arc::new(AtomicBool::new(true));
        let (stop, orders) = mpsc::channel();
        let (report, started) = mpsc::channel();
        let keeper = thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn({
                let alive = Arc::clone(&alive);
                move || keep(&options, &report, &orders, &alive)
            })
            .map_err(PostgresError::io("start a thread for", "the private PostgreSQL"))?;
        let Ok((url, pid)) = started.recv() else {
            // Nothing was reported: the keeper's own result tells why.
            return match keeper.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(PostgresError::KeeperEnded),
            };
        };
        Ok(Self { url, pid, alive, stop: Some(stop), keeper: Some(keeper) })
    }

    /// The address for sqlx and psql, by the socket.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the server still runs; false within a quarter of a second of its death.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Stops the server: sessions are ended, everything is written out.
    ///
    /// # Errors
    /// An operating-system error while waiting for its end.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        self.halt()
    }

    fn halt(&mut self) -> Result<(), PostgresError> {
        self.stop = None;
        match self.keeper.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(PostgresError::KeeperEnded),
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(error = %error, "the private PostgreSQL did not stop cleanly");
        }
    }
}

/// The whole life of the keeper's thread.
fn keep(
    options: &ServerOptions,
    report: &Sender<(String, u32)>,
    orders: &Receiver<Infallible>,
    alive: &AtomicBool,
) -> Result<(), PostgresError> {
    let mut running = Running::bring_up(options)?;
    let url = home::url(&running.socket_folder, &options.database);
    if report.send((url, running.child.id())).is_err() {
        return running.halt();
    }
    while let Err(RecvTimeoutError::Timeout) = orders.recv_timeout(HEARTBEAT) {
        if let Ok(Some(status)) = running.child.try_wait()
            && alive.swap(false, Ordering::AcqRel)
        {
            tracing::error!(
                postgres.status = %status,
                postgres.log = %running.log.display(),
                "the private PostgreSQL ended by itself"
            );
        }
    }
    alive.store(false, Ordering::Release);
    running.halt()
}

/// A started server and the lock on its home, which is let go of last.
struct Running {
    child: Child,
    socket_folder: PathBuf,
    log: PathBuf,
    /// Whether the socket's folder lies outside the home and goes when the server goes.
    socket_is_elsewhere: bool,
    lock: OwnerLock,
}

impl Running {
    fn bring_up(options: &ServerOptions) -> Result<Self, PostgresError> {
        check_name(&options.database)?;
        let layout = Layout::of(&options.home)?;
        let account = Account::for_data(&layout.data())?;
        let layout = layout.prepare(&account)?;
        let lock = OwnerLock::take(&layout, &account)?;
        clear_earlier_run(&layout.data())?;
        let binaries = match &options.binaries {
            Some(binaries) => binaries.clone(),
            None => Binaries::find(&layout.home)?,
        };
        let shim_executable = options.shim_executable.as_deref();
        ensure_data(&layout, &account, &binaries, options.purpose, shim_executable)?;
        let socket_folder = layout.socket_folder(&SocketPlaces::from_environment(), &account);
        home::make_private(&socket_folder, &account)?;

        let launch = Launch {
            options,
            layout: &layout,
            account: &account,
            binaries: &binaries,
            socket_folder: &socket_folder,
        };
        let mut running = Self {
            child: launch.until_ready()?,
            log: layout.log(),
            socket_is_elsewhere: !socket_folder.starts_with(&layout.folder),
            socket_folder,
            lock,
        };
        // On an error `running` is dropped here, and so stopped.
        wire::ensure_database(&running.socket_folder, &options.database)?;
        running.lock.announce(&layout, &options.database)?;
        tracing::info!(
            postgres.major = binaries.major(),
            postgres.pid = running.child.id(),
            postgres.data = %layout.data().display(),
            "the private PostgreSQL is ready"
        );
        Ok(running)
    }

    fn halt(&mut self) -> Result<(), PostgresError> {
        stop_child(&mut self.child)?;
        if self.socket_is_elsewhere {
            // Only an empty folder goes; what is left in it is not ours.
            let _ = fs::remove_dir(&self.socket_folder);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a clean halt this finds the child ended; it matters when something panicked.
        let _ = self.halt();
    }
}

/// Everything one start needs.
struct Launch<'a> {
    options: &'a ServerOptions,
    layout: &'a Layout,
    account: &'a Account,
    binaries: &'a Binaries,
    socket_folder: &'a Path,
}

impl Launch<'_> {
    /// Starts the server and waits until it takes connections.
    ///
    /// When an earlier server was killed, its sessions may hold its shared memory for a moment
    /// longer, and the new one refuses to start; then it is tried again.
    fn until_ready(&self) -> Result<Child, PostgresError> {
        let give_up = Instant::now() + ORPHANS_TIMEOUT;
        loop {
            let (mut child, log_start) = self.spawn()?;
            match self.wait_until_ready(&mut child, log_start) {
                Ok(()) => return Ok(child),
                Err(error) => {
                    let _ = stop_child(&mut child);
                    let orphans = matches!(&error, PostgresError::Exited { tail, .. }
                        if tail.contains("pre-existing shared memory block"));
                    if !orphans || Instant::now() >= give_up {
                        return Err(error);
                    }
                }
            }
            thread::sleep(POLL_INTERVAL * 20);
        }
    }

    /// Starts the server; the number is where its part of the log begins.
    fn spawn(&self) -> Result<(Child, u64), PostgresError> {
        let (log, log_start) = open_log(&self.layout.log(), self.account)?;
        let copy = log.try_clone().map_err(PostgresError::io("write to", self.layout.log()))?;
        let postgres = self.binaries.postgres();
        let shim_executable = self.options.shim_executable.as_deref();
        let mut command = shim::command(shim_executable, self.account, &postgres);
        command.arg("-D").arg(self.layout.data());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut directories = std::ffi::OsString::from("unix_socket_directories=");
        directories.push(home::quoted_for_socket_directories(self.socket_folder));
        command.arg("-c").arg(directories).stdout(log).stderr(Stdio::from(copy));
        let child = command.spawn().map_err(PostgresError::io("start", postgres))?;
        Ok((child, log_start))
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let durable = self.options.purpose != Purpose::Throwaway;
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        vec![
            ("listen_addresses", String::new()),
            ("port", home::PORT.to_string()),
            ("unix_socket_permissions", "0700".to_owned()),
            ("max_connections", self.options.max_connections.max(10).to_string()),
            ("fsync", switch(durable)),
            ("full_page_writes", switch(durable)),
            ("synchronous_commit", switch(durable)),
            ("logging_collector", switch(false)),
            ("log_destination", "stderr".to_owned()),
            // Statements carry customers' words; the log is not the place for them.
            ("log_min_error_statement", "panic".to_owned()),
        ]
    }

    fn wait_until_ready(&self, child: &mut Child, log_start: u64) -> Result<(), PostgresError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let log = self.layout.log();
        loop {
            if let Some(status) = ended(child)? {
                return Err(PostgresError::Exited {
                    status: status.to_string(),
                    tail: tail_of(&log, log_start),
                    log,
                });
            }
            // An earlier server's file may still lie there and say that it is ready.
            let ready = PidFile::read(&self.layout.data())?
                .is_some_and(|found| found.pid == child.id() && found.state == State::Ready);
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PostgresError::NotReady {
                    waited_seconds: READY_TIMEOUT.as_secs(),
                    tail: tail_of(&log, log_start),
                    log,
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Stops a server: fast, then without writing out (the next start recovers), then by force.
fn stop_child(child: &mut Child) -> Result<(), PostgresError> {
    let steps = [
        (Signal::INT, FAST_STOP_TIMEOUT),
        (Signal::QUIT, IMMEDIATE_STOP_TIMEOUT),
        (Signal::KILL, IMMEDIATE_STOP_TIMEOUT),
    ];
    for (signal, timeout) in steps {
        if ended(child)?.is_some() {
            return Ok(());
        }
        if signal != Signal::INT {
            tracing::warn!(postgres.pid = child.id(), postgres.signal = ?signal,
                "the private PostgreSQL does not stop; asking more firmly");
        }
        // The child is not yet reaped, so the number is still its own.
        let _ = kill_process(Pid::from_child(child), signal);
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if ended(child)?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
    Err(PostgresError::StillInUse {
        pid: child.id(),
        data: PathBuf::from("its data folder"),
        waited_seconds: steps.iter().map(|(_, timeout)| timeout.as_secs()).sum(),
    })
}

fn ended(child: &mut Child) -> Result<Option<ExitStatus>, PostgresError> {
    child.try_wait().map_err(PostgresError::io("wait for", "the private PostgreSQL"))
}

fn check_name(database: &str) -> Result<(), PostgresError> {
    if (1..64).contains(&database.len()) && !database.contains('\0') {
        return Ok(());
    }
    Err(PostgresError::DatabaseName { database: database.to_owned() })
}

/// Opens the log to add to it, setting a long one aside first.
fn open_log(path: &Path, account: &Account) -> Result<(File, u64), PostgresError> {
    let refused = || PostgresError::io("write to", path);
    if fs::symlink_metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1")).map_err(refused())?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
        .map_err(refused())?;
    account.own(&file).map_err(refused())?;
    let length = file.metadata().map_err(refused())?.len();
    Ok((file, length))
}

/// The last lines of the log since `start`.
fn tail_of(log: &Path, start: u64) -> String {
    const TAIL_BYTES_MAX: u64 = 16 << 10;
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        let from = start.max(length.saturating_sub(TAIL_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) if bytes.is_empty() => "(the server wrote nothing)".to_owned(),
        Ok(_) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(the log cannot be read: {error})"),
    }
}
