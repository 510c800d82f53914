//! The whole task log, read in pages, for `mathesis export`.

use std::collections::HashMap;

use sqlx::PgPool;

use super::StoreError;
use super::task_log::{AttemptRecord, TaskRecord};

/// The runs after a row, oldest row first, with their attempts; at most `limit`. The number beside
/// each is its row, from which the next page goes on. Constant in memory however long the log.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn page(
    pool: &PgPool,
    workflow_id: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, TaskRecord)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, clickup_task_id, run_id, original_prompt, original_prompt_length, task_name,
                task_type, category, metadata, created_at, last_event_at, started_at, ended_at,
                ended_by, winner_model, winner_score, total_iterations, processing_time_ms,
                error, error_stage, error_fault, feedback_kept, feedback_comment, feedback_at,
                analyzed_in_cycle
           FROM tasks WHERE workflow_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        workflow_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut attempts = attempts_of(pool, workflow_id, &ids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let record = TaskRecord {
                task_id: row.clickup_task_id,
                run_id: row.run_id,
                original_prompt: row.original_prompt,
                original_prompt_length: row.original_prompt_length,
                task_name: row.task_name,
                task_type: row.task_type,
                category: row.category,
                metadata: row.metadata,
                created_at: row.created_at,
                last_event_at: row.last_event_at,
                started_at: row.started_at,
                ended_at: row.ended_at,
                ended_by: row.ended_by,
                winner_model: row.winner_model,
                winner_score: row.winner_score,
                total_iterations: row.total_iterations,
                processing_time_ms: row.processing_time_ms,
                error: row.error,
                error_stage: row.error_stage,
                error_fault: row.error_fault,
                feedback_kept: row.feedback_kept,
                feedback_comment: row.feedback_comment,
                feedback_at: row.feedback_at,
                analyzed_in_cycle: row.analyzed_in_cycle,
                attempts: attempts.remove(&row.id).unwrap_or_default(),
            };
            (row.id, record)
        })
        .collect())
}

/// The row of a run, behind which an export goes on.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn row_of(
    pool: &PgPool,
    workflow_id: i64,
    task: &str,
    run: &str,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT id FROM tasks WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = $3",
        workflow_id,
        task,
        run
    )
    .fetch_optional(pool)
    .await?)
}

/// How many runs there are behind a row, for a progress bar.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn count_behind(pool: &PgPool, workflow_id: i64, after: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM tasks WHERE workflow_id = $1 AND id > $2"#,
        workflow_id,
        after
    )
    .fetch_one(pool)
    .await?)
}

async fn attempts_of(
    pool: &PgPool,
    workflow_id: i64,
    tasks: &[i64],
) -> Result<HashMap<i64, Vec<AttemptRecord>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT task_id, model_name, iteration, prompt_version, observed, original_prompt,
                enhanced_prompt, enhanced_prompt_length, enhancement_latency_ms, image_url,
                generation_time_ms, cost_usd, validation_score, validation_passed,
                validation_issues, validation_reasoning, judge_model, judge_prompt_version,
                was_selected, error, error_stage, error_fault, metadata, created_at
           FROM attempts WHERE workflow_id = $1 AND task_id = ANY($2)
          ORDER BY task_id, iteration, model_name, version",
        workflow_id,
        tasks
    )
    .fetch_all(pool)
    .await?;
    let mut by_task: HashMap<i64, Vec<AttemptRecord>> = HashMap::new();
    for row in rows {
        by_task.entry(row.task_id).or_default().push(AttemptRecord {
            model: row.model_name,
            iteration: row.iteration,
            prompt_version: row.prompt_version,
            observed: row.observed,
            original_prompt: row.original_prompt,
            enhanced_prompt: row.enhanced_prompt,
            enhanced_prompt_length: row.enhanced_prompt_length,
            enhancement_latency_ms: row.enhancement_latency_ms,
            image_url: row.image_url,
            generation_time_ms: row.generation_time_ms,
            cost_usd: row.cost_usd,
            validation_score: row.validation_score,
            validation_passed: row.validation_passed,
            validation_issues: row.validation_issues,
            validation_reasoning: row.validation_reasoning,
            judge_model: row.judge_model,
            judge_prompt_version: row.judge_prompt_version,
            was_selected: row.was_selected,
            error: row.error,
            error_stage: row.error_stage,
            error_fault: row.error_fault,
            metadata: row.metadata,
            created_at: row.created_at,
        });
    }
    Ok(by_task)
}
