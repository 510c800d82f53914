//! Which version a run was told: dealing slots, pinning everybody else.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use crate::experiment::Arm;

/// Which run asks for which model.
#[derive(Debug, Clone, Copy)]
pub struct RunKey<'k> {
    /// The workflow.
    pub workflow_id: i64,
    /// The task's external id.
    pub task: &'k str,
    /// The run; empty for the default one.
    pub run: &'k str,
    /// The image model.
    pub model: &'k str,
}

/// What a run was told, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRow {
    /// The version.
    pub version: i32,
    /// The version's content hash.
    pub content_hash: String,
    /// The arm, for slot holders.
    pub arm: Option<Arm>,
    /// The cycle whose test it belongs to, for slot holders.
    pub cycle: Option<i64>,
    /// The second version of a paired task.
    pub pair: Option<i32>,
}

/// A pin to be written: the run was told the active version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The workflow.
    pub workflow_id: i64,
    /// The task's external id.
    pub task: String,
    /// The run.
    pub run: String,
    /// The image model.
    pub model: String,
    /// The version that it was told.
    pub version: i32,
    /// When.
    pub at: DateTime<Utc>,
}

/// A running experiment as a dealer sees it.
#[derive(Debug, Clone, Copy)]
pub struct OpenDeck {
    /// The cycle.
    pub cycle: i64,
    /// The version that serves.
    pub control_version: i32,
    /// The version that is tried.
    pub candidate_version: i32,
    /// True where a task gets both.
    pub paired: bool,
}

/// What a run holds of a deck.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The cycle.
    pub cycle: i64,
    /// The slot.
    pub slot: i32,
    /// Its arm.
    pub arm: Arm,
    /// The version of the slot of the other arm that it holds beside it, where tasks are paired. A
    /// pair is two slots in a row.
    pub pair_version: Option<i32>,
}

impl Held {
    fn pair_slot(&self) -> Option<i32> {
        self.pair_version.map(|_| self.slot + 1)
    }
}

/// An assignment as it is stored, with the arm as its word.
pub(super) struct StoredAssignment {
    pub version: i32,
    pub arm: Option<String>,
    pub cycle: Option<i64>,
    pub pair_version: Option<i32>,
    pub content_hash: String,
}

impl StoredAssignment {
    pub(super) fn read(self, key: RunKey<'_>) -> Result<AssignmentRow, StoreError> {
        Ok(AssignmentRow {
            version: self.version,
            content_hash: self.content_hash,
            arm: read_arm(key, self.arm.as_deref())?,
            cycle: self.cycle,
            pair: self.pair_version,
        })
    }
}

fn read_arm(key: RunKey<'_>, arm: Option<&str>) -> Result<Option<Arm>, StoreError> {
    arm.map(str::parse).transpose().map_err(|cause| {
        let row = format!("workflow {} task {:?} model {}", key.workflow_id, key.task, key.model);
        StoreError::corrupt("assignments", "arm", row, cause)
    })
}

/// What a run was told before, if anything.
///
/// # Errors
/// [`StoreError`] when the database fails or the row cannot be read.
pub async fn find(
    conn: &mut PgConnection,
    key: RunKey<'_>,
) -> Result<Option<AssignmentRow>, StoreError> {
    let row = sqlx::query_as!(
        StoredAssignment,
        "SELECT a.version, a.arm, a.cycle, a.pair_version, v.content_hash
           FROM assignments a
           JOIN prompt_versions v
             ON v.workflow_id = a.workflow_id AND v.model_name = a.model_name AND v.version = a.version
          WHERE a.workflow_id = $1 AND a.clickup_task_id = $2 AND a.run_id = $3 AND a.model_name = $4",
        key.workflow_id,
        key.task,
        key.run,
        key.model
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| row.read(key)).transpose()
}

/// The model's open deck, if a test or a probation runs, nothing holds it, and the run has not begun
/// with that model yet. Shared lock on its row: it cannot end in the middle of a deal.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn open_deck(
    conn: &mut PgConnection,
    key: RunKey<'_>,
) -> Result<Option<OpenDeck>, StoreError> {
    // A model's test is decided before its probation opens, so at most one of the two is there.
    match test_deck(conn, key).await? {
        Some(deck) => Ok(Some(deck)),
        None => probation_deck(conn, key).await,
    }
}

async fn test_deck(
    conn: &mut PgConnection,
    key: RunKey<'_>,
) -> Result<Option<OpenDeck>, StoreError> {
    Ok(sqlx::query_as!(
        OpenDeck,
        "SELECT e.cycle, e.control_version, e.candidate_version, e.paired
           FROM experiments e
          WHERE e.workflow_id = $1 AND e.model_name = $2 AND e.status = 'testing'
            AND NOT EXISTS (
                SELECT FROM holds h
                 WHERE h.workflow_id = $1 AND h.lifted_at IS NULL
                   AND (h.cycle IS NULL OR h.cycle = e.cycle))
            AND NOT EXISTS (
                SELECT FROM tasks t JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
                 WHERE t.workflow_id = $1 AND t.clickup_task_id = $3 AND t.run_id = $4
                   AND a.model_name = $2)
            FOR SHARE OF e",
        key.workflow_id,
        key.model,
        key.task,
        key.run
    )
    .fetch_optional(conn)
    .await?)
}

async fn probation_deck(
    conn: &mut PgConnection,
    key: RunKey<'_>,
) -> Result<Option<OpenDeck>, StoreError> {
    Ok(sqlx::query_as!(
        OpenDeck,
        "SELECT p.cycle, e.control_version, e.candidate_version, false AS \"paired!\"
           FROM probations p
           JOIN experiments e
             ON e.workflow_id = p.workflow_id AND e.cycle = p.cycle AND e.model_name = p.model_name
          WHERE p.workflow_id = $1 AND p.model_name = $2 AND p.status = 'open'
            AND NOT EXISTS (
                SELECT FROM holds h
                 WHERE h.workflow_id = $1 AND h.lifted_at IS NULL
                   AND (h.cycle IS NULL OR h.cycle = p.cycle))
            AND NOT EXISTS (
                SELECT FROM tasks t JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
                 WHERE t.workflow_id = $1 AND t.clickup_task_id = $3 AND t.run_id = $4
                   AND a.model_name = $2)
            FOR SHARE OF p",
        key.workflow_id,
        key.model,
        key.task,
        key.run
    )
    .fetch_optional(conn)
    .await?)
}

/// Locks the next open slot of a deck, or none when every slot is held. The slot is not dealt yet: of
/// several calls for one run each may lock a slot, and only the one whose [`insert_holder`] wins holds it.
/// Of a pair the first slot is locked; nobody touches the second one without it.
///
/// # Errors
/// [`StoreError`] when the database fails or the row cannot be read.
pub async fn lock_slot(
    conn: &mut PgConnection,
    key: RunKey<'_>,
    deck: &OpenDeck,
) -> Result<Option<(i32, Arm)>, StoreError> {
    let row = sqlx::query!(
        "SELECT slot, arm FROM deck_slots
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND state = 'open' AND NOT frozen
            AND (NOT $4 OR slot % 2 = 1)
          ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED",
        key.workflow_id,
        deck.cycle,
        key.model,
        deck.paired
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let arm = read_arm(key, Some(&row.arm))?;
        Ok(arm.map(|arm| (row.slot, arm)))
    })
    .transpose()
    .map(Option::flatten)
}

/// Gives a locked slot, or both of a pair, to the run whose assignment was written.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take_slot(
    conn: &mut PgConnection,
    key: RunKey<'_>,
    held: Held,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let slots: Vec<i32> = std::iter::once(held.slot).chain(held.pair_slot()).collect();
    sqlx::query!(
        "UPDATE deck_slots SET state = 'dealt', clickup_task_id = $5, run_id = $6, dealt_at = $7
          WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND slot = ANY($4)",
        key.workflow_id,
        held.cycle,
        key.model,
        &slots,
        key.task,
        key.run,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a slot holder's assignment. False when the run was told something in the meantime; the
/// caller then rolls back, and the slot is open again.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert_holder(
    conn: &mut PgConnection,
    key: RunKey<'_>,
    version: i32,
    held: Held,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        "INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, arm, cycle, slot,
                assigned_at, pair_version, pair_slot)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        key.workflow_id,
        key.task,
        key.run,
        key.model,
        version,
        held.arm.as_str(),
        held.cycle,
        held.slot,
        now,
        held.pair_version,
        held.pair_slot()
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(inserted == 1)
}

/// Writes pins, many at once. A run that was told something already keeps it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert_pins(conn: &mut PgConnection, pins: &[Pin]) -> Result<(), StoreError> {
    let mut sorted: Vec<&Pin> = pins.iter().collect();
    // In key order, so that two processes that pin the same runs cannot wait for each other.
    sorted.sort_by(|a, b| {
        (a.workflow_id, &a.task, &a.run, &a.model).cmp(&(b.workflow_id, &b.task, &b.run, &b.model))
    });
    let workflows: Vec<i64> = sorted.iter().map(|pin| pin.workflow_id).collect();
    let tasks: Vec<String> = sorted.iter().map(|pin| pin.task.clone()).collect();
    let runs: Vec<String> = sorted.iter().map(|pin| pin.run.clone()).collect();
    let models: Vec<String> = sorted.iter().map(|pin| pin.model.clone()).collect();
    let versions: Vec<i32> = sorted.iter().map(|pin| pin.version).collect();
    let times: Vec<DateTime<Utc>> = sorted.iter().map(|pin| pin.at).collect();
    sqlx::query!(
        "INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, assigned_at)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[])
         ON CONFLICT DO NOTHING",
        &workflows,
        &tasks,
        &runs,
        &models,
        &versions,
        &times
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many holders one step reads at most.
pub const HOLDERS_A_STEP: usize = 10_000;

/// The slot holders that were written after a given row: id, workflow, task, run, model. Read in
/// steps, so that every process knows every holder without asking on each call.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn holders_after(
    pool: &PgPool,
    after: i64,
    since: DateTime<Utc>,
) -> Result<Vec<(i64, i64, String, String, String)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT assignment_id, workflow_id, clickup_task_id, run_id, model_name FROM assignments
          WHERE slot IS NOT NULL AND (assignment_id > $1 OR assigned_at > $2) ORDER BY assignment_id LIMIT 10000",
        after,
        since
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (row.assignment_id, row.workflow_id, row.clickup_task_id, row.run_id, row.model_name)
        })
        .collect())
}
