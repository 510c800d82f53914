//! Probations: opening, extending, ending. Their decks are in `decks` and `slots`, as those of tests.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor};

use super::StoreError;
use super::decks;
use crate::experiment::deck::Slot;
use crate::experiment::{ByArm, Phase};

/// A probation as stored.
#[derive(Debug, Clone, Serialize)]
pub struct ProbationRow {
    /// The image model.
    pub model_name: String,
    /// When the adoption was first watched.
    pub opened_at: DateTime<Utc>,
    /// When its clock started over, because too few scores had come.
    pub extended_at: Option<DateTime<Utc>>,
    /// How many slots were dealt again since its clock last started.
    pub deals_again: i32,
    /// open, kept, regressed, superseded, retired or cancelled.
    pub status: String,
    /// When it ended.
    pub decided_at: Option<DateTime<Utc>>,
    /// (new − old) / old over test and probation together, unrounded.
    pub improvement: Option<f64>,
    /// Sum of the control's scores in the probation.
    pub control_sum: Option<i32>,
    /// Number of the control's scores in the probation.
    pub control_count: Option<i32>,
    /// Sum of the candidate's scores in the probation.
    pub candidate_sum: Option<i32>,
    /// Number of the candidate's scores in the probation.
    pub candidate_count: Option<i32>,
    /// How it ended, in one plain sentence.
    pub sentence: Option<String>,
}

impl ProbationRow {
    /// The moment from which its time is counted.
    #[must_use]
    pub fn clock_from(&self) -> DateTime<Utc> {
        self.extended_at.unwrap_or(self.opened_at)
    }
}

/// How a probation ended.
#[derive(Debug, Clone)]
pub struct Ended<'e> {
    /// kept, regressed, superseded, retired or cancelled.
    pub status: &'e str,
    /// (new − old) / old over test and probation together; none where the old sum is zero.
    pub improvement: Option<f64>,
    /// Sums of the probation's scores.
    pub sum: ByArm<i32>,
    /// Numbers of the probation's scores.
    pub count: ByArm<i32>,
    /// One plain sentence.
    pub sentence: &'e str,
}

/// Opens a probation with its deck, in the transaction that makes the adoption's files and row agree:
/// before it no task can draw, after it every slot is there.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn open(
    conn: &mut PgConnection,
    workflow_id: i64,
    (cycle, model): (i64, &str),
    slots: &[Slot],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO probations (workflow_id, cycle, model_name, opened_at, status)
         VALUES ($1, $2, $3, $4, 'open')",
        workflow_id,
        cycle,
        model,
        now
    )
    .execute(&mut *conn)
    .await?;
    decks::append(conn, workflow_id, (cycle, model), Phase::Probation, slots).await
}

/// Starts a probation's clock over, and opens the slots that stayed without a score.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn extend(
    conn: &mut PgConnection,
    workflow_id: i64,
    (cycle, model): (i64, &str),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE probations SET extended_at = $4, deals_again = 0
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'open'",
        workflow_id,
        cycle,
        model,
        now
    )
    .execute(&mut *conn)
    .await?;
    decks::reopen_missing(conn, workflow_id, (cycle, model), Phase::Probation).await
}

/// Ends a probation and freezes its slots. One that has ended is never touched.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn end(
    conn: &mut PgConnection,
    workflow_id: i64,
    (cycle, model): (i64, &str),
    ended: &Ended<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    decks::freeze(conn, workflow_id, cycle, model).await?;
    sqlx::query!(
        "UPDATE probations
            SET status = $4, decided_at = $5, improvement = $6, control_sum = $7, control_count = $8,
                candidate_sum = $9, candidate_count = $10, sentence = $11
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'open'",
        workflow_id,
        cycle,
        model,
        ended.status,
        now,
        ended.improvement,
        ended.sum.control,
        ended.count.control,
        ended.sum.candidate,
        ended.count.candidate,
        ended.sentence
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The probations of one cycle, in order of their models.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn of_cycle(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<ProbationRow>, StoreError> {
    Ok(sqlx::query_as!(
        ProbationRow,
        "SELECT model_name, opened_at, extended_at, deals_again, status, decided_at, improvement,
                control_sum, control_count, candidate_sum, candidate_count, sentence
           FROM probations WHERE workflow_id = $1 AND cycle = $2 ORDER BY model_name",
        workflow_id,
        cycle
    )
    .fetch_all(executor)
    .await?)
}
