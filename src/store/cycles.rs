//! Cycles and their gapless history.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use crate::cycle::{EffectKind, Event, Snapshot, SnapshotError, StateName};

/// A cycle as stored.
#[derive(Debug, Clone)]
pub struct CycleRow {
    /// The workflow.
    pub workflow_id: i64,
    /// The cycle's number within the workflow.
    pub number: i64,
    /// What the machine knows of it.
    pub snapshot: Snapshot,
    /// The definition that the cycle started with.
    pub definition_hash: String,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it entered its state.
    pub state_entered_at: DateTime<Utc>,
    /// When it ended, for the terminal states.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One row of the history.
#[derive(Debug, Clone)]
pub struct TransitionRow {
    /// Position in the cycle's history, from 1 without holes.
    pub seq: i64,
    /// The event, whole.
    pub event: Event,
    /// The state that it met.
    pub from_state: StateName,
    /// The state that it led to; the same for an internal transition.
    pub to_state: StateName,
    /// Who submitted it.
    pub actor: String,
    /// Why, where a person gave a reason.
    pub reason: Option<String>,
    /// When it was committed, by the clock of the program.
    pub at: DateTime<Utc>,
}

struct RawCycle {
    workflow_id: i64,
    number: i64,
    snapshot: Value,
    definition_hash: String,
    opened_at: DateTime<Utc>,
    state_entered_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl RawCycle {
    fn read(self) -> Result<CycleRow, StoreError> {
        let snapshot = Snapshot::from_json(self.snapshot).map_err(|cause| {
            let row = format!("workflow {} cycle {}", self.workflow_id, self.number);
            match cause {
                SnapshotError::FromTheFuture { .. } => {
                    StoreError::Newer { table: "cycles", row, cause: cause.to_string() }
                }
                cause => StoreError::corrupt("cycles", "snapshot", row, cause),
            }
        })?;
        Ok(CycleRow {
            workflow_id: self.workflow_id,
            number: self.number,
            snapshot,
            definition_hash: self.definition_hash,
            opened_at: self.opened_at,
            state_entered_at: self.state_entered_at,
            ended_at: self.ended_at,
        })
    }
}

/// How often the open cycle is looked for by those who waited while one cycle after the other ended.
const CYCLES_WAITED_FOR_MAX: u32 = 3;

/// Locks the workflow's open cycle until the transaction ends. Every change of a cycle starts here.
///
/// # Errors
/// [`StoreError`] when the database fails or the snapshot cannot be read.
pub async fn lock_open(
    conn: &mut PgConnection,
    workflow_id: i64,
) -> Result<Option<CycleRow>, StoreError> {
    for _ in 0..CYCLES_WAITED_FOR_MAX {
        let locked = try_lock_open(conn, workflow_id).await?;
        if locked.is_some() {
            return Ok(locked);
        }
        // Whoever waited for a cycle that ended meanwhile finds none, though its end opened the next one: only
        // a further statement sees that.
    }
    Ok(None)
}

async fn try_lock_open(
    conn: &mut PgConnection,
    workflow_id: i64,
) -> Result<Option<CycleRow>, StoreError> {
    sqlx::query_as!(
        RawCycle,
        "SELECT workflow_id, number, snapshot, definition_hash, opened_at, state_entered_at, ended_at
           FROM cycles
          WHERE workflow_id = $1
            AND state NOT IN ('applied', 'rejected', 'rolled_back', 'cancelled')
            FOR UPDATE",
        workflow_id
    )
    .fetch_optional(conn)
    .await?
    .map(RawCycle::read)
    .transpose()
}

/// The workflow's open cycle, without a lock.
///
/// # Errors
/// [`StoreError`] when the database fails or the snapshot cannot be read.
pub async fn find_open(pool: &PgPool, workflow_id: i64) -> Result<Option<CycleRow>, StoreError> {
    sqlx::query_as!(
        RawCycle,
        "SELECT workflow_id, number, snapshot, definition_hash, opened_at, state_entered_at, ended_at
           FROM cycles
          WHERE workflow_id = $1
            AND state NOT IN ('applied', 'rejected', 'rolled_back', 'cancelled')",
        workflow_id
    )
    .fetch_optional(pool)
    .await?
    .map(RawCycle::read)
    .transpose()
}

/// One cycle by its number.
///
/// # Errors
/// [`StoreError`] when the database fails or the snapshot cannot be read.
pub async fn find(
    pool: &PgPool,
    workflow_id: i64,
    number: i64,
) -> Result<Option<CycleRow>, StoreError> {
    sqlx::query_as!(
        RawCycle,
        "SELECT workflow_id, number, snapshot, definition_hash, opened_at, state_entered_at, ended_at
           FROM cycles WHERE workflow_id = $1 AND number = $2",
        workflow_id,
        number
    )
    .fetch_optional(pool)
    .await?
    .map(RawCycle::read)
    .transpose()
}

/// The newest cycles of a workflow, newest first.
///
/// # Errors
/// [`StoreError`] when the database fails or a snapshot cannot be read.
pub async fn list(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<CycleRow>, StoreError> {
    sqlx::query_as!(
        RawCycle,
        "SELECT workflow_id, number, snapshot, definition_hash, opened_at, state_entered_at, ended_at
           FROM cycles WHERE workflow_id = $1 ORDER BY number DESC LIMIT $2",
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(RawCycle::read)
    .collect()
}

/// Opens a cycle. The partial unique index refuses a second open one.
///
/// # Errors
/// [`StoreError`] when the database fails or another cycle is open.
pub async fn open(
    conn: &mut PgConnection,
    workflow_id: i64,
    snapshot: &Snapshot,
    definition_hash: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let json = to_json(snapshot, "cycles", "snapshot")?;
    sqlx::query!(
        "INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash,
                             opened_at, state_entered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        workflow_id,
        snapshot.cycle,
        snapshot.state.name().as_str(),
        snapshot.seq,
        json,
        definition_hash,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the checkpoint of one transition in one statement: the snapshot and its row of history, and where a state
/// was left, the end of what that state had asked for, so that it is neither started nor, if running, accepted.
/// Returns how much that was.
///
/// # Errors
/// [`StoreError`] when the database fails; the caller's transaction is then to be rolled back.
pub async fn checkpoint(
    conn: &mut PgConnection,
    before: &CycleRow,
    after: &Snapshot,
    transition: &TransitionRow,
) -> Result<i64, StoreError> {
    let snapshot = to_json(after, "cycles", "snapshot")?;
    let event = to_json(&transition.event, "cycle_transitions", "event")?;
    let moved = transition.from_state != transition.to_state;
    let ending: Vec<&str> = EffectKind::ALL
        .iter()
        .filter(|kind| kind.ends_with_its_state())
        .map(|kind| kind.as_str())
        .collect();
    Ok(sqlx::query_scalar!(
        r#"WITH moved AS (
               UPDATE cycles
                  SET state = $6, version = $3, snapshot = $11,
                      state_entered_at = CASE WHEN $12 THEN $10 ELSE state_entered_at END,
                      ended_at = CASE WHEN $13 THEN $10 ELSE NULL END
                WHERE workflow_id = $1 AND number = $2),
           dropped AS (
               UPDATE effects SET status = 'cancelled', worker_id = NULL, lease_until = NULL, finished_at = $10
                WHERE $12 AND workflow_id = $1 AND cycle = $2
                  AND ((kind = ANY($14) AND status IN ('pending', 'claimed', 'failed'))
                       -- A running change of files is waited for; one that has not begun is dropped.
                       OR (kind = 'apply' AND status IN ('pending', 'failed')))
               RETURNING 1)
           INSERT INTO cycle_transitions (workflow_id, cycle, seq, event_name, event, from_state,
                                          to_state, actor, reason, at)
           VALUES ($1, $2, $3, $4, $5, $7, $6, $8, $9, $10)
           RETURNING (SELECT count(*) FROM dropped) AS "dropped!""#,
        before.workflow_id,
        before.number,
        transition.seq,
        transition.event.name().as_str(),
        event,
        transition.to_state.as_str(),
        transition.from_state.as_str(),
        transition.actor,
        transition.reason,
        transition.at,
        snapshot,
        moved,
        after.state.name().is_terminal(),
        &ending as _
    )
    .fetch_one(conn)
    .await?)
}

/// A cycle's history, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails or an event cannot be read.
pub async fn history(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<TransitionRow>, StoreError> {
    let rows = sqlx::query!(
        "SELECT seq, event, from_state, to_state, actor, reason, at
           FROM cycle_transitions WHERE workflow_id = $1 AND cycle = $2 ORDER BY seq",
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || format!("workflow {workflow_id} cycle {cycle} seq {}", row.seq);
            let name = |column, text: &str| {
                text.parse::<StateName>()
                    .map_err(|cause| StoreError::corrupt("cycle_transitions", column, key(), cause))
            };
            Ok(TransitionRow {
                seq: row.seq,
                from_state: name("from_state", &row.from_state)?,
                to_state: name("to_state", &row.to_state)?,
                event: serde_json::from_value(row.event).map_err(|cause| {
                    StoreError::corrupt("cycle_transitions", "event", key(), cause)
                })?,
                actor: row.actor,
                reason: row.reason,
                at: row.at,
            })
        })
        .collect()
}

/// A workflow's transitions after a place in its history, oldest first, at most `limit`: cycle and
/// row. History only grows at its end, so whoever asks again from the last one misses none.
///
/// # Errors
/// [`StoreError`] when the database fails or an event cannot be read.
pub async fn history_after(
    pool: &PgPool,
    workflow_id: i64,
    (cycle, seq): (i64, i64),
    limit: i64,
) -> Result<Vec<(i64, TransitionRow)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT cycle, seq, event, from_state, to_state, actor, reason, at
           FROM cycle_transitions
          WHERE workflow_id = $1 AND (cycle, seq) > ($2, $3) ORDER BY cycle, seq LIMIT $4",
        workflow_id,
        cycle,
        seq,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || format!("workflow {workflow_id} cycle {} seq {}", row.cycle, row.seq);
            let name = |column, text: &str| {
                text.parse::<StateName>()
                    .map_err(|cause| StoreError::corrupt("cycle_transitions", column, key(), cause))
            };
            let transition = TransitionRow {
                seq: row.seq,
                from_state: name("from_state", &row.from_state)?,
                to_state: name("to_state", &row.to_state)?,
                event: serde_json::from_value(row.event).map_err(|cause| {
                    StoreError::corrupt("cycle_transitions", "event", key(), cause)
                })?,
                actor: row.actor,
                reason: row.reason,
                at: row.at,
            };
            Ok((row.cycle, transition))
        })
        .collect()
}

/// Serialises a value for a JSON column, naming the column where that fails.
///
/// # Errors
/// [`StoreError::Corrupt`] for a value that JSON cannot hold.
pub(crate) fn to_json<T: serde::Serialize>(
    value: &T,
    table: &'static str,
    column: &'static str,
) -> Result<Value, StoreError> {
    serde_json::to_value(value)
        .map_err(|cause| StoreError::corrupt(table, column, "the row to be written", cause))
}
