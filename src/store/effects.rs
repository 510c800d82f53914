//! Effects: the work that transitions asked for, claimed under a lease and a fence.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use super::effects_overview::{
    EffectRow, cancel_rollbacks, drop_claimed, grant_step, list, retry_failed,
};

use super::cycles::to_json;
use super::{StoreError, parking};
use crate::broken::Rule;
use crate::cycle::{Effect, EffectKind};

/// An effect that a worker holds.
#[derive(Debug, Clone)]
pub struct ClaimedEffect {
    /// The workflow.
    pub workflow_id: i64,
    /// The effect's row.
    pub effect_id: i64,
    /// The cycle that asked for it.
    pub cycle: i64,
    /// The transition that asked for it.
    pub seq: i64,
    /// What is to be done.
    pub effect: Effect,
    /// Every write about it names this number; a rescuer raises it.
    pub fence: i64,
    /// The holder.
    pub worker_id: Uuid,
    /// How often it was tried before this claim.
    pub attempts: i32,
    /// Unusable answers count against the limit from here on.
    pub asks_since: DateTime<Utc>,
    /// The moment of the trace at which it was asked for.
    pub traceparent: Option<String>,
}

/// Where a new effect is put.
#[derive(Debug, Clone, Copy)]
pub struct NewEffect<'e> {
    /// The workflow.
    pub workflow_id: i64,
    /// The cycle.
    pub cycle: i64,
    /// The transition.
    pub seq: i64,
    /// Position among the transition's effects, from 0.
    pub ordinal: i16,
    /// What is to be done.
    pub effect: &'e Effect,
    /// Now, by the program's clock.
    pub now: DateTime<Utc>,
    /// The moment of the trace at which it is asked for.
    pub traceparent: Option<&'e str>,
}

pub(super) fn interval(lease: Duration) -> PgInterval {
    let microseconds = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Inserts an effect for any worker to claim.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert_pending(conn: &mut PgConnection, new: NewEffect<'_>) -> Result<(), StoreError> {
    let payload = to_json(new.effect, "effects", "payload")?;
    sqlx::query!(
        "INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, status, run_after, created_at, asks_since, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $7, $7, $8)",
        new.workflow_id,
        new.cycle,
        new.seq,
        new.ordinal,
        new.effect.kind().as_str(),
        payload,
        new.now,
        new.traceparent
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts an effect already claimed by its writer, which saves the claim's commit.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert_claimed(
    conn: &mut PgConnection,
    new: NewEffect<'_>,
    worker_id: Uuid,
    lease: Duration,
) -> Result<ClaimedEffect, StoreError> {
    let payload = to_json(new.effect, "effects", "payload")?;
    let effect_id = sqlx::query_scalar!(
        "INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, status, run_after,
                              created_at, asks_since, worker_id, fence, lease_until, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6, 'claimed', $7, $7, $7, $8, 1, now() + $9, $10)
         RETURNING effect_id",
        new.workflow_id,
        new.cycle,
        new.seq,
        new.ordinal,
        new.effect.kind().as_str(),
        payload,
        new.now,
        worker_id,
        interval(lease),
        new.traceparent
    )
    .fetch_one(conn)
    .await?;
    Ok(ClaimedEffect {
        workflow_id: new.workflow_id,
        effect_id,
        cycle: new.cycle,
        seq: new.seq,
        effect: new.effect.clone(),
        fence: 1,
        worker_id,
        attempts: 0,
        asks_since: new.now,
        traceparent: new.traceparent.map(str::to_owned),
    })
}

/// The workflows that have an effect waiting to be claimed now, which nothing holds. A plain read, so
/// that the claim itself can name its workflow and stay on one shard. It only saves claims that would find
/// nothing: what may be claimed is [`claim`]'s to say. Held effects that it meets are parked, and not met again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn workflows_with_work(
    pool: &PgPool,
    now: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    let waiting = sqlx::query!(
        r#"SELECT e.workflow_id,
                  bool_or(e.run_after <= $1 AND NOT held.is_held) AS "has_work!",
                  bool_or(held.is_held) AS "is_held!"
             FROM effects e,
                  LATERAL (SELECT e.kind NOT IN ('revert', 'roll_back') AND NOT e.step_granted AND EXISTS (
                                  SELECT FROM holds h
                                   WHERE h.workflow_id = e.workflow_id AND h.lifted_at IS NULL
                                     AND (h.cycle IS NULL OR h.cycle = e.cycle)) AS is_held) AS held
            WHERE e.status = 'pending' AND NOT e.parked
            GROUP BY e.workflow_id"#,
        now
    )
    .fetch_all(pool)
    .await?;
    let held: Vec<i64> =
        waiting.iter().filter(|row| row.is_held).map(|row| row.workflow_id).collect();
    if !held.is_empty() {
        parking::park(pool, &held).await?;
    }
    Ok(waiting.iter().filter(|row| row.has_work).map(|row| row.workflow_id).collect())
}

/// Claims one pending effect of a workflow, or none.
///
/// Held effects are passed over, but for those that put a safe state back and those that an operator
/// granted a single step. Changes of files are done one after another, in the order they were asked.
///
/// # Errors
/// [`StoreError`] when the database fails or the payload cannot be read.
pub async fn claim(
    pool: &PgPool,
    workflow_id: i64,
    worker_id: Uuid,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Option<ClaimedEffect>, StoreError> {
    let row = sqlx::query!(
        "UPDATE effects
            SET status = 'claimed', worker_id = $2, fence = fence + 1, lease_until = now() + $3,
                step_granted = false, parked = false
          WHERE workflow_id = $1
            AND effect_id = (
                SELECT e.effect_id
                  FROM effects e
                 WHERE e.workflow_id = $1 AND e.status = 'pending' AND e.run_after <= $4
                   -- A hold stops new claims, unless the effect puts a safe state back or was
                   -- granted one step.
                   AND (e.kind IN ('revert', 'roll_back') OR e.step_granted OR NOT EXISTS (
                           SELECT FROM holds h
                            WHERE h.workflow_id = $1 AND h.lifted_at IS NULL
                              AND (h.cycle IS NULL OR h.cycle = e.cycle)))
                   -- Changes of files wait for the earlier ones, but not for one that is itself held.
                   AND NOT (e.kind IN ('apply', 'revert', 'roll_back') AND EXISTS (
                           SELECT FROM effects f
                            WHERE f.workflow_id = $1 AND f.effect_id < e.effect_id
                              AND f.kind IN ('apply', 'revert', 'roll_back')
                              AND (f.status = 'claimed'
                                   OR (f.status = 'pending' AND f.run_after <= e.run_after
                                       AND (f.kind <> 'apply' OR f.step_granted OR NOT EXISTS (
                                               SELECT FROM holds h
                                                WHERE h.workflow_id = $1 AND h.lifted_at IS NULL
                                                  AND (h.cycle IS NULL OR h.cycle = f.cycle)))))))
                   AND NOT (e.kind IN ('apply', 'revert', 'roll_back') AND EXISTS (
                           SELECT FROM effects f
                            WHERE f.workflow_id = $1 AND f.effect_id > e.effect_id
                              AND f.kind IN ('apply', 'revert', 'roll_back')
                              AND f.status = 'claimed'))
                 ORDER BY e.effect_id
                 LIMIT 1
                   FOR UPDATE SKIP LOCKED)
         RETURNING effect_id, cycle, seq, payload, fence, attempts, asks_since, traceparent",
        workflow_id,
        worker_id,
        interval(lease),
        now
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let effect = serde_json::from_value(row.payload).map_err(|cause| {
        let key = format!("workflow {workflow_id} effect {}", row.effect_id);
        StoreError::corrupt("effects", "payload", key, cause)
    })?;
    Ok(Some(ClaimedEffect {
        workflow_id,
        effect_id: row.effect_id,
        cycle: row.cycle,
        seq: row.seq,
        effect,
        fence: row.fence,
        worker_id,
        attempts: row.attempts,
        asks_since: row.asks_since,
        traceparent: row.traceparent,
    }))
}

/// Marks a claimed effect done, in the transaction that commits what it led to.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds it now or its cycle dropped it.
pub async fn finish(
    conn: &mut PgConnection,
    claim: &ClaimedEffect,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE effects
            SET status = 'done', finished_at = $5, worker_id = NULL, lease_until = NULL,
                attempts = attempts + 1, error_code = NULL, last_error = NULL
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    held(done, claim)
}

/// Hands a claimed effect back for a later try, and counts the try.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds it now.
pub async fn retry_later(
    pool: &PgPool,
    claim: &ClaimedEffect,
    run_after: DateTime<Utc>,
    error_code: &str,
    error: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE effects
            SET status = 'pending', worker_id = NULL, lease_until = NULL, attempts = attempts + 1,
                run_after = $5, error_code = $6, last_error = $7
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence,
        run_after,
        error_code,
        error
    )
    .execute(pool)
    .await?
    .rows_affected();
    held(done, claim)
}

/// Hands a claimed effect back until it is to be looked at again, because what it waits for takes its
/// time elsewhere. No try is spent.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds it now.
pub async fn wait_until(
    pool: &PgPool,
    claim: &ClaimedEffect,
    run_after: DateTime<Utc>,
    code: &str,
    words: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE effects
            SET status = 'pending', worker_id = NULL, lease_until = NULL,
                run_after = $5, error_code = $6, last_error = $7
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence,
        run_after,
        code,
        words
    )
    .execute(pool)
    .await?
    .rows_affected();
    held(done, claim)
}

/// Hands a claimed effect back untouched, as a shutdown does: no try is spent.
///
/// # Errors
/// [`StoreError`] when the database fails. That another worker holds it by now is no error here.
pub async fn hand_back(pool: &PgPool, claim: &ClaimedEffect) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE effects SET status = 'pending', worker_id = NULL, lease_until = NULL
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Hands a claimed effect back untouched, in the transaction that places the hold it waits for.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds it now.
pub async fn wait_unspent(
    conn: &mut PgConnection,
    claim: &ClaimedEffect,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE effects SET status = 'pending', worker_id = NULL, lease_until = NULL
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence
    )
    .execute(conn)
    .await?
    .rows_affected();
    held(done, claim)
}

/// Marks a claimed effect failed for good, in the transaction that places its hold.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds it now.
pub async fn fail(
    conn: &mut PgConnection,
    claim: &ClaimedEffect,
    error_code: &str,
    error: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE effects
            SET status = 'failed', worker_id = NULL, lease_until = NULL, attempts = attempts + 1,
                finished_at = $5, error_code = $6, last_error = $7
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence,
        now,
        error_code,
        error
    )
    .execute(conn)
    .await?
    .rows_affected();
    held(done, claim)
}

fn held(rows: u64, claim: &ClaimedEffect) -> Result<(), StoreError> {
    if rows == 1 || Rule::Fence.is_broken() {
        Ok(())
    } else {
        Err(StoreError::LeaseLost { effect_id: claim.effect_id })
    }
}

/// True while a claim stands: nobody took the effect over, and its cycle did not drop it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn stands(pool: &PgPool, claim: &ClaimedEffect) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM effects
                WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4
                  AND status = 'claimed') AS "stands!""#,
        claim.workflow_id,
        claim.effect_id,
        claim.worker_id,
        claim.fence
    )
    .fetch_one(pool)
    .await?)
}

/// Prolongs the leases of all effects that a worker holds. On the database's clock, since workers on
/// different machines must agree.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn renew(pool: &PgPool, worker_id: Uuid, lease: Duration) -> Result<u64, StoreError> {
    let renewed = sqlx::query!(
        "UPDATE effects SET lease_until = now() + $2 WHERE worker_id = $1 AND status = 'claimed'",
        worker_id,
        interval(lease)
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(renewed)
}

/// Drops what a left state had asked for, so that it is neither started nor, if running, accepted. Returns
/// how much that was.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cancel_for_left_state(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let kinds: Vec<String> = EffectKind::ALL
        .iter()
        .filter(|kind| kind.ends_with_its_state())
        .map(|kind| kind.as_str().to_owned())
        .collect();
    let dropped = sqlx::query!(
        "UPDATE effects SET status = 'cancelled', worker_id = NULL, lease_until = NULL, finished_at = $4
          WHERE workflow_id = $1 AND cycle = $2
            AND ((kind = ANY($3) AND status IN ('pending', 'claimed', 'failed'))
                 -- A running change of files is waited for; one that has not begun is dropped.
                 OR (kind = 'apply' AND status IN ('pending', 'failed')))",
        workflow_id,
        cycle,
        &kinds,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(dropped)
}

/// True when an earlier change of files is unfinished, so that a new one must wait.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn files_are_changing(
    conn: &mut PgConnection,
    workflow_id: i64,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM effects
                WHERE workflow_id = $1 AND kind IN ('apply', 'revert', 'roll_back')
                  AND status IN ('pending', 'claimed')) AS "changing!""#,
        workflow_id
    )
    .fetch_one(conn)
    .await?)
}
