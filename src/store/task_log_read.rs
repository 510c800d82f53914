//! Reading the task log, counting to the trigger, and giving up silent runs.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{StoreError, figures};

/// One run of a task with its attempts, as pages and programs see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TaskRecord {
    /// The pipeline's name of the task.
    pub task_id: String,
    /// Which run of it.
    pub run_id: String,
    /// What was asked for.
    pub original_prompt: Option<String>,
    /// The prompt's length in code points.
    pub original_prompt_length: Option<i32>,
    /// The task's title.
    pub task_name: Option<String>,
    /// For instance `SIMPLE_EDIT`.
    pub task_type: Option<String>,
    /// Whatever the pipeline groups its tasks by.
    pub category: Option<String>,
    /// What else was sent with the events of the run.
    pub metadata: Value,
    /// When its first event arrived.
    pub created_at: DateTime<Utc>,
    /// When its last event arrived.
    pub last_event_at: DateTime<Utc>,
    /// When it began, as the pipeline says.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// `completed`, `winner`, `error` or `abandoned`.
    pub ended_by: Option<String>,
    /// Who won; `None` while it is open, and when nobody did.
    pub winner_model: Option<String>,
    /// The winner's score.
    pub winner_score: Option<i32>,
    /// How many iterations it took.
    pub total_iterations: Option<i32>,
    /// How long it took, reported or computed.
    pub processing_time_ms: Option<i64>,
    /// What the run failed of.
    pub error: Option<String>,
    /// In which step.
    pub error_stage: Option<String>,
    /// `prompt` or `infrastructure`, where it is known.
    pub error_fault: Option<String>,
    /// Whether the result was kept.
    pub feedback_kept: Option<bool>,
    /// What was said of it.
    pub feedback_comment: Option<String>,
    /// When it was said.
    pub feedback_at: Option<DateTime<Utc>>,
    /// The cycle that learnt from it; 0 for imported history.
    pub analyzed_in_cycle: Option<i64>,
    /// By iteration, then model.
    pub attempts: Vec<AttemptRecord>,
}

/// What one model did in one iteration.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AttemptRecord {
    /// The model.
    pub model: String,
    /// The iteration, from 1.
    pub iteration: i32,
    /// The version that its enhancement named.
    pub prompt_version: Option<i32>,
    /// True when the workflow does not know the model.
    pub observed: bool,
    /// What was enhanced.
    pub original_prompt: Option<String>,
    /// What came out.
    pub enhanced_prompt: Option<String>,
    /// Its length in code points.
    pub enhanced_prompt_length: Option<i32>,
    /// How long the enhancement took.
    pub enhancement_latency_ms: Option<i64>,
    /// Where the image is.
    pub image_url: Option<String>,
    /// How long the image took.
    pub generation_time_ms: Option<i64>,
    /// What the image cost, in US dollars.
    pub cost_usd: Option<Decimal>,
    /// From 0 to the workflow's `score_max`.
    pub validation_score: Option<i32>,
    /// Whether the judge let it pass.
    pub validation_passed: Option<bool>,
    /// What the judge found wrong: a list of texts.
    pub validation_issues: Option<Value>,
    /// Why the judge scored so.
    pub validation_reasoning: Option<String>,
    /// Who judged.
    pub judge_model: Option<String>,
    /// By which version of the judge's prompt.
    pub judge_prompt_version: Option<String>,
    /// True for the run's winner, in its last iteration.
    pub was_selected: bool,
    /// What the attempt failed of.
    pub error: Option<String>,
    /// In which step.
    pub error_stage: Option<String>,
    /// `prompt` or `infrastructure`, where it is known.
    pub error_fault: Option<String>,
    /// What else was sent with the events of the attempt.
    pub metadata: Value,
    /// When its first event arrived.
    pub created_at: DateTime<Utc>,
}

/// Reads one run of a task. Its attempts may be a moment newer than the run itself.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn load_task(
    pool: &PgPool,
    workflow_id: i64,
    task_id: &str,
    run_id: &str,
) -> Result<Option<TaskRecord>, StoreError> {
    let found = sqlx::query!(
        r#"
        SELECT id, original_prompt, original_prompt_length, task_name, task_type, category, metadata,
               created_at, last_event_at, started_at, ended_at, ended_by,
               winner_model, winner_score, total_iterations, processing_time_ms,
               error, error_stage, error_fault,
               feedback_kept, feedback_comment, feedback_at, analyzed_in_cycle
        FROM tasks
        WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = $3
        "#,
        workflow_id,
        task_id,
        run_id,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(TaskRecord {
        task_id: task_id.to_owned(),
        run_id: run_id.to_owned(),
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
        attempts: load_attempts(pool, workflow_id, row.id).await?,
    }))
}

async fn load_attempts(
    pool: &PgPool,
    workflow_id: i64,
    task: i64,
) -> Result<Vec<AttemptRecord>, StoreError> {
    let attempts = sqlx::query_as!(
        AttemptRecord,
        r#"
        SELECT model_name AS model, iteration, prompt_version, observed,
               original_prompt, enhanced_prompt, enhanced_prompt_length, enhancement_latency_ms,
               image_url, generation_time_ms, cost_usd,
               validation_score, validation_passed, validation_issues, validation_reasoning,
               judge_model, judge_prompt_version, was_selected,
               error, error_stage, error_fault, metadata, created_at
        FROM attempts
        WHERE workflow_id = $1 AND task_id = $2
        ORDER BY iteration, model_name, version
        "#,
        workflow_id,
        task,
    )
    .fetch_all(pool)
    .await?;
    Ok(attempts)
}

/// Ends every run as abandoned that has had no event since `silent_before`, and returns how many. It
/// ended when its last event arrived. It does not count towards the trigger, unless a real end
/// arrives after all.
///
/// Works in short transactions of a few hundred rows, leaves out rows that are being written, and may
/// be stopped and repeated at any point.
///
/// # Errors
/// [`StoreError`] when a step fails; the steps before it stay done.
pub async fn abandon_silent(
    pool: &PgPool,
    workflow_id: i64,
    silent_before: DateTime<Utc>,
) -> Result<u64, StoreError> {
    const STEP_ROWS: i64 = 500;
    let mut abandoned = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let arrivals = sqlx::query_scalar!(
            r#"
            UPDATE tasks SET ended_by = 'abandoned', ended_at = tasks.last_event_at
            FROM (
                SELECT id FROM tasks
                -- Who has been silent since then began before then, and that has an index.
                WHERE workflow_id = $1 AND ended_by IS NULL AND created_at < $2 AND last_event_at < $2
                ORDER BY created_at
                LIMIT $3
                FOR UPDATE SKIP LOCKED) AS silent
            WHERE tasks.workflow_id = $1 AND tasks.id = silent.id
            RETURNING tasks.created_at
            "#,
            workflow_id,
            silent_before,
            STEP_ROWS,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let step = u64::try_from(arrivals.len()).unwrap_or(u64::MAX);
        figures::mark(&mut transaction, workflow_id, arrivals).await?;
        transaction.commit().await?;
        abandoned += step;
        if step == 0 {
            return Ok(abandoned);
        }
    }
}
