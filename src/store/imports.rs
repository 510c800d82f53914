//! How far each import of a file has come, so that one that was broken off goes on where it was.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// An import that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its row.
    pub import_id: i64,
    /// Bytes of the file that are done with.
    pub offset_bytes: i64,
    /// Where the last batch began.
    pub batch_from_bytes: i64,
    /// SHA-256 of the last batch's bytes.
    pub batch_hash: String,
    /// Lines of the file that are done with, blank ones included.
    pub line_number: i64,
    /// Lines that are not blank.
    pub lines: i64,
    /// Events that were new.
    pub accepted: i64,
    /// Events that were stored before.
    pub duplicate: i64,
    /// Lines that were refused.
    pub rejected: i64,
}

/// What one batch adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The import's row.
    pub import_id: i64,
    /// Where the batch begins in the file, in bytes.
    pub from_bytes: i64,
    /// Where it ends.
    pub to_bytes: i64,
    /// SHA-256 of its bytes.
    pub batch_hash: String,
    /// The number of its last line.
    pub line_number: i64,
    /// Lines that were refused before the log saw them.
    pub refused: i64,
    /// When.
    pub at: DateTime<Utc>,
}

/// What became of the events of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// New.
    pub accepted: i64,
    /// Stored before.
    pub duplicate: i64,
    /// Refused.
    pub rejected: i64,
}

/// The unfinished import of that file; a new one where there is none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn open(
    pool: &PgPool,
    workflow_id: i64,
    source: &str,
    learn: bool,
    now: DateTime<Utc>,
) -> Result<Import, StoreError> {
    Ok(sqlx::query_as!(
        Import,
        "INSERT INTO imports AS i (workflow_id, source, learn, started_at, updated_at)
         VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (workflow_id, source, learn) WHERE ended_at IS NULL DO UPDATE SET updated_at = i.updated_at
         RETURNING import_id, offset_bytes, batch_from_bytes, batch_hash, line_number, lines, accepted,
                   duplicate, rejected",
        workflow_id,
        source,
        learn,
        now
    )
    .fetch_one(pool)
    .await?)
}

/// Moves an import on, in the transaction that stores the batch.
///
/// # Errors
/// [`StoreError::ImportMoved`] when another process imports the same file and was here first; the
/// caller's transaction is then to be rolled back.
pub(super) async fn advance(
    conn: &mut PgConnection,
    workflow_id: i64,
    step: &Step,
    counted: Counted,
) -> Result<(), StoreError> {
    let rejected = counted.rejected + step.refused;
    let moved = sqlx::query!(
        "UPDATE imports
            SET offset_bytes = $4, batch_from_bytes = $3, batch_hash = $5, line_number = $6, lines = lines + $7,
                accepted = accepted + $8, duplicate = duplicate + $9, rejected = rejected + $10, updated_at = $11
          WHERE workflow_id = $1 AND import_id = $2 AND offset_bytes = $3 AND ended_at IS NULL",
        workflow_id,
        step.import_id,
        step.from_bytes,
        step.to_bytes,
        step.batch_hash,
        step.line_number,
        counted.accepted + counted.duplicate + rejected,
        counted.accepted,
        counted.duplicate,
        rejected,
        step.at
    )
    .execute(conn)
    .await?
    .rows_affected();
    if moved == 1 {
        return Ok(());
    }
    Err(StoreError::ImportMoved { import_id: step.import_id })
}

/// Ends an import: its last line is stored, or it is to begin anew.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn end(
    pool: &PgPool,
    workflow_id: i64,
    import_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE imports SET ended_at = $3 WHERE workflow_id = $1 AND import_id = $2",
        workflow_id,
        import_id,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}
