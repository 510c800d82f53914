//! What programs get of the pages, one type a page. [`WorkflowAnalytics`] and
//! [`TableData`](super::table::TableData) are the others.

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::WorkflowAnalytics;
use super::pages::model::Diff;
use crate::report::{Facts, Report};
use crate::runtime::{ConflictShown, CycleStatus};
use crate::store::analytics::pages::{ScoredExperiment, TaskHead};
use crate::store::analytics::{ConfigChange, Experiment, Insight};
use crate::store::claude_calls::CallRow;
use crate::store::conflicts::Conflict;
use crate::store::effects::EffectRow;
use crate::store::task_log::TaskRecord;
use crate::store::versions::{Version, VersionHead};

/// The first page: one workflow, or all.
#[derive(Debug, Serialize, ToSchema)]
pub struct OverviewData<'p> {
    /// Each with what it has done and learnt.
    pub workflows: &'p [WorkflowAnalytics],
}

/// A cycle's page.
#[derive(Debug, Serialize, ToSchema)]
pub struct CycleData<'p> {
    /// Where it stands.
    pub status: &'p CycleStatus,
    /// Its history as the page's table has it.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, Value>>)]
    pub transitions: Value,
    /// Its effects, oldest first.
    pub effects: &'p [EffectRow],
    /// Its calls of Claude, oldest first.
    pub calls: &'p [CallRow],
    /// What they cost, in US dollars.
    pub cost_usd: Decimal,
    /// Its experiments with their scores.
    pub experiments: &'p [ScoredExperiment],
    /// What its analysis found.
    pub insights: &'p [Insight],
    /// What it changed of the files.
    pub config_changes: &'p [ConfigChange],
}

/// The page of a cycle's report.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportData<'p> {
    /// What it tells of.
    pub facts: &'p Facts,
    /// Its sentences.
    pub report: &'p Report,
    /// The same as a message.
    pub markdown: String,
}

/// The page of all verdicts.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerdictsData<'p> {
    /// Latest first.
    pub verdicts: &'p [Experiment],
}

/// The page of all insights.
#[derive(Debug, Serialize, ToSchema)]
pub struct InsightsData<'p> {
    /// Latest first.
    pub insights: &'p [Insight],
}

/// The page of all changes of the files.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesData<'p> {
    /// Latest first.
    pub config_changes: &'p [ConfigChange],
}

/// The page of the files that were edited by hand.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConflictsData<'p> {
    /// Those that wait for a decision first.
    pub conflicts: &'p [Conflict],
}

/// The page of one of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConflictData<'p> {
    /// What stands against what.
    pub conflict: &'p ConflictShown,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct TasksData<'p> {
    /// Latest first.
    pub tasks: &'p [TaskHead],
}

/// The page of one run of a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskData<'p> {
    /// The run with its attempts.
    pub task: &'p TaskRecord,
}

/// A model's page.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelData<'p> {
    /// The model.
    pub model: &'p str,
    /// The one that serves.
    pub active_version: Option<i32>,
    /// Its versions, newest first, at most 50; older ones follow with `after=` the last of them.
    pub versions: &'p [VersionHead],
    /// What changed between the two that are compared.
    pub diff: Option<&'p Diff>,
    /// Changes of its files.
    pub config_changes: &'p [ConfigChange],
}

/// A version's page.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionData<'p> {
    /// The version with its texts.
    pub version: &'p Version,
    /// True while it serves.
    pub is_active: bool,
}
