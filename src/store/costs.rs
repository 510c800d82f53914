//! What Claude's calls cost, by month and by cycle, with their tokens by kind.
//!
//! Calls that still run count with their estimate; a lost call whose answer came after all counts with what it really
//! cost.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::StoreError;

/// What the calls of a calendar month cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MonthCost {
    /// The month's first day, in the workflow's time zone.
    pub month: NaiveDate,
    /// Attempts that were made, failed ones too.
    pub calls: i64,
    /// Those of them that went into a batch.
    pub batched: i64,
    /// Those of them that a rehearsal made.
    pub rehearsed: i64,
    /// Tokens read at full price.
    pub input_tokens: i64,
    /// Tokens written to the prompt cache.
    pub cache_creation_tokens: i64,
    /// Tokens read from the prompt cache.
    pub cache_read_tokens: i64,
    /// Tokens written by the model, thinking included.
    pub output_tokens: i64,
    /// US dollars.
    pub cost_usd: Decimal,
    /// The part of it that is estimated.
    pub estimated_usd: Decimal,
}

/// What the calls of a cycle cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CycleCost {
    /// The cycle.
    pub cycle: i64,
    /// Attempts that were made, failed ones too.
    pub calls: i64,
    /// Those of them that went into a batch.
    pub batched: i64,
    /// Tokens read at full price.
    pub input_tokens: i64,
    /// Tokens written to the prompt cache.
    pub cache_creation_tokens: i64,
    /// Tokens read from the prompt cache.
    pub cache_read_tokens: i64,
    /// Tokens written by the model, thinking included.
    pub output_tokens: i64,
    /// US dollars.
    pub cost_usd: Decimal,
    /// The part of it that is estimated.
    pub estimated_usd: Decimal,
}

/// The latest months in which there were calls, the newest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn by_month(
    pool: &PgPool,
    workflow_id: i64,
    timezone: chrono_tz::Tz,
    limit: i64,
) -> Result<Vec<MonthCost>, StoreError> {
    Ok(sqlx::query_as!(
        MonthCost,
        r#"SELECT date_trunc('month', c.started_at AT TIME ZONE $2)::date AS "month!",
                  count(*) AS "calls!",
                  count(*) FILTER (WHERE c.batch) AS "batched!",
                  count(*) FILTER (WHERE c.rehearsal IS NOT NULL) AS "rehearsed!",
                  coalesce(sum(best.input_tokens), 0)::bigint AS "input_tokens!",
                  coalesce(sum(best.cache_creation_tokens), 0)::bigint AS "cache_creation_tokens!",
                  coalesce(sum(best.cache_read_tokens), 0)::bigint AS "cache_read_tokens!",
                  coalesce(sum(best.output_tokens), 0)::bigint AS "output_tokens!",
                  coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd)), 0) AS "cost_usd!",
                  coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd))
                           FILTER (WHERE coalesce(best.cost_estimated, true)), 0) AS "estimated_usd!"
             FROM claude_calls c
             LEFT JOIN LATERAL (
                 SELECT o.* FROM claude_call_outcomes o
                  WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
                  ORDER BY o.cost_estimated, o.outcome_id LIMIT 1) best ON true
            WHERE c.workflow_id = $1
            GROUP BY 1 ORDER BY 1 DESC LIMIT $3"#,
        workflow_id,
        timezone.name(),
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// The latest cycles that made calls, the newest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn by_cycle(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<CycleCost>, StoreError> {
    Ok(sqlx::query_as!(
        CycleCost,
        r#"SELECT c.cycle AS "cycle!",
                  count(*) AS "calls!",
                  count(*) FILTER (WHERE c.batch) AS "batched!",
                  coalesce(sum(best.input_tokens), 0)::bigint AS "input_tokens!",
                  coalesce(sum(best.cache_creation_tokens), 0)::bigint AS "cache_creation_tokens!",
                  coalesce(sum(best.cache_read_tokens), 0)::bigint AS "cache_read_tokens!",
                  coalesce(sum(best.output_tokens), 0)::bigint AS "output_tokens!",
                  coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd)), 0) AS "cost_usd!",
                  coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd))
                           FILTER (WHERE coalesce(best.cost_estimated, true)), 0) AS "estimated_usd!"
             FROM claude_calls c
             LEFT JOIN LATERAL (
                 SELECT o.* FROM claude_call_outcomes o
                  WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
                  ORDER BY o.cost_estimated, o.outcome_id LIMIT 1) best ON true
            WHERE c.workflow_id = $1 AND c.cycle IS NOT NULL
            GROUP BY c.cycle ORDER BY c.cycle DESC LIMIT $2"#,
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}
