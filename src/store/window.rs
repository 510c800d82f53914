//! The analysis window: taking tasks into it once, and reading them back for Claude.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::StoreError;
use crate::analysis::{Attempt, Facts, Head, Tags};
use crate::workflow::context::{AttemptForAnalysis, ModelFacts, TaskForAnalysis};

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
pub async fn heads(pool: &PgPool, workflow_id: i64, cycle: i64) -> Result<Vec<Head>, StoreError> {
    Ok(sqlx::query_as!(
        Head,
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
        by_task.entry(row.task_id).or_default().push(AttemptForAnalysis {
            model: row.model_name,
            iteration: row.iteration,
            version: row.prompt_version.unwrap_or_default(),
            enhanced_prompt: row.enhanced_prompt,
            enhanced_prompt_length: row.enhanced_prompt_length,
            score: row.validation_score,
            passed: row.validation_passed,
            issues: issues(row.validation_issues),
            reasoning: row.validation_reasoning,
            was_selected: row.was_selected,
            generation_time_ms: row.generation_time_ms,
            error: row.error,
        });
    }
    Ok(by_task)
}

/// Every text of these tasks, by their rows or by their external ids: what was asked for, what the models were asked,
/// and what the validator said.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn texts(
    pool: &PgPool,
    workflow_id: i64,
    ids: &[i64],
    external_ids: &[String],
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query!(
        "SELECT t.original_prompt, a.enhanced_prompt, a.validation_reasoning, a.validation_issues
           FROM tasks t
           LEFT JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
          WHERE t.workflow_id = $1 AND (t.id = ANY($2) OR t.clickup_task_id = ANY($3))
          ORDER BY t.id",
        workflow_id,
        ids,
        external_ids
    )
    .fetch_all(pool)
    .await?;
    let mut texts = Vec::new();
    for row in rows {
        texts.extend(row.original_prompt);
        texts.extend(row.enhanced_prompt);
        texts.extend(row.validation_reasoning);
        texts.extend(issues(row.validation_issues));
    }
    // One prompt stands beside each of its task's attempts.
    texts.sort_unstable();
    texts.dedup();
    Ok(texts)
}

/// Figures per model and version over the whole window, for the models that learn. The texts pass by one after
/// another, so a window of any size fits into memory.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn facts(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
    tags: &Tags,
) -> Result<Vec<ModelFacts>, StoreError> {
    let mut rows = sqlx::query!(
        r#"SELECT a.model_name, coalesce(a.prompt_version, 0) AS "version!", a.iteration, a.validation_score,
                  a.validation_passed, a.was_selected, t.original_prompt, a.enhanced_prompt,
                  a.validation_issues,
                  -- An error whose fault nobody named is the infrastructure's, as in a test.
                  CASE WHEN a.error IS NOT NULL THEN coalesce(a.error_fault, 'infrastructure') END AS fault
             FROM tasks t
             JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
            WHERE t.workflow_id = $1 AND t.analyzed_in_cycle = $2 AND NOT a.observed"#,
        workflow_id,
        cycle
    )
    .fetch(pool);
    let mut facts = Facts::new(tags);
    while let Some(row) = rows.try_next().await? {
        facts.add(&Attempt {
            model: row.model_name,
            version: row.version,
            iteration: row.iteration,
            score: row.validation_score,
            passed: row.validation_passed,
            selected: row.was_selected,
            original_prompt: row.original_prompt,
            enhanced_prompt: row.enhanced_prompt,
            issues: issues(row.validation_issues),
            fault: row.fault,
        });
    }
    Ok(facts.finish())
}

fn issues(stored: Option<serde_json::Value>) -> Vec<String> {
    stored.and_then(|issues| serde_json::from_value(issues).ok()).unwrap_or_default()
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
