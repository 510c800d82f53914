//! Experiments: the decks that are being dealt, and the verdicts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::log::mean;
use crate::store::StoreError;

/// Which deck of an experiment is being dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RunningPhase)]
pub enum Phase {
    /// The test that decides.
    Test,
    /// The new version is adopted, and watched.
    Watch,
}

/// One arm of a running deck.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
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
    /// The scores themselves, lowest first.
    pub scores: Vec<i32>,
    /// Slots dealt in the latest day that a task still holds.
    pub dealt_lately: i64,
}

/// An experiment whose deck is being dealt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    /// When the deck that is being dealt was opened: the probation's, or the test's.
    pub dealing_since: DateTime<Utc>,
    /// The old version's arm.
    pub old: ArmCount,
    /// The new version's arm.
    pub new: ArmCount,
}

/// An experiment with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    /// How its probation stands: `open`, `kept`, `regressed`, `superseded`, `retired` or `cancelled`;
    /// none where there was no probation.
    pub probation: Option<String>,
    /// When its probation was opened.
    pub probation_opened_at: Option<DateTime<Utc>>,
    /// How its probation ended, in one sentence.
    pub probation_sentence: Option<String>,
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
    scores: Vec<i32>,
    dealt_lately: i64,
}

/// Counts the open cycle's decks.
pub(super) async fn slots(
    connection: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    now: DateTime<Utc>,
) -> Result<Vec<SlotCount>, StoreError> {
    let counts = sqlx::query_as!(
        SlotCount,
        r#"
        SELECT s.model_name AS "model!",
               s.arm = 'candidate' AS "candidate!",
               s.phase = 'probation' AS "watch!",
               count(*) AS "slots!",
               count(*) FILTER (WHERE s.state IN ('dealt', 'scored')) AS "dealt!",
               count(*) FILTER (WHERE s.state = 'scored') AS "scored!",
               coalesce(sum(s.score), 0)::bigint AS "sum!",
               coalesce(array_agg(s.score ORDER BY s.score) FILTER (WHERE s.score IS NOT NULL), '{}') AS "scores!",
               count(*) FILTER (WHERE s.dealt_at > $3::timestamptz - interval '1 day') AS "dealt_lately!"
        FROM deck_slots s
        WHERE s.workflow_id = $1 AND s.cycle = $2
        GROUP BY 1, 2, 3
        "#,
        workflow_id,
        cycle,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(counts)
}

pub(super) async fn all(
    connection: &mut PgConnection,
    workflow_id: i64,
    cycle: Option<i64>,
    limit: i64,
) -> Result<Vec<Experiment>, StoreError> {
    let experiments = sqlx::query_as!(
        Experiment,
        r#"
        SELECT e.cycle, e.model_name AS model, e.control_version AS old_version,
               e.candidate_version AS new_version, e.status,
               (p.status IS NOT DISTINCT FROM 'open') AS "on_watch!",
               p.status AS "probation?", p.opened_at AS "probation_opened_at?",
               p.sentence AS "probation_sentence?",
               e.reason, e.opened_at, e.decided_at, e.improvement,
               e.control_sum AS old_sum, e.control_count AS old_count,
               e.candidate_sum AS new_sum, e.candidate_count AS new_count, e.sentence, e.evidence
        FROM experiments e
        LEFT JOIN probations p
          ON p.workflow_id = e.workflow_id AND p.cycle = e.cycle AND p.model_name = e.model_name
        WHERE e.workflow_id = $1 AND ($2::bigint IS NULL OR e.cycle = $2)
        ORDER BY e.cycle DESC, e.model_name
        LIMIT $3
        "#,
        workflow_id,
        cycle,
        limit,
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
) -> (Vec<RunningExperiment>, Vec<Experiment>) {
    let mut running = Vec::new();
    let mut past = Vec::new();
    for experiment in experiments {
        let phase = match experiment.status.as_str() {
            "testing" => Some(Phase::Test),
            _ if experiment.on_watch => Some(Phase::Watch),
            _ => None,
        };
        if let Some(phase) = phase {
            running.push(RunningExperiment {
                cycle: experiment.cycle,
                phase,
                old_version: experiment.old_version,
                new_version: experiment.new_version,
                opened_at: experiment.opened_at,
                dealing_since: match phase {
                    Phase::Test => experiment.opened_at,
                    Phase::Watch => experiment.probation_opened_at.unwrap_or(experiment.opened_at),
                },
                old: arm(slots, &experiment.model, phase, false),
                new: arm(slots, &experiment.model, phase, true),
                model: experiment.model.clone(),
            });
        }
        if phase != Some(Phase::Test) {
            past.push(experiment);
        }
    }
    (running, past)
}

/// The counted scores of one arm, lowest first.
pub(super) fn scores(slots: &[SlotCount], model: &str, watch: bool, candidate: bool) -> Vec<i32> {
    let found = slots
        .iter()
        .find(|count| count.model == model && count.candidate == candidate && count.watch == watch);
    found.map(|count| count.scores.clone()).unwrap_or_default()
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
            scores: count.scores.clone(),
            dealt_lately: count.dealt_lately,
        })
}
