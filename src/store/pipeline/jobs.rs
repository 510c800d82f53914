//! Jobs: the durable queue of runs, claimed under a lease and a fence as effects are.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::effects::interval;

/// What made a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A delivery.
    Webhook,
    /// The sweep, since no delivery came.
    Sweep,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Sweep => "sweep",
        }
    }
}

/// A job that a worker holds.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// The workflow.
    pub workflow_id: i64,
    /// The job's row.
    pub job_id: i64,
    /// ClickUp's id of the task.
    pub task_id: String,
    /// Which run of the task.
    pub run: i32,
    /// Every write about it names this number; a rescuer raises it.
    pub fence: i64,
    /// The holder.
    pub worker_id: Uuid,
    /// How often a worker died with it.
    pub deaths: i32,
    /// How often it was tried since it last made progress.
    pub waits: i32,
    /// Since when it waits without progress.
    pub waiting_since: Option<DateTime<Utc>>,
}

impl ClaimedJob {
    /// The run's id in the task log.
    #[must_use]
    pub fn run_id(&self) -> String {
        self.run.to_string()
    }

    fn held(&self, rows: u64) -> Result<(), StoreError> {
        if rows == 1 { Ok(()) } else { Err(self.lost()) }
    }

    pub(super) const fn lost(&self) -> StoreError {
        StoreError::JobLost { job_id: self.job_id }
    }
}

/// Makes a job for a task that has no open one; `None` when it has. The run's number is one more than any that the
/// task ever had, tombstones included, so that a removed run stays dead.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn want(
    conn: &mut PgConnection,
    workflow_id: i64,
    task_id: &str,
    source: Source,
    now: DateTime<Utc>,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, run_after, created_at)
           SELECT $1, $2, 1 + coalesce(max(runs.run), 0), $3, 'pending', $4, $4
             FROM (SELECT run FROM pipeline_jobs WHERE workflow_id = $1 AND task_id = $2
                   UNION ALL
                   SELECT run_id::integer FROM tasks
                    WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id ~ '^[0-9]{1,8}$'
                   UNION ALL
                   SELECT run_id::integer FROM task_tombstones
                    WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id ~ '^[0-9]{1,8}$') AS runs
           ON CONFLICT DO NOTHING
           RETURNING job_id"#,
        workflow_id,
        task_id,
        source.name(),
        now
    )
    .fetch_optional(conn)
    .await?)
}

/// Makes a task's open job due now if this is what it waits for.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn wake(
    conn: &mut PgConnection,
    workflow_id: i64,
    task_id: &str,
    wait_code: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_jobs SET run_after = $4
          WHERE workflow_id = $1 AND task_id = $2 AND status = 'pending' AND wait_code = $3
            AND run_after > $4",
        workflow_id,
        task_id,
        wait_code,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Claims the pending job of a workflow that has been due for longest, or none.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn claim(
    pool: &PgPool,
    workflow_id: i64,
    worker_id: Uuid,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Option<ClaimedJob>, StoreError> {
    let row = sqlx::query!(
        "UPDATE pipeline_jobs
            SET status = 'claimed', worker_id = $2, fence = fence + 1, lease_until = now() + $3
          WHERE workflow_id = $1
            AND job_id = (
                SELECT job_id FROM pipeline_jobs
                 WHERE workflow_id = $1 AND status = 'pending' AND run_after <= $4
                 ORDER BY run_after, job_id
                 LIMIT 1
                   FOR UPDATE SKIP LOCKED)
         RETURNING job_id, task_id, run, fence, deaths, waits, waiting_since",
        workflow_id,
        worker_id,
        interval(lease),
        now
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| ClaimedJob {
        workflow_id,
        job_id: row.job_id,
        task_id: row.task_id,
        run: row.run,
        fence: row.fence,
        worker_id,
        deaths: row.deaths,
        waits: row.waits,
        waiting_since: row.waiting_since,
    }))
}

/// True while a claim stands: nobody took the job over.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn stands(pool: &PgPool, job: &ClaimedJob) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM pipeline_jobs
                WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4
                  AND status = 'claimed') AS "stands!""#,
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence
    )
    .fetch_one(pool)
    .await?)
}

/// Forgets how often workers died with a job: it has made progress since.
///
/// # Errors
/// [`StoreError::JobLost`] when another worker holds it now.
pub async fn survived(pool: &PgPool, job: &ClaimedJob) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "UPDATE pipeline_jobs SET deaths = 0
          WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence
    )
    .execute(pool)
    .await?
    .rows_affected();
    job.held(rows)
}

/// What a job waits for.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'w> {
    /// Stable, for programs.
    pub code: &'w str,
    /// For people.
    pub words: &'w str,
    /// Not to be tried before.
    pub run_after: DateTime<Utc>,
    /// Since when it waits without progress.
    pub since: DateTime<Utc>,
    /// How often it was tried since.
    pub waits: i32,
}

/// Hands a claimed job back to be tried later, with what it waits for.
///
/// # Errors
/// [`StoreError::JobLost`] when another worker holds it now.
pub async fn wait(pool: &PgPool, job: &ClaimedJob, waiting: Waiting<'_>) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "UPDATE pipeline_jobs
            SET status = 'pending', worker_id = NULL, lease_until = NULL, run_after = $5,
                wait_code = $6, wait_words = $7, waiting_since = $8, waits = $9, deaths = 0
          WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence,
        waiting.run_after,
        waiting.code,
        waiting.words,
        waiting.since,
        waiting.waits
    )
    .execute(pool)
    .await?
    .rows_affected();
    job.held(rows)
}

/// Hands a claimed job back untouched, as a shutdown does. That another worker holds it by now is no error here.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn hand_back(pool: &PgPool, job: &ClaimedJob) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_jobs SET status = 'pending', worker_id = NULL, lease_until = NULL
          WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The picture of a winner is on the task, under this title.
    Winner {
        /// The attachment's title.
        title: String,
    },
    /// Nobody passed, and a person was asked.
    NoWinner,
    /// The task was not, or no longer, to be worked on.
    NotWanted,
    /// It failed, and a person was told where that was possible.
    Error,
}

impl Ended {
    const fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Winner { .. } => ("done", "winner"),
            Self::NoWinner => ("done", "no_winner"),
            Self::NotWanted => ("skipped", "not_wanted"),
            Self::Error => ("failed", "error"),
        }
    }
}

/// Ends a claimed job.
///
/// # Errors
/// [`StoreError::JobLost`] when another worker holds it now.
pub async fn finish(
    pool: &PgPool,
    job: &ClaimedJob,
    ended: &Ended,
    words: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (status, outcome) = ended.names();
    let title = match ended {
        Ended::Winner { title } => Some(title.as_str()),
        _ => None,
    };
    let rows = sqlx::query!(
        "UPDATE pipeline_jobs
            SET status = $5, outcome = $6, outcome_words = $7, upload_title = $8, finished_at = $9,
                worker_id = NULL, lease_until = NULL,
                wait_code = NULL, wait_words = NULL, waiting_since = NULL
          WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4 AND status = 'claimed'",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence,
        status,
        outcome,
        words,
        title,
        now
    )
    .execute(pool)
    .await?
    .rows_affected();
    job.held(rows)
}

/// Prolongs the leases of all jobs that a worker holds, on the database's clock.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn renew(pool: &PgPool, worker_id: Uuid, lease: Duration) -> Result<u64, StoreError> {
    let renewed = sqlx::query!(
        "UPDATE pipeline_jobs SET lease_until = now() + $2 WHERE worker_id = $1 AND status = 'claimed'",
        worker_id,
        interval(lease)
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(renewed)
}

/// Takes every job of a dead worker away from it. The raised fence makes a late write of the dead affect no row.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn rescue(pool: &PgPool, worker_id: Uuid, only_expired: bool) -> Result<u64, StoreError> {
    let rescued = sqlx::query!(
        "UPDATE pipeline_jobs
            SET status = 'pending', worker_id = NULL, lease_until = NULL, fence = fence + 1,
                deaths = deaths + 1
          WHERE worker_id = $1 AND status = 'claimed' AND (NOT $2 OR lease_until < now())",
        worker_id,
        only_expired
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(rescued)
}

/// The jobs that a worker holds by the rows.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn own_claims(pool: &PgPool, worker_id: Uuid) -> Result<Vec<ClaimedJob>, StoreError> {
    let rows = sqlx::query!(
        "SELECT workflow_id, job_id, task_id, run, fence, deaths, waits, waiting_since
           FROM pipeline_jobs WHERE worker_id = $1 AND status = 'claimed'",
        worker_id
    )
    .fetch_all(pool)
    .await?;
    let claim = |workflow_id, job_id, task_id, run, fence| ClaimedJob {
        workflow_id,
        job_id,
        task_id,
        run,
        fence,
        worker_id,
        deaths: 0,
        waits: 0,
        waiting_since: None,
    };
    Ok(rows
        .into_iter()
        .map(|row| ClaimedJob {
            deaths: row.deaths,
            waits: row.waits,
            waiting_since: row.waiting_since,
            ..claim(row.workflow_id, row.job_id, row.task_id, row.run, row.fence)
        })
        .collect())
}

/// Of these tasks, seen in the ready status at these times, those that wait for a job: none of theirs is open, and
/// the last one ended well before the task was changed. What a run itself changes must not bring the next one about.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn without_job(
    pool: &PgPool,
    workflow_id: i64,
    tasks: &[String],
    changed_at: &[DateTime<Utc>],
    settle: Duration,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT seen.task_id AS "task_id!"
             FROM unnest($2::text[], $3::timestamptz[]) AS seen (task_id, changed_at)
            WHERE NOT EXISTS (
                SELECT FROM pipeline_jobs j
                 WHERE j.workflow_id = $1 AND j.task_id = seen.task_id
                   AND (j.finished_at IS NULL OR j.finished_at + $4 > seen.changed_at))"#,
        workflow_id,
        tasks,
        changed_at,
        interval(settle)
    )
    .fetch_all(pool)
    .await?)
}
