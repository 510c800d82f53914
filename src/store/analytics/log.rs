//! What the task log says: tasks and models by day, and their totals.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{AnalyticsQuery, ModelVersions};
use crate::store::StoreError;

/// Tasks, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct TaskTotals {
    /// Every task that was ever logged.
    pub total: i64,
    /// Those that came to an end without an error.
    pub completed: i64,
    /// Those that ended in an error.
    pub errored: i64,
    /// Those that fell silent.
    pub abandoned: i64,
    /// Those that have not ended yet.
    pub running: i64,
    /// Those that have a winning model.
    pub with_winner: i64,
    /// Those whose picture a person kept.
    pub kept: i64,
    /// Those whose picture a person deleted.
    pub deleted: i64,
    /// Those that retention removed before an analysis saw them.
    pub removed_unanalyzed: i64,
    /// Iterations until the end, on average.
    pub mean_iterations: Option<f64>,
    /// Time from start to end, on average, in seconds.
    pub mean_processing_seconds: Option<f64>,
}

/// The tasks that arrived on one day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct TaskDay {
    /// The day, in the workflow's time zone.
    pub day: NaiveDate,
    /// Every task.
    pub total: i64,
    /// Those that came to an end without an error.
    pub completed: i64,
    /// Those that ended in an error.
    pub errored: i64,
    /// Those that fell silent.
    pub abandoned: i64,
    /// Those that have not ended yet.
    pub running: i64,
    /// Those that have a winning model.
    pub with_winner: i64,
    /// Those whose picture a person kept.
    pub kept: i64,
    /// Those whose picture a person deleted.
    pub deleted: i64,
    /// Those that retention removed before an analysis saw them.
    pub removed_unanalyzed: i64,
    /// Iterations, added up over `iterations_tasks` tasks.
    pub iterations_sum: i64,
    /// Tasks whose iterations are known.
    pub iterations_tasks: i64,
    /// Milliseconds from start to end, added up over `processing_tasks` tasks.
    pub processing_sum_ms: i64,
    /// Tasks whose time is known.
    pub processing_tasks: i64,
    /// Iterations until the end, on average.
    pub mean_iterations: Option<f64>,
    /// Time from start to end, on average, in seconds.
    pub mean_processing_seconds: Option<f64>,
}

/// One model, all together.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelTotals {
    /// The model.
    pub model: String,
    /// True when the workflow has no version of it: it is logged without learning.
    pub observed: bool,
    /// Pictures tried.
    pub attempts: i64,
    /// Attempts with a score.
    pub scored: i64,
    /// Scores added up.
    pub score_sum: i64,
    /// The mean score.
    pub mean_score: Option<f64>,
    /// Scored attempts that the validator passed.
    pub passed: i64,
    /// Passed of scored, 0 to 1.
    pub pass_rate: Option<f64>,
    /// Tasks that it won.
    pub wins: i64,
    /// Won of all tasks that have a winner, 0 to 1.
    pub win_rate: Option<f64>,
}

/// One model on the tasks that arrived on one day.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelDay {
    /// The day, in the workflow's time zone.
    pub day: NaiveDate,
    /// The model.
    pub model: String,
    /// Pictures tried.
    pub attempts: i64,
    /// Attempts with a score.
    pub scored: i64,
    /// Scores added up.
    pub score_sum: i64,
    /// The mean score.
    pub mean_score: Option<f64>,
    /// Scored attempts that the validator passed.
    pub passed: i64,
    /// Tasks that it won.
    pub wins: i64,
}

/// `sum / count`, or none of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "sums stay far below 2^53, and it is a mean for people"
)]
pub(super) fn mean(sum: i64, count: i64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

pub(super) async fn task_days(
    connection: &mut PgConnection,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Vec<TaskDay>, StoreError> {
    let rows = sqlx::query!(
        r#"
        SELECT d.day AS "day!",
               sum(d.total)::bigint AS "total!",
               sum(d.completed)::bigint AS "completed!",
               sum(d.errored)::bigint AS "errored!",
               sum(d.abandoned)::bigint AS "abandoned!",
               sum(d.with_winner)::bigint AS "with_winner!",
               sum(d.iterations_sum)::bigint AS "iterations_sum!",
               sum(d.iterations_tasks)::bigint AS "iterations_tasks!",
               sum(d.processing_sum_ms)::bigint AS "processing_sum_ms!",
               sum(d.processing_tasks)::bigint AS "processing_tasks!",
               sum(d.kept)::bigint AS "kept!",
               sum(d.deleted)::bigint AS "deleted!",
               sum(d.removed_unanalyzed)::bigint AS "removed_unanalyzed!"
        FROM (
            SELECT f.day, f.tasks AS total, f.completed, f.errored, f.abandoned, f.with_winner,
                   f.iterations_sum, f.iterations_count AS iterations_tasks,
                   f.processing_ms_sum AS processing_sum_ms, f.processing_count AS processing_tasks,
                   f.kept, f.deleted, 0 AS removed_unanalyzed
            FROM task_day_figures f
            WHERE f.workflow_id = $1 AND f.day BETWEEN $2 AND $3
              AND ($4::text IS NULL OR f.category = $4)
            UNION ALL
            SELECT a.day, a.tasks, a.completed, a.errored, a.abandoned, a.with_winner,
                   a.iterations_sum, a.iterations_count, a.processing_ms_sum, a.processing_count,
                   a.kept, a.deleted, a.unanalyzed
            FROM archived_task_days a
            WHERE a.workflow_id = $1 AND a.day BETWEEN $2 AND $3
              AND ($4::text IS NULL OR a.category = $4)
        ) AS d
        GROUP BY d.day
        ORDER BY d.day
        "#,
        workflow_id,
        query.first_day(),
        query.last_day(),
        query.category,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TaskDay {
            day: row.day,
            total: row.total,
            completed: row.completed,
            errored: row.errored,
            abandoned: row.abandoned,
            running: row.total - row.completed - row.errored - row.abandoned,
            with_winner: row.with_winner,
            kept: row.kept,
            deleted: row.deleted,
            removed_unanalyzed: row.removed_unanalyzed,
            iterations_sum: row.iterations_sum,
            iterations_tasks: row.iterations_tasks,
            processing_sum_ms: row.processing_sum_ms,
            processing_tasks: row.processing_tasks,
            mean_iterations: mean(row.iterations_sum, row.iterations_tasks),
            mean_processing_seconds: mean(row.processing_sum_ms, row.processing_tasks)
                .map(|mean_ms| mean_ms / 1000.0),
        })
        .collect())
}

pub(super) async fn model_days(
    connection: &mut PgConnection,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Vec<ModelDay>, StoreError> {
    let rows = sqlx::query!(
        r#"
        SELECT d.day AS "day!", d.model_name AS "model!",
               sum(d.attempts)::bigint AS "attempts!",
               sum(d.scored)::bigint AS "scored!",
               sum(d.score_sum)::bigint AS "score_sum!",
               sum(d.passed)::bigint AS "passed!",
               sum(d.wins)::bigint AS "wins!"
        FROM (
            SELECT f.day, f.model_name, f.attempts, f.scored, f.score_sum, f.passed, f.wins
            FROM model_day_figures f
            WHERE f.workflow_id = $1 AND f.day BETWEEN $2 AND $3
              AND ($4::text IS NULL OR f.category = $4)
            UNION ALL
            SELECT a.day, a.model_name, a.attempts, a.scored, a.score_sum, a.passed, a.wins
            FROM archived_model_days a
            WHERE a.workflow_id = $1 AND a.day BETWEEN $2 AND $3
              AND ($4::text IS NULL OR a.category = $4)
        ) AS d
        GROUP BY d.day, d.model_name
        ORDER BY d.day, d.model_name
        "#,
        workflow_id,
        query.first_day(),
        query.last_day(),
        query.category,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ModelDay {
            day: row.day,
            model: row.model,
            attempts: row.attempts,
            scored: row.scored,
            score_sum: row.score_sum,
            mean_score: mean(row.score_sum, row.scored),
            passed: row.passed,
            wins: row.wins,
        })
        .collect())
}

/// Every category that has a day, by name; tasks without one are of the empty one.
pub(super) async fn categories(
    connection: &mut PgConnection,
    workflow_id: i64,
) -> Result<Vec<String>, StoreError> {
    let categories = sqlx::query_scalar!(
        r#"
        SELECT category AS "category!" FROM task_day_figures WHERE workflow_id = $1
        UNION
        SELECT category FROM archived_task_days WHERE workflow_id = $1
        ORDER BY 1
        "#,
        workflow_id,
    )
    .fetch_all(connection)
    .await?;
    Ok(categories)
}

/// When the figures were last brought up to date; none before the first time.
pub(super) async fn refreshed_at(
    connection: &mut PgConnection,
    workflow_id: i64,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let at = sqlx::query_scalar!(
        "SELECT refreshed_at FROM figure_states WHERE workflow_id = $1 AND version > 0",
        workflow_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(at)
}

pub(super) fn task_totals(days: &[TaskDay]) -> TaskTotals {
    let sum = |of: fn(&TaskDay) -> i64| days.iter().map(of).sum::<i64>();
    let processing_ms = mean(sum(|day| day.processing_sum_ms), sum(|day| day.processing_tasks));
    TaskTotals {
        total: sum(|day| day.total),
        completed: sum(|day| day.completed),
        errored: sum(|day| day.errored),
        abandoned: sum(|day| day.abandoned),
        running: sum(|day| day.running),
        with_winner: sum(|day| day.with_winner),
        kept: sum(|day| day.kept),
        deleted: sum(|day| day.deleted),
        removed_unanalyzed: sum(|day| day.removed_unanalyzed),
        mean_iterations: mean(sum(|day| day.iterations_sum), sum(|day| day.iterations_tasks)),
        mean_processing_seconds: processing_ms.map(|mean_ms| mean_ms / 1000.0),
    }
}

/// Adds the days up. A model that has a version is listed even before its first attempt.
pub(super) fn model_totals(days: &[ModelDay], versions: &[ModelVersions]) -> Vec<ModelTotals> {
    let mut totals: BTreeMap<&str, ModelTotals> = versions
        .iter()
        .map(|known| (known.model.as_str(), no_attempts(&known.model, false)))
        .collect();
    for day in days {
        let total = totals.entry(&day.model).or_insert_with(|| no_attempts(&day.model, true));
        total.attempts += day.attempts;
        total.scored += day.scored;
        total.score_sum += day.score_sum;
        total.passed += day.passed;
        total.wins += day.wins;
    }
    let wins = totals.values().map(|total| total.wins).sum();
    totals
        .into_values()
        .map(|total| ModelTotals {
            mean_score: mean(total.score_sum, total.scored),
            pass_rate: mean(total.passed, total.scored),
            win_rate: mean(total.wins, wins),
            ..total
        })
        .collect()
}

fn no_attempts(model: &str, observed: bool) -> ModelTotals {
    ModelTotals {
        model: model.to_owned(),
        observed,
        attempts: 0,
        scored: 0,
        score_sum: 0,
        mean_score: None,
        passed: 0,
        pass_rate: None,
        wins: 0,
        win_rate: None,
    }
}
