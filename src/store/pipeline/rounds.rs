//! What comes round: the sweep and the look at feedback. Whoever moves the time on does the work.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::store::StoreError;
use crate::store::effects::interval;

/// What comes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Tasks whose webhook never came.
    Sweep,
    /// What became of pictures.
    Feedback,
}

impl Round {
    const fn name(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Feedback => "feedback",
        }
    }
}

/// True for the one process that does this round now; the next is due `every` later. A process that dies in the
/// middle leaves the rest to the next round: both may be repeated.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take(
    pool: &PgPool,
    workflow_id: i64,
    round: Round,
    every: Duration,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        "INSERT INTO pipeline_rounds AS r (workflow_id, name, next_at) VALUES ($1, $2, $3::timestamptz + $4::interval)
         ON CONFLICT (workflow_id, name) DO UPDATE SET next_at = excluded.next_at
          -- The second bound follows a shortened interval at once.
          WHERE r.next_at <= $3 OR r.next_at > excluded.next_at",
        workflow_id,
        round.name(),
        now,
        interval(every)
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(taken == 1)
}

/// Notes what a round came to.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn done(
    pool: &PgPool,
    workflow_id: i64,
    round: Round,
    result: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_rounds SET last_at = $3, last_result = $4
          WHERE workflow_id = $1 AND name = $2",
        workflow_id,
        round.name(),
        now,
        result
    )
    .execute(pool)
    .await?;
    Ok(())
}
