//! Who is alive: a worker holds an advisory lock on its id for as long as its session lives.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoreError;

/// A worker that holds effects or jobs of the pipeline, as seen by a rescuer.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The worker.
    pub worker_id: Uuid,
    /// True when every lease of it has run out, on the database's clock.
    pub lease_over: bool,
}

/// The advisory lock's key for a worker: the random half of its id.
#[must_use]
pub fn lock_key(worker_id: Uuid) -> i64 {
    let (_, random) = worker_id.as_u64_pair();
    i64::from_ne_bytes(random.to_ne_bytes())
}

/// Takes the worker's own lock on its session. False when another session has it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take_own_lock(conn: &mut PgConnection, worker_id: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "taken!""#, lock_key(worker_id))
        .fetch_one(conn)
        .await?)
}

/// The other workers that hold effects or jobs of the pipeline.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn holders(pool: &PgPool, except: Uuid) -> Result<Vec<Holder>, StoreError> {
    Ok(sqlx::query_as!(
        Holder,
        r#"SELECT worker_id AS "worker_id!", bool_and(lease_until < now()) AS "lease_over!"
             FROM (SELECT worker_id, lease_until FROM effects
                    WHERE status = 'claimed' AND worker_id <> $1
                   UNION ALL
                   SELECT worker_id, lease_until FROM pipeline_jobs
                    WHERE status = 'claimed' AND worker_id <> $1) AS held
            GROUP BY worker_id"#,
        except
    )
    .fetch_all(pool)
    .await?)
}

/// How long this session has lived, in seconds. A server that restarts or recovers from a crash drops
/// every session and with them every advisory lock, so a missing lock proves nothing to a session that
/// is younger than the others need to take theirs again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn session_age_seconds(conn: &mut PgConnection) -> Result<f64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8 AS "age!"
             FROM pg_stat_activity WHERE pid = pg_backend_pid()"#
    )
    .fetch_one(conn)
    .await?)
}

/// True when no session holds the worker's lock. Tried in shared mode, so that two rescuers do not
/// take each other for the worker, and given back at once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock_is_free(conn: &mut PgConnection, worker_id: Uuid) -> Result<bool, StoreError> {
    let free = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock_shared($1) AS "free!""#,
        lock_key(worker_id)
    )
    .fetch_one(&mut *conn)
    .await?;
    if free {
        sqlx::query!("SELECT pg_advisory_unlock_shared($1)", lock_key(worker_id))
            .fetch_one(conn)
            .await?;
    }
    Ok(free)
}

/// Takes every effect of a dead worker away from it. The interrupted try is counted, and the raised
/// fence makes a late write of the dead affect no row.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn rescue(
    pool: &PgPool,
    worker_id: Uuid,
    only_expired: bool,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let rescued = sqlx::query!(
        "UPDATE effects
            SET status = 'pending', worker_id = NULL, lease_until = NULL, fence = fence + 1,
                attempts = attempts + 1, run_after = LEAST(run_after, $3),
                error_code = 'worker_died', last_error = 'the worker that held it died'
          WHERE worker_id = $1 AND status = 'claimed' AND (NOT $2 OR lease_until < now())",
        worker_id,
        only_expired,
        now
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(rescued)
}

/// The claims of a worker: workflow, effect, fence.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn own_claims(
    pool: &PgPool,
    worker_id: Uuid,
) -> Result<Vec<(i64, i64, i64)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT workflow_id, effect_id, fence FROM effects WHERE worker_id = $1 AND status = 'claimed'",
        worker_id
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.workflow_id, row.effect_id, row.fence)).collect())
}

/// Gives one of a worker's own claims back, without spending a try. Nothing happens when it moved on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn hand_back_own(
    pool: &PgPool,
    workflow_id: i64,
    effect_id: i64,
    worker_id: Uuid,
    fence: i64,
) -> Result<u64, StoreError> {
    let handed_back = sqlx::query!(
        "UPDATE effects SET status = 'pending', worker_id = NULL, lease_until = NULL
          WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        workflow_id,
        effect_id,
        worker_id,
        fence
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(handed_back)
}
