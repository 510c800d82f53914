//! The decks of experiments: judging slots, freezing, late scores, progress.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use super::experiments::ExperimentRow;
use crate::experiment::slot::{Fault, SlotFacts};
use crate::experiment::{Arm, ByArm};

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
