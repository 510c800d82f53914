//! All SQL of Mathesis, checked against the schema at compile time.
//!
//! One file a table or a group of tables that change together. Functions take an executor, so that
//! the caller decides what is one transaction; `runtime::advance` is the only caller that changes a
//! cycle.

pub mod analysis_plans;
pub mod analytics;
pub mod assignments;
pub mod audit;
pub mod automation;
pub mod blame;
pub mod candidates;
pub mod changes;
pub mod claude_batches;
pub mod claude_calls;
pub mod conflicts;
pub mod costs;
pub mod cycles;
mod decks;
pub mod effects;
mod effects_overview;
mod error;
pub mod experiments;
pub mod export;
pub mod figures;
pub mod forgetting;
pub mod gate;
pub mod holds;
mod import;
pub mod imports;
pub mod insights;
pub mod keys;
pub mod leases;
pub mod metrics;
pub mod pipeline;
pub mod probations;
pub mod rehearsal;
pub mod reports;
pub mod retention;
pub mod schedules;
pub mod schema;
mod slots;
pub mod task_log;
mod task_log_read;
mod task_log_write;
pub mod versions;
pub mod watches;
pub mod window;
pub mod workflows;

pub use error::StoreError;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

/// The migrations, embedded in the binary.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// The connections to PostgreSQL: one pool for everything, and one for dashboards where
/// `DATABASE_READ_URL` names a replica.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    reads: PgPool,
}

impl Store {
    /// Connects, and refuses a database that is not UTF-8.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be reached or does not store UTF-8.
    pub async fn connect(
        url: &str,
        read_url: Option<&str>,
        connections_max: u32,
    ) -> Result<Self, StoreError> {
        let pool = open_pool(url, connections_max).await?;
        let encoding = sqlx::query_scalar!(
            r#"SELECT pg_encoding_to_char(encoding)::text AS "encoding!" FROM pg_database WHERE datname = current_database()"#
        )
        .fetch_one(&pool)
        .await?;
        if encoding != "UTF8" {
            return Err(StoreError::NotUtf8(encoding));
        }
        let reads = match read_url {
            Some(read_url) => open_pool(read_url, connections_max).await?,
            None => pool.clone(),
        };
        Ok(Self { pool, reads })
    }

    /// Opens one connection and closes it again: whether the database is there, and if not, why. The pool
    /// would only say that its time was out.
    ///
    /// # Errors
    /// [`StoreError`] with what the system or PostgreSQL said.
    pub async fn reach(url: &str) -> Result<(), StoreError> {
        let options: PgConnectOptions = url.parse()?;
        sqlx::PgConnection::connect_with(&options).await?.close().await?;
        Ok(())
    }

    /// Brings the schema up to date. Several processes may call it at once; one does the work.
    ///
    /// # Errors
    /// [`StoreError::Migrate`] when a migration fails or was edited after it ran.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATOR.run(&self.pool).await.map_err(StoreError::Migrate)
    }

    /// True when every migration of this program has run. A newer schema is current, too: the
    /// replica that brought it serves beside this one while they are replaced.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or has no schema at all.
    pub async fn schema_is_current(&self) -> Result<bool, StoreError> {
        // The table is the migrator's own, so it is not part of the checked schema.
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await?;
        let wanted = MIGRATOR.iter().map(|migration| migration.version).max();
        Ok(newest >= wanted)
    }

    /// The pool for everything that must see the latest commit.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The pool for dashboards, which may lag behind.
    #[must_use]
    pub const fn reads(&self) -> &PgPool {
        &self.reads
    }
}

async fn open_pool(url: &str, connections_max: u32) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(std::time::Duration::from_secs(10))
        .connect_with(options.application_name("mathesis"))
        .await?;
    Ok(pool)
}
