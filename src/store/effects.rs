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
use crate::cycle::Effect;

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

/// Inserts an effect: claimed by `claimer`, which saves the claim's commit, if there is one and the effect may run now,
/// else for any worker to claim. It may run while nothing holds its workflow or cycle and, if it changes files, no
/// earlier change of them is unfinished.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn queue(
    conn: &mut PgConnection,
    new: NewEffect<'_>,
    claimer: Option<(Uuid, Duration)>,
) -> Result<Option<ClaimedEffect>, StoreError> {
    let payload = to_json(new.effect, "effects", "payload")?;
    let kind = new.effect.kind();
    let (worker_id, lease) = claimer.unzip();
    let row = sqlx::query!(
        r#"INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, run_after, created_at, asks_since,
                              traceparent, status, worker_id, fence, lease_until)
         SELECT $1, $2, $3, $4, $5, $6, $7, $7, $7, $8, CASE WHEN is_mine THEN 'claimed' ELSE 'pending' END,
                CASE WHEN is_mine THEN $9::uuid END, is_mine::int, CASE WHEN is_mine THEN now() + $10::interval END
           FROM (SELECT $9::uuid IS NOT NULL
                    AND ($11::boolean OR NOT EXISTS (
                            SELECT FROM holds
                             WHERE workflow_id = $1 AND lifted_at IS NULL AND (cycle IS NULL OR cycle = $2)))
                    AND NOT ($12::boolean AND EXISTS (
                            SELECT FROM effects
                             WHERE workflow_id = $1 AND kind IN ('apply', 'revert', 'roll_back')
                               AND status IN ('pending', 'claimed'))) AS is_mine) AS asked
         RETURNING effect_id, status = 'claimed' AS "is_mine!""#,
        new.workflow_id,
        new.cycle,
        new.seq,
        new.ordinal,
        kind.as_str(),
        payload,
        new.now,
        new.traceparent,
        worker_id,
        lease.map(interval) as _,
        kind.runs_during_hold(),
        kind.changes_files()
    )
    .fetch_one(conn)
    .await?;
    let claim = worker_id.filter(|_| row.is_mine).map(|worker_id| ClaimedEffect {
        workflow_id: new.workflow_id,
        effect_id: row.effect_id,
        cycle: new.cycle,
        seq: new.seq,
        effect: new.effect.clone(),
        fence: 1,
        worker_id,
        attempts: 0,
        asks_since: new.now,
        traceparent: new.traceparent.map(str::to_owned),
    });
    Ok(claim)
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
