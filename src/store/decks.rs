//! The decks of experiments, the test's and the probation's: dealing, judging slots, freezing, progress.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use super::slots::read_arm;
use crate::experiment::deck::Slot;
use crate::experiment::{Arm, ByArm, Phase};

/// A deck that is being dealt, with what it shares with its experiment.
#[derive(Debug, Clone)]
pub struct LiveDeck {
    /// The cycle.
    pub cycle: i64,
    /// The image model.
    pub model_name: String,
    /// Which deck of the experiment.
    pub phase: Phase,
    /// True where a task gets both versions, and reports each under its own.
    pub paired: bool,
    /// The control's version.
    pub control_version: i32,
    /// The candidate's version.
    pub candidate_version: i32,
    /// When its clock began to run.
    pub clock_from: DateTime<Utc>,
    /// How many slots were dealt again so far.
    pub deals_again: i32,
    /// Slots that went without a score, dealt again or not.
    pub missed: ByArm<u32>,
}

impl LiveDeck {
    pub(super) const fn version_of(&self, arm: Arm) -> i32 {
        match arm {
            Arm::Control => self.control_version,
            Arm::Candidate => self.candidate_version,
        }
    }

    /// The attempts' `version` that an arm's reports are stored under: attempts are apart by version
    /// only where a task has one of each.
    pub(super) const fn attempt_version_of(&self, arm: Arm) -> i32 {
        if self.paired { self.version_of(arm) } else { 0 }
    }
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

/// Locks a deck that is being dealt: its slots change only under this lock, but for being dealt.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
    phase: Phase,
) -> Result<Option<LiveDeck>, StoreError> {
    match phase {
        Phase::Test => lock_test(conn, workflow_id, cycle, model).await,
        Phase::Probation => lock_probation(conn, workflow_id, cycle, model).await,
    }
}

async fn lock_test(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<Option<LiveDeck>, StoreError> {
    let row = sqlx::query!(
        "SELECT control_version, candidate_version, paired, opened_at, deals_again, missed_control,
                missed_candidate
           FROM experiments
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND status = 'testing'
            FOR UPDATE",
        workflow_id,
        cycle,
        model
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| LiveDeck {
        cycle,
        model_name: model.to_owned(),
        phase: Phase::Test,
        paired: row.paired,
        control_version: row.control_version,
        candidate_version: row.candidate_version,
        clock_from: row.opened_at,
        deals_again: row.deals_again,
        missed: unsigned(row.missed_control, row.missed_candidate),
    }))
}

async fn lock_probation(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    model: &str,
) -> Result<Option<LiveDeck>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT e.control_version, e.candidate_version,
                  coalesce(p.extended_at, p.opened_at) AS "clock_from!", p.deals_again,
                  p.missed_control, p.missed_candidate
             FROM probations p
             JOIN experiments e
               ON e.workflow_id = p.workflow_id AND e.cycle = p.cycle AND e.model_name = p.model_name
            WHERE p.workflow_id = $1 AND p.cycle = $2 AND p.model_name = $3 AND p.status = 'open'
              FOR UPDATE OF p"#,
        workflow_id,
        cycle,
        model
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| LiveDeck {
        cycle,
        model_name: model.to_owned(),
        phase: Phase::Probation,
        paired: false,
        control_version: row.control_version,
        candidate_version: row.candidate_version,
        clock_from: row.clock_from,
        deals_again: row.deals_again,
        missed: unsigned(row.missed_control, row.missed_candidate),
    }))
}

fn unsigned(control: i32, candidate: i32) -> ByArm<u32> {
    ByArm { control: control.unsigned_abs(), candidate: candidate.unsigned_abs() }
}

/// Adds slots to an experiment, numbered on from those that it has, all open. Persisted before the
/// first task draws one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn append(
    conn: &mut PgConnection,
    workflow_id: i64,
    (cycle, model): (i64, &str),
    phase: Phase,
    slots: &[Slot],
) -> Result<(), StoreError> {
    let numbers: Vec<i32> = slots.iter().map(|slot| small(slot.number)).collect();
    let blocks: Vec<i32> = slots.iter().map(|slot| small(slot.block)).collect();
    let arms: Vec<String> = slots.iter().map(|slot| slot.arm.as_str().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO deck_slots (workflow_id, cycle, model_name, phase, slot, block, arm, state)
         SELECT $1, $2, $3, $4, slot + last.slots, block + last.blocks, arm, 'open'
           FROM unnest($5::int[], $6::int[], $7::text[]) AS dealt (slot, block, arm),
                (SELECT coalesce(max(s.slot), 0) AS slots, coalesce(max(s.block), 0) AS blocks
                   FROM deck_slots s
                  WHERE s.workflow_id = $1 AND s.cycle = $2 AND s.model_name = $3) AS last",
        workflow_id,
        cycle,
        model,
        phase.as_str(),
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

/// Freezes an experiment's slots: from here on no score of them changes, and none is dealt.
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

/// Opens the slots again that were left without a score, for a deck that gets its time once more.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn reopen_missing(
    conn: &mut PgConnection,
    workflow_id: i64,
    (cycle, model): (i64, &str),
    phase: Phase,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE deck_slots SET state = 'open'
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND phase = $4
            AND state = 'missing' AND NOT frozen",
        workflow_id,
        cycle,
        model,
        phase.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How far each deck of a cycle has come, by model and phase.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn progress(
    pool: &PgPool,
    workflow_id: i64,
    cycle: i64,
) -> Result<BTreeMap<(String, Phase), Progress>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT model_name, phase, arm, count(*)::int AS "size!",
                  count(*) FILTER (WHERE state IN ('dealt', 'scored'))::int AS "dealt!",
                  count(*) FILTER (WHERE state = 'scored')::int AS "scored!",
                  coalesce(sum(score), 0)::int AS "sum!"
             FROM deck_slots WHERE workflow_id = $1 AND cycle = $2
            GROUP BY model_name, phase, arm"#,
        workflow_id,
        cycle
    )
    .fetch_all(pool)
    .await?;
    let mut decks: BTreeMap<(String, Phase), Progress> = BTreeMap::new();
    for row in rows {
        let key = || format!("workflow {workflow_id} cycle {cycle} {}", row.model_name);
        let arm = read_arm(&row.arm, key)?;
        let phase = row
            .phase
            .parse()
            .map_err(|cause| StoreError::corrupt("deck_slots", "phase", key(), cause))?;
        let progress = decks.entry((row.model_name.clone(), phase)).or_default();
        *progress.size.get_mut(arm) = row.size.unsigned_abs();
        *progress.dealt.get_mut(arm) = row.dealt.unsigned_abs();
        *progress.scored.get_mut(arm) = row.scored.unsigned_abs();
        *progress.sum.get_mut(arm) = row.sum.unsigned_abs();
    }
    Ok(decks)
}
