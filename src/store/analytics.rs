//! The read side of the dashboard: everything that `GET /analytics` tells about one workflow.
//!
//! [`load`] is a dozen plain reads in one read-only snapshot, so that the numbers of one page belong
//! together; it may run on a replica. A task, its attempts and its win all count on the day on which
//! the task arrived, in the workflow's time zone. No task is counted here: the days come added up from
//! the refresher ([`super::figures`]), those of tasks that retention removed from the archive.

mod experiments;
mod learning;
mod log;
pub mod pages;
mod trend;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

pub use experiments::{ArmCount, Experiment, Phase, RunningExperiment};
pub use learning::{
    Activation, ConfigChange, Cost, Hold, Insight, ModelVersions, OpenCycle, Passed, Version,
};
pub use log::{ModelDay, ModelTotals, TaskDay, TaskTotals};
pub use trend::{Learning, Measure, Span, Step, compare};

use super::StoreError;
use super::gate::{self, VersionNoise};
use super::insights::Which;
use super::watches::{self, WatchRow};

/// Insights that a page shows.
pub const INSIGHTS_MAX: i64 = 20;
/// Past experiments that a page shows.
pub const EXPERIMENTS_MAX: i64 = 50;
/// Versions of each model that a page shows, beside the one that serves.
const VERSIONS_MAX: i64 = 20;
/// The latest cycles whose windows are held against each other.
const NOISE_WINDOWS_MAX: i64 = 20;
/// Changes of config files that a page shows.
pub const CONFIG_CHANGES_MAX: i64 = 50;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyticsQuery {
    /// The time now: it says which month's cost is asked for, and where trends end.
    pub now: DateTime<Utc>,
    /// The workflow's time zone, in which days and months begin.
    pub time_zone: Tz,
    /// The first day, or none for the whole past.
    pub from: Option<NaiveDate>,
    /// The last day, itself included, or none for up to now.
    pub to: Option<NaiveDate>,
    /// The one model to look at, or none for all. Tasks are counted whole either way.
    pub model: Option<String>,
    /// The one category of tasks to count, empty for those without any, or none for all.
    pub category: Option<String>,
    /// Completed tasks that start an analysis.
    pub trigger_tasks: u32,
    /// The best possible score.
    pub score_max: u32,
    /// What the workflow may spend on Claude in a month, in US dollars.
    pub budget_usd_per_month: Option<Decimal>,
}

impl AnalyticsQuery {
    fn first_day(&self) -> NaiveDate {
        self.from.unwrap_or(FIRST_DAY)
    }

    fn last_day(&self) -> NaiveDate {
        self.to.unwrap_or(LAST_DAY)
    }
}

const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(1970, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};
const LAST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 30) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

/// What one workflow has done and learnt. Everything that has a day is limited to the range asked
/// for; the cycle, its holds and experiments, the versions, insights and the cost are as of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Analytics {
    /// When it was read.
    pub generated_at: DateTime<Utc>,
    /// The time zone of every day in it.
    #[schema(value_type = String)]
    pub time_zone: Tz,
    /// The first day asked for.
    pub from: Option<NaiveDate>,
    /// The last day asked for, itself included.
    pub to: Option<NaiveDate>,
    /// The one model that was asked for.
    pub model: Option<String>,
    /// The one category that was asked for.
    pub category: Option<String>,
    /// Every category that there is to ask for; tasks without one are of the empty one.
    pub categories: Vec<String>,
    /// Every model that there is to ask for.
    pub model_names: Vec<String>,
    /// When tasks were last counted; changes show within seconds.
    pub counted_at: Option<DateTime<Utc>>,
    /// The best possible score.
    pub score_max: u32,
    /// Tasks, all together.
    pub tasks: TaskTotals,
    /// Each model, all together, by name.
    pub models: Vec<ModelTotals>,
    /// Tasks by day, oldest first. Days without a task are left out.
    pub task_days: Vec<TaskDay>,
    /// Each model by day, oldest first. Days without an attempt or a win are left out.
    pub model_days: Vec<ModelDay>,
    /// When which version became active, oldest first.
    pub activations: Vec<Activation>,
    /// The latest days against those before them; none while there are no two days to compare.
    pub learning: Option<Learning>,
    /// The cycle that is not finished.
    pub cycle: Option<OpenCycle>,
    /// Holds that stand on the workflow or its open cycle, oldest first.
    pub holds: Vec<Hold>,
    /// Experiments whose deck is being dealt: a test, or an adopted version on watch.
    pub running: Vec<RunningExperiment>,
    /// Experiments with a verdict, latest first, at most [`EXPERIMENTS_MAX`].
    pub past: Vec<Experiment>,
    /// The standing watches over adopted versions: those that are open, then the latest that ended.
    pub watches: Vec<WatchRow>,
    /// How far each version's scores differ from one analysis window to the next.
    pub noise: Vec<VersionNoise>,
    /// The latest insights, at most [`INSIGHTS_MAX`].
    pub insights: Vec<Insight>,
    /// Each model's versions, by model.
    pub versions: Vec<ModelVersions>,
    /// The latest changes of config files, at most [`CONFIG_CHANGES_MAX`].
    pub config_changes: Vec<ConfigChange>,
    /// What Claude cost this month.
    pub cost: Cost,
}

/// Reads what one workflow has done and learnt.
///
/// # Errors
/// [`StoreError`] when a statement fails. Nothing is ever written.
pub async fn load(
    pool: &PgPool,
    workflow_id: i64,
    query: &AnalyticsQuery,
) -> Result<Analytics, StoreError> {
    let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let task_days = log::task_days(&mut snapshot, workflow_id, query).await?;
    let model_days = log::model_days(&mut snapshot, workflow_id, query).await?;
    let cycle = learning::open_cycle(&mut snapshot, workflow_id, query).await?;
    let number = cycle.as_ref().map_or(0, |cycle| cycle.number);
    let holds = learning::holds(&mut snapshot, workflow_id, number).await?;
    let versions = learning::versions(&mut snapshot, workflow_id).await?;
    let slots = experiments::slots(&mut snapshot, workflow_id, number, query.now).await?;
    let verdicts = experiments::all(&mut snapshot, workflow_id, None, EXPERIMENTS_MAX).await?;
    let insights =
        learning::insights(&mut snapshot, workflow_id, Which::newest(INSIGHTS_MAX)).await?;
    let config_changes =
        learning::config_changes(&mut snapshot, workflow_id, (None, None), CONFIG_CHANGES_MAX)
            .await?;
    let activations = learning::activations(&mut snapshot, workflow_id, query).await?;
    let watches = watches::list(&mut *snapshot, workflow_id, EXPERIMENTS_MAX).await?;
    let noise = gate::noise_floors(&mut *snapshot, workflow_id, number - NOISE_WINDOWS_MAX).await?;
    let cost = learning::cost(&mut snapshot, workflow_id, query).await?;
    let categories = log::categories(&mut snapshot, workflow_id).await?;
    let counted_at = log::refreshed_at(&mut snapshot, workflow_id).await?;
    snapshot.commit().await?;

    let (running, past) = experiments::sort(verdicts, &slots);
    let models = log::model_totals(&model_days, &versions);
    Ok(of_one_model(Analytics {
        generated_at: query.now,
        time_zone: query.time_zone,
        from: query.from,
        to: query.to,
        model: query.model.clone(),
        category: query.category.clone(),
        categories,
        model_names: models.iter().map(|model| model.model.clone()).collect(),
        counted_at,
        score_max: query.score_max,
        tasks: log::task_totals(&task_days),
        models,
        learning: compare(&task_days, &model_days, query.model.as_deref(), today(query)),
        task_days,
        model_days,
        activations,
        cycle,
        holds,
        running,
        past,
        watches,
        noise,
        insights,
        versions,
        config_changes,
        cost,
    }))
}

/// Leaves out what belongs to other models than the one that was asked for, if one was.
fn of_one_model(mut all: Analytics) -> Analytics {
    let Some(model) = all.model.clone() else { return all };
    all.models.retain(|one| one.model == model);
    all.model_days.retain(|one| one.model == model);
    all.activations.retain(|one| one.model == model);
    all.running.retain(|one| one.model == model);
    all.past.retain(|one| one.model == model);
    all.watches.retain(|one| one.model_name == model);
    all.noise.retain(|one| one.model == model);
    all.insights.retain(|one| one.model == model || one.model == "all");
    all.versions.retain(|one| one.model == model);
    all.config_changes.retain(|one| one.model == model);
    all
}

/// The day at which trends end: today, or the last day asked for where that is earlier.
fn today(query: &AnalyticsQuery) -> NaiveDate {
    let today = query.now.with_timezone(&query.time_zone).date_naive();
    query.to.map_or(today, |to| to.min(today))
}
