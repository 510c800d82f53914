//! The PostgreSQL of the bench: its own, durable as in production, gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mathesis::postgres::{Binaries, PrivateServer, Purpose, ServerOptions, temporary_home};
use mathesis::store::Store;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Outcome;

/// The database that every row's own is copied from.
const TEMPLATE: &str = "migrated";

/// A running PostgreSQL. Fields are dropped in this order: the server stops, then its folder goes.
pub struct Cluster {
    server: PrivateServer,
    home: TempDir,
    programs: PathBuf,
    next: AtomicU32,
}

/// The log's position and the writing transactions of the server, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    wal_bytes: f64,
    commits: f64,
}

impl Effort {
    /// What came about since an earlier moment: commits, and bytes of write-ahead log.
    pub const fn since(self, earlier: Self) -> (f64, f64) {
        (self.commits - earlier.commits, self.wal_bytes - earlier.wal_bytes)
    }
}

impl Cluster {
    /// Starts the server and migrates the template.
    pub fn start(runtime: &Runtime) -> Outcome<Self> {
        let home = temporary_home()?;
        let binaries = Binaries::find(home.path())?;
        let programs = binaries.folder().to_path_buf();
        let mut options = ServerOptions::new(home.path());
        // Not the one without fsync: what is measured is what production pays.
        options.purpose = Purpose::ThrowawayDurable;
        options.max_connections = 200;
        options.shim_executable = Some(PathBuf::from(env!("CARGO_BIN_EXE_mathesis")));
        options.binaries = Some(binaries);
        let server = PrivateServer::start(options)?;
        let cluster = Self { server, home, programs, next: AtomicU32::new(1) };
        runtime.block_on(cluster.migrate_template())?;
        Ok(cluster)
    }

    async fn migrate_template(&self) -> Outcome<()> {
        self.administer(format!("CREATE DATABASE {TEMPLATE}")).await?;
        let store = Store::connect(&self.url_of(TEMPLATE), None, 2).await?;
        store.migrate().await?;
        store.pool().close().await;
        Ok(())
    }

    /// The address of a fresh database with the schema in it.
    pub async fn database(&self) -> Outcome<String> {
        let name = format!("row_{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.administer(format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await?;
        Ok(self.url_of(&name))
    }

    /// The address of a fresh database without anything in it.
    pub async fn empty_database(&self, name: &str) -> Outcome<String> {
        self.administer(format!("DROP DATABASE IF EXISTS {name}")).await?;
        self.administer(format!("CREATE DATABASE {name}")).await?;
        Ok(self.url_of(name))
    }

    fn url_of(&self, database: &str) -> String {
        self.server.url().replacen("/mathesis?", &format!("/{database}?"), 1)
    }

    async fn administer(&self, statement: String) -> Outcome<()> {
        let mut connection = PgConnection::connect(self.server.url()).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        connection.close().await?;
        Ok(())
    }

    /// A setting of the server.
    pub async fn setting(&self, name: &str) -> Outcome<String> {
        let mut connection = PgConnection::connect(self.server.url()).await?;
        let value = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(value)
    }

    /// Room for the log while a row fills its tables, so that filling takes minutes and not an hour.
    pub async fn wide_log(&self, wide: bool) -> Outcome<()> {
        let size = if wide { "'8GB'" } else { "DEFAULT" };
        self.administer(format!("ALTER SYSTEM SET max_wal_size = {size}")).await?;
        self.administer("SELECT pg_reload_conf()".to_owned()).await?;
        self.administer("CHECKPOINT".to_owned()).await
    }

    /// What has been spent so far. A transaction that writes takes the next number, so the numbers count them.
    pub async fn effort(&self, pool: &PgPool) -> Outcome<Effort> {
        let (wal_bytes, commits) = sqlx::query_as(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8,
                    pg_snapshot_xmax(pg_current_snapshot())::text::float8",
        )
        .fetch_one(pool)
        .await?;
        Ok(Effort { wal_bytes, commits })
    }

    /// A program that belongs to the server, such as `pgbench`, if it is installed.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let beside = self.programs.join(name);
        let on_path = std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|it| it.is_file())
        });
        Some(beside).filter(|it| it.is_file()).or(on_path)
    }

    /// Where the data is.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }
}
