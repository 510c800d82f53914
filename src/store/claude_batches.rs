//! Calls that wait in a batch: which are open, under which id, and whose cycle went on without them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::StoreError;

/// A call in a batch that has no outcome yet.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    /// The workflow.
    pub workflow_id: i64,
    /// The call; the request bears it in the batch.
    pub call_id: Uuid,
    /// The cycle that asked.
    pub cycle: i64,
    /// `analysis` or `generation`.
    pub purpose: String,
    /// The Claude model.
    pub claude_model: String,
    /// When the intent was written, just before the batch was asked for.
    pub started_at: DateTime<Utc>,
    /// What it is booked at if its answer never comes.
    pub estimated_cost_usd: Decimal,
    /// Anthropic's id; none when whoever asked died, or was cut off, before it was told.
    pub batch_id: Option<String>,
    /// When it was asked to be cancelled.
    pub cancel_asked_at: Option<DateTime<Utc>>,
}

/// A batch that a cycle waits for, as pages and the command line show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitingBatch {
    /// `analysis` or `generation`.
    pub purpose: String,
    /// The image model that it is about, or empty.
    pub model: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Anthropic's id, once it is known.
    pub batch_id: Option<String>,
}

/// The batch that an effect waits for, for one purpose and image model.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn open_of_effect(
    pool: &PgPool,
    workflow_id: i64,
    effect_id: i64,
    purpose: &str,
    model_name: &str,
) -> Result<Option<OpenBatch>, StoreError> {
    Ok(sqlx::query_as!(
        OpenBatch,
        r#"SELECT c.workflow_id, c.call_id, c.cycle AS "cycle!", c.purpose, c.claude_model, c.started_at,
                  c.estimated_cost_usd, b.batch_id AS "batch_id?", b.cancel_asked_at
             FROM claude_calls c
             LEFT JOIN claude_batches b ON b.workflow_id = c.workflow_id AND b.call_id = c.call_id
            WHERE c.workflow_id = $1 AND c.effect_id = $2 AND c.batch AND c.purpose = $3 AND c.model_name = $4
              AND NOT EXISTS (SELECT FROM claude_call_outcomes o
                               WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id)
            ORDER BY c.started_at, c.call_id
            LIMIT 1"#,
        workflow_id,
        effect_id,
        purpose,
        model_name
    )
    .fetch_optional(pool)
    .await?)
}

/// Batches whose effect ended or was dropped without them: nobody waits for their answers any more, but
/// what they cost is not on record yet.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn abandoned(pool: &PgPool) -> Result<Vec<OpenBatch>, StoreError> {
    Ok(sqlx::query_as!(
        OpenBatch,
        r#"SELECT c.workflow_id, c.call_id, c.cycle AS "cycle!", c.purpose, c.claude_model, c.started_at,
                  c.estimated_cost_usd, b.batch_id AS "batch_id?", b.cancel_asked_at
             FROM claude_calls c
             JOIN effects e ON e.workflow_id = c.workflow_id AND e.effect_id = c.effect_id
             LEFT JOIN claude_batches b ON b.workflow_id = c.workflow_id AND b.call_id = c.call_id
            WHERE c.batch AND e.status IN ('done', 'cancelled')
              AND NOT EXISTS (SELECT FROM claude_call_outcomes o
                               WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id)
            ORDER BY c.started_at, c.call_id"#
    )
    .fetch_all(pool)
    .await?)
}

/// The batches that a cycle's effects wait for, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn waiting_of_cycle(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<WaitingBatch>, StoreError> {
    Ok(sqlx::query_as!(
        WaitingBatch,
        r#"SELECT c.purpose, c.model_name AS model, c.started_at AS since, b.batch_id AS "batch_id?"
             FROM claude_calls c
             JOIN effects e ON e.workflow_id = c.workflow_id AND e.effect_id = c.effect_id
             LEFT JOIN claude_batches b ON b.workflow_id = c.workflow_id AND b.call_id = c.call_id
            WHERE c.workflow_id = $1 AND c.cycle = $2 AND c.batch
              AND e.status IN ('pending', 'claimed', 'failed')
              AND NOT EXISTS (SELECT FROM claude_call_outcomes o
                               WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id)
            ORDER BY c.started_at, c.call_id"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}

/// Writes down the id of a call's batch. Written twice, the first stands.
///
/// # Errors
/// [`StoreError`] when the database fails; the batch is then looked for among the account's.
pub async fn know(
    pool: &PgPool,
    workflow_id: i64,
    call_id: Uuid,
    batch_id: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO claude_batches (workflow_id, call_id, batch_id, known_at)
         VALUES ($1, $2, $3, $4) ON CONFLICT (workflow_id, call_id) DO NOTHING",
        workflow_id,
        call_id,
        batch_id,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Which of these batches belong to calls on record. A plain read over all workflows, which share an account.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn known_among(pool: &PgPool, batch_ids: &[String]) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT batch_id FROM claude_batches WHERE batch_id = ANY($1)",
        batch_ids
    )
    .fetch_all(pool)
    .await?)
}

/// Writes down that a batch was asked to be cancelled, so that it is asked once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cancel_asked(
    pool: &PgPool,
    workflow_id: i64,
    call_id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE claude_batches SET cancel_asked_at = $3 WHERE workflow_id = $1 AND call_id = $2",
        workflow_id,
        call_id,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How many calls of an effect went into batches for a purpose so far.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn asked_so_far(
    pool: &PgPool,
    workflow_id: i64,
    effect_id: i64,
    purpose: &str,
    model_name: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "calls!" FROM claude_calls
            WHERE workflow_id = $1 AND effect_id = $2 AND batch AND purpose = $3 AND model_name = $4"#,
        workflow_id,
        effect_id,
        purpose,
        model_name
    )
    .fetch_one(pool)
    .await?)
}
