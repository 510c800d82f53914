//! Changes of config folders: an intent with the transition that wants it, the rest when done.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;

use super::StoreError;

/// Why a config folder changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Version 1 was taken from the files as they stood.
    FirstStart,
    /// An adopted candidate.
    Apply,
    /// An adoption taken back.
    Revert,
    /// An operator's rollback.
    RollBack,
    /// A missing or stale file was written again.
    Repair,
    /// Files that a person edited were taken over as a version.
    KeepMine,
    /// The active version was written over files that a person edited, which became a version of their own.
    TakeTheirs,
}

impl ChangeKind {
    /// The name as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstStart => "first_start",
            Self::Apply => "apply",
            Self::Revert => "revert",
            Self::RollBack => "roll_back",
            Self::Repair => "repair",
            Self::KeepMine => "keep_mine",
            Self::TakeTheirs => "take_theirs",
        }
    }
}

/// What a change is going to do.
#[derive(Debug, Clone)]
pub struct Intent<'i> {
    /// Why.
    pub kind: ChangeKind,
    /// The image model.
    pub model: &'i str,
    /// The version before.
    pub from_version: Option<i32>,
    /// The version after.
    pub to_version: i32,
    /// The cycle and transition that want it; none for a first start or a repair.
    pub origin: Option<(i64, i64)>,
    /// The backup's folder name, fixed here so that a redo finds it again.
    pub backup_name: &'i str,
    /// What changes, in words.
    pub summary: &'i str,
    /// Who wants it.
    pub changed_by: &'i str,
    /// Why, where a person gave a reason.
    pub reason: Option<&'i str>,
}

/// A change as stored.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangeRow {
    /// The change's row.
    pub id: i64,
    /// The image model.
    pub model_name: String,
    /// Why.
    pub kind: String,
    /// The version before.
    pub from_version: Option<i32>,
    /// The version after.
    pub to_version: i32,
    /// The cycle that wanted it.
    pub cycle: Option<i64>,
    /// intended, done or dropped.
    pub status: String,
    /// The backup's folder name as intended.
    pub backup_name: String,
    /// The backup's folder as made; none when nothing was overwritten.
    pub backup_path: Option<String>,
    /// What changed, in words.
    pub summary: String,
    /// Who.
    pub changed_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was decided.
    pub intended_at: DateTime<Utc>,
    /// When files and database agreed.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The name of a backup folder made for a change intended at that moment.
#[must_use]
pub fn backup_name(at: DateTime<Utc>) -> String {
    at.format("backup_%Y%m%d_%H%M%S").to_string()
}

/// Writes down what is going to be changed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn intend(
    conn: &mut PgConnection,
    workflow_id: i64,
    intent: &Intent<'_>,
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO config_changes (workflow_id, model_name, kind, from_version, to_version, cycle, seq,
                status, backup_name, summary, changed_by, reason, intended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'intended', $8, $9, $10, $11, $12)
         RETURNING id",
        workflow_id,
        intent.model,
        intent.kind.as_str(),
        intent.from_version,
        intent.to_version,
        intent.origin.map(|(cycle, _)| cycle),
        intent.origin.map(|(_, seq)| seq),
        intent.backup_name,
        intent.summary,
        intent.changed_by,
        intent.reason,
        now
    )
    .fetch_one(conn)
    .await?)
}

/// The intents that one transition wrote down.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn of_transition(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
    seq: i64,
) -> Result<Vec<ChangeRow>, StoreError> {
    Ok(sqlx::query_as!(
        ChangeRow,
        "SELECT id, model_name, kind, from_version, to_version, cycle, status, backup_name, backup_path,
                summary, changed_by, reason, intended_at, finished_at
           FROM config_changes WHERE workflow_id = $1 AND cycle = $2 AND seq = $3 ORDER BY id",
        workflow_id,
        cycle,
        seq
    )
    .fetch_all(pool)
    .await?)
}

/// Marks a change done: files and database agree from this commit on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn finish(
    conn: &mut PgConnection,
    workflow_id: i64,
    id: i64,
    backup_path: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_changes SET status = 'done', backup_path = $3, finished_at = $4
          WHERE workflow_id = $1 AND id = $2",
        workflow_id,
        id,
        backup_path,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the unfinished intents of a transition dropped: they will not be carried out.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn drop_intended(
    conn: &mut PgConnection,
    workflow_id: i64,
    id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_changes SET status = 'dropped', finished_at = $3
          WHERE workflow_id = $1 AND id = $2 AND status = 'intended'",
        workflow_id,
        id,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the intents of a cycle's cancelled effects dropped: they will not be carried out.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn drop_of_cancelled_effects(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_changes c SET status = 'dropped', finished_at = $3
          WHERE c.workflow_id = $1 AND c.cycle = $2 AND c.status = 'intended'
            AND EXISTS (SELECT FROM effects e
                         WHERE e.workflow_id = c.workflow_id AND e.cycle = c.cycle AND e.seq = c.seq
                           AND e.kind IN ('apply', 'revert', 'roll_back') AND e.status = 'cancelled')",
        workflow_id,
        cycle,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the intents of a model's cancelled rollbacks dropped.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn drop_rollbacks(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE config_changes c SET status = 'dropped', finished_at = $3
          WHERE c.workflow_id = $1 AND c.model_name = $2 AND c.kind = 'roll_back' AND c.status = 'intended'
            AND EXISTS (SELECT FROM effects e
                         WHERE e.workflow_id = c.workflow_id AND e.cycle = c.cycle AND e.seq = c.seq
                           AND e.kind = 'roll_back' AND e.status = 'cancelled')",
        workflow_id,
        model,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The changes of a workflow, newest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<ChangeRow>, StoreError> {
    Ok(sqlx::query_as!(
        ChangeRow,
        "SELECT id, model_name, kind, from_version, to_version, cycle, status, backup_name, backup_path,
                summary, changed_by, reason, intended_at, finished_at
           FROM config_changes WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2",
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// The models of a workflow whose folder is being changed right now: the reconciler leaves them be.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn models_changing(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT model_name FROM config_changes WHERE workflow_id = $1 AND status = 'intended'",
        workflow_id
    )
    .fetch_all(executor)
    .await?)
}

/// When each model's active version last changed from another one: workflow, model, moment.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn last_activations(
    pool: &PgPool,
    since: DateTime<Utc>,
) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT DISTINCT workflow_id, model_name FROM config_changes
          WHERE status = 'done' AND kind IN ('apply', 'revert', 'roll_back') AND finished_at >= $1",
        since
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.workflow_id, row.model_name)).collect())
}
