//! The standing watch over adopted versions: opening, advancing, ending.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;

use super::StoreError;

/// Runs that one transaction takes at most.
const RUNS_MAX: i64 = 500;

/// A watch as stored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WatchRow {
    /// The cycle that adopted the version.
    pub cycle: i64,
    /// The image model.
    pub model_name: String,
    /// The version that is watched.
    pub version: i32,
    /// Sum of its predecessor's counted scores in the test.
    pub reference_sum: i32,
    /// Number of them.
    pub reference_count: i32,
    /// How far below their mean the version may stay.
    pub tolerance_basis_points: i32,
    /// Arrival of the last run that was taken.
    pub taken_at: DateTime<Utc>,
    /// Its row.
    pub taken_task_id: i64,
    /// Scores so far.
    pub scores: i32,
    /// Their sum.
    pub score_sum: i64,
    /// The judge's model, once a score came.
    pub judge_model: Option<String>,
    /// The version of the judge's prompt.
    pub judge_prompt_version: Option<String>,
    /// The stakes, in natural logarithms.
    #[serde(skip)]
    pub log_stakes: Vec<f64>,
    /// The evidence of harm, in natural logarithm.
    pub log_e: f64,
    /// When the watch opened.
    pub opened_at: DateTime<Utc>,
    /// When it first found harm.
    pub alarmed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// replaced or `judge_changed`.
    pub ended_because: Option<String>,
}

/// A run that arrived while a version was watched, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its row.
    pub task_id: i64,
    /// Its arrival.
    pub created_at: DateTime<Utc>,
    /// False while it still may report.
    pub ended: bool,
    /// What its first picture by the watched version scored; 0 where the prompt was at fault, and none where it
    /// has no such picture or no score.
    pub score: Option<i32>,
    /// Who gave the score: model and prompt version, empty where the event named none. None for a 0 that stands
    /// for a failed attempt.
    pub judge: Option<(String, String)>,
}

/// True when a watch is missing or outlived its version.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn differ(pool: &PgPool, workflow_id: i64) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
                  SELECT FROM watches w
                   WHERE w.workflow_id = $1 AND w.ended_at IS NULL
                     AND NOT EXISTS (
                         SELECT FROM prompt_versions v
                          WHERE v.workflow_id = $1 AND v.model_name = w.model_name
                            AND v.version = w.version AND v.is_active))
               OR EXISTS (
                  SELECT FROM prompt_versions v
                    JOIN experiments e
                      ON e.workflow_id = v.workflow_id AND e.cycle = v.cycle
                     AND e.model_name = v.model_name AND e.candidate_version = v.version
                   WHERE v.workflow_id = $1 AND v.is_active AND e.status = 'adopted'
                     AND e.control_count > 0
                     AND NOT EXISTS (
                         SELECT FROM watches w
                          WHERE w.workflow_id = $1 AND w.cycle = e.cycle
                            AND w.model_name = e.model_name)) AS "differ!""#,
        workflow_id
    )
    .fetch_one(pool)
    .await?)
}

/// Ends the watches whose version no longer serves, and opens one for each version that serves since a
/// cycle adopted it and was never watched. Twice is as good as once.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn settle(
    conn: &mut PgConnection,
    workflow_id: i64,
    tolerance_basis_points: i32,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE watches w SET ended_at = $2, ended_because = 'replaced'
          WHERE w.workflow_id = $1 AND w.ended_at IS NULL
            AND NOT EXISTS (
                SELECT FROM prompt_versions v
                 WHERE v.workflow_id = $1 AND v.model_name = w.model_name AND v.version = w.version
                   AND v.is_active)",
        workflow_id,
        now
    )
    .execute(&mut *conn)
    .await?;
    // Runs that arrived after the verdict: those before it belong to the test, or to the old version. The judge is
    // the test's own, for its scores are what later ones are held against.
    sqlx::query!(
        "INSERT INTO watches (workflow_id, cycle, model_name, version, reference_sum, reference_count,
                tolerance_basis_points, taken_at, taken_task_id, judge_model, judge_prompt_version,
                log_stakes, opened_at)
         SELECT e.workflow_id, e.cycle, e.model_name, e.candidate_version, e.control_sum,
                e.control_count, $2, e.decided_at, 9223372036854775807, j.judge_model, j.judge_prompt_version,
                array_fill(0::float8, ARRAY[9]), $3
           FROM prompt_versions v
           JOIN experiments e
             ON e.workflow_id = v.workflow_id AND e.cycle = v.cycle
            AND e.model_name = v.model_name AND e.candidate_version = v.version
           LEFT JOIN LATERAL (
                SELECT coalesce(a.judge_model, '') AS judge_model,
                       coalesce(a.judge_prompt_version, '') AS judge_prompt_version
                  FROM deck_slots s
                  JOIN tasks t
                    ON t.workflow_id = s.workflow_id AND t.clickup_task_id = s.clickup_task_id
                   AND t.run_id = s.run_id
                  JOIN attempts a
                    ON a.workflow_id = t.workflow_id AND a.task_id = t.id
                   AND a.model_name = s.model_name AND a.iteration = 1
                 WHERE s.workflow_id = e.workflow_id AND s.cycle = e.cycle
                   AND s.model_name = e.model_name AND s.phase = 'test'
                   AND a.validation_score IS NOT NULL
                 LIMIT 1) j ON true
          WHERE v.workflow_id = $1 AND v.is_active AND e.status = 'adopted' AND e.control_count > 0
         ON CONFLICT DO NOTHING",
        workflow_id,
        tolerance_basis_points,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The watches of a workflow, the latest first; all that are open, and the last so many that ended.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<WatchRow>, StoreError> {
    Ok(sqlx::query_as!(
        WatchRow,
        r#"SELECT cycle AS "cycle!", model_name AS "model_name!", version AS "version!",
                reference_sum AS "reference_sum!", reference_count AS "reference_count!",
                tolerance_basis_points AS "tolerance_basis_points!", taken_at AS "taken_at!",
                taken_task_id AS "taken_task_id!", scores AS "scores!", score_sum AS "score_sum!",
                judge_model, judge_prompt_version, log_stakes AS "log_stakes!", log_e AS "log_e!",
                opened_at AS "opened_at!", alarmed_at, ended_at, ended_because
           FROM (
                SELECT * FROM watches WHERE workflow_id = $1 AND ended_at IS NULL
                UNION ALL
                (SELECT * FROM watches WHERE workflow_id = $1 AND ended_at IS NOT NULL
                  ORDER BY cycle DESC, model_name LIMIT $2)) AS listed
          ORDER BY (ended_at IS NULL) DESC, cycle DESC, model_name LIMIT $2"#,
        workflow_id,
        limit
    )
    .fetch_all(executor)
    .await?)
}

/// Locks one open watch; none where it ended, or where another replica has it in hand.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<Option<WatchRow>, StoreError> {
    Ok(sqlx::query_as!(
        WatchRow,
        "SELECT cycle, model_name, version, reference_sum, reference_count, tolerance_basis_points,
                taken_at, taken_task_id, scores, score_sum, judge_model, judge_prompt_version,
                log_stakes, log_e, opened_at, alarmed_at, ended_at, ended_because
           FROM watches
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND ended_at IS NULL
            FOR UPDATE SKIP LOCKED",
        workflow_id,
        cycle,
        model
    )
    .fetch_optional(conn)
    .await?)
}

/// The next runs after those that were taken, in the order of their arrival, up to a moment.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn next_runs(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    watch: &WatchRow,
    arrived_before: DateTime<Utc>,
) -> Result<Vec<Run>, StoreError> {
    // A scan of tasks_by_age from the last run taken. Imported history is nobody's score of today.
    let rows = sqlx::query!(
        r#"SELECT t.id, t.created_at, (t.ended_at IS NOT NULL) AS "ended!",
                  CASE WHEN a.validation_score IS NULL AND a.error_fault = 'prompt' THEN 0
                       ELSE a.validation_score END AS "score?",
                  (a.validation_score IS NOT NULL) AS "judged?",
                  coalesce(a.judge_model, '') AS "judge_model!",
                  coalesce(a.judge_prompt_version, '') AS "judge_prompt_version!"
             FROM tasks t
             LEFT JOIN attempts a
               ON a.workflow_id = t.workflow_id AND a.task_id = t.id AND a.model_name = $2
              AND a.iteration = 1 AND a.prompt_version = $3
            WHERE t.workflow_id = $1 AND t.created_at >= $4 AND (t.created_at, t.id) > ($4, $5)
              AND t.created_at < $6 AND t.analyzed_in_cycle IS DISTINCT FROM 0
            ORDER BY t.created_at, t.id
            LIMIT $7"#,
        workflow_id,
        watch.model_name,
        watch.version,
        watch.taken_at,
        watch.taken_task_id,
        arrived_before,
        RUNS_MAX
    )
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Run {
            task_id: row.id,
            created_at: row.created_at,
            ended: row.ended,
            score: row.score,
            judge: row
                .judged
                .unwrap_or(false)
                .then_some((row.judge_model, row.judge_prompt_version)),
        })
        .collect())
}

/// True while a watch that has raised its alarm is open and its version serves.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn alarmed_and_serving(
    conn: &mut PgConnection,
    workflow_id: i64,
    watch: &WatchRow,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM watches w
                 JOIN prompt_versions v
                   ON v.workflow_id = w.workflow_id AND v.model_name = w.model_name
                  AND v.version = w.version AND v.is_active
                WHERE w.workflow_id = $1 AND w.cycle = $2 AND w.model_name = $3
                  AND w.alarmed_at IS NOT NULL AND w.ended_at IS NULL) AS "alarmed!""#,
        workflow_id,
        watch.cycle,
        watch.model_name
    )
    .fetch_one(conn)
    .await?)
}

/// Stores what a locked watch has become.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn save(
    conn: &mut PgConnection,
    workflow_id: i64,
    watch: &WatchRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE watches
            SET taken_at = $4, taken_task_id = $5, scores = $6, score_sum = $7, judge_model = $8,
                judge_prompt_version = $9, log_stakes = $10, log_e = $11, alarmed_at = $12,
                ended_at = $13, ended_because = $14
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND ended_at IS NULL",
        workflow_id,
        watch.cycle,
        watch.model_name,
        watch.taken_at,
        watch.taken_task_id,
        watch.scores,
        watch.score_sum,
        watch.judge_model,
        watch.judge_prompt_version,
        &watch.log_stakes,
        watch.log_e,
        watch.alarmed_at,
        watch.ended_at,
        watch.ended_because
    )
    .execute(conn)
    .await?;
    Ok(())
}
