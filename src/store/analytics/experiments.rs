//! Experiments: the decks that are being dealt, and the verdicts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::log::mean;
use super::{EXPERIMENTS_MAX, ModelVersions, OpenCycle};
use crate::store::StoreError;

/// Which deck of an experiment is being dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The test that decides.
    Test,
    /// The new version is adopted, and watched.
    Watch,
}

/// One arm of a running deck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ArmCount {
    /// Slots of the deck.
    pub slots: i64,
    /// Slots that a task holds, scored or not.
    pub dealt: i64,
    /// Slots with a score.
    pub scored: i64,
    /// Scores added up.
    pub sum: i64,
    /// The mean score.
    pub mean: Option<f64>,
}

/// An experiment whose deck is being dealt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningExperiment {
    /// The cycle that it belongs to.
    pub cycle: i64,
    /// The model.
    pub model: String,
    /// Test or watch.
    pub phase: Phase,
    /// The old version.
    pub old_version: i32,
    /// The new version.
    pub new_version: i32,
    /// When the test was opened.
    pub opened_at: DateTime<Utc>,
    /// The old version's arm.
    pub old: ArmCount,
    /// The new version's arm.
    pub new: ArmCount,
}

/// An experiment with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Experiment {
    /// The cycle that it belongs to.
    pub cycle: i64,
    /// The model.
    pub model: String,
    /// The old version.
    pub old_version: i32,
    /// The new version.
    pub new_version: i32,
    /// `testing`, `adopted`, `rejected` or `inconclusive`.
    pub status: String,
    /// True while the new version is adopted and still on watch.
    pub on_watch: bool,
    /// The reason's code.
    pub reason: Option<String>,
    /// When the test was opened.
    pub opened_at: DateTime<Utc>,
    /// When the verdict was committed.
    pub decided_at: Option<DateTime<Utc>>,
    /// `(new mean - old mean) / old mean`, where that is defined.
    pub improvement: Option<f64>,
    /// The old version's scores added up.
    pub old_sum: Option<i32>,
    /// How many scores that were.
    pub old_count: Option<i32>,
    /// The new version's scores added up.
    pub new_sum: Option<i32>,
    /// How many scores that were.
    pub new_count: Option<i32>,
    /// The verdict in one sentence.
    pub sentence: Option<String>,
    /// The numbers beside the verdict.
    pub evidence: Option<Value>,
}

/// One arm of one deck of the open cycle.
#[derive(Debug)]
pub(super) struct SlotCount {
    model: String,
    candidate: bool,
    watch: bool,
    slots: i64,
    dealt: i64,
    scored: i64,
    sum: i64,
}

/// Counts the open cycle's decks. Leaving Testing freezes the test's slots; what is
/// not frozen after the verdict belongs to the watch.
pub(super) async fn slots(
    connection: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<SlotCount>, StoreError> {
    let counts = sqlx::query_as!(
        SlotCount,
        r#"
        SELECT s.model_name AS "model!",
               s.arm = 'candidate' AS "candidate!",
               (e.decided_at IS NOT NULL AND NOT s.frozen) AS "watch!",
               count(*) AS "slots!",
               count(*) FILTER (WHERE s.state IN ('dealt', 'scored')) AS "dealt!",
               count(*) FILTER (WHERE s.state = 'scored') AS "scored!",
               coalesce(sum(s.score), 0)::bigint AS "sum!"
        FROM deck_slots s
        JOIN experiments e
          ON e.workflow_id = s.workflow_id AND e.cycle = s.cycle AND e.model_name = s.model_name
        WHERE s.workflow_id = $1 AND s.cycle = $2
        GROUP BY 1, 2, 3
        "#,
        workflow_id,
        cycle,
    )
    .fetch_all(connection)
    .await?;
    Ok(counts)
}

pub(super) async fn all(
    connection: &mut PgConnection,
    workflow_id: i64,
) -> Result<Vec<Experiment>, StoreError> {
    let experiments = sqlx::query_as!(
        Experiment,
        r#"
        SELECT cycle, model_name AS model, control_version AS old_version,
               candidate_version AS new_version, status, false AS "on_watch!", reason, opened_at,
               decided_at, improvement, control_sum AS old_sum, control_count AS old_count,
               candidate_sum AS new_sum, candidate_count AS new_count, sentence, evidence
        FROM experiments
        WHERE workflow_id = $1
        ORDER BY cycle DESC, model_name
        LIMIT $2
        "#,
        workflow_id,
        EXPERIMENTS_MAX,
    )
    .fetch_all(connection)
    .await?;
    Ok(experiments)
}

/// Parts the experiments into those whose deck is being dealt and those with a verdict. An adopted
/// version on watch is in both.
pub(super) fn sort(
    experiments: Vec<Experiment>,
    slots: &[SlotCount],
    open: Option<&OpenCycle>,
    versions: &[ModelVersions],
) -> (Vec<RunningExperiment>, Vec<Experiment>) {
    let mut running = Vec::new();
    let mut past = Vec::new();
    for experiment in experiments {
        let in_probation =
            open.is_some_and(|open| open.number == experiment.cycle && open.state == "probation");
        let on_watch = in_probation
            && experiment.status == "adopted"
            && is_active(versions, &experiment.model, experiment.new_version);
        let phase = match experiment.status.as_str() {
            "testing" => Some(Phase::Test),
            _ if on_watch => Some(Phase::Watch),
            _ => None,
        };
        if let Some(phase) = phase {
            running.push(RunningExperiment {
                cycle: experiment.cycle,
                phase,
                old_version: experiment.old_version,
                new_version: experiment.new_version,
                opened_at: experiment.opened_at,
                old: arm(slots, &experiment.model, phase, false),
                new: arm(slots, &experiment.model, phase, true),
                model: experiment.model.clone(),
            });
        }
        if phase != Some(Phase::Test) {
            past.push(Experiment { on_watch, ..experiment });
        }
    }
    (running, past)
}

fn is_active(versions: &[ModelVersions], model: &str, version: i32) -> bool {
    versions
        .iter()
        .filter(|known| known.model == model)
        .flat_map(|known| &known.versions)
        .any(|known| known.active && known.version == version)
}

fn arm(slots: &[SlotCount], model: &str, phase: Phase, candidate: bool) -> ArmCount {
    slots
        .iter()
        .find(|count| {
            count.model == model
                && count.candidate == candidate
                && count.watch == (phase == Phase::Watch)
        })
        .map_or_else(ArmCount::default, |count| ArmCount {
            slots: count.slots,
            dealt: count.dealt,
            scored: count.scored,
            sum: count.sum,
            mean: mean(count.sum, count.scored),
        })
}
