//! Every paid call: a row before it, inside the fence of whoever makes it, and a row after it, outside of it, since
//! what was paid is paid. Only ever added to; forgetting a task alone takes words out of an answer.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::analysis_plans::{self, AnalysisPlan};
use super::effects::ClaimedEffect;
use super::{StoreError, notifications};

/// Who makes a call.
#[derive(Debug, Clone, Copy)]
pub enum Payer<'c> {
    /// An effect of a cycle, by whoever holds it.
    Effect(&'c ClaimedEffect),
    /// A rehearsal, which has no cycle; all its calls bear its id.
    Rehearsal(Uuid),
}

/// What a call is about to do.
#[derive(Debug, Clone)]
pub struct CallIntent<'c> {
    /// The call.
    pub call_id: Uuid,
    /// Who makes it.
    pub payer: Payer<'c>,
    /// `analysis` or `generation`.
    pub purpose: &'c str,
    /// The image model that it is about, or empty.
    pub model_name: &'c str,
    /// The attempt of this request, from 1.
    pub attempt: i32,
    /// True when it goes into a batch, at half the price.
    pub batch: bool,
    /// The Claude model.
    pub claude_model: &'c str,
    /// SHA-256 of the request's body.
    pub request_hash: &'c str,
    /// What it costs if no answer ever comes to tell.
    pub estimated_cost_usd: Decimal,
    /// The worker that makes it.
    pub worker_id: Uuid,
    /// What an analysis shows, to be fixed along with the intent.
    pub plan: Option<&'c AnalysisPlan>,
}

/// What a call came to.
#[derive(Debug, Clone, Default)]
pub struct CallOutcome {
    /// answered, failed or lost.
    pub status: &'static str,
    /// The HTTP status, where there was an answer.
    pub http_status: Option<i32>,
    /// Why the model stopped.
    pub stop_reason: Option<String>,
    /// Anthropic's id of the request.
    pub request_id: Option<String>,
    /// Tokens read at full price.
    pub input_tokens: Option<i64>,
    /// Tokens written to the prompt cache.
    pub cache_creation_tokens: Option<i64>,
    /// Tokens read from the prompt cache.
    pub cache_read_tokens: Option<i64>,
    /// Tokens written by the model.
    pub output_tokens: Option<i64>,
    /// What it cost.
    pub cost_usd: Decimal,
    /// True where no answer told the usage.
    pub cost_estimated: bool,
    /// The answer's text, kept so that a crash after it does not pay again.
    pub response_text: Option<String>,
    /// The failure's stable code.
    pub error_code: Option<String>,
    /// The failure, in words.
    pub error_message: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i64>,
}

/// A call with what it came to, as pages and the command line show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CallRow {
    /// The call.
    pub call_id: Uuid,
    /// `analysis` or `generation`.
    pub purpose: String,
    /// The image model that it is about, or empty.
    pub model_name: String,
    /// The attempt of this request, from 1.
    pub attempt: i32,
    /// The Claude model.
    pub claude_model: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// True when it went into a batch, at half the price.
    pub batch: bool,
    /// Anthropic's id of the batch, once it is known.
    pub batch_id: Option<String>,
    /// answered, failed or lost; none while it runs.
    pub status: Option<String>,
    /// Anthropic's id of the request.
    pub request_id: Option<String>,
    /// Tokens read, cached ones included.
    pub input_tokens: Option<i64>,
    /// Those of them that were written to the prompt cache.
    pub cache_creation_tokens: Option<i64>,
    /// Those of them that were read from the prompt cache.
    pub cache_read_tokens: Option<i64>,
    /// Tokens written by the model.
    pub output_tokens: Option<i64>,
    /// What it cost, US dollars.
    pub cost_usd: Option<Decimal>,
    /// True where the cost is an estimate.
    pub cost_estimated: Option<bool>,
    /// The failure, in words.
    pub error_message: Option<String>,
}

/// Writes down that a paid call is about to be made, and fixes the plan of an analysis in the same commit: before
/// it nothing was paid and another plan may be made; after it every redo asks the same question.
///
/// An effect's claim is held still until the commit: whoever takes the effect over afterwards finds the intent, and a
/// worker that slept past its lease pays for nothing.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another worker holds the effect now, and [`StoreError`] when the database fails; the
/// call must then not be made.
pub async fn begin(
    pool: &PgPool,
    workflow_id: i64,
    intent: &CallIntent<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    let (claim, rehearsal) = match intent.payer {
        Payer::Effect(claim) => (Some(claim), None),
        Payer::Rehearsal(id) => (None, Some(id)),
    };
    if let (Some(plan), Some(claim)) = (intent.plan, claim) {
        analysis_plans::fix(&mut tx, workflow_id, claim.cycle, plan, now).await?;
    }
    let begun = sqlx::query!(
        "WITH held AS (
             SELECT effect_id FROM effects
              WHERE workflow_id = $1 AND effect_id = $4 AND worker_id = $11 AND fence = $15
                AND status = 'claimed'
                FOR SHARE)
         INSERT INTO claude_calls (workflow_id, call_id, cycle, effect_id, purpose, model_name, attempt,
                claude_model, request_hash, estimated_cost_usd, worker_id, started_at, batch, rehearsal)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
          WHERE $4::bigint IS NULL OR EXISTS (SELECT FROM held)",
        workflow_id,
        intent.call_id,
        claim.map(|claim| claim.cycle),
        claim.map(|claim| claim.effect_id),
        intent.purpose,
        intent.model_name,
        intent.attempt,
        intent.claude_model,
        intent.request_hash,
        intent.estimated_cost_usd,
        intent.worker_id,
        now,
        intent.batch,
        rehearsal,
        claim.map(|claim| claim.fence)
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if let (0, Some(claim)) = (begun, claim) {
        return Err(StoreError::LeaseLost { effect_id: claim.effect_id });
    }
    tx.commit().await?;
    Ok(())
}

/// Writes down what a call came to, and tells if that is the month's 80% of the budget.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn end(
    pool: &PgPool,
    workflow_id: i64,
    call_id: Uuid,
    outcome: &CallOutcome,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query!(
        "INSERT INTO claude_call_outcomes (workflow_id, call_id, status, http_status, stop_reason, request_id,
                input_tokens, cache_creation_tokens, cache_read_tokens, output_tokens, cost_usd,
                cost_estimated, response_text, error_code, error_message, duration_ms, recorded_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        workflow_id,
        call_id,
        outcome.status,
        outcome.http_status,
        outcome.stop_reason,
        outcome.request_id,
        outcome.input_tokens,
        outcome.cache_creation_tokens,
        outcome.cache_read_tokens,
        outcome.output_tokens,
        outcome.cost_usd,
        outcome.cost_estimated,
        outcome.response_text,
        outcome.error_code,
        outcome.error_message,
        outcome.duration_ms,
        now
    )
    .execute(&mut *tx)
    .await?;
    notifications::tell_of_budget(&mut tx, workflow_id, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Writes off the calls of an effect that have no outcome: whoever made them died in the middle.
/// Their cost is the estimate, and marked so. A call in a batch goes on without its worker, and is
/// looked for instead.
///
/// Nothing is written off by a worker that has lost its claim: what has no outcome then is under way, in the hands of
/// whoever holds the effect now.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn write_off_lost(
    pool: &PgPool,
    claim: &ClaimedEffect,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let lost = sqlx::query!(
        "WITH held AS (
             SELECT workflow_id, effect_id FROM effects
              WHERE workflow_id = $1 AND effect_id = $2 AND worker_id = $4 AND fence = $5
                AND status = 'claimed'
                FOR SHARE)
         INSERT INTO claude_call_outcomes (workflow_id, call_id, status, cost_usd, cost_estimated,
                error_code, error_message, recorded_at)
         SELECT c.workflow_id, c.call_id, 'lost', c.estimated_cost_usd, true, 'worker_died',
                'the worker that made the call died before the answer was recorded', $3
           FROM held
           JOIN claude_calls c ON c.workflow_id = held.workflow_id AND c.effect_id = held.effect_id
          WHERE c.workflow_id = $1 AND c.effect_id = $2 AND NOT c.batch
            AND NOT EXISTS (SELECT FROM claude_call_outcomes o
                             WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id)",
        claim.workflow_id,
        claim.effect_id,
        now,
        claim.worker_id,
        claim.fence
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(lost)
}

/// An answer that an effect has already paid for.
#[derive(Debug, Clone)]
pub struct RecordedAnswer {
    /// When it was asked.
    pub started_at: DateTime<Utc>,
    /// The answer's text, whole or cut short.
    pub text: String,
    /// Why it cannot be used, where the call itself said so.
    pub error_message: Option<String>,
}

/// The answers on record for one request of an effect, oldest first: a redo reads them instead of
/// paying again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn answers_on_record(
    pool: &PgPool,
    workflow_id: i64,
    effect_id: i64,
    request_hash: &str,
) -> Result<Vec<RecordedAnswer>, StoreError> {
    Ok(sqlx::query_as!(
        RecordedAnswer,
        r#"SELECT c.started_at, coalesce(o.response_text, '') AS "text!", o.error_message
             FROM claude_calls c
             JOIN claude_call_outcomes o ON o.workflow_id = c.workflow_id AND o.call_id = c.call_id
            WHERE c.workflow_id = $1 AND c.effect_id = $2 AND c.request_hash = $3
              AND o.stop_reason IS NOT NULL
            ORDER BY c.started_at, o.outcome_id"#,
        workflow_id,
        effect_id,
        request_hash
    )
    .fetch_all(pool)
    .await?)
}

/// The answers on record for a purpose of an effect, whatever exactly was asked, oldest first. A batch may
/// take a day, and feedback that comes meanwhile changes the question; its answer is paid for all the same.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn answers_for_purpose(
    pool: &PgPool,
    workflow_id: i64,
    effect_id: i64,
    purpose: &str,
    model_name: &str,
) -> Result<Vec<RecordedAnswer>, StoreError> {
    Ok(sqlx::query_as!(
        RecordedAnswer,
        r#"SELECT c.started_at, coalesce(o.response_text, '') AS "text!", o.error_message
             FROM claude_calls c
             JOIN claude_call_outcomes o ON o.workflow_id = c.workflow_id AND o.call_id = c.call_id
            WHERE c.workflow_id = $1 AND c.effect_id = $2 AND c.purpose = $3 AND c.model_name = $4
              AND o.stop_reason IS NOT NULL
            ORDER BY c.started_at, o.outcome_id"#,
        workflow_id,
        effect_id,
        purpose,
        model_name
    )
    .fetch_all(pool)
    .await?)
}

/// What a workflow's calls cost since a moment. Calls that still run count with their estimate; a
/// lost call whose answer came after all counts with what it really cost.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cost_since(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    since: DateTime<Utc>,
) -> Result<Decimal, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd)), 0) AS "cost!"
             FROM claude_calls c
             LEFT JOIN LATERAL (
                 SELECT o.cost_usd FROM claude_call_outcomes o
                  WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
                  ORDER BY o.cost_estimated, o.outcome_id LIMIT 1) best ON true
            WHERE c.workflow_id = $1 AND c.started_at >= $2"#,
        workflow_id,
        since
    )
    .fetch_one(executor)
    .await?)
}

/// The calls of a cycle, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn of_cycle(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<CallRow>, StoreError> {
    Ok(sqlx::query_as!(
        CallRow,
        r#"SELECT c.call_id, c.purpose, c.model_name, c.attempt, c.claude_model, c.started_at, c.batch,
                  b.batch_id AS "batch_id?", best.status AS "status?", best.request_id,
                  best.input_tokens + coalesce(best.cache_creation_tokens, 0)
                      + coalesce(best.cache_read_tokens, 0) AS input_tokens,
                  best.cache_creation_tokens, best.cache_read_tokens,
                  best.output_tokens, best.cost_usd AS "cost_usd?", best.cost_estimated AS "cost_estimated?",
                  best.error_message
             FROM claude_calls c
             LEFT JOIN LATERAL (
                 SELECT o.* FROM claude_call_outcomes o
                  WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
                  ORDER BY o.cost_estimated, o.outcome_id LIMIT 1) best ON true
             LEFT JOIN claude_batches b ON b.workflow_id = c.workflow_id AND b.call_id = c.call_id
            WHERE c.workflow_id = $1 AND c.cycle = $2
            ORDER BY c.started_at, c.call_id"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}
