//! Experiments: opening, reading, verdicts. What happens to their decks is in `decks`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

pub use super::decks::{
    Progress, SlotRow, count_score, counted_scores, deck, freeze, keep_late_scores, progress,
    take_slot_back,
};

use super::StoreError;
use crate::experiment::ByArm;
use crate::experiment::deck::Slot;

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
                deck_seed, opened_at, status)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'testing')",
        workflow_id,
        cycle,
        new.model_name,
        new.control_version,
        new.candidate_version,
        new.deck_seed,
        now
    )
    .execute(&mut *conn)
    .await?;
    let numbers: Vec<i32> = new.slots.iter().map(|slot| small(slot.number)).collect();
    let blocks: Vec<i32> = new.slots.iter().map(|slot| small(slot.block)).collect();
    let arms: Vec<String> = new.slots.iter().map(|slot| slot.arm.as_str().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO deck_slots (workflow_id, cycle, model_name, slot, block, arm, state)
         SELECT $1, $2, $3, slot, block, arm, 'open'
           FROM unnest($4::int[], $5::int[], $6::text[]) AS dealt (slot, block, arm)",
        workflow_id,
        cycle,
        new.model_name,
        &numbers,
        &blocks,
        &arms
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The running experiments of all workflows: workflow, cycle, model.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn all_running(pool: &PgPool) -> Result<Vec<(i64, i64, String)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT workflow_id, cycle, model_name FROM experiments WHERE status = 'testing'"
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
                candidate_count, missed_control, missed_candidate, evidence, sentence
           FROM experiments WHERE workflow_id = $1 AND cycle = $2 ORDER BY model_name",
        workflow_id,
        cycle
    )
    .fetch_all(conn)
    .await?)
}

/// Locks one running experiment: slots change only under this lock, but for being dealt.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock_running(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<Option<ExperimentRow>, StoreError> {
    Ok(sqlx::query_as!(
        ExperimentRow,
        "SELECT cycle, model_name, control_version, candidate_version, opened_at, deals_again, status,
                reason, decided_at, improvement, control_sum, control_count, candidate_sum,
                candidate_count, missed_control, missed_candidate, evidence, sentence
           FROM experiments
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'testing'
            FOR UPDATE",
        workflow_id,
        cycle,
        model
    )
    .fetch_optional(conn)
    .await?)
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
            SET status = $4, reason = $5, decided_at = $6, improvement = $7, control_sum = $8,
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
        verdict.sentence
    )
    .execute(conn)
    .await?;
    Ok(())
}
