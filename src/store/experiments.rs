//! Experiments and their decks: opening, judging slots, freezing, verdicts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use crate::experiment::deck::Slot;
use crate::experiment::slot::{Fault, SlotFacts};
use crate::experiment::{Arm, ByArm};

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

/// One slot with what its holder has reported so far.
#[derive(Debug, Clone)]
pub struct SlotRow {
    /// Position in the deck, from 1.
    pub slot: i32,
    /// The block that it belongs to.
    pub block: i32,
    /// Its arm.
    pub arm: Arm,
    /// open, dealt, scored or missing.
    pub state: String,
    /// The counted score.
    pub score: Option<i32>,
    /// The holder: task and run.
    pub holder: Option<(String, String)>,
    /// What the holder has reported.
    pub facts: SlotFacts,
}

/// How far a deck has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Slots an arm.
    pub size: ByArm<u32>,
    /// Slots that a task holds or held to its score.
    pub dealt: ByArm<u32>,
    /// Slots whose score counts.
    pub scored: ByArm<u32>,
    /// Sum of the counted scores.
    pub sum: ByArm<u32>,
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

/// The deck of an experiment with what each slot's holder has reported, in order.
///
/// `lost_before` is the moment before which a deal counts as timed out.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn deck(
    conn: &mut PgConnection,
    workflow_id: i64,
    experiment: &ExperimentRow,
    lost_before: DateTime<Utc>,
) -> Result<Vec<SlotRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.slot, s.block, s.arm, s.state, s.score, s.clickup_task_id, s.run_id, s.dealt_at,
                  a.validation_score AS "validation_score?", a.prompt_version AS "prompt_version?",
                  (a.error IS NOT NULL OR a.error_fault IS NOT NULL) AS "failed?",
                  a.error_fault AS "error_fault?", (t.ended_by = 'error') AS "run_failed?"
             FROM deck_slots s
             LEFT JOIN tasks t
               ON t.workflow_id = s.workflow_id AND t.clickup_task_id = s.clickup_task_id
              AND t.run_id = s.run_id
             LEFT JOIN attempts a
               ON a.workflow_id = t.workflow_id AND a.task_id = t.id
              AND a.model_name = s.model_name AND a.iteration = 1 AND a.version = 0
            WHERE s.workflow_id = $1 AND s.cycle = $2 AND s.model_name = $3
            ORDER BY s.slot
              FOR UPDATE OF s"#,
        workflow_id,
        experiment.cycle,
        experiment.model_name
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || {
                format!(
                    "workflow {workflow_id} cycle {} {} slot {}",
                    experiment.cycle, experiment.model_name, row.slot
                )
            };
            let arm: Arm = row
                .arm
                .parse()
                .map_err(|cause| StoreError::corrupt("deck_slots", "arm", key(), cause))?;
            let score = row.validation_score.map(u16::try_from).transpose().map_err(|cause| {
                StoreError::corrupt("attempts", "validation_score", key(), cause)
            })?;
            let error = match (row.failed.unwrap_or(false), row.error_fault.as_deref()) {
                (_, Some("prompt")) => Some(Fault::Prompt),
                (true, _) => Some(Fault::Elsewhere),
                (false, _) => None,
            };
            Ok(SlotRow {
                slot: row.slot,
                block: row.block,
                arm,
                state: row.state,
                score: row.score,
                holder: row.clickup_task_id.zip(row.run_id),
                facts: SlotFacts {
                    slot_version: match arm {
                        Arm::Control => experiment.control_version,
                        Arm::Candidate => experiment.candidate_version,
                    },
                    named_version: row.prompt_version,
                    score,
                    error,
                    run_failed: row.run_failed.unwrap_or(false),
                    timed_out: row.dealt_at.is_some_and(|dealt| dealt < lost_before),
                },
            })
        })
        .collect()
}

/// Counts a slot's score. Counting it again with another one (a score that outranks an error) is
/// possible until the slot is frozen.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn count_score(
    conn: &mut PgConnection,
    workflow_id: i64,
    experiment: &ExperimentRow,
    slot: i32,
    score: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE deck_slots SET state = 'scored', score = $5
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND slot = $4 AND NOT frozen",
        workflow_id,
        experiment.cycle,
        experiment.model_name,
        slot,
        score
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a slot from a holder that did not report its score: dealt again if the test still may, else
/// left without a score for good.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take_slot_back(
    conn: &mut PgConnection,
    workflow_id: i64,
    experiment: &ExperimentRow,
    slot: &SlotRow,
    because: &str,
    deal_again: bool,
) -> Result<(), StoreError> {
    if let Some((task, run)) = &slot.holder {
        sqlx::query!(
            "UPDATE assignments SET lost_because = $5
              WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = $3 AND model_name = $4",
            workflow_id,
            task,
            run,
            experiment.model_name,
            because
        )
        .execute(&mut *conn)
        .await?;
    }
    let state = if deal_again { "open" } else { "missing" };
    sqlx::query!(
        "UPDATE deck_slots
            SET state = $5, clickup_task_id = NULL, run_id = NULL, dealt_at = NULL, score = NULL
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND slot = $4 AND NOT frozen",
        workflow_id,
        experiment.cycle,
        experiment.model_name,
        slot.slot,
        state
    )
    .execute(&mut *conn)
    .await?;
    let (control, candidate) = match slot.arm {
        Arm::Control => (1, 0),
        Arm::Candidate => (0, 1),
    };
    sqlx::query!(
        "UPDATE experiments
            SET missed_control = missed_control + $4, missed_candidate = missed_candidate + $5,
                deals_again = deals_again + $6
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3",
        workflow_id,
        experiment.cycle,
        experiment.model_name,
        control,
        candidate,
        i32::from(deal_again)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Freezes the deck: from here on no score of it changes, and none is added.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn freeze(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE deck_slots SET frozen = true
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND NOT frozen",
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

/// The counted scores of a deck, by slot: block, arm, score. What a verdict rests on.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn counted_scores(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<Vec<(i32, Arm, u16)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT slot, block, arm, score AS "score!" FROM deck_slots
            WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND state = 'scored'
            ORDER BY slot"#,
        workflow_id,
        cycle,
        model
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || format!("workflow {workflow_id} cycle {cycle} {model} slot {}", row.slot);
            let arm = row
                .arm
                .parse()
                .map_err(|cause| StoreError::corrupt("deck_slots", "arm", key(), cause))?;
            let score = u16::try_from(row.score)
                .map_err(|cause| StoreError::corrupt("deck_slots", "score", key(), cause))?;
            Ok((row.block, arm, score))
        })
        .collect()
}

/// Keeps the scores of former holders, and of holders that came after the freeze, as `late`; in the
/// tests of this cycle and later ones.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn keep_late_scores(
    pool: &PgPool,
    workflow_id: i64,
    from_cycle: i64,
) -> Result<u64, StoreError> {
    let kept = sqlx::query!(
        "UPDATE assignments g SET late_score = a.validation_score
           FROM tasks t, attempts a
          WHERE g.workflow_id = $1 AND g.slot IS NOT NULL AND g.cycle >= $2 AND g.late_score IS NULL
            AND (g.lost_because IS NOT NULL OR EXISTS (
                    SELECT FROM deck_slots s
                     WHERE s.workflow_id = g.workflow_id AND s.cycle = g.cycle
                       AND s.model_name = g.model_name AND s.slot = g.slot
                       AND s.frozen AND s.state = 'dealt'))
            AND t.workflow_id = g.workflow_id AND t.clickup_task_id = g.clickup_task_id
            AND t.run_id = g.run_id
            AND a.workflow_id = t.workflow_id AND a.task_id = t.id AND a.model_name = g.model_name
            AND a.iteration = 1 AND a.version = 0 AND a.validation_score IS NOT NULL",
        workflow_id,
        from_cycle
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(kept)
}

/// How far each deck of a cycle has come, by model.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn progress(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<(String, Progress)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT model_name, arm, count(*)::int AS "size!",
                  count(*) FILTER (WHERE state IN ('dealt', 'scored'))::int AS "dealt!",
                  count(*) FILTER (WHERE state = 'scored')::int AS "scored!",
                  coalesce(sum(score), 0)::int AS "sum!"
             FROM deck_slots WHERE workflow_id = $1 AND cycle = $2
            GROUP BY model_name, arm ORDER BY model_name, arm"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?;
    let mut decks: Vec<(String, Progress)> = Vec::new();
    for row in rows {
        let arm: Arm = row.arm.parse().map_err(|cause| {
            StoreError::corrupt(
                "deck_slots",
                "arm",
                format!("workflow {workflow_id} cycle {cycle}"),
                cause,
            )
        })?;
        if decks.last().is_none_or(|(model, _)| *model != row.model_name) {
            decks.push((row.model_name.clone(), Progress::default()));
        }
        if let Some((_, progress)) = decks.last_mut() {
            *progress.size.get_mut(arm) = row.size.unsigned_abs();
            *progress.dealt.get_mut(arm) = row.dealt.unsigned_abs();
            *progress.scored.get_mut(arm) = row.scored.unsigned_abs();
            *progress.sum.get_mut(arm) = row.sum.unsigned_abs();
        }
    }
    Ok(decks)
}
