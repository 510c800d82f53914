//! Retention of the pipeline's own rows.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::store::StoreError;

/// Removes at most `batch` deliveries and `batch` finished jobs, with their steps and calls, that are older than
/// `before`. Returns how many of both. A job whose picture's fate is not logged yet stays.
///
/// # Errors
/// [`StoreError`] when a statement fails; what was removed by then stays removed.
pub async fn prune(
    pool: &PgPool,
    workflow_id: i64,
    before: DateTime<Utc>,
    batch: i64,
) -> Result<u64, StoreError> {
    let deliveries = sqlx::query!(
        "DELETE FROM pipeline_deliveries AS d
          USING (SELECT dedupe_key FROM pipeline_deliveries
                  WHERE workflow_id = $1 AND received_at < $2
                  ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS old
          WHERE d.workflow_id = $1 AND d.dedupe_key = old.dedupe_key",
        workflow_id,
        before,
        batch.max(1)
    )
    .execute(pool)
    .await?
    .rows_affected();
    let jobs = sqlx::query!(
        "DELETE FROM pipeline_jobs AS j
          USING (SELECT job_id FROM pipeline_jobs
                  WHERE workflow_id = $1 AND finished_at < $2
                    AND (feedback_kept IS NULL OR feedback_logged)
                  ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS old
          WHERE j.workflow_id = $1 AND j.job_id = old.job_id",
        workflow_id,
        before,
        batch.max(1)
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(deliveries + jobs)
}
