//! The analysis window: taking tasks into it once, and reading them back for Claude.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::StoreError;
use crate::workflow::context::{AttemptForAnalysis, ModelFacts, TaskForAnalysis};

/// A task of a window, as far as sampling needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTask {
    /// The task's row.
    pub id: i64,
    /// The best score that any attempt of it got.
    pub best_score: Option<i32>,
}

/// Marks every completed task that no window has yet, and returns how many. Runs inside the
/// transition that opens Analyzing, so a task is in exactly one window or, if that transaction does
/// not commit, in none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<u64, StoreError> {
    let taken = sqlx::query!(
        "UPDATE tasks SET analyzed_in_cycle = $2
          WHERE workflow_id = $1 AND analyzed_in_cycle IS NULL
            AND ended_by IN ('completed', 'winner', 'error')",
        workflow_id,
        cycle
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(taken)
}

/// How many completed tasks wait for an analysis, counted up to a limit: a bounded index scan.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn waiting(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    limit: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "waiting!" FROM (
               SELECT 1 FROM tasks
                WHERE workflow_id = $1 AND analyzed_in_cycle IS NULL
                  AND ended_by IN ('completed', 'winner', 'error')
                LIMIT $2) AS waiting"#,
        workflow_id,
        limit
    )
    .fetch_one(executor)
    .await?)
}

/// How many tasks that wait for an analysis arrived and were completed since a moment, counted up to a
/// limit.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn waiting_since(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "waiting!" FROM (
               SELECT 1 FROM tasks
                WHERE workflow_id = $1 AND created_at >= $2 AND analyzed_in_cycle IS NULL
                  AND ended_by IN ('completed', 'winner', 'error')
                LIMIT $3) AS waiting"#,
        workflow_id,
        since,
        limit
    )
    .fetch_one(executor)
    .await?)
}

/// True when at least `tasks` completed tasks wait for an analysis.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn is_full(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    tasks: i64,
) -> Result<bool, StoreError> {
    Ok(waiting(executor, workflow_id, tasks).await? >= tasks)
}

/// The tasks of a window, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn heads(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<WindowTask>, StoreError> {
    Ok(sqlx::query_as!(
        WindowTask,
        r#"SELECT t.id, max(a.validation_score) AS best_score
             FROM tasks t
             LEFT JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
            WHERE t.workflow_id = $1 AND t.analyzed_in_cycle = $2
            GROUP BY t.id, t.ended_at ORDER BY t.ended_at, t.id"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}

/// The external ids of every task of a window: what evidence may name.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn task_ids(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT clickup_task_id FROM tasks WHERE workflow_id = $1 AND analyzed_in_cycle = $2",
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}

/// The chosen tasks of a window with their attempts, as Claude is shown them, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn tasks(
    pool: &PgPool,
    workflow_id: i64,
    ids: &[i64],
) -> Result<Vec<TaskForAnalysis>, StoreError> {
    let mut attempts = attempts(pool, workflow_id, ids).await?;
    let rows = sqlx::query!(
        r#"SELECT id, clickup_task_id, run_id, original_prompt, category, task_type, winner_model,
                  winner_score, total_iterations, processing_time_ms, ended_by
             FROM tasks WHERE workflow_id = $1 AND id = ANY($2) ORDER BY ended_at, id"#,
        workflow_id,
        ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TaskForAnalysis {
            task_id: row.clickup_task_id,
            run_id: row.run_id,
            original_prompt: row.original_prompt.unwrap_or_default(),
            category: row.category,
            task_type: row.task_type,
            winner_model: row.winner_model,
            winner_score: row.winner_score,
            total_iterations: row.total_iterations,
            processing_time_ms: row.processing_time_ms,
            ended: row.ended_by.unwrap_or_default(),
            attempts: attempts.remove(&row.id).unwrap_or_default(),
        })
        .collect())
}

async fn attempts(
    pool: &PgPool,
    workflow_id: i64,
    ids: &[i64],
) -> Result<HashMap<i64, Vec<AttemptForAnalysis>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT task_id, model_name, iteration, prompt_version, enhanced_prompt, enhanced_prompt_length,
                validation_score, validation_passed, validation_issues, validation_reasoning,
                was_selected, generation_time_ms, error
           FROM attempts WHERE workflow_id = $1 AND task_id = ANY($2)
          ORDER BY task_id, iteration, model_name, version",
        workflow_id,
        ids
    )
    .fetch_all(pool)
    .await?;
    let mut by_task: HashMap<i64, Vec<AttemptForAnalysis>> = HashMap::new();
    for row in rows {
        let issues = row
            .validation_issues
            .and_then(|issues| serde_json::from_value(issues).ok())
            .unwrap_or_default();
        by_task.entry(row.task_id).or_default().push(AttemptForAnalysis {
            model: row.model_name,
            iteration: row.iteration,
            version: row.prompt_version.unwrap_or_default(),
            enhanced_prompt: row.enhanced_prompt,
            enhanced_prompt_length: row.enhanced_prompt_length,
            score: row.validation_score,
            passed: row.validation_passed,
            issues,
            reasoning: row.validation_reasoning,
            was_selected: row.was_selected,
            generation_time_ms: row.generation_time_ms,
            error: row.error,
        });
    }
    Ok(by_task)
}

/// Figures per model and version over the whole window, for the models that learn.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn facts(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<ModelFacts>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT a.model_name, coalesce(a.prompt_version, 0) AS "version!",
                  count(*) AS "attempts!",
                  count(a.validation_score) AS "scored!",
                  avg(a.validation_score)::float8 AS mean,
                  (count(*) FILTER (WHERE a.validation_passed))::float8
                      / nullif(count(a.validation_score), 0) AS pass_rate,
                  count(*) FILTER (WHERE a.was_selected) AS "wins!",
                  avg(a.enhanced_prompt_length) FILTER (WHERE a.validation_passed)::float8 AS length_passed,
                  avg(a.enhanced_prompt_length) FILTER (WHERE NOT a.validation_passed)::float8 AS length_failed,
                  -- Mostly Greek: more than half of the letters are Greek or Greek Extended.
                  avg((length(regexp_replace(t.original_prompt, '[^\u0370-\u03FF\u1F00-\u1FFF]', '', 'g'))::float8
                       > 0.5 * length(regexp_replace(t.original_prompt, '[^[:alpha:]]', '', 'g')))::int)::float8 AS greek_share
             FROM tasks t
             JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
            WHERE t.workflow_id = $1 AND t.analyzed_in_cycle = $2 AND NOT a.observed
            GROUP BY a.model_name, coalesce(a.prompt_version, 0)
            ORDER BY a.model_name, coalesce(a.prompt_version, 0)"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ModelFacts {
            model: row.model_name,
            version: row.version,
            attempts: count(row.attempts),
            scored: count(row.scored),
            mean: row.mean.map(|mean| format!("{mean:.2}")),
            pass_rate: row.pass_rate.map(percent),
            wins: count(row.wins),
            mean_prompt_length_passed: row.length_passed.map(rounded),
            mean_prompt_length_failed: row.length_failed.map(rounded),
            greek_share: row.greek_share.map(percent),
        })
        .collect())
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of lengths is positive and far below the limit, and `as` saturates"
)]
fn rounded(mean: f64) -> u32 {
    mean.round() as u32
}

/// Sum and number of the first-iteration scores that a version got in a window. Attempts that named
/// no version count for the version that was active.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn scores_of_version(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
    model: &str,
    version: i32,
) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query!(
        r#"SELECT coalesce(sum(a.validation_score), 0) AS "sum!", count(a.validation_score) AS "count!"
             FROM tasks t
             JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
            WHERE t.workflow_id = $1 AND t.analyzed_in_cycle = $2 AND a.model_name = $3
              AND coalesce(a.prompt_version, $4) = $4 AND a.iteration = 1"#,
        workflow_id,
        cycle,
        model,
        version
    )
    .fetch_one(pool)
    .await?;
    Ok((row.sum, row.count))
}
