//! Analyses and their insights.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// An insight to be stored.
#[derive(Debug, Clone)]
pub struct NewInsight {
    /// `prompt_pattern`, `model_strength` or `failure_mode`.
    pub insight_type: String,
    /// The image model, or `all`.
    pub model_name: String,
    /// The claim.
    pub description: String,
    /// From 0 to 1.
    pub confidence_score: f64,
    /// Tasks of the window that show it; every one exists.
    pub example_task_ids: Vec<String>,
    /// What to change about the prompts.
    pub suggested_change: String,
}

/// An analysis to be stored.
#[derive(Debug, Clone)]
pub struct NewAnalysis {
    /// Tasks in the window.
    pub tasks_analyzed: i32,
    /// Tasks that Claude was shown.
    pub tasks_shown: i32,
    /// The answer's summary.
    pub summary: String,
    /// Per model: strengths, weaknesses, best length, Greek text.
    pub model_insights: Value,
    /// What to do, per model.
    pub recommendations: Value,
    /// Evidence that was named and is not in the window.
    pub evidence_dropped: i32,
    /// The insights, in the order of the answer.
    pub insights: Vec<NewInsight>,
}

/// An insight as stored.
#[derive(Debug, Clone, Serialize)]
pub struct InsightRow {
    /// The insight's row.
    pub id: i64,
    /// The cycle whose analysis found it.
    pub cycle: i64,
    /// Position in that analysis, from 1.
    pub ordinal: i32,
    /// `prompt_pattern`, `model_strength` or `failure_mode`.
    pub insight_type: String,
    /// The image model, or `all`.
    pub model_name: String,
    /// The claim.
    pub description: String,
    /// From 0 to 1.
    pub confidence_score: f64,
    /// Tasks in the analysed window.
    pub tasks_analyzed: i32,
    /// Tasks that show it.
    pub example_task_ids: Vec<String>,
    /// What to change about the prompts.
    pub suggested_change: String,
    /// True once a version that rests on it was adopted.
    pub applied: bool,
    /// When it was found.
    pub created_at: DateTime<Utc>,
}

/// Stores an analysis with its insights, in the transaction of its transition.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    analysis: &NewAnalysis,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO analyses (workflow_id, cycle, tasks_analyzed, tasks_shown, summary, model_insights,
                recommendations, evidence_dropped, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        workflow_id,
        cycle,
        analysis.tasks_analyzed,
        analysis.tasks_shown,
        analysis.summary,
        analysis.model_insights,
        analysis.recommendations,
        analysis.evidence_dropped,
        now
    )
    .execute(&mut *conn)
    .await?;
    for (ordinal, insight) in (1_i32..).zip(&analysis.insights) {
        sqlx::query!(
            "INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description,
                    confidence_score, tasks_analyzed, example_task_ids, suggested_change, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            workflow_id,
            cycle,
            ordinal,
            insight.insight_type,
            insight.model_name,
            insight.description,
            insight.confidence_score,
            analysis.tasks_analyzed,
            &insight.example_task_ids,
            insight.suggested_change,
            now
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The insights of one cycle, in order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn of_cycle(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<InsightRow>, StoreError> {
    Ok(sqlx::query_as!(
        InsightRow,
        "SELECT id, cycle, ordinal, insight_type, model_name, description, confidence_score,
                tasks_analyzed, example_task_ids, suggested_change, applied, created_at
           FROM insights WHERE workflow_id = $1 AND cycle = $2 ORDER BY ordinal",
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?)
}

/// The newest insights of a workflow, newest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn recent(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<InsightRow>, StoreError> {
    Ok(sqlx::query_as!(
        InsightRow,
        "SELECT id, cycle, ordinal, insight_type, model_name, description, confidence_score,
                tasks_analyzed, example_task_ids, suggested_change, applied, created_at
           FROM insights WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2",
        workflow_id,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// The recommendations of a cycle's analysis, as Claude gave them.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn recommendations(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Value, StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT recommendations FROM analyses WHERE workflow_id = $1 AND cycle = $2",
        workflow_id,
        cycle
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.unwrap_or_else(|| Value::Array(Vec::new())))
}

/// Marks the insights that an adopted version rests on. Ordinals start anew in each cycle, so only
/// those of the version's own cycle are meant.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn mark_applied(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    version: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE insights i SET applied = true
           FROM prompt_versions v
          WHERE i.workflow_id = $1 AND i.cycle = v.cycle
            AND v.workflow_id = $1 AND v.model_name = $2 AND v.version = $3
            AND v.based_on ? i.ordinal::text",
        workflow_id,
        model,
        version
    )
    .execute(conn)
    .await?;
    Ok(())
}
