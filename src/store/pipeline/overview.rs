//! Where the pipeline stands, for people.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgPool;

use crate::store::StoreError;

/// A job, as people are shown it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// The task.
    pub task_id: String,
    /// Which run of the task.
    pub run: i32,
    /// `pending`, `claimed`, `done`, `skipped` or `failed`.
    pub status: String,
    /// What it waits for, by its code.
    pub wait_code: Option<String>,
    /// What it waits for, in words.
    pub wait_words: Option<String>,
    /// Since when it waits without progress.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Not to be tried before.
    pub run_after: DateTime<Utc>,
    /// How often a worker died with it since it last made progress.
    pub deaths: i32,
    /// `winner`, `no_winner`, `not_wanted` or `error`.
    pub outcome: Option<String>,
    /// How it ended, in words.
    pub outcome_words: Option<String>,
    /// The step that was last on record.
    pub last_step: Option<String>,
    /// What its calls have cost so far, in US dollars.
    pub cost_usd: Decimal,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Jobs that are open, oldest first, and then those that failed since `failed_since`, latest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn jobs(
    pool: &PgPool,
    workflow_id: i64,
    failed_since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<JobRow>, StoreError> {
    Ok(sqlx::query_as!(
        JobRow,
        r#"SELECT j.task_id, j.run, j.status, j.wait_code, j.wait_words, j.waiting_since, j.run_after,
                  j.deaths, j.outcome, j.outcome_words,
                  (SELECT s.step FROM pipeline_steps s
                    WHERE s.workflow_id = j.workflow_id AND s.job_id = j.job_id
                    ORDER BY coalesce(s.ended_at, s.begun_at) DESC, s.step DESC LIMIT 1) AS last_step,
                  coalesce((SELECT sum(c.cost_usd) FROM pipeline_calls c
                             WHERE c.workflow_id = j.workflow_id AND c.job_id = j.job_id), 0) AS "cost_usd!",
                  j.created_at, j.finished_at
             FROM pipeline_jobs j
            WHERE j.workflow_id = $1
              AND (j.finished_at IS NULL OR (j.status = 'failed' AND j.finished_at >= $2))
            ORDER BY j.finished_at IS NOT NULL, j.finished_at DESC, j.job_id
            LIMIT $3"#,
        workflow_id,
        failed_since,
        limit
    )
    .fetch_all(pool)
    .await?)
}
