//! What the learning layer says: the cycle, its holds, versions, insights and cost.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{AnalyticsQuery, VERSIONS_MAX};
use crate::store::StoreError;
use crate::store::insights::{self, InsightRow, Which};

/// How many waiting tasks are counted before the count stops, so that it stays a bounded index scan.
const WAITING_COUNTED_MAX: i64 = 10_000;
/// How many activations are marked in a range.
const ACTIVATIONS_MAX: i64 = 200;

/// The cycle that is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OpenCycle {
    /// Its number within the workflow.
    pub number: i64,
    /// Its state, as stored.
    pub state: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// Completed tasks that no analysis has taken yet; counting stops at 10,000.
    pub waiting_tasks: i64,
    /// Those of them that ended in the latest day, or since the state began where that is later.
    pub waiting_lately: i64,
    /// Completed tasks that start an analysis.
    pub trigger_tasks: u32,
    /// Every change of state that the cycle made, each once, in the order of their first times.
    pub passed: Vec<Passed>,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PassedState)]
pub struct Passed {
    /// The state left.
    pub from: String,
    /// The state entered.
    pub to: String,
}

/// Why something stands still, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = StandingHold)]
pub struct Hold {
    /// The kind of hold, as stored.
    pub kind: String,
    /// What tells it from others of its kind: a stage, a model, an effect; may be empty.
    pub subject: String,
    /// The stable code of the reason.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// What to do, in words.
    pub remedy: String,
    /// Since when.
    pub placed_at: DateTime<Utc>,
    /// Who placed it.
    pub placed_by: String,
    /// True when it stands on the workflow, across its cycles.
    pub workflow_wide: bool,
}

/// A pattern that Claude found, with the tasks that show it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = InsightSummary)]
pub struct Insight {
    /// Cycle and ordinal, such as `4.2`: the name by which prompts and versions speak of it.
    pub id: String,
    /// The cycle whose analysis found it.
    pub cycle: i64,
    /// `prompt_pattern`, `model_strength` or `failure_mode`.
    pub insight_type: String,
    /// The model, or `all`.
    pub model: String,
    /// What was found.
    pub description: String,
    /// How sure Claude is, 0 to 1.
    pub confidence: f64,
    /// Tasks in the window.
    pub tasks_analyzed: i32,
    /// Tasks that show it.
    pub example_task_ids: Vec<String>,
    /// What to change.
    pub suggested_change: String,
    /// True once a version that was built on it is active.
    pub applied: bool,
    /// `new`, `unsupported`, `confirmed`, `weakened` or `retired`.
    pub standing: String,
    /// Later analyses that confirmed it.
    pub confirmed: i32,
    /// Later analyses that weakened it.
    pub weakened: i32,
    /// The last cycle whose analysis judged it.
    pub judged_in_cycle: Option<i64>,
    /// Candidates that rested on it and were adopted for good.
    pub helpful: i64,
    /// Candidates that rested on it and made things worse.
    pub harmful: i64,
    /// When it was found.
    pub created_at: DateTime<Utc>,
}

/// One model's versions.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelVersions {
    /// The model.
    pub model: String,
    /// How many there are: they are numbered from 1, and none is ever removed.
    pub count: i32,
    /// The latest 20 and the one that serves, latest first.
    pub versions: Vec<Version>,
}

/// One version of a model's prompts, without its texts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = VersionSummary)]
pub struct Version {
    /// Its number, from 1.
    pub version: i32,
    /// True for the one that tasks get.
    pub active: bool,
    /// The version that it was made from.
    pub parent_version: Option<i32>,
    /// The mean score in its test.
    pub a_b_test_score: Option<f64>,
    /// Scores in its test.
    pub tasks_tested: Option<i32>,
    /// The cycle that made it; none for one that came from the files.
    pub cycle: Option<i64>,
    /// What it changes.
    pub summary: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

/// One change of a model's config files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigChange {
    /// The model.
    pub model: String,
    /// `first_start`, `apply`, `revert`, `roll_back` or `repair`.
    pub kind: String,
    /// The version before.
    pub from_version: Option<i32>,
    /// The version after.
    pub to_version: i32,
    /// The cycle that wanted it.
    pub cycle: Option<i64>,
    /// `intended`, `done` or `dropped`.
    pub status: String,
    /// The backup's name.
    pub backup_name: String,
    /// Where the backup lies, once it is made.
    pub backup_path: Option<String>,
    /// What changed.
    pub summary: String,
    /// Who changed it.
    pub changed_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was decided.
    pub intended_at: DateTime<Utc>,
    /// When files and database agreed.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A version became active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Activation {
    /// The day, in the workflow's time zone.
    pub day: NaiveDate,
    /// When.
    pub at: DateTime<Utc>,
    /// The model.
    pub model: String,
    /// The version.
    pub version: i32,
    /// How: `first_start`, `apply`, `revert` or `roll_back`.
    pub kind: String,
}

/// What Claude cost this month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MonthSpent)]
pub struct Cost {
    /// The month's first day, in the workflow's time zone.
    pub month: NaiveDate,
    /// Paid calls.
    pub calls: i64,
    /// What they cost, in US dollars. A call without a known cost counts with its estimate.
    pub spent_usd: Decimal,
    /// The part of it that is estimated.
    pub estimated_usd: Decimal,
    /// What the month may cost, in US dollars.
    pub budget_usd: Option<Decimal>,
}

pub(super) async fn open_cycle(
    connection: &mut PgConnection,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Option<OpenCycle>, StoreError> {
    let row = sqlx::query!(
        r#"
        SELECT c.number, c.state, c.opened_at, c.state_entered_at,
               (SELECT count(*) FROM (
                    SELECT FROM tasks t
                    WHERE t.workflow_id = $1
                      AND t.analyzed_in_cycle IS NULL
                      AND t.ended_by IN ('completed', 'winner', 'error')
                    LIMIT $2) AS waiting) AS "waiting_tasks!",
               (SELECT count(*) FROM (
                    SELECT FROM tasks t
                    WHERE t.workflow_id = $1
                      AND t.analyzed_in_cycle IS NULL
                      AND t.ended_by IN ('completed', 'winner', 'error')
                      AND t.ended_at > greatest(c.state_entered_at, $3::timestamptz - interval '1 day')
                    LIMIT $2) AS waiting) AS "waiting_lately!"
        FROM cycles c
        WHERE c.workflow_id = $1
          AND c.state NOT IN ('applied', 'rejected', 'rolled_back', 'cancelled')
        "#,
        workflow_id,
        WAITING_COUNTED_MAX,
        query.now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OpenCycle {
        passed: passed(connection, workflow_id, row.number).await?,
        number: row.number,
        state: row.state,
        opened_at: row.opened_at,
        since: row.state_entered_at,
        waiting_tasks: row.waiting_tasks,
        waiting_lately: row.waiting_lately,
        trigger_tasks: query.trigger_tasks,
    }))
}

/// Every change of state that a cycle made, each once.
async fn passed(
    connection: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<Passed>, StoreError> {
    let passed = sqlx::query_as!(
        Passed,
        r#"
        SELECT from_state AS "from", to_state AS "to"
        FROM cycle_transitions
        WHERE workflow_id = $1 AND cycle = $2 AND from_state <> to_state
        GROUP BY from_state, to_state
        ORDER BY min(seq)
        "#,
        workflow_id,
        cycle,
    )
    .fetch_all(connection)
    .await?;
    Ok(passed)
}

pub(super) async fn holds(
    connection: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<Hold>, StoreError> {
    let holds = sqlx::query_as!(
        Hold,
        r#"
        SELECT kind, subject, code, reason, remedy, placed_at, placed_by,
               cycle IS NULL AS "workflow_wide!"
        FROM holds
        WHERE workflow_id = $1 AND lifted_at IS NULL AND coalesce(cycle, 0) IN (0, $2)
        ORDER BY placed_at, hold_id
        "#,
        workflow_id,
        cycle,
    )
    .fetch_all(connection)
    .await?;
    Ok(holds)
}

pub(super) async fn insights(
    connection: &mut PgConnection,
    workflow_id: i64,
    which: Which<'_>,
) -> Result<Vec<Insight>, StoreError> {
    let mut rows = insights::read(connection, workflow_id, which).await?;
    rows.sort_by_key(|row| (std::cmp::Reverse(row.cycle), row.ordinal));
    Ok(rows.into_iter().map(Insight::from).collect())
}

impl From<InsightRow> for Insight {
    fn from(row: InsightRow) -> Self {
        Self {
            id: row.handle(),
            cycle: row.cycle,
            insight_type: row.insight_type,
            model: row.model_name,
            description: row.description,
            confidence: row.confidence_score,
            tasks_analyzed: row.tasks_analyzed,
            example_task_ids: row.example_task_ids,
            suggested_change: row.suggested_change,
            applied: row.applied,
            standing: row.standing,
            confirmed: row.confirmed,
            weakened: row.weakened,
            judged_in_cycle: row.judged_in_cycle,
            helpful: row.helpful,
            harmful: row.harmful,
            created_at: row.created_at,
        }
    }
}

/// The latest versions of each model, and the one that serves. Every model has one that does.
pub(super) async fn versions(
    connection: &mut PgConnection,
    workflow_id: i64,
) -> Result<Vec<ModelVersions>, StoreError> {
    let rows = sqlx::query!(
        r#"
        SELECT shown.model_name AS "model_name!", shown.version AS "version!", shown.is_active AS "is_active!",
               shown.parent_version, shown.a_b_test_score, shown.tasks_tested, shown.cycle,
               shown.summary AS "summary!", shown.created_at AS "created_at!", shown.created_by AS "created_by!"
        FROM prompt_versions AS serving
        CROSS JOIN LATERAL (
            (SELECT v.model_name, v.version, v.is_active, v.parent_version, v.a_b_test_score, v.tasks_tested,
                    v.cycle, v.summary, v.created_at, v.created_by
             FROM prompt_versions v
             WHERE v.workflow_id = serving.workflow_id AND v.model_name = serving.model_name
             ORDER BY v.version DESC
             LIMIT $2)
            UNION
            SELECT serving.model_name, serving.version, serving.is_active, serving.parent_version,
                   serving.a_b_test_score, serving.tasks_tested, serving.cycle, serving.summary,
                   serving.created_at, serving.created_by) AS shown
        WHERE serving.workflow_id = $1 AND serving.is_active
        ORDER BY shown.model_name, shown.version DESC
        "#,
        workflow_id,
        VERSIONS_MAX,
    )
    .fetch_all(connection)
    .await?;
    let mut models: Vec<ModelVersions> = Vec::new();
    for row in rows {
        let version = Version {
            version: row.version,
            active: row.is_active,
            parent_version: row.parent_version,
            a_b_test_score: row.a_b_test_score,
            tasks_tested: row.tasks_tested,
            cycle: row.cycle,
            summary: row.summary,
            created_at: row.created_at,
            created_by: row.created_by,
        };
        match models.last_mut() {
            Some(last) if last.model == row.model_name => last.versions.push(version),
            _ => models.push(ModelVersions {
                model: row.model_name,
                count: version.version,
                versions: vec![version],
            }),
        }
    }
    Ok(models)
}

pub(super) async fn config_changes(
    connection: &mut PgConnection,
    workflow_id: i64,
    (model, cycle): (Option<&str>, Option<i64>),
    limit: i64,
) -> Result<Vec<ConfigChange>, StoreError> {
    let changes = sqlx::query_as!(
        ConfigChange,
        r#"
        SELECT model_name AS model, kind, from_version, to_version, cycle, status, backup_name,
               backup_path, summary, changed_by, reason, intended_at, finished_at
        FROM config_changes
        WHERE workflow_id = $1
          AND ($2::text IS NULL OR model_name = $2)
          AND ($3::bigint IS NULL OR cycle = $3)
        ORDER BY id DESC
        LIMIT $4
        "#,
        workflow_id,
        model,
        cycle,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(changes)
}

/// The latest activations of the range, oldest first. A repair writes files, not a new version.
pub(super) async fn activations(
    connection: &mut PgConnection,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Vec<Activation>, StoreError> {
    let mut activations = sqlx::query_as!(
        Activation,
        r#"
        SELECT (finished_at AT TIME ZONE $2)::date AS "day!", finished_at AS "at!",
               model_name AS model, to_version AS version, kind
        FROM config_changes
        WHERE workflow_id = $1 AND status = 'done' AND kind <> 'repair'
          AND finished_at >= $3::date::timestamp AT TIME ZONE $2
          AND finished_at < ($4::date + 1)::timestamp AT TIME ZONE $2
        ORDER BY id DESC
        LIMIT $5
        "#,
        workflow_id,
        query.time_zone.name(),
        query.first_day(),
        query.last_day(),
        ACTIVATIONS_MAX,
    )
    .fetch_all(connection)
    .await?;
    activations.reverse();
    Ok(activations)
}

/// Adds up the calls that began in this month of the workflow's time zone. A known cost goes before
/// an estimate; a call without any outcome counts with the estimate that was made before it.
pub(super) async fn cost(
    connection: &mut PgConnection,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Cost, StoreError> {
    let row = sqlx::query!(
        r#"
        SELECT date_trunc('month', $3::timestamptz AT TIME ZONE $2)::date AS "month!",
               count(*) AS "calls!",
               coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd)), 0) AS "spent_usd!",
               coalesce(sum(coalesce(best.cost_usd, c.estimated_cost_usd))
                        FILTER (WHERE coalesce(best.cost_estimated, true)), 0) AS "estimated_usd!"
        FROM claude_calls c
        LEFT JOIN LATERAL (
            SELECT o.cost_usd, o.cost_estimated
            FROM claude_call_outcomes o
            WHERE o.workflow_id = c.workflow_id AND o.call_id = c.call_id
            ORDER BY o.cost_estimated, o.outcome_id
            LIMIT 1) AS best ON true
        WHERE c.workflow_id = $1
          AND c.started_at >= date_trunc('month', $3::timestamptz AT TIME ZONE $2) AT TIME ZONE $2
        "#,
        workflow_id,
        query.time_zone.name(),
        query.now,
    )
    .fetch_one(connection)
    .await?;
    Ok(Cost {
        month: row.month,
        calls: row.calls,
        spent_usd: row.spent_usd,
        estimated_usd: row.estimated_usd,
        budget_usd: query.budget_usd_per_month,
    })
}
