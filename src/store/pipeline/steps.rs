//! The journal of a run: steps that are on record are never done again.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;

use super::jobs::ClaimedJob;
use crate::store::StoreError;

/// A step on record.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// Its name within the job.
    pub step: String,
    /// When it was begun.
    pub begun_at: DateTime<Utc>,
    /// When it ended, and what came of it; `None` for one that may or may not have been done.
    pub end: Option<(DateTime<Utc>, Value)>,
}

/// Every step of a job.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn all(pool: &PgPool, workflow_id: i64, job_id: i64) -> Result<Vec<StepRow>, StoreError> {
    let rows = sqlx::query!(
        "SELECT step, begun_at, ended_at, outcome FROM pipeline_steps
          WHERE workflow_id = $1 AND job_id = $2",
        workflow_id,
        job_id
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StepRow {
            step: row.step,
            begun_at: row.begun_at,
            end: row.ended_at.zip(row.outcome),
        })
        .collect())
}

/// Puts on record that a step is about to be done. A step that was begun before stays as it is.
///
/// # Errors
/// [`StoreError::JobLost`] when another worker holds the job now; nothing was written then.
pub async fn begin(
    pool: &PgPool,
    job: &ClaimedJob,
    step: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "WITH held AS (
             -- The lock makes a rescuer wait for this write, so that the next holder sees it.
             SELECT workflow_id, job_id FROM pipeline_jobs
              WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4
                AND status = 'claimed'
                FOR SHARE)
         INSERT INTO pipeline_steps AS s (workflow_id, job_id, step, begun_at)
         SELECT workflow_id, job_id, $5, $6 FROM held
         ON CONFLICT (workflow_id, job_id, step) DO UPDATE SET begun_at = s.begun_at",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence,
        step,
        now
    )
    .execute(pool)
    .await?
    .rows_affected();
    if rows == 1 { Ok(()) } else { Err(job.lost()) }
}

/// Puts on record what came of a step. The first end stands.
///
/// # Errors
/// [`StoreError::JobLost`] when another worker holds the job now; nothing was written then.
pub async fn end(
    pool: &PgPool,
    job: &ClaimedJob,
    step: &str,
    begun_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    outcome: &Value,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "WITH held AS (
             SELECT workflow_id, job_id FROM pipeline_jobs
              WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4
                AND status = 'claimed'
                FOR SHARE)
         INSERT INTO pipeline_steps AS s (workflow_id, job_id, step, begun_at, ended_at, outcome)
         SELECT workflow_id, job_id, $5, $6, $7, $8 FROM held
         ON CONFLICT (workflow_id, job_id, step) DO UPDATE
            SET ended_at = excluded.ended_at, outcome = excluded.outcome
          WHERE s.ended_at IS NULL",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence,
        step,
        begun_at,
        ended_at,
        outcome
    )
    .execute(pool)
    .await?
    .rows_affected();
    if rows == 1 { Ok(()) } else { Err(job.lost()) }
}
