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
pub mod dealing;
mod decks;
pub mod due;
pub mod effects;
mod effects_overview;
mod error;
pub mod experiments;
pub mod export;
pub mod figures;
pub mod forgetting;
pub mod gate;
pub mod hints;
pub mod holds;
pub mod hosts;
mod import;
pub mod imports;
pub mod insights;
pub mod keys;
pub mod leases;
pub mod metrics;
pub mod notifications;
pub mod parking;
pub mod pipeline;
mod pooler;
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

use hints::Hints;
use hosts::{Follower, Hosts, Wanted};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// The migrations, embedded in the binary.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// The connections to PostgreSQL: one pool for everything, and one for dashboards where
/// `DATABASE_READ_URL` names a replica.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    reads: PgPool,
    /// Where each pool may be turned to; empty where an address names one host only.
    followed: Vec<(Hosts, Wanted)>,
    hints: Hints,
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
        let hosts = Hosts::parse(url)?;
        let pool = open_pool(&hosts, Wanted::Primary, connections_max).await?;
        let encoding = sqlx::query_scalar!(
            r#"SELECT pg_encoding_to_char(encoding)::text AS "encoding!" FROM pg_database WHERE datname = current_database()"#
        )
        .fetch_one(&pool)
        .await?;
        if encoding != "UTF8" {
            return Err(StoreError::NotUtf8(encoding));
        }
        let mut followed = vec![(hosts, Wanted::Primary)];
        let reads = match read_url {
            Some(read_url) => {
                let hosts = Hosts::parse(read_url)?;
                let reads = open_pool(&hosts, Wanted::Replica, connections_max).await?;
                followed.push((hosts, Wanted::Replica));
                reads
            }
            None => pool.clone(),
        };
        followed.retain(|(hosts, _)| hosts.are_several());
        Ok(Self { pool, reads, followed, hints: Hints::default() })
    }

    /// Opens two connections and closes them again: whether the database is there and its sessions are
    /// one's own, and if not, why. The pool would only say that its time was out.
    ///
    /// # Errors
    /// [`StoreError`] with what the system or PostgreSQL said.
    pub async fn reach(url: &str) -> Result<(), StoreError> {
        let options = Hosts::parse(url)?.find(Wanted::Primary).await?;
        pooler::refuse_shared_sessions(&options).await
    }

    /// What keeps each pool on its host where an address names several. A serving process lets them look
    /// every moment; a command is over before it matters.
    #[must_use]
    pub fn followers(&self) -> Vec<Follower> {
        let follower = |(hosts, wanted): &(Hosts, Wanted)| {
            let pool = match wanted {
                Wanted::Primary => &self.pool,
                Wanted::Replica => &self.reads,
            };
            Follower::new(hosts.clone(), *wanted, pool.clone())
        };
        self.followed.iter().map(follower).collect()
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

    /// Tells other processes, and this one, that something of a workflow was committed. A hint only: what it is about
    /// is found by polling, too.
    pub fn hint_soon(&self, workflow_id: i64) {
        self.hints.send_soon(&self.pool, workflow_id);
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

async fn open_pool(
    hosts: &Hosts,
    wanted: Wanted,
    connections_max: u32,
) -> Result<PgPool, StoreError> {
    let mut options = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(std::time::Duration::from_secs(10));
    if hosts.are_several() && wanted == Wanted::Primary {
        // A host that was the primary and comes back as a replica would take no write.
        options = options.after_connect(|session, _| {
            Box::pin(async move {
                if hosts::is_replica(session).await? {
                    return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into()));
                }
                Ok(())
            })
        });
    }
    Ok(options.connect_with(hosts.find(wanted).await?).await?)
}
