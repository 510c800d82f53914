//! Forgetting one task on request: its rows and its texts go, what it amounted to stays.
//!
//! As after retention: its figures are added to the archive, and a tombstone for each run keeps a late event from
//! reviving it. More than after retention: what quotes it goes too (see `quotes`).

mod quotes;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{StoreError, figures, retention};
use crate::cycle::StateName;

/// Which task is to be forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// The pipeline's name of the task.
    pub task: &'w str,
    /// One run of it; none means every run.
    pub run: Option<&'w str>,
    /// The time now, for the tombstones.
    pub now: DateTime<Utc>,
    /// The workflow's time zone: its days are the days of the archive.
    pub time_zone: Tz,
}

/// The open cycle, whose row the caller holds locked.
#[derive(Debug, Clone, Copy)]
pub struct OpenCycle {
    /// Its number.
    pub number: i64,
    /// Where it stands.
    pub state: StateName,
}

/// Why a task cannot be forgotten yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// An open cycle has it in its window.
    Window {
        /// The cycle.
        cycle: i64,
    },
    /// It holds, or held when the test ended, a slot of an open cycle's deck.
    Slot {
        /// The cycle.
        cycle: i64,
        /// The model whose deck it is.
        model: String,
    },
    /// Claude is being asked about what rests on earlier tasks; a redo must ask the same again.
    Asking {
        /// The cycle.
        cycle: i64,
    },
    /// The reference pipeline is at work on a run of it.
    Running {
        /// The run.
        run: i32,
    },
}

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Forgotten {
    /// The runs that left a tombstone, those removed before included.
    pub runs: Vec<String>,
    /// Runs whose rows were removed now.
    pub removed: usize,
    /// Runs among them that had ended and had been in no analysis.
    pub unanalyzed: usize,
    /// Insights, answers and reasons from which the task was taken out.
    pub texts_mended: usize,
}

/// What became of a request to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is known by that name.
    Unknown,
    /// It is needed; nothing was changed.
    InUse(InUse),
    /// It is gone.
    Done(Forgotten),
}

/// One run that is to go.
struct Run {
    id: i64,
    created_at: DateTime<Utc>,
    ended: bool,
    analyzed_in_cycle: Option<i64>,
}

/// Forgets a task, or one run of it, within the caller's transaction, which holds the open cycle locked: what is
/// needed cannot change meanwhile. A run that has not ended is archived as abandoned.
///
/// One transaction, so a crash before its COMMIT leaves all in place, and after it there is nothing to repeat.
/// Repeated, it finds the tombstones.
///
/// # Errors
/// [`StoreError`] when a statement fails; the caller's transaction is then to be rolled back.
pub async fn forget(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
    open: Option<OpenCycle>,
) -> Result<Outcome, StoreError> {
    let known = known_runs(conn, workflow_id, wanted).await?;
    if known.is_empty() {
        return Ok(Outcome::Unknown);
    }
    let runs = lock(conn, workflow_id, wanted).await?;
    if let Some(reason) = in_use(conn, workflow_id, wanted, open, &runs).await? {
        return Ok(Outcome::InUse(reason));
    }
    let ids: Vec<i64> = runs.iter().map(|run| run.id).collect();
    let quotes = quotes::read(conn, workflow_id, wanted.task, &ids).await?;
    archive(conn, workflow_id, wanted, &runs, &ids).await?;
    bury(conn, workflow_id, wanted, &known).await?;
    delete(conn, workflow_id, wanted, &known, &ids).await?;
    let mut texts_mended = quotes::take_out(conn, workflow_id, &quotes).await?;
    if !lives(conn, workflow_id, wanted.task).await? {
        texts_mended += quotes::drop_evidence(conn, workflow_id, wanted.task).await?;
    }
    if !runs.is_empty() {
        let days: Vec<NaiveDate> = days(&runs, wanted.time_zone);
        figures::add_up_now(conn, workflow_id, wanted.time_zone, &days, wanted.now).await?;
    }
    let unanalyzed = |run: &&Run| run.ended && run.analyzed_in_cycle.is_none();
    Ok(Outcome::Done(Forgotten {
        unanalyzed: runs.iter().filter(unanalyzed).count(),
        removed: runs.len(),
        runs: known,
        texts_mended,
    }))
}

fn days(runs: &[Run], zone: Tz) -> Vec<NaiveDate> {
    let mut days: Vec<NaiveDate> =
        runs.iter().map(|run| run.created_at.with_timezone(&zone).date_naive()).collect();
    days.sort_unstable();
    days.dedup();
    days
}

/// Every run that anything is known of, those already removed included.
async fn known_runs(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT known.run AS "run!"
             FROM (SELECT run_id AS run FROM tasks WHERE workflow_id = $1 AND clickup_task_id = $2
                   UNION
                   SELECT run_id FROM task_tombstones WHERE workflow_id = $1 AND clickup_task_id = $2
                   UNION
                   SELECT run_id FROM assignments WHERE workflow_id = $1 AND clickup_task_id = $2
                   UNION
                   SELECT run::text FROM pipeline_jobs WHERE workflow_id = $1 AND task_id = $2) AS known
            WHERE $3::text IS NULL OR known.run = $3
            ORDER BY known.run"#,
        workflow_id,
        wanted.task,
        wanted.run
    )
    .fetch_all(conn)
    .await?)
}

/// Locks the runs, in the order in which ingest does.
async fn lock(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
) -> Result<Vec<Run>, StoreError> {
    Ok(sqlx::query_as!(
        Run,
        r#"SELECT id, created_at, ended_at IS NOT NULL AS "ended!", analyzed_in_cycle
             FROM tasks
            WHERE workflow_id = $1 AND clickup_task_id = $2 AND ($3::text IS NULL OR run_id = $3)
            ORDER BY run_id COLLATE "C"
              FOR UPDATE"#,
        workflow_id,
        wanted.task,
        wanted.run
    )
    .fetch_all(conn)
    .await?)
}

async fn in_use(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
    open: Option<OpenCycle>,
    runs: &[Run],
) -> Result<Option<InUse>, StoreError> {
    let at_work = sqlx::query_scalar!(
        "SELECT run FROM pipeline_jobs
          WHERE workflow_id = $1 AND task_id = $2 AND ($3::text IS NULL OR run::text = $3)
            AND status IN ('pending', 'claimed')",
        workflow_id,
        wanted.task,
        wanted.run
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(run) = at_work {
        return Ok(Some(InUse::Running { run }));
    }
    let Some(open) = open else { return Ok(None) };
    let cycle = open.number;
    if runs.iter().any(|run| run.analyzed_in_cycle.is_some_and(|of| of >= cycle)) {
        return Ok(Some(InUse::Window { cycle }));
    }
    let slot = sqlx::query_scalar!(
        "SELECT model_name FROM deck_slots
          WHERE workflow_id = $1 AND cycle >= $2 AND clickup_task_id = $3
            AND ($4::text IS NULL OR run_id = $4)
          ORDER BY model_name LIMIT 1",
        workflow_id,
        cycle,
        wanted.task,
        wanted.run
    )
    .fetch_optional(conn)
    .await?;
    if let Some(model) = slot {
        return Ok(Some(InUse::Slot { cycle, model }));
    }
    let asking = matches!(open.state, StateName::Analyzing | StateName::Generating);
    let analysed = runs.iter().any(|run| run.analyzed_in_cycle.is_some_and(|of| of > 0));
    // A run that retention took may have been in a window; nothing tells any more.
    Ok((asking && (analysed || runs.is_empty())).then_some(InUse::Asking { cycle }))
}

async fn archive(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
    runs: &[Run],
    ids: &[i64],
) -> Result<(), StoreError> {
    if runs.iter().any(|run| !run.ended) {
        sqlx::query!(
            "UPDATE tasks SET ended_at = $3, ended_by = 'abandoned'
              WHERE workflow_id = $1 AND id = ANY($2) AND ended_at IS NULL",
            workflow_id,
            ids,
            wanted.now
        )
        .execute(&mut *conn)
        .await?;
    }
    retention::archive_tasks(conn, workflow_id, ids, wanted.time_zone).await?;
    retention::archive_models(conn, workflow_id, ids, wanted.time_zone).await
}

/// Leaves the runs' keys, so that a late event cannot revive them.
async fn bury(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
    runs: &[String],
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO task_tombstones (workflow_id, clickup_task_id, run_id, removed_at)
         SELECT $1, $2, run, $4 FROM unnest($3::text[]) AS gone (run)
         ON CONFLICT (workflow_id, clickup_task_id, run_id) DO NOTHING",
        workflow_id,
        wanted.task,
        runs,
        wanted.now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes what the runs have left. Slot holders' assignments stay, they are part of their experiment's record and
/// hold no text; so do the keys of webhook deliveries, so that one sent again does not make a new run.
async fn delete(
    conn: &mut PgConnection,
    workflow_id: i64,
    wanted: &Wanted<'_>,
    runs: &[String],
    ids: &[i64],
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM task_events
          WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = ANY($3)",
        workflow_id,
        wanted.task,
        runs
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM assignments
          WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = ANY($3) AND slot IS NULL",
        workflow_id,
        wanted.task,
        runs
    )
    .execute(&mut *conn)
    .await?;
    // Its steps and calls go with it; no open job is among them.
    sqlx::query!(
        "DELETE FROM pipeline_jobs
          WHERE workflow_id = $1 AND task_id = $2 AND run::text = ANY($3)
            AND finished_at IS NOT NULL",
        workflow_id,
        wanted.task,
        runs
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM attempts WHERE workflow_id = $1 AND task_id = ANY($2)",
        workflow_id,
        ids
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("DELETE FROM tasks WHERE workflow_id = $1 AND id = ANY($2)", workflow_id, ids)
        .execute(conn)
        .await?;
    Ok(())
}

/// True while a run of the task is left, so that evidence that names it still leads somewhere.
async fn lives(conn: &mut PgConnection, workflow_id: i64, task: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM tasks WHERE workflow_id = $1 AND clickup_task_id = $2) AS "lives!""#,
        workflow_id,
        task
    )
    .fetch_one(conn)
    .await?)
}
