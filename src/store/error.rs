//! What can go wrong between Mathesis and PostgreSQL.

use std::fmt::Display;

/// A failed statement, a row that cannot be read, or a write that came too late.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL refused, or could not be reached. The transaction was not committed unless the
    /// connection broke while COMMIT was under way; every write is safe to repeat.
    #[error("the database did not take it: {0}")]
    Database(#[from] sqlx::Error),

    /// A stored value that this version of the program cannot read. The row is left as it is.
    #[error("{table}.{column} of {row} cannot be read: {cause}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Which row, by its key.
        row: String,
        /// What is wrong with it.
        cause: String,
    },

    /// A stored value that a newer version of the program wrote, as one that serves beside this one does while the old
    /// ones are replaced. The row is left to it.
    #[error(
        "{table} of {row} was written by a newer Mathesis and is left to that one; nothing was changed ({cause})"
    )]
    Newer {
        /// The table.
        table: &'static str,
        /// Which row, by its key.
        row: String,
        /// What this version knows.
        cause: String,
    },

    /// Another worker took the effect over; what this one tried to write was not written.
    #[error("the lease of effect {effect_id} was lost to another worker; nothing was written")]
    LeaseLost {
        /// The effect.
        effect_id: i64,
    },

    /// Another worker took the pipeline's job over; what this one tried to write was not written.
    #[error("the lease of job {job_id} was lost to another worker; nothing was written")]
    JobLost {
        /// The job.
        job_id: i64,
    },

    /// Another process settled the conflict first; what this one tried to write was not written.
    #[error("conflict {conflict_id} was settled by another process; nothing was written")]
    ConflictSettled {
        /// The conflict.
        conflict_id: i64,
    },

    /// Another process imports the same file; what this one tried to write was not written.
    #[error(
        "another process imports the same file and was faster; nothing of this batch was stored"
    )]
    ImportMoved {
        /// The import.
        import_id: i64,
    },

    /// The database's encoding is not UTF-8, so texts could not be kept as they were sent.
    #[error(
        "the database's encoding is {0}, and Mathesis needs UTF8: create the database with ENCODING 'UTF8'"
    )]
    NotUtf8(String),

    /// The address leads through a pooler that shares sessions out by transaction.
    #[error(
        "the database's address leads through a pooler in transaction mode, and Mathesis needs sessions of its own (advisory locks, LISTEN, prepared statements): give the address of PostgreSQL itself, or set pool_mode = session for this database. Nothing was changed"
    )]
    PooledByTransaction,

    /// Several hosts are named, and those that answer only read.
    #[error(
        "none of the {hosts} hosts takes writes at the moment; a failover may be under way, and nothing that was acknowledged is lost"
    )]
    NoPrimary {
        /// How many hosts the address names.
        hosts: usize,
    },

    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// A stored value that cannot be read, named so that a person finds it.
    pub fn corrupt(
        table: &'static str,
        column: &'static str,
        row: impl Display,
        cause: impl Display,
    ) -> Self {
        Self::Corrupt { table, column, row: row.to_string(), cause: cause.to_string() }
    }

    /// True when the same call may well succeed later: the database is away, busy, restarting, or
    /// took another transaction's side.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => database_is_transient(error),
            Self::NoPrimary { .. } => true,
            Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::LeaseLost { .. }
            | Self::JobLost { .. }
            | Self::ConflictSettled { .. }
            | Self::ImportMoved { .. }
            | Self::NotUtf8(_)
            | Self::PooledByTransaction
            | Self::Migrate(_) => false,
        }
    }
}

fn database_is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        // Class 08 connection, 40 rollback (deadlock, serialisation), 53 resources, 57 operator
        // intervention (shutdown, crash recovery), 25006 read only (a demoted primary).
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006"
        }),
        _ => false,
    }
}
