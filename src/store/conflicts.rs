//! Conflicts: config files that a person edited, as reported by whoever has them on its disk, and the way
//! out that an operator ordered. The row is the order's memory: what a crash interrupts goes on from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;

use super::StoreError;
use crate::research::FileHashes;

/// Whose disk, and which model's folder there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// The image model.
    pub model: &'p str,
    /// The machine.
    pub host: &'p str,
    /// The model's folder on that machine.
    pub folder: &'p str,
}

/// The way out of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The edited texts become a version, which then serves.
    KeepMine,
    /// The active version's texts are written over the edited files; the edit stays as a version that does not serve.
    TakeTheirs,
}

impl Way {
    /// The name as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeepMine => "keep_mine",
            Self::TakeTheirs => "take_theirs",
        }
    }
}

/// The edited files, as their process reports them.
#[derive(Debug, Clone)]
pub struct Report<'r> {
    /// Where they are.
    pub place: Place<'r>,
    /// Names both files together.
    pub edit_hash: &'r str,
    /// The hash of each; none for a missing file.
    pub files: &'r FileHashes,
    /// `activation.txt`; none where it is missing or too long to be reported.
    pub activation: Option<&'r str>,
    /// `research.md`; none where it is missing or too long to be reported.
    pub research: Option<&'r str>,
    /// The version that the marker names.
    pub base_version: Option<i32>,
}

/// A conflict without the files' texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conflict {
    /// Its number.
    pub conflict_id: i64,
    /// The image model.
    pub model_name: String,
    /// The machine whose disk has the edited files.
    pub host: String,
    /// The model's folder there.
    pub folder: String,
    /// Names both edited files together; an order says which it saw.
    pub edit_hash: String,
    /// Hash of `activation.txt`; none where it is missing.
    pub activation_hash: Option<String>,
    /// Hash of `research.md`; none where it is missing.
    pub research_hash: Option<String>,
    /// The version that the files were before the edit, where the folder has a marker.
    pub base_version: Option<i32>,
    /// When the edit was first seen.
    pub seen_at: DateTime<Utc>,
    /// When the files were last seen to have changed.
    pub changed_at: DateTime<Utc>,
    /// open, ordered, begun, settled or gone.
    pub status: String,
    /// `keep_mine` or `take_theirs`, once ordered.
    pub way: Option<String>,
    /// Who ordered it.
    pub ordered_by: Option<String>,
    /// Why.
    pub order_reason: Option<String>,
    /// When.
    pub ordered_at: Option<DateTime<Utc>>,
    /// The version that holds the edited texts.
    pub kept_version: Option<i32>,
    /// The version that the files become.
    pub to_version: Option<i32>,
    /// The folder name of the backup of the edited files.
    pub backup_name: Option<String>,
    /// When it was begun; also the time in its marker.
    pub begun_at: Option<DateTime<Utc>>,
    /// What came of it, or why the last order was refused.
    pub said: Option<String>,
    /// When it ended.
    pub settled_at: Option<DateTime<Utc>>,
}

impl Conflict {
    /// The hash of each edited file.
    #[must_use]
    pub fn files(&self) -> FileHashes {
        FileHashes {
            activation: self.activation_hash.clone(),
            research: self.research_hash.clone(),
        }
    }

    /// True when the edited texts are to serve.
    #[must_use]
    pub fn keeps_mine(&self) -> bool {
        self.way.as_deref() == Some(Way::KeepMine.as_str())
    }
}

/// The texts of a conflict's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edited {
    /// `activation.txt`; none where it is missing or too long to be reported.
    pub activation_text: Option<String>,
    /// `research.md`; none where it is missing or too long to be reported.
    pub research_text: Option<String>,
}

/// What an order fixes when it begins, so that a redo does the same.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'b> {
    /// The version that holds the edited texts.
    pub kept_version: i32,
    /// The version that the files become.
    pub to_version: i32,
    /// The backup's folder name.
    pub backup_name: &'b str,
}

/// Notes what a process sees on its disk. A conflict that stands there already takes the new texts, unless
/// an order is being carried out; one that was ordered and is edited again is open again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn report(
    conn: &mut PgConnection,
    workflow_id: i64,
    report: &Report<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO config_conflicts AS c (workflow_id, model_name, host, folder, edit_hash, activation_hash,
                research_hash, activation_text, research_text, base_version, seen_at, changed_at, status)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, 'open')
         ON CONFLICT (workflow_id, model_name, host, folder) WHERE settled_at IS NULL
         DO UPDATE SET edit_hash = excluded.edit_hash, activation_hash = excluded.activation_hash,
                research_hash = excluded.research_hash, activation_text = excluded.activation_text,
                research_text = excluded.research_text, base_version = excluded.base_version,
                changed_at = excluded.changed_at
          WHERE c.status = 'open' AND c.edit_hash <> excluded.edit_hash",
        workflow_id,
        report.place.model,
        report.place.host,
        report.place.folder,
        report.edit_hash,
        report.files.activation,
        report.files.research,
        report.activation,
        report.research,
        report.base_version,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The conflicts that stand on one machine.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn standing_on(
    pool: &PgPool,
    workflow_id: i64,
    host: &str,
) -> Result<Vec<Conflict>, StoreError> {
    Ok(sqlx::query_as!(
        Conflict,
        "SELECT conflict_id, model_name, host, folder, edit_hash, activation_hash, research_hash, base_version,
                seen_at, changed_at, status, way, ordered_by, order_reason, ordered_at, kept_version, to_version,
                backup_name, begun_at, said, settled_at
           FROM config_conflicts
          WHERE workflow_id = $1 AND host = $2 AND settled_at IS NULL ORDER BY conflict_id",
        workflow_id,
        host
    )
    .fetch_all(pool)
    .await?)
}

/// The conflicts of a workflow, those that stand first, then the latest; at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<Conflict>, StoreError> {
    Ok(sqlx::query_as!(
        Conflict,
        "SELECT conflict_id, model_name, host, folder, edit_hash, activation_hash, research_hash, base_version,
                seen_at, changed_at, status, way, ordered_by, order_reason, ordered_at, kept_version, to_version,
                backup_name, begun_at, said, settled_at
           FROM config_conflicts
          WHERE workflow_id = $1 ORDER BY settled_at IS NOT NULL, conflict_id DESC LIMIT $2",
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// One conflict.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn find(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    conflict_id: i64,
) -> Result<Option<Conflict>, StoreError> {
    Ok(sqlx::query_as!(
        Conflict,
        "SELECT conflict_id, model_name, host, folder, edit_hash, activation_hash, research_hash, base_version,
                seen_at, changed_at, status, way, ordered_by, order_reason, ordered_at, kept_version, to_version,
                backup_name, begun_at, said, settled_at
           FROM config_conflicts WHERE workflow_id = $1 AND conflict_id = $2",
        workflow_id,
        conflict_id
    )
    .fetch_optional(executor)
    .await?)
}

/// One conflict, with its row locked until the transaction ends.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
) -> Result<Option<Conflict>, StoreError> {
    sqlx::query!(
        "SELECT conflict_id FROM config_conflicts WHERE workflow_id = $1 AND conflict_id = $2 FOR UPDATE",
        workflow_id,
        conflict_id
    )
    .fetch_optional(&mut *conn)
    .await?;
    find(conn, workflow_id, conflict_id).await
}

/// The texts of a conflict's files.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn texts(
    pool: &PgPool,
    workflow_id: i64,
    conflict_id: i64,
) -> Result<Option<Edited>, StoreError> {
    Ok(sqlx::query_as!(
        Edited,
        "SELECT activation_text, research_text FROM config_conflicts WHERE workflow_id = $1 AND conflict_id = $2",
        workflow_id,
        conflict_id
    )
    .fetch_optional(pool)
    .await?)
}

/// Orders a way out of an open conflict whose row the caller has locked.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn order(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
    way: Way,
    (by, reason): (&str, Option<&str>),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_conflicts
            SET status = 'ordered', way = $3, ordered_by = $4, order_reason = $5, ordered_at = $6, said = NULL
          WHERE workflow_id = $1 AND conflict_id = $2",
        workflow_id,
        conflict_id,
        way.as_str(),
        by,
        reason,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Opens a conflict again: its order was withdrawn, or could not be carried out for the reason said.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn reopen(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
    said: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_conflicts
            SET status = 'open', way = NULL, ordered_by = NULL, order_reason = NULL, ordered_at = NULL,
                kept_version = NULL, to_version = NULL, backup_name = NULL, begun_at = NULL, said = $3
          WHERE workflow_id = $1 AND conflict_id = $2 AND settled_at IS NULL",
        workflow_id,
        conflict_id,
        said
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Fixes what an ordered way out is going to do, before any file is touched.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn begin(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
    begun: Begun<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_conflicts
            SET status = 'begun', kept_version = $3, to_version = $4, backup_name = $5, begun_at = $6
          WHERE workflow_id = $1 AND conflict_id = $2 AND status = 'ordered'",
        workflow_id,
        conflict_id,
        begun.kept_version,
        begun.to_version,
        begun.backup_name,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a conflict as ordered.
///
/// # Errors
/// [`StoreError::ConflictSettled`] when another process did so first, [`StoreError`] when the database fails.
pub async fn settle(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
    said: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let settled = sqlx::query!(
        "UPDATE config_conflicts SET status = 'settled', said = $3, settled_at = $4
          WHERE workflow_id = $1 AND conflict_id = $2 AND status = 'begun'",
        workflow_id,
        conflict_id,
        said,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    if settled == 1 { Ok(()) } else { Err(StoreError::ConflictSettled { conflict_id }) }
}

/// Ends an open conflict whose files were put back by hand.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn gone(
    conn: &mut PgConnection,
    workflow_id: i64,
    conflict_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_conflicts SET status = 'gone', said = 'the files were put back by hand', settled_at = $3
          WHERE workflow_id = $1 AND conflict_id = $2 AND status = 'open'",
        workflow_id,
        conflict_id,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets the effects that stopped at a hand edit be tried again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn retry_stopped(
    conn: &mut PgConnection,
    workflow_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE effects SET status = 'pending', attempts = 0, run_after = $2, asks_since = $2, finished_at = NULL
          WHERE workflow_id = $1 AND status = 'failed' AND error_code = 'config_conflict'
            AND (kind = 'roll_back' OR cycle = (
                SELECT max(number) FROM cycles WHERE workflow_id = $1))",
        workflow_id,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
