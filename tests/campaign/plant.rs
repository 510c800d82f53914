//! A plant: the real binary, once or several times, on a database and in a folder of its own, with a proxy before the
//! database and a relay before Claude.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mathesis::postgres::shim;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;

use super::calls::{Claude, Relay};
use super::cluster::Cluster;
use super::disk::Disk;
use super::documents::write_site;
use super::points::Gate;
use super::proxy::Proxy;

/// What a run walks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// Two adoptions, final: Collecting to Applied.
    Adopted,
    /// Two adoptions that fail their probation: over Probation and Reverting to RolledBack.
    PutBack,
}

impl Scenario {
    pub const ALL: [Self; 2] = [Self::Adopted, Self::PutBack];

    const fn guard(self) -> &'static str {
        match self {
            Self::Adopted => "off",
            Self::PutBack => "probation",
        }
    }
}

/// How a plant is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program.
    pub mathesis: PathBuf,
    pub scenario: Scenario,
    pub replicas: usize,
    /// How long a claim outlives its worker's last sign of life.
    pub lease_seconds: u32,
    /// How long a condition is awaited before a run counts as stuck. A restart takes a dead worker's effects over after
    /// five seconds; the rest is for slow machines.
    pub patience: Duration,
    /// Which of the engine's rules the binary breaks on purpose, for the test of the test.
    pub broken: Option<String>,
    /// Whether the config folder lies on a disk of its own, which can be full or read-only.
    pub own_disk: bool,
}

/// The binary on its database. Dropping it kills every replica.
pub struct Plant {
    pub setup: Setup,
    pub pool: PgPool,
    /// Its database, past every proxy.
    pub url: String,
    pub gate: Arc<Gate>,
    pub claude: Claude,
    pub http: reqwest::Client,
    // Unmounted before the folder goes.
    pub disk: Option<Disk>,
    folder: TempDir,
    database: String,
    replicas: Vec<Replica>,
    ended_by_themselves: AtomicU32,
}

struct Replica {
    proxy: Proxy,
    relay: Relay,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Plant {
    /// A plant whose replicas are not started yet.
    pub async fn new(cluster: &Cluster, setup: Setup) -> Result<Self, String> {
        let url = cluster.database_url().await;
        let options = PgConnectOptions::from_str(&url).map_err(words)?;
        let database = options.get_database().unwrap_or_default().to_owned();
        let socket =
            options.get_socket().ok_or("the cluster listens on no socket")?.join(".s.PGSQL.5432");
        let folder = TempDir::new().map_err(words)?;
        let disk = match setup.own_disk {
            true => Some(Disk::mounted(&folder.path().join("config/deep_research"))?),
            false => None,
        };
        write_site(&folder, setup.scenario.guard());
        quicken(folder.path(), setup.lease_seconds).map_err(words)?;
        let gate = Arc::new(Gate::default());
        let claude = Claude::start().await.map_err(words)?;
        let mut replicas = Vec::new();
        for replica in 0..setup.replicas {
            replicas.push(Replica {
                proxy: Proxy::start(socket.clone(), Arc::clone(&gate), replica)
                    .await
                    .map_err(words)?,
                relay: Relay::start(&claude, Arc::clone(&gate), replica).await.map_err(words)?,
                port: quiet_port(),
                child: Mutex::new(None),
            });
        }
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(3)
            .connect_with(options.application_name("campaign"))
            .await
            .map_err(words)?;
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(4)).build().map_err(words)?;
        Ok(Self {
            setup,
            pool,
            url,
            gate,
            claude,
            http,
            disk,
            folder,
            database,
            replicas,
            ended_by_themselves: AtomicU32::new(0),
        })
    }

    /// Starts a replica that does not run; it may take a moment until it answers.
    pub fn start(&self, replica: usize) -> Result<(), String> {
        let it = &self.replicas[replica];
        if matches!(it.child().as_mut().map(Child::try_wait), Some(Ok(None))) {
            return Ok(());
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .map_err(words)?;
        let mut command = Command::new(&self.setup.mathesis);
        // The shim asks for a signal at our death and then becomes the server.
        command
            .arg(shim::MARK)
            .arg(std::process::id().to_string())
            .args(["-", "-"])
            .arg(&self.setup.mathesis);
        command
            .args(["serve", "--port", &it.port.to_string()])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("DATABASE_URL", it.proxy.url(&self.database))
            .env("ANTHROPIC_BASE_URL", it.relay.base_url())
            .env("ANTHROPIC_API_KEY", "sk-test")
            .env("MATHESIS_WORKFLOWS", self.folder.path().join("workflows"))
            .env("MATHESIS_CONNECTIONS_MAX", "8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command.env("MATHESIS_CLOCK_OFFSET_FILE", self.clock_offset_file());
        if let Some(broken) = &self.setup.broken {
            command.env("MATHESIS_BROKEN_ON_PURPOSE", broken);
        }
        *it.child() = Some(command.spawn().map_err(words)?);
        Ok(())
    }

    pub fn start_all(&self) -> Result<(), String> {
        (0..self.replicas.len()).try_for_each(|replica| self.start(replica))
    }

    /// Kills a replica with SIGKILL, as a crash would; it is gone when this returns.
    pub fn kill(&self, replica: usize) {
        if let Some(mut child) = self.replicas[replica].child().take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Tells a replica to stop, and returns what awaits its end.
    pub fn terminate(
        &self,
        replica: usize,
    ) -> Result<impl Future<Output = Result<(), String>>, String> {
        self.signal(replica, Signal::TERM);
        let mut child = self.replicas[replica].child().take().ok_or("it does not run")?;
        let until = Instant::now() + self.setup.patience;
        Ok(async move {
            while child.try_wait().map_err(words)?.is_none() {
                if Instant::now() > until {
                    let _gone = child.kill();
                    let _reaped = child.wait();
                    return Err("a server that was told to stop went on".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Ok(())
        })
    }

    /// Breaks every connection of every replica to PostgreSQL.
    pub fn break_connections(&self) {
        self.replicas.iter().for_each(|replica| replica.proxy.break_all());
    }

    pub fn kill_all(&self) {
        (0..self.replicas.len()).for_each(|replica| self.kill(replica));
    }

    /// Sends a replica a signal that it may live through.
    pub fn signal(&self, replica: usize, signal: Signal) {
        let child = self.replicas[replica].child();
        let pid =
            child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Starts every replica again that has ended by itself, as a supervisor of services does.
    pub fn revive(&self) -> Result<(), String> {
        for (number, replica) in self.replicas.iter().enumerate() {
            let ended = replica
                .child()
                .as_mut()
                .is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended {
                self.ended_by_themselves.fetch_add(1, Ordering::Relaxed);
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// How often a replica ended that nobody had killed.
    pub fn ended_by_themselves(&self) -> u32 {
        self.ended_by_themselves.load(Ordering::Relaxed)
    }

    /// The address of one of the replicas, another one with each number.
    pub fn address(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.replicas[number % self.replicas.len()].port)
    }

    /// Waits until no session of a killed process is left, so that what it had sent is either committed or undone.
    pub async fn sessions_are_gone(&self) -> Result<(), String> {
        let sessions = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name <> 'campaign'";
        self.until("the sessions of the dead end", async || {
            self.count(sessions).await.is_ok_and(|left| left == 0)
        })
        .await
    }

    pub async fn count(&self, query: &str) -> Result<i64, String> {
        let query = AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&self.pool).await.map_err(words)
    }

    pub async fn state(&self) -> Option<String> {
        let query = "SELECT state FROM cycles WHERE number = 1";
        sqlx::query_scalar(query).fetch_optional(&self.pool).await.ok().flatten()
    }

    /// Awaits what can only be asked for again and again; who ended by itself meanwhile is started again.
    pub async fn until(&self, what: &str, seen: impl AsyncFn() -> bool) -> Result<(), String> {
        let until = Instant::now() + self.setup.patience;
        while !seen().await {
            self.revive()?;
            if Instant::now() > until {
                let state = self.state().await.unwrap_or_default();
                return Err(format!("waited in vain: {what}; the cycle is in {state:?}"));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    pub fn config_root(&self) -> PathBuf {
        self.folder.path().join("config/deep_research")
    }

    fn clock_offset_file(&self) -> PathBuf {
        self.folder.path().join("clock-offset")
    }

    /// Every replica's clock goes wrong by so many seconds, at once.
    pub fn set_clock_wrong_by(&self, seconds: i64) -> Result<(), String> {
        let (file, new) = (self.clock_offset_file(), self.folder.path().join("clock-offset.new"));
        std::fs::write(&new, seconds.to_string()).map_err(words)?;
        std::fs::rename(new, file).map_err(words)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Replica {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What any error says.
pub fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A window of three tasks, and retries that do not make a run wait.
fn quicken(folder: &Path, lease_seconds: u32) -> std::io::Result<()> {
    let file = folder.join("workflows/image-editing/workflow.toml");
    let mut text = std::fs::read_to_string(&file)?;
    let lease = format!("\nlease_seconds = {lease_seconds}\n");
    for (from, to) in [
        ("\ntasks = 50\n", "\ntasks = 3\n"),
        ("\nlease_seconds = 60\n", lease.as_str()),
        ("\nfirst_delay_seconds = 30\n", "\nfirst_delay_seconds = 1\n"),
        ("\ndelay_max_seconds = 3600\n", "\ndelay_max_seconds = 2\n"),
        ("\nattempts_max = 5\n", "\nattempts_max = 20\n"),
    ] {
        assert!(text.contains(from), "{from} stands in the shipped workflow");
        text = text.replace(from, to);
    }
    std::fs::write(file, text)
}

/// A port below those that the system hands out, so that no connection of anybody's sits on it at a restart.
fn quiet_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let start = std::process::id().wrapping_mul(131);
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(start.wrapping_add(step) % 20_000).unwrap_or(0);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
