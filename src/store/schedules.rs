//! Schedules as rows, so that two processes run each once.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoreError;

/// A schedule that is due, claimed by this process.
#[derive(Debug, Clone)]
pub struct DueSchedule {
    /// The workflow.
    pub workflow_id: i64,
    /// `sweep` or `cleanup`.
    pub name: String,
    /// When, as a cron expression.
    pub cron: String,
    /// The time zone that it is read in.
    pub timezone: String,
    /// When it was due.
    pub next_run_at: DateTime<Utc>,
}

/// A schedule as people see it.
#[derive(Debug, Clone)]
pub struct ScheduleRow {
    /// `sweep` or `cleanup`.
    pub name: String,
    /// When it is due.
    pub next_run_at: DateTime<Utc>,
    /// When it last came to its end.
    pub last_run_at: Option<DateTime<Utc>>,
    /// What came of that, in words.
    pub last_result: Option<String>,
}

/// A workflow's schedules, by name.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(pool: &PgPool, workflow_id: i64) -> Result<Vec<ScheduleRow>, StoreError> {
    Ok(sqlx::query_as!(
        ScheduleRow,
        "SELECT name, next_run_at, last_run_at, last_result FROM schedules
          WHERE workflow_id = $1 ORDER BY name",
        workflow_id
    )
    .fetch_all(pool)
    .await?)
}

/// Registers a schedule, or moves it when its expression or time zone was edited.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn register(
    conn: &mut PgConnection,
    workflow_id: i64,
    name: &str,
    cron: &str,
    timezone: &str,
    next_run_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO schedules (workflow_id, name, cron, timezone, next_run_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (workflow_id, name) DO UPDATE
            SET cron = excluded.cron, timezone = excluded.timezone, next_run_at = excluded.next_run_at
          WHERE schedules.cron <> excluded.cron OR schedules.timezone <> excluded.timezone",
        workflow_id,
        name,
        cron,
        timezone,
        next_run_at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The workflows that have a schedule due. A plain read, so that the claim names its workflow.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn workflows_due(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT workflow_id FROM schedules
          WHERE next_run_at <= $1 AND (claimed_until IS NULL OR claimed_until < now())",
        now
    )
    .fetch_all(pool)
    .await?)
}

/// Claims one due schedule for ten minutes; a process that dies in the middle loses the claim then.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn claim_due(
    pool: &PgPool,
    workflow_id: i64,
    worker_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<DueSchedule>, StoreError> {
    Ok(sqlx::query_as!(
        DueSchedule,
        "UPDATE schedules SET claimed_by = $2, claimed_until = now() + interval '10 minutes'
          WHERE workflow_id = $1 AND name = (
                SELECT name FROM schedules
                 WHERE workflow_id = $1 AND next_run_at <= $3
                   AND (claimed_until IS NULL OR claimed_until < now())
                 ORDER BY next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING workflow_id, name, cron, timezone, next_run_at",
        workflow_id,
        worker_id,
        now
    )
    .fetch_optional(pool)
    .await?)
}

/// Ends a run: the next one is set and the claim given back. Nothing happens when the claim was lost.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn finish(
    pool: &PgPool,
    due: &DueSchedule,
    worker_id: Uuid,
    next_run_at: DateTime<Utc>,
    result: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE schedules
            SET next_run_at = $4, claimed_by = NULL, claimed_until = NULL, last_run_at = $5,
                last_result = $6, runs = runs + 1
          WHERE workflow_id = $1 AND name = $2 AND claimed_by = $3",
        due.workflow_id,
        due.name,
        worker_id,
        next_run_at,
        now,
        result
    )
    .execute(pool)
    .await?;
    Ok(())
}
