//! Effects as operators see them: the list, another try, a single step.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use super::StoreError;
use super::effects::ClaimedEffect;

/// An effect as pages and the command line show it.
#[derive(Debug, Clone, serde::Serialize, ToSchema)]
pub struct EffectRow {
    /// The effect's row.
    pub effect_id: i64,
    /// The transition that asked for it.
    pub seq: i64,
    /// What is to be done.
    pub kind: String,
    /// pending, claimed, done, failed or cancelled.
    pub status: String,
    /// Tries so far.
    pub attempts: i32,
    /// Not before.
    pub run_after: DateTime<Utc>,
    /// The last failure's stable code.
    pub error_code: Option<String>,
    /// The last failure, in words.
    pub last_error: Option<String>,
    /// When the transition asked for it.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Lets failed effects of a cycle be tried again from the start, and failed rollbacks of earlier
/// cycles, which may end while a rollback of theirs still waits.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn retry_failed(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let retried = sqlx::query!(
        "UPDATE effects SET status = 'pending', attempts = 0, run_after = $3, asks_since = $3, finished_at = NULL
          WHERE workflow_id = $1 AND (cycle = $2 OR kind = 'roll_back') AND status = 'failed'",
        workflow_id,
        cycle,
        now
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    // An effect that waits for its next try is tried at once, too.
    let hurried = sqlx::query!(
        "UPDATE effects SET run_after = $3
          WHERE workflow_id = $1 AND (cycle = $2 OR kind = 'roll_back')
            AND status = 'pending' AND run_after > $3",
        workflow_id,
        cycle,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(retried + hurried)
}

/// Grants one pending effect of a held cycle its claim.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn grant_step(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let granted = sqlx::query!(
        "UPDATE effects SET step_granted = true, parked = false, run_after = LEAST(run_after, $3)
          WHERE workflow_id = $1 AND effect_id = (
                SELECT effect_id FROM effects
                 WHERE workflow_id = $1 AND cycle = $2 AND status = 'pending'
                 ORDER BY effect_id LIMIT 1 FOR UPDATE)",
        workflow_id,
        cycle,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(granted == 1)
}

/// The effects of a cycle, in the order they were asked for.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<EffectRow>, StoreError> {
    Ok(sqlx::query_as!(
        EffectRow,
        "SELECT effect_id, seq, kind, status, attempts, run_after, error_code, last_error,
                created_at, finished_at
           FROM effects WHERE workflow_id = $1 AND cycle = $2 ORDER BY effect_id",
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}

/// Drops a model's rollbacks that wait or have failed; returns which.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cancel_rollbacks(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    now: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "UPDATE effects SET status = 'cancelled', finished_at = $3
          WHERE workflow_id = $1 AND kind = 'roll_back' AND status IN ('pending', 'failed')
            AND payload -> 'change' ->> 'model' = $2
         RETURNING effect_id",
        workflow_id,
        model,
        now
    )
    .fetch_all(conn)
    .await?)
}

/// Drops a claimed effect whose cycle has ended without it. Nothing happens when the claim moved on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn drop_claimed(
    pool: &PgPool,
    claim: &ClaimedEffect,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE effects SET status = 'cancelled', worker_id = NULL, lease_until = NULL, finished_at = $5
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}
