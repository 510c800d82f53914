//! What an analysis shows, fixed before it is paid for.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// What an analysis shows, and how long that made its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisPlan {
    /// Rows of the tasks shown, in the window's order.
    pub shown_tasks: Vec<i64>,
    /// Rows of the earlier insights shown.
    pub shown_insights: Vec<i64>,
    /// The request's length in tokens.
    pub prompt_tokens: i64,
    /// `counted` by the service, or `estimated` from the bytes.
    pub counted_by: String,
    /// Why it was estimated; empty when it was counted.
    pub because: String,
}

/// The plan of a cycle's analysis, if one is fixed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn find(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Option<AnalysisPlan>, StoreError> {
    Ok(sqlx::query_as!(
        AnalysisPlan,
        "SELECT shown_tasks, shown_insights, prompt_tokens, counted_by, because
           FROM analysis_plans WHERE workflow_id = $1 AND cycle = $2",
        workflow_id,
        cycle
    )
    .fetch_optional(pool)
    .await?)
}

/// Fixes a cycle's plan unless one is fixed already, in the transaction of the paid call's intent.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub(super) async fn fix(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    plan: &AnalysisPlan,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO analysis_plans (workflow_id, cycle, shown_tasks, shown_insights, prompt_tokens, counted_by,
                because, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (workflow_id, cycle) DO NOTHING",
        workflow_id,
        cycle,
        &plan.shown_tasks,
        &plan.shown_insights,
        plan.prompt_tokens,
        plan.counted_by,
        plan.because,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
