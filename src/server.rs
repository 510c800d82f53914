//! The composition root: one serving process, put together, run and taken down in order.
//!
//! Start: read the workflows (nothing is touched if one is wrong), database, schema, keys, port,
//! registration, logger, runtime, HTTP. Stop, the other way round: HTTP takes no more calls, the logger
//! commits what waits, the runtime hands back what it cannot finish, the private PostgreSQL stops.

mod database;
mod error;
mod orchestrating;
mod start;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use database::{Database, check_schema, migrate};
pub use error::StartError;
pub use orchestrating::{Orchestrate, missing_settings};
pub(crate) use start::host_name;

use crate::claude::{ClaudeApi, Pause, TimerPause};
use crate::clock::{Clock, SystemClock};
use crate::postgres::Purpose;
use crate::runtime::{Engine, Runtime};
use crate::settings::Settings;
use crate::task_log::{TaskLogger, Touched};

/// How long calls that run may go on after the stop; long ones (event streams) end with it.
const HTTP_GRACE: Duration = Duration::from_secs(5);
/// How often the private server is looked after.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a server is put together from.
#[derive(Clone)]
pub struct ServerOptions {
    /// The settings.
    pub settings: Settings,
    /// The folder that the workflows' config folders are relative to.
    pub root: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Claude; none makes the real client from the settings.
    pub claude: Option<Arc<dyn ClaudeApi>>,
    /// Waiting and jitter between a call's retries.
    pub pause: Arc<dyn Pause>,
    /// Where the seeds of decks come from.
    pub draw_seed: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What a private PostgreSQL's data is for.
    pub purpose: Purpose,
    /// The pipeline that runs in the same process; none only serves.
    pub orchestrate: Option<Orchestrate>,
}

impl ServerOptions {
    /// The usual server: the machine's clock, the real Claude, durable data, and config folders
    /// relative to the working folder.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            root: PathBuf::new(),
            clock: Arc::new(SystemClock),
            claude: None,
            pause: Arc::new(TimerPause),
            draw_seed: Arc::new(rand::random::<u64>),
            purpose: Purpose::Durable,
            orchestrate: None,
        }
    }
}

/// A serving process. [`Server::run_until`] ends it in order; dropping it instead ends it at once,
/// which loses nothing that was acknowledged, as after a crash.
pub struct Server {
    address: SocketAddr,
    open: bool,
    runtime: Runtime,
    orchestrating: Option<orchestrating::Orchestrating>,
    logger: TaskLogger,
    logger_tasks: TaskTracker,
    stop_logger: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    stop_http: CancellationToken,
    database: Database,
}

/// Why a running server ended by itself. It was taken down in order, and nothing acknowledged is lost.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener failed.
    #[error(
        "the server could not go on listening on {address}: {cause}. Everything acknowledged is stored; start it again"
    )]
    Http {
        /// Where it listened.
        address: SocketAddr,
        /// The cause.
        cause: String,
    },
    /// The private PostgreSQL is gone.
    #[error(
        "the private PostgreSQL ended by itself, so Mathesis ended too. Everything acknowledged is stored; the reason is in {log}. Start it again"
    )]
    DatabaseEnded {
        /// Its log.
        log: String,
    },
}

impl Server {
    /// Puts a server together and starts it. It answers calls when this returns.
    ///
    /// # Errors
    /// [`StartError`]; everything that had been started was stopped again. What had been stored (a
    /// migrated schema, a registered workflow) stays, and a later start goes on from it.
    pub async fn start(options: ServerOptions) -> Result<Self, StartError> {
        start::start(options).await
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// True when no key exists, so that whoever reaches this machine's loopback may do everything.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// The engine that everything shares.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        self.runtime.engine()
    }

    /// The logger, for callers in this process.
    #[must_use]
    pub const fn logger(&self) -> &TaskLogger {
        &self.logger
    }

    /// Answers which version a run gets, for callers in this process.
    #[must_use]
    pub const fn assigner(&self) -> &crate::runtime::VersionAssigner {
        self.runtime.assigner()
    }

    /// The pipeline that runs in this process, if one does.
    #[must_use]
    pub fn pipeline(&self) -> Option<&crate::orchestrator::Pipeline> {
        self.orchestrating.as_ref().map(orchestrating::Orchestrating::pipeline)
    }

    /// The database in use.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Serves until `stop` is done, then takes everything down in order.
    ///
    /// # Errors
    /// [`ServeError`] when the server ended by itself; it was taken down in order then, too.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let address = self.address;
        let ended = tokio::select! {
            () = stop => None,
            ended = &mut self.http => Some(ServeError::Http { address, cause: words_of(ended) }),
            () = database_ended(&self.database) => Some(ServeError::DatabaseEnded { log: self.database.log() }),
        };
        self.shut_down().await;
        ended.map_or(Ok(()), Err)
    }

    async fn shut_down(mut self) {
        self.stop_http.cancel();
        if !self.http.is_finished()
            && tokio::time::timeout(HTTP_GRACE, &mut self.http).await.is_err()
        {
            self.http.abort();
        }
        self.runtime.stop_taking();
        // Runs end at their next step and tell the logger, so they end before it.
        if let Some(orchestrating) = self.orchestrating.take() {
            orchestrating.shut_down().await;
        }
        self.stop_logger.cancel();
        self.logger_tasks.close();
        self.logger_tasks.wait().await;
        let store = self.runtime.engine().store.clone();
        self.runtime.shut_down().await;
        store.pool().close().await;
        store.reads().close().await;
        self.database.stop().await;
    }
}

fn words_of(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the listener was closed".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

async fn database_ended(database: &Database) {
    while database.is_running() {
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Rings the watcher after every commit of the task log.
async fn ring(touched: Touched, engine: Engine, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            touched = touched.next() => engine.watch.ring_each(touched),
        }
    }
}
