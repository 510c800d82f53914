//! The slots of a deck: what their holders reported, counting scores, taking slots back.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use super::decks::LiveDeck;
use crate::experiment::judge::Judge;
use crate::experiment::slot::{Fault, SlotFacts};
use crate::experiment::{Arm, Phase};

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
    /// Who gave the reported score; none where its event names no judge.
    pub judge: Option<Judge>,
}

/// A score that counts, with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedScore {
    /// The block of its slot.
    pub block: i32,
    /// The arm of its slot.
    pub arm: Arm,
    /// The score.
    pub score: u16,
    /// False for a 0 that stands for a failed attempt: no judge gave it.
    pub is_judged: bool,
    /// The validator that gave it; none where its event named none.
    pub judge: Option<Judge>,
}

/// The slots of a deck that may still change, with what each one's holder has reported, in order.
///
/// `lost_before` is the moment before which a deal counts as timed out.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn slots(
    conn: &mut PgConnection,
    workflow_id: i64,
    deck: &LiveDeck,
    lost_before: DateTime<Utc>,
) -> Result<Vec<SlotRow>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.slot, s.block, s.arm, s.state, s.score, s.clickup_task_id, s.run_id, s.dealt_at,
                  a.validation_score AS "validation_score?", a.prompt_version AS "prompt_version?",
                  (a.error IS NOT NULL OR a.error_fault IS NOT NULL) AS "failed?",
                  a.error_fault AS "error_fault?", (t.ended_by = 'error') AS "run_failed?",
                  a.judge_model AS "judge_model?", a.judge_prompt_version AS "judge_prompt_version?"
             FROM deck_slots s
             LEFT JOIN tasks t
               ON t.workflow_id = s.workflow_id AND t.clickup_task_id = s.clickup_task_id
              AND t.run_id = s.run_id
             LEFT JOIN attempts a
               ON a.workflow_id = t.workflow_id AND a.task_id = t.id
              AND a.model_name = s.model_name AND a.iteration = 1
              AND a.version = CASE s.arm WHEN 'control' THEN $5::int ELSE $6::int END
            WHERE s.workflow_id = $1 AND s.cycle = $2 AND s.model_name = $3 AND s.phase = $4
              AND NOT s.frozen
            ORDER BY s.slot
              FOR UPDATE OF s"#,
        workflow_id,
        deck.cycle,
        deck.model_name,
        deck.phase.as_str(),
        deck.attempt_version_of(Arm::Control),
        deck.attempt_version_of(Arm::Candidate)
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || slot_key(workflow_id, deck.cycle, &deck.model_name, row.slot);
            let arm = read_arm(&row.arm, key)?;
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
                    slot_version: deck.version_of(arm),
                    named_version: row.prompt_version,
                    score,
                    error,
                    run_failed: row.run_failed.unwrap_or(false),
                    timed_out: row.dealt_at.is_some_and(|dealt| dealt < lost_before),
                },
                judge: row
                    .judge_model
                    .map(|model| judge(model, row.judge_prompt_version.unwrap_or_default())),
            })
        })
        .collect()
}

fn judge(model: String, prompt_version: String) -> Judge {
    Judge { model, prompt_version }
}

fn slot_key(workflow_id: i64, cycle: i64, model: &str, slot: i32) -> String {
    format!("workflow {workflow_id} cycle {cycle} {model} slot {slot}")
}

pub(super) fn read_arm(arm: &str, key: impl Fn() -> String) -> Result<Arm, StoreError> {
    arm.parse().map_err(|cause| StoreError::corrupt("deck_slots", "arm", key(), cause))
}

/// Counts a slot's score. Counting it again with another one (a score that outranks an error) is
/// possible until the slot is frozen.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn count_score(
    conn: &mut PgConnection,
    workflow_id: i64,
    deck: &LiveDeck,
    slot: &SlotRow,
    score: i32,
) -> Result<(), StoreError> {
    let (judge_model, judge_version) = match (&slot.judge, slot.facts.score) {
        (_, None) => (None, None),
        (None, Some(_)) => (Some(""), Some("")),
        (Some(judge), Some(_)) => (Some(judge.model.as_str()), Some(judge.prompt_version.as_str())),
    };
    sqlx::query!(
        "UPDATE deck_slots
            SET state = 'scored', score = $5, judge_model = $6, judge_prompt_version = $7
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND slot = $4 AND NOT frozen",
        workflow_id,
        deck.cycle,
        deck.model_name,
        slot.slot,
        score,
        judge_model,
        judge_version
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a slot from a holder that did not report its score: dealt again if the deck still may, else
/// left without a score for good.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take_slot_back(
    conn: &mut PgConnection,
    workflow_id: i64,
    deck: &LiveDeck,
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
            deck.model_name,
            because
        )
        .execute(&mut *conn)
        .await?;
    }
    let state = if deal_again { "open" } else { "missing" };
    sqlx::query!(
        "UPDATE deck_slots
            SET state = $5, clickup_task_id = NULL, run_id = NULL, dealt_at = NULL, score = NULL,
                judge_model = NULL, judge_prompt_version = NULL
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND slot = $4 AND NOT frozen",
        workflow_id,
        deck.cycle,
        deck.model_name,
        slot.slot,
        state
    )
    .execute(&mut *conn)
    .await?;
    note_missed(conn, workflow_id, deck, slot.arm, deal_again).await
}

async fn note_missed(
    conn: &mut PgConnection,
    workflow_id: i64,
    deck: &LiveDeck,
    arm: Arm,
    dealt_again: bool,
) -> Result<(), StoreError> {
    let (control, candidate) = match arm {
        Arm::Control => (1, 0),
        Arm::Candidate => (0, 1),
    };
    match deck.phase {
        Phase::Test => {
            sqlx::query!(
                "UPDATE experiments
                    SET missed_control = missed_control + $4,
                        missed_candidate = missed_candidate + $5, deals_again = deals_again + $6
                  WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3",
                workflow_id,
                deck.cycle,
                deck.model_name,
                control,
                candidate,
                i32::from(dealt_again)
            )
            .execute(conn)
            .await?
        }
        Phase::Probation => {
            sqlx::query!(
                "UPDATE probations
                    SET missed_control = missed_control + $4,
                        missed_candidate = missed_candidate + $5, deals_again = deals_again + $6
                  WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3",
                workflow_id,
                deck.cycle,
                deck.model_name,
                control,
                candidate,
                i32::from(dealt_again)
            )
            .execute(conn)
            .await?
        }
    };
    Ok(())
}

/// The counted scores of a deck, by slot. What a verdict rests on.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn counted_scores(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
    phase: Phase,
) -> Result<Vec<CountedScore>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT slot, block, arm, score AS "score!", judge_model, judge_prompt_version
             FROM deck_slots
            WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND phase = $4
              AND state = 'scored'
            ORDER BY slot"#,
        workflow_id,
        cycle,
        model,
        phase.as_str()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = || slot_key(workflow_id, cycle, model, row.slot);
            let score = u16::try_from(row.score)
                .map_err(|cause| StoreError::corrupt("deck_slots", "score", key(), cause))?;
            Ok(CountedScore {
                block: row.block,
                arm: read_arm(&row.arm, key)?,
                score,
                is_judged: row.judge_model.is_some(),
                judge: row
                    .judge_model
                    .zip(row.judge_prompt_version)
                    .filter(|(model, _)| !model.is_empty())
                    .map(|(model, version)| judge(model, version)),
            })
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
            AND a.iteration = 1
            AND a.version = CASE WHEN g.pair_version IS NULL THEN 0 ELSE g.version END
            AND a.validation_score IS NOT NULL",
        workflow_id,
        from_cycle
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(kept)
}
