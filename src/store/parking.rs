//! Parked effects: those that wait and are held, marked so that who looks for work passes them by unread.
//!
//! The mark only saves looks; [`claim`](super::effects::claim) decides from the holds. A mark that is missing costs
//! one look. A mark that outlived its hold would keep an effect from ever being found, so it is set only under a
//! lock on a standing hold, which whoever lifts that hold has to wait for, and is taken off by the lifting
//! transaction after its lift. [`settle`] is the net below that, for holds that were lifted by hand or by an older
//! version of this program.

use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// Parks the effects of these workflows that wait and are held. It waits for nobody: a hold that is being lifted
/// and an effect that is being changed are passed over.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn park(pool: &PgPool, workflow_ids: &[i64]) -> Result<u64, StoreError> {
    Ok(sqlx::query!(
        "WITH standing AS MATERIALIZED (
             SELECT workflow_id, cycle FROM holds
              WHERE workflow_id = ANY($1) AND lifted_at IS NULL
                FOR SHARE SKIP LOCKED),
         held AS MATERIALIZED (
             SELECT e.workflow_id, e.effect_id FROM effects e
              WHERE e.workflow_id = ANY($1) AND e.status = 'pending' AND NOT e.parked
                AND NOT e.step_granted AND e.kind NOT IN ('revert', 'roll_back')
                AND EXISTS (SELECT FROM standing s
                             WHERE s.workflow_id = e.workflow_id AND (s.cycle IS NULL OR s.cycle = e.cycle))
                FOR UPDATE OF e SKIP LOCKED)
         UPDATE effects e SET parked = true FROM held h
          WHERE e.workflow_id = h.workflow_id AND e.effect_id = h.effect_id",
        workflow_ids
    )
    .execute(pool)
    .await?
    .rows_affected())
}

/// Takes the marks off a workflow's effects, in the transaction that lifted a hold and after its lift. Those that
/// another hold still stops are parked again by the next look.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) async fn unpark(conn: &mut PgConnection, workflow_id: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE effects SET parked = false
          WHERE workflow_id = $1 AND status = 'pending' AND parked",
        workflow_id
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the mark off every effect that no hold stops, and returns how many that were: none, unless a hold was
/// lifted by hand or by an older version of this program.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn settle(pool: &PgPool) -> Result<u64, StoreError> {
    Ok(sqlx::query!(
        "UPDATE effects e SET parked = false
          WHERE e.status = 'pending' AND e.parked
            AND NOT EXISTS (
                    SELECT FROM holds h
                     WHERE h.workflow_id = e.workflow_id AND h.lifted_at IS NULL
                       AND (h.cycle IS NULL OR h.cycle = e.cycle))"
    )
    .execute(pool)
    .await?
    .rows_affected())
}
