//! What became of a winner's picture: kept or deleted.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::store::StoreError;

/// A picture that was given back, of which nothing is known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenBack {
    /// The job that gave it back.
    pub job_id: i64,
    /// The task.
    pub task_id: String,
    /// The attachment's title.
    pub title: String,
    /// When it was given back.
    pub finished_at: DateTime<Utc>,
}

impl GivenBack {
    /// Where it stands among all of them.
    #[must_use]
    pub const fn place(&self) -> Place {
        Place { finished_at: self.finished_at, job_id: self.job_id }
    }
}

/// A place in the order of pictures by when they were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    finished_at: DateTime<Utc>,
    job_id: i64,
}

impl Place {
    /// Before all of them.
    pub const FIRST: Self = Self { finished_at: DateTime::UNIX_EPOCH, job_id: 0 };
}

/// What became of a picture, not logged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The job that gave it back.
    pub job_id: i64,
    /// The task.
    pub task_id: String,
    /// Which run of the task.
    pub run: i32,
    /// False where it was deleted.
    pub kept: bool,
    /// When that was known.
    pub at: DateTime<Utc>,
    /// In words, where it was deleted.
    pub words: Option<String>,
}

/// Notes that a task was deleted, for its last run with a winner; false when it had none, or that is known.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn task_deleted(
    conn: &mut PgConnection,
    workflow_id: i64,
    task_id: &str,
    words: &str,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let rows = sqlx::query!(
        "UPDATE pipeline_jobs
            SET feedback_kept = false, feedback_at = $4, feedback_words = $3, feedback_logged = false
          WHERE workflow_id = $1
            AND job_id = (SELECT job_id FROM pipeline_jobs
                           WHERE workflow_id = $1 AND task_id = $2 AND outcome = 'winner'
                           ORDER BY run DESC LIMIT 1)
            AND feedback_kept IS DISTINCT FROM false",
        workflow_id,
        task_id,
        words,
        now
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}

/// Notes what was found out about a picture, unless that is known already.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn found_out(
    pool: &PgPool,
    workflow_id: i64,
    job_id: i64,
    kept: bool,
    words: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_jobs SET feedback_kept = $3, feedback_at = $5, feedback_words = $4
          WHERE workflow_id = $1 AND job_id = $2 AND outcome = 'winner' AND feedback_kept IS NULL",
        workflow_id,
        job_id,
        kept,
        words,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Pictures given back before `finished_before` of which nothing is known yet, oldest first, from a place on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn due(
    pool: &PgPool,
    workflow_id: i64,
    finished_before: DateTime<Utc>,
    after: Place,
    limit: i64,
) -> Result<Vec<GivenBack>, StoreError> {
    Ok(sqlx::query_as!(
        GivenBack,
        r#"SELECT job_id, task_id, upload_title AS "title!", finished_at AS "finished_at!"
             FROM pipeline_jobs
            WHERE workflow_id = $1 AND outcome = 'winner' AND feedback_kept IS NULL
              AND finished_at <= $2 AND (finished_at, job_id) > ($3, $4)
            ORDER BY finished_at, job_id LIMIT $5"#,
        workflow_id,
        finished_before,
        after.finished_at,
        after.job_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Fates that are known and not logged yet.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn unlogged(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<Fate>, StoreError> {
    Ok(sqlx::query_as!(
        Fate,
        r#"SELECT job_id, task_id, run, feedback_kept AS "kept!", feedback_at AS "at!",
                  feedback_words AS words
             FROM pipeline_jobs
            WHERE workflow_id = $1 AND feedback_kept IS NOT NULL AND NOT feedback_logged
            ORDER BY feedback_at LIMIT $2"#,
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Notes that a fate was logged, unless another one is known since.
///
/// # Errors
/// [`StoreError`] when the database fails; it is then logged again, which counts once.
pub async fn logged(
    pool: &PgPool,
    workflow_id: i64,
    job_id: i64,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_jobs SET feedback_logged = true
          WHERE workflow_id = $1 AND job_id = $2 AND feedback_at = $3",
        workflow_id,
        job_id,
        at
    )
    .execute(pool)
    .await?;
    Ok(())
}
