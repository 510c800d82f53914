//! What `/metrics` asks the database: a few grouped statements over all workflows, each bounded by what is open now or
//! by this month's calls, and none by how many tasks there are.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;

use super::StoreError;

/// The effects of a workflow in one status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectCount {
    /// The workflow.
    pub workflow_id: i64,
    /// pending, claimed or failed.
    pub status: String,
    /// How many.
    pub effects: i64,
    /// When the oldest of them was asked for.
    pub oldest_at: DateTime<Utc>,
    /// Claimed ones whose lease has run out, on the database's clock.
    pub expired: i64,
}

/// The effects that are not done, by workflow and status. A partial index holds exactly these.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn effects(pool: &PgPool) -> Result<Vec<EffectCount>, StoreError> {
    Ok(sqlx::query_as!(
        EffectCount,
        r#"SELECT workflow_id AS "workflow_id!", status AS "status!", count(*) AS "effects!",
                  min(created_at) AS "oldest_at!",
                  count(*) FILTER (WHERE lease_until < now()) AS "expired!"
             -- One arm a status, so that each is found by its own partial index.
             FROM (SELECT workflow_id, status, created_at, lease_until FROM effects WHERE status = 'pending'
                   UNION ALL
                   SELECT workflow_id, status, created_at, lease_until FROM effects WHERE status = 'claimed'
                   UNION ALL
                   SELECT workflow_id, status, created_at, lease_until FROM effects WHERE status = 'failed'
                  ) AS unfinished
            GROUP BY workflow_id, status"#
    )
    .fetch_all(pool)
    .await?)
}

/// The calls of a workflow to one Claude model, of one outcome, since a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCount {
    /// The workflow.
    pub workflow_id: i64,
    /// Claude's model.
    pub claude_model: String,
    /// answered, failed, lost, or running while no outcome is on record.
    pub outcome: String,
    /// How many attempts.
    pub calls: i64,
    /// Tokens read at full price.
    pub input_tokens: i64,
    /// Tokens written to the prompt cache.
    pub cache_write_tokens: i64,
    /// Tokens read from the prompt cache.
    pub cache_read_tokens: i64,
    /// Tokens written by the model.
    pub output_tokens: i64,
    /// US dollars, by estimate where no answer came.
    pub cost_usd: Decimal,
}

/// The calls since a moment of each workflow's own, by model and outcome. A month of them is bounded by its budget.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn calls(
    pool: &PgPool,
    since: &[(i64, DateTime<Utc>)],
) -> Result<Vec<CallCount>, StoreError> {
    let (ids, moments): (Vec<i64>, Vec<DateTime<Utc>>) = since.iter().copied().unzip();
    Ok(sqlx::query_as!(
        CallCount,
        r#"SELECT c.workflow_id AS "workflow_id!", c.claude_model AS "claude_model!",
                  coalesce(best.status, 'running') AS "outcome!", count(*) AS "calls!",
                  coalesce(sum(best.input_tokens), 0)::bigint AS "input_tokens!",
                  coalesce(sum(best.cache_creation_tokens), 0)::bigint AS "cache_write_tokens!",
                  coalesce(sum(best.cache_read_tokens), 0)::bigint AS "cache_read_tokens!",
                  coalesce(sum(best.output_tokens), 0)::bigint AS "output_tokens!",
                  coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd)), 0) AS "cost_usd!"
             FROM unnest($1::bigint[], $2::timestamptz[]) AS asked (workflow_id, since)
             JOIN claude_calls c ON c.workflow_id = asked.workflow_id AND c.started_at >= asked.since
             LEFT JOIN LATERAL (
                 SELECT o.* FROM claude_call_outcomes o
                  WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
                  ORDER BY o.cost_estimated, o.outcome_id LIMIT 1) best ON true
            GROUP BY 1, 2, 3"#,
        &ids,
        &moments
    )
    .fetch_all(pool)
    .await?)
}

/// The slots of a deck that is being dealt, by arm and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotCount {
    /// The workflow.
    pub workflow_id: i64,
    /// The model.
    pub model: String,
    /// test or probation.
    pub phase: String,
    /// control or candidate.
    pub arm: String,
    /// open, dealt, scored or missing.
    pub state: String,
    /// How many.
    pub slots: i64,
}

/// The decks of running tests and open probations.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn decks(pool: &PgPool) -> Result<Vec<SlotCount>, StoreError> {
    Ok(sqlx::query_as!(
        SlotCount,
        r#"SELECT s.workflow_id AS "workflow_id!", s.model_name AS "model!", s.phase AS "phase!",
                  s.arm AS "arm!", s.state AS "state!", count(*) AS "slots!"
             FROM (SELECT workflow_id, cycle, model_name, 'test' AS phase
                     FROM experiments WHERE status = 'testing'
                   UNION ALL
                   SELECT workflow_id, cycle, model_name, 'probation'
                     FROM probations WHERE status = 'open') AS running
             JOIN deck_slots s USING (workflow_id, cycle, model_name, phase)
            GROUP BY 1, 2, 3, 4, 5"#
    )
    .fetch_all(pool)
    .await?)
}

/// What the refresher has added up for a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The workflow.
    pub workflow_id: i64,
    /// Tasks that live in the database, as of the last refresh.
    pub tasks: i64,
    /// When it last added something up, while changes wait to be; none when nothing waits.
    pub behind_since: Option<DateTime<Utc>>,
}

/// How far the dashboard's figures have come. Reads a row a day and category, never a task.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn figures(pool: &PgPool) -> Result<Vec<Figures>, StoreError> {
    Ok(sqlx::query_as!(
        Figures,
        r#"SELECT s.workflow_id AS "workflow_id!",
                  coalesce((SELECT sum(d.tasks) FROM task_day_figures d
                             WHERE d.workflow_id = s.workflow_id), 0)::bigint AS "tasks!",
                  CASE WHEN EXISTS (SELECT 1 FROM figure_marks m WHERE m.workflow_id = s.workflow_id)
                       THEN s.refreshed_at END AS "behind_since"
             FROM figure_states s"#
    )
    .fetch_all(pool)
    .await?)
}
