//! What the pages beside the first one read: each a few bounded statements.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::experiments::{self, Experiment};
use super::learning::{self, ConfigChange, Insight};
use crate::store::StoreError;
use crate::store::insights::Which;

/// Tasks on one page of the list.
pub const TASKS_A_PAGE: i64 = 50;
/// Versions on one page of a model's list.
pub const VERSIONS_A_PAGE: i64 = 50;
/// Tasks that a search by category or model looks through, newest first.
const TASKS_SEARCHED_MAX: i64 = 20_000;

/// An experiment of one cycle, with the scores that its decks counted.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScoredExperiment {
    /// The experiment with its verdict, if there is one.
    #[serde(flatten)]
    pub experiment: Experiment,
    /// Scores of the test.
    #[serde(rename = "test_scores")]
    pub test: Scores,
    /// Scores of the probation; empty where there was none.
    #[serde(rename = "probation_scores")]
    pub probation: Scores,
}

/// The counted scores of a deck, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Scores {
    /// The old version's.
    pub old: Vec<i32>,
    /// The new version's.
    pub new: Vec<i32>,
}

/// A run of a task in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TaskHead {
    /// Its row, which orders runs that arrived at the same moment.
    pub id: i64,
    /// The pipeline's name of the task.
    pub task_id: String,
    /// Which run of it.
    pub run_id: String,
    /// The task's title.
    pub task_name: Option<String>,
    /// Whatever the pipeline groups its tasks by.
    pub category: Option<String>,
    /// When its first event arrived.
    pub created_at: DateTime<Utc>,
    /// `completed`, `winner`, `error` or `abandoned`; none while it runs.
    pub ended_by: Option<String>,
    /// Who won.
    pub winner_model: Option<String>,
    /// The winner's score.
    pub winner_score: Option<i32>,
    /// How many iterations it took.
    pub total_iterations: Option<i32>,
    /// Whether the picture was kept.
    pub feedback_kept: Option<bool>,
}

/// Which runs are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Arrived at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Arrived before this instant.
    pub until: Option<DateTime<Utc>>,
    /// Won by this model.
    pub winner_model: Option<String>,
    /// Of this category.
    pub category: Option<String>,
    /// Of this task.
    pub task_id: Option<String>,
    /// After this place in the list: the moment of arrival and the row.
    pub after: Option<(DateTime<Utc>, i64)>,
}

/// The runs, newest first, at most [`TASKS_A_PAGE`]. By category or model, the newest 20,000 of the
/// range are looked through, so that the page costs the same however many tasks there are.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn tasks(
    pool: &PgPool,
    workflow_id: i64,
    query: &TaskQuery,
) -> Result<Vec<TaskHead>, StoreError> {
    let (after_at, after_id) = query.after.unzip();
    let tasks = sqlx::query_as!(
        TaskHead,
        r#"
        SELECT id, clickup_task_id AS task_id, run_id, task_name, category, created_at, ended_by,
               winner_model, winner_score, total_iterations, feedback_kept
        FROM (
            SELECT * FROM tasks
            WHERE workflow_id = $1
              AND ($2::timestamptz IS NULL OR created_at >= $2)
              AND ($3::timestamptz IS NULL OR created_at < $3)
              AND ($4::text IS NULL OR clickup_task_id = $4)
              AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::bigint))
            ORDER BY created_at DESC, id DESC
            LIMIT $9) AS newest
        WHERE ($7::text IS NULL OR winner_model = $7)
          AND ($8::text IS NULL OR category = $8)
        ORDER BY created_at DESC, id DESC
        LIMIT $10
        "#,
        workflow_id,
        query.from,
        query.until,
        query.task_id,
        after_at,
        after_id,
        query.winner_model,
        query.category,
        TASKS_SEARCHED_MAX,
        TASKS_A_PAGE,
    )
    .fetch_all(pool)
    .await?;
    Ok(tasks)
}

/// The latest verdicts, latest first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn verdicts(
    pool: &PgPool,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<Experiment>, StoreError> {
    let mut connection = pool.acquire().await?;
    let mut all = experiments::all(&mut connection, workflow_id, None, limit).await?;
    all.retain(|experiment| experiment.status != "testing");
    Ok(all)
}

/// The experiments of one cycle, by model.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn experiments_of_cycle(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<Vec<ScoredExperiment>, StoreError> {
    let mut connection = pool.acquire().await?;
    let all = experiments::all(&mut connection, workflow_id, Some(cycle), i64::MAX).await?;
    let slots = experiments::slots(&mut connection, workflow_id, cycle, now).await?;
    let scores = |model: &str, watch| Scores {
        old: experiments::scores(&slots, model, watch, false),
        new: experiments::scores(&slots, model, watch, true),
    };
    Ok(all
        .into_iter()
        .map(|experiment| ScoredExperiment {
            test: scores(&experiment.model, false),
            probation: scores(&experiment.model, true),
            experiment,
        })
        .collect())
}

/// Insights, latest first: the newest of all, or those of one cycle.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insights(
    pool: &PgPool,
    workflow_id: i64,
    cycle: Option<i64>,
    limit: i64,
) -> Result<Vec<Insight>, StoreError> {
    let mut connection = pool.acquire().await?;
    let which = Which { cycle, ..Which::newest(limit) };
    learning::insights(&mut connection, workflow_id, which).await
}

/// Changes of config files, latest first: of every model or of one, in every cycle or in one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn config_changes(
    pool: &PgPool,
    workflow_id: i64,
    of: (Option<&str>, Option<i64>),
    limit: i64,
) -> Result<Vec<ConfigChange>, StoreError> {
    let mut connection = pool.acquire().await?;
    learning::config_changes(&mut connection, workflow_id, of, limit).await
}
