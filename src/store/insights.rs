//! Analyses and their insights, which live on: each next analysis confirms, weakens or retires them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;

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
    /// Tasks of the window that show it; every one exists. Without any, nothing may rest on the insight.
    pub example_task_ids: Vec<String>,
    /// What to change about the prompts.
    pub suggested_change: String,
}

/// What an analysis says of an earlier insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJudgement {
    /// The insight's row.
    pub insight_id: i64,
    /// `confirmed`, `weakened` or `retired`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// Tasks of the window that show it; at least one, and every one exists.
    pub example_task_ids: Vec<String>,
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
    /// Judgements that rest on nothing, and so were not taken.
    pub judgements_dropped: i32,
    /// The insights, in the order of the answer.
    pub insights: Vec<NewInsight>,
    /// What it says of earlier insights, at most once of each.
    pub judgements: Vec<NewJudgement>,
}

/// An insight as stored, with what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
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
    /// `new`, `unsupported`, `confirmed`, `weakened` or `retired`.
    pub standing: String,
    /// Later analyses that confirmed it.
    pub confirmed: i32,
    /// Later analyses that weakened it.
    pub weakened: i32,
    /// The last cycle whose analysis judged it.
    pub judged_in_cycle: Option<i64>,
    /// Candidates that rested on it and were adopted for good, so far: not before a probation has kept them.
    pub helpful: i64,
    /// Candidates that rested on it and scored worse than what they were to replace, or were adopted and taken
    /// back by their guard: by their probation, or after an alarm of the standing watch.
    pub harmful: i64,
    /// When it was found.
    pub created_at: DateTime<Utc>,
}

impl InsightRow {
    /// The name by which people, prompts and versions speak of it: cycle and ordinal, such as `4.2`.
    #[must_use]
    pub fn handle(&self) -> String {
        format!("{}.{}", self.cycle, self.ordinal)
    }

    /// The name by which a version of this cycle speaks of it: the ordinal alone for the cycle's own.
    #[must_use]
    pub fn name_in(&self, cycle: i64) -> String {
        if self.cycle == cycle { self.ordinal.to_string() } else { self.handle() }
    }
}

/// So many standing insights a candidate may rest on, those found or judged last. Their evidence outlives its time, since
/// what a candidate copies is held against it.
pub const STANDING_MAX: i64 = 60;

/// Which insights are read.
#[derive(Debug, Clone, Copy)]
pub struct Which<'w> {
    /// Of this cycle only.
    pub cycle: Option<i64>,
    /// Of these rows only.
    pub ids: Option<&'w [i64]>,
    /// Only those that stand: new, confirmed or weakened.
    pub living: bool,
    /// At most so many: those that were found or judged last.
    pub limit: i64,
}

impl Which<'_> {
    /// All insights, the newest so many.
    #[must_use]
    pub fn newest(limit: i64) -> Self {
        Self { cycle: None, ids: None, living: false, limit }
    }
}

/// Stores an analysis with its insights and judgements, in the transaction of its transition.
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
                recommendations, evidence_dropped, judgements_dropped, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        workflow_id,
        cycle,
        analysis.tasks_analyzed,
        analysis.tasks_shown,
        analysis.summary,
        analysis.model_insights,
        analysis.recommendations,
        analysis.evidence_dropped,
        analysis.judgements_dropped,
        now
    )
    .execute(&mut *conn)
    .await?;
    for (ordinal, insight) in (1_i32..).zip(&analysis.insights) {
        sqlx::query!(
            "INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description,
                    confidence_score, tasks_analyzed, example_task_ids, suggested_change, standing, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                     CASE WHEN cardinality($9::text[]) = 0 THEN 'unsupported' ELSE 'new' END, $11)",
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
    for judgement in &analysis.judgements {
        judge(&mut *conn, workflow_id, cycle, judgement, now).await?;
    }
    Ok(())
}

/// A retired insight stays retired: nothing shows it to an analysis again, so none can judge it again.
async fn judge(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    judgement: &NewJudgement,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO insight_judgements (workflow_id, cycle, insight_id, verdict, reason, example_task_ids,
                created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        workflow_id,
        cycle,
        judgement.insight_id,
        judgement.verdict,
        judgement.reason,
        &judgement.example_task_ids,
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE insights
            SET standing = $3, judged_in_cycle = $4,
                confirmed = confirmed + ($3 = 'confirmed')::int,
                weakened = weakened + ($3 = 'weakened')::int
          WHERE workflow_id = $1 AND id = $2",
        workflow_id,
        judgement.insight_id,
        judgement.verdict,
        cycle
    )
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// The insights that are asked for, those found last first.
///
/// Helpful and harmful are counted anew each time, from the verdicts themselves, so they cannot disagree with
/// them. A version names an insight of its own cycle by the ordinal, an earlier one by its handle.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn read(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    which: Which<'_>,
) -> Result<Vec<InsightRow>, StoreError> {
    let mut rows = sqlx::query_as!(
        InsightRow,
        r#"
        WITH chosen AS MATERIALIZED (
            SELECT *, cycle || '.' || ordinal AS handle
              FROM insights
             WHERE workflow_id = $1
               AND ($2::bigint IS NULL OR cycle = $2)
               AND ($3::bigint[] IS NULL OR id = ANY($3))
               AND (NOT $4 OR standing IN ('new', 'confirmed', 'weakened'))
             ORDER BY coalesce(judged_in_cycle, cycle) DESC, id DESC
             LIMIT $5),
        -- The versions that rest on them, each tested in the cycle that made it.
        tested AS MATERIALIZED (
            SELECT v.cycle, v.based_on, outcome.helpful, outcome.harmful
              FROM prompt_versions v
             CROSS JOIN LATERAL (
                 SELECT -- For good: its probation is over and kept it; without one, once its files are written.
                        e.status = 'adopted' AND back.by_guard IS NULL
                            AND coalesce(p.status = 'kept', applied.is_done) AS helpful,
                        -- Taken back by a person says nothing of the prompt; by its guard, it does.
                        (e.status = 'adopted' AND back.by_guard)
                            OR (e.status = 'rejected'
                                AND e.candidate_sum::bigint * e.control_count
                                  < e.control_sum::bigint * e.candidate_count) AS harmful
                   FROM experiments e
                   LEFT JOIN probations p ON p.workflow_id = e.workflow_id AND p.cycle = e.cycle
                                         AND p.model_name = e.model_name
                   CROSS JOIN LATERAL (
                       SELECT EXISTS (
                           SELECT FROM config_changes c
                            WHERE c.workflow_id = e.workflow_id AND c.cycle = e.cycle
                              AND c.model_name = e.model_name AND c.kind = 'apply' AND c.status = 'done'
                       ) AS is_done
                   ) AS applied
                   LEFT JOIN LATERAL (
                       SELECT bool_or(c.kind = 'roll_back' OR c.changed_by = 'mathesis') AS by_guard
                         FROM config_changes c
                        WHERE c.workflow_id = e.workflow_id AND c.model_name = e.model_name
                          AND c.status <> 'dropped'
                          AND ((c.kind = 'revert' AND c.cycle = e.cycle)
                               -- The standing watch is a guard, too: by itself, or by whoever heeds its alarm.
                               -- It acts in whatever cycle is open by then.
                               OR (c.kind = 'roll_back' AND c.from_version = e.candidate_version
                                   AND (c.changed_by = 'mathesis' OR EXISTS (
                                       SELECT FROM watches w
                                        WHERE w.workflow_id = e.workflow_id AND w.cycle = e.cycle
                                          AND w.model_name = e.model_name
                                          AND w.alarmed_at <= c.intended_at))))
                   ) AS back ON true
                  WHERE e.workflow_id = v.workflow_id AND e.cycle = v.cycle AND e.model_name = v.model_name
                    AND e.candidate_version = v.version
                 -- Asked version by version: the planner thinks that far more rest on them, and would read all experiments.
                 OFFSET 0) AS outcome
             WHERE v.workflow_id = $1
               AND (v.based_on ?| (SELECT array_agg(handle) FROM chosen)
                    OR v.cycle = ANY ((SELECT array_agg(cycle) FROM chosen)::bigint[]))),
        tried AS MATERIALIZED (
            SELECT named.handle, count(*) FILTER (WHERE helpful) AS helpful,
                   count(*) FILTER (WHERE harmful) AS harmful
              FROM tested
             CROSS JOIN LATERAL (
                 SELECT DISTINCT CASE WHEN strpos(name, '.') = 0 THEN tested.cycle || '.' || name ELSE name END
                   FROM jsonb_array_elements_text(tested.based_on) AS name) AS named (handle)
             GROUP BY named.handle)
        SELECT i.id AS "id!", i.cycle AS "cycle!", i.ordinal AS "ordinal!", i.insight_type AS "insight_type!",
               i.model_name AS "model_name!", i.description AS "description!",
               i.confidence_score AS "confidence_score!", i.tasks_analyzed AS "tasks_analyzed!",
               i.example_task_ids AS "example_task_ids!", i.suggested_change AS "suggested_change!",
               i.applied AS "applied!", i.standing AS "standing!", i.confirmed AS "confirmed!",
               i.weakened AS "weakened!", i.judged_in_cycle, coalesce(tried.helpful, 0) AS "helpful!",
               coalesce(tried.harmful, 0) AS "harmful!", i.created_at AS "created_at!"
          FROM chosen i
          LEFT JOIN tried ON tried.handle = i.handle
        "#,
        workflow_id,
        which.cycle,
        which.ids,
        which.living,
        which.limit
    )
    .fetch_all(executor)
    .await?;
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    Ok(rows)
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
    let which = Which { cycle: Some(cycle), ..Which::newest(i64::MAX) };
    let mut rows = read(pool, workflow_id, which).await?;
    rows.reverse();
    Ok(rows)
}

/// How many insights stand: new, confirmed or weakened.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn living(pool: &PgPool, workflow_id: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "living!" FROM insights
            WHERE workflow_id = $1 AND standing IN ('new', 'confirmed', 'weakened')"#,
        workflow_id
    )
    .fetch_one(pool)
    .await?)
}

/// An analysis as a person reads of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnalysisRow {
    /// Tasks in the window.
    pub tasks_analyzed: i32,
    /// Tasks that Claude was shown.
    pub tasks_shown: i32,
    /// What the window shows, in a few sentences.
    pub summary: String,
    /// Evidence that was named and is not in the window.
    pub evidence_dropped: i32,
    /// Judgements that rest on nothing, and so were not taken.
    pub judgements_dropped: i32,
    /// The request's length in tokens; none for an analysis from before it was kept.
    pub prompt_tokens: Option<i64>,
    /// `counted` or `estimated`.
    pub counted_by: Option<String>,
    /// Why it was estimated.
    pub because: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// The analysis of a cycle.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn analysis(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Option<AnalysisRow>, StoreError> {
    Ok(sqlx::query_as!(
        AnalysisRow,
        r#"SELECT a.tasks_analyzed, a.tasks_shown, a.summary, a.evidence_dropped, a.judgements_dropped,
                  p.prompt_tokens AS "prompt_tokens?", p.counted_by AS "counted_by?", p.because AS "because?",
                  a.created_at
             FROM analyses a
             LEFT JOIN analysis_plans p ON p.workflow_id = a.workflow_id AND p.cycle = a.cycle
            WHERE a.workflow_id = $1 AND a.cycle = $2"#,
        workflow_id,
        cycle
    )
    .fetch_optional(pool)
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

/// Marks the insights that an adopted version rests on. Ordinals start anew in each cycle, so a bare one means
/// one of the version's own cycle.
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
        r"UPDATE insights i SET applied = true
           FROM prompt_versions v, jsonb_array_elements_text(v.based_on) AS basis (name)
          WHERE v.workflow_id = $1 AND v.model_name = $2 AND v.version = $3
            AND i.workflow_id = $1
            -- Named by cycle and ordinal, or by the ordinal alone in the version's own cycle.
            AND i.cycle = CASE
                    WHEN basis.name ~ '^\d{1,18}\.\d{1,9}$' THEN split_part(basis.name, '.', 1)::bigint
                    ELSE v.cycle END
            AND i.ordinal = CASE
                    WHEN basis.name ~ '^\d{1,18}\.\d{1,9}$' THEN split_part(basis.name, '.', 2)::int
                    WHEN basis.name ~ '^\d{1,9}$' THEN basis.name::int END",
        workflow_id,
        model,
        version
    )
    .execute(conn)
    .await?;
    Ok(())
}
