//! What the database is, and how far its schema has come.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{MIGRATOR, StoreError};

/// How the database's schema stands against this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum SchemaStanding {
    /// It is what this program needs.
    Current,
    /// This many migrations have not run yet.
    Behind {
        /// How many.
        pending: usize,
    },
    /// A newer program has migrated it.
    Ahead {
        /// The newest migration that this program does not know.
        version: i64,
    },
}

/// How the schema stands. Reads only.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn standing(pool: &PgPool) -> Result<SchemaStanding, StoreError> {
    // Not checked at compile time: this table is sqlx's own and may not be there yet.
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let applied: Vec<i64> = if exists {
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(pool)
            .await?
    } else {
        Vec::new()
    };
    let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    if let Some(version) = applied.iter().rfind(|version| !known.contains(version)) {
        return Ok(SchemaStanding::Ahead { version: *version });
    }
    let pending = known.iter().filter(|version| !applied.contains(version)).count();
    Ok(if pending == 0 { SchemaStanding::Current } else { SchemaStanding::Behind { pending } })
}

/// What the database server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// Its version as a number, such as 150004 for 15.4.
    pub version_number: i32,
    /// Its version as text.
    pub version: String,
    /// The database's encoding.
    pub encoding: String,
    /// Its clock.
    pub now: DateTime<Utc>,
    /// True on a standby, which takes no writes.
    pub read_only: bool,
}

/// Asks the server about itself.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn server_facts(pool: &PgPool) -> Result<ServerFacts, StoreError> {
    Ok(sqlx::query_as!(
        ServerFacts,
        r#"SELECT current_setting('server_version_num')::int AS "version_number!",
                  current_setting('server_version') AS "version!",
                  current_setting('server_encoding') AS "encoding!",
                  clock_timestamp() AS "now!",
                  pg_is_in_recovery() AS "read_only!""#
    )
    .fetch_one(pool)
    .await?)
}
