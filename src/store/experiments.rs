//! Experiments: opening, reading, verdicts. What happens to their decks is in `decks`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

pub use super::decks::{LiveDeck, Progress, append, freeze, lock, progress};
pub use super::slots::{
    CountedScore, SlotRow, count_score, counted_scores, keep_late_scores, slots, take_slot_back,
};

use super::StoreError;
use crate::experiment::deck::Slot;
use crate::experiment::{ByArm, Phase};

/// An experiment to be opened, its deck dealt and shuffled.
#[derive(Debug, Clone)]
pub struct NewExperiment {
    /// The image model.
    pub model_name: String,
    /// The version that serves.
    pub control_version: i32,
    /// The version that is tried.
    pub candidate_version: i32,
    /// The seed that the deck was shuffled under, for the record.
    pub deck_seed: i64,
    /// True where a task gets both versions.
    pub paired: bool,
    /// The deck.
    pub slots: Vec<Slot>,
}

/// An experiment as stored.
#[derive(Debug, Clone, Serialize)]
pub struct ExperimentRow {
    /// The cycle.
    pub cycle: i64,
    /// The image model.
    pub model_name: String,
    /// The version that served when the test opened.
    pub control_version: i32,
    /// The version that is tried.
    pub candidate_version: i32,
    /// When the test opened.
    pub opened_at: DateTime<Utc>,
    /// How many slots were dealt again so far.
    pub deals_again: i32,
    /// testing, adopted, rejected or inconclusive.
    pub status: String,
    /// Why, from the verdict on.
    pub reason: Option<String>,
    /// When the verdict was committed.
    pub decided_at: Option<DateTime<Utc>>,
    /// (new − old) / old, unrounded.
    pub improvement: Option<f64>,
    /// Sum of the control's counted scores.
    pub control_sum: Option<i32>,
    /// Number of the control's counted scores.
    pub control_count: Option<i32>,
    /// Sum of the candidate's counted scores.
    pub candidate_sum: Option<i32>,
    /// Number of the candidate's counted scores.
    pub candidate_count: Option<i32>,
    /// Control slots that went without a score, dealt again or not.
    pub missed_control: i32,
    /// Candidate slots that went without a score, dealt again or not.
    pub missed_candidate: i32,
    /// Looks taken so far; only `strict` takes more than one.
    pub looks: i32,
    /// True where a task gets both versions.
    pub paired: bool,
    /// The evidence behind the verdict.
    pub evidence: Option<Value>,
    /// The verdict in one plain sentence.
    pub sentence: Option<String>,
}

/// What a verdict writes to its experiment.
#[derive(Debug, Clone)]
pub struct VerdictRow<'v> {
    /// adopted, rejected or inconclusive.
    pub status: &'v str,
    /// Why.
    pub reason: &'v str,
    /// (new − old) / old, unrounded; none where the old sum is zero.
    pub improvement: Option<f64>,
    /// Sums of the counted scores.
    pub sum: ByArm<i32>,
    /// Numbers of the counted scores.
    pub count: ByArm<i32>,
    /// The evidence.
    pub evidence: Value,
    /// One plain sentence.
    pub sentence: &'v str,
    /// True when a look at the scores brought it.
    pub from_a_look: bool,
}

impl ExperimentRow {
    /// Slots of each arm that went without a score, dealt again or not.
    #[must_use]
    pub fn missed(&self) -> ByArm<u32> {
        ByArm {
            control: self.missed_control.unsigned_abs(),
            candidate: self.missed_candidate.unsigned_abs(),
        }
    }
}

/// Opens an experiment and persists its deck, before the first task draws.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn open(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    new: &NewExperiment,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version,
                deck_seed, opened_at, paired, status)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'testing')",
        workflow_id,
        cycle,
        new.model_name,
        new.control_version,
        new.candidate_version,
        new.deck_seed,
        now,
        new.paired
    )
    .execute(&mut *conn)
    .await?;
    let experiment = (cycle, new.model_name.as_str());
    append(conn, workflow_id, experiment, Phase::Test, &new.slots).await
}

/// The experiments of all workflows that deal a deck, in a test or a probation: workflow, cycle, model.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn all_dealing(pool: &PgPool) -> Result<Vec<(i64, i64, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT workflow_id AS "workflow_id!", cycle AS "cycle!", model_name AS "model_name!"
             FROM experiments WHERE status = 'testing'
           UNION ALL
           SELECT workflow_id, cycle, model_name FROM probations WHERE status = 'open'"#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.workflow_id, row.cycle, row.model_name)).collect())
}

/// The experiments of one cycle, in order of their models.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn of_cycle(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<ExperimentRow>, StoreError> {
    Ok(sqlx::query_as!(
        ExperimentRow,
        "SELECT cycle, model_name, control_version, candidate_version, opened_at, deals_again, status,
                reason, decided_at, improvement, control_sum, control_count, candidate_sum,
                candidate_count, missed_control, missed_candidate, looks, paired, evidence, sentence
           FROM experiments WHERE workflow_id = $1 AND cycle = $2 ORDER BY model_name",
        workflow_id,
        cycle
    )
    .fetch_all(conn)
    .await?)
}

/// Notes that a look was taken that decided nothing: the test goes on.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn note_look(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE experiments SET looks = looks + 1
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'testing'",
        workflow_id,
        cycle,
        model
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Commits a verdict. A verdict that stands already is never touched.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn commit_verdict(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
    verdict: &VerdictRow<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE experiments
            SET looks = looks + $14, status = $4, reason = $5, decided_at = $6, improvement = $7, control_sum = $8,
                control_count = $9, candidate_sum = $10, candidate_count = $11, evidence = $12,
                sentence = $13
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'testing'",
        workflow_id,
        cycle,
        model,
        verdict.status,
        verdict.reason,
        now,
        verdict.improvement,
        verdict.sum.control,
        verdict.count.control,
        verdict.sum.candidate,
        verdict.count.candidate,
        verdict.evidence,
        verdict.sentence,
        i32::from(verdict.from_a_look)
    )
    .execute(conn)
    .await?;
    Ok(())
}
