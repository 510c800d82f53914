//! Retention: old tasks leave in short transactions beside running ingest, and their totals stay.
//!
//! What a removed task amounted to is added to `archived_task_days` and `archived_model_days` under
//! the day on which the task arrived, in the workflow's time zone. The dashboard groups living tasks
//! by the same day, so its totals and trends read the same before and after. A day that was archived
//! keeps its date when the workflow's time zone is changed later.
//!
//! Versions, insights, experiments, cycles, backups and paid calls are never cleaned.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::{PgConnection, PgPool};

use super::figures::OTHER_CATEGORIES;
use super::{StoreError, figures, insights};

/// What a cleanup removes, and how much of it at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Tasks that arrived before this instant go.
    pub created_before: DateTime<Utc>,
    /// The time now, for the tombstones.
    pub now: DateTime<Utc>,
    /// The workflow's time zone: its days are the days of the archive.
    pub time_zone: Tz,
    /// The most tasks that one step removes, from 1. A step is one transaction; 500 is a good size.
    pub batch: i64,
}

/// What one step of a cleanup did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanupStep {
    /// Tasks removed.
    pub removed: i64,
    /// Those of them that had ended and had been in no analysis. Nothing was learnt from them.
    pub unanalyzed: i64,
    /// True when the batch was full, so that another step may find more.
    pub more: bool,
}

/// The tasks that a step has locked.
#[derive(Debug, Default)]
struct Picked {
    ids: Vec<i64>,
    tasks: Vec<String>,
    runs: Vec<String>,
    arrivals: Vec<DateTime<Utc>>,
    unanalyzed: i64,
}

impl Picked {
    /// The days on which they arrived, each once.
    fn days(&self, zone: Tz) -> Vec<NaiveDate> {
        let days = self.arrivals.iter().map(|at| at.with_timezone(&zone).date_naive());
        days.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Removes at most one batch of old tasks: archives them, leaves tombstones, deletes.
///
/// Call it until [`CleanupStep::more`] is false. It never takes a task that is still running, one
/// that an open cycle has in its window, one that holds a slot of an open cycle, or one that is evidence of an insight
/// which candidates may rest on (see [`insights::STANDING_MAX`]); which cycle is
/// open is read here, so that the answer cannot be stale. Several cleanups may run at once and beside ingest: a task that
/// another transaction has locked is left for the next time. A crash before COMMIT leaves all of the batch
/// in place, a crash after it leaves nothing to repeat.
///
/// # Errors
/// [`StoreError`] when a statement fails. The step is then undone as a whole and may be repeated.
pub async fn cleanup(
    pool: &PgPool,
    workflow_id: i64,
    cleanup: &Cleanup,
) -> Result<CleanupStep, StoreError> {
    let mut transaction = pool.begin().await?;
    let open_cycle = open_cycle(&mut transaction, workflow_id).await?;
    let picked = pick(&mut transaction, workflow_id, cleanup, open_cycle).await?;
    let removed = i64::try_from(picked.ids.len()).unwrap_or(i64::MAX);
    if removed > 0 {
        archive_tasks(&mut transaction, workflow_id, &picked.ids, cleanup.time_zone).await?;
        archive_models(&mut transaction, workflow_id, &picked.ids, cleanup.time_zone).await?;
        bury(&mut transaction, workflow_id, &picked, cleanup.now).await?;
        delete(&mut transaction, workflow_id, &picked).await?;
        let (zone, now) = (cleanup.time_zone, cleanup.now);
        figures::add_up_now(&mut transaction, workflow_id, zone, &picked.days(zone), now).await?;
    }
    transaction.commit().await?;
    Ok(CleanupStep {
        removed,
        unanalyzed: picked.unanalyzed,
        more: removed >= cleanup.batch.max(1),
    })
}

/// Removes sessions that have run out, and returns how many.
///
/// # Errors
/// [`StoreError`] when the statement fails; nothing is removed then.
pub async fn prune_sessions(pool: &PgPool, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let pruned =
        sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1", now).execute(pool).await?;
    Ok(pruned.rows_affected())
}

/// Removes at most `batch` assignments without a slot that were made before `assigned_before`, and
/// returns how many: runs that asked for a version and never logged a step. Slot holders stay, they
/// are part of their experiment's record.
///
/// # Errors
/// [`StoreError`] when the statement fails; nothing is removed then.
pub async fn prune_assignments(
    pool: &PgPool,
    workflow_id: i64,
    assigned_before: DateTime<Utc>,
    batch: i64,
) -> Result<u64, StoreError> {
    let pruned = sqlx::query!(
        r#"
        DELETE FROM assignments AS a
        USING (
            SELECT workflow_id, clickup_task_id, run_id, model_name
            FROM assignments
            WHERE workflow_id = $1 AND assigned_at < $2 AND slot IS NULL
            ORDER BY assigned_at
            LIMIT $3
            FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE a.workflow_id = $1
          AND a.workflow_id = old.workflow_id
          AND a.clickup_task_id = old.clickup_task_id
          AND a.run_id = old.run_id
          AND a.model_name = old.model_name
        "#,
        workflow_id,
        assigned_before,
        batch.max(1),
    )
    .execute(pool)
    .await?;
    Ok(pruned.rows_affected())
}

/// The number of the open cycle; past every number where none is open.
async fn open_cycle(connection: &mut PgConnection, workflow_id: i64) -> Result<i64, StoreError> {
    let open = sqlx::query_scalar!(
        r#"
        SELECT number FROM cycles
        WHERE workflow_id = $1
          AND state NOT IN ('applied', 'rejected', 'rolled_back', 'cancelled')
        "#,
        workflow_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(open.unwrap_or(i64::MAX))
}

/// Locks the batch. Cycles are numbered upwards, so "this cycle or a later one" also covers a cycle
/// that takes its window while this statement runs.
async fn pick(
    connection: &mut PgConnection,
    workflow_id: i64,
    cleanup: &Cleanup,
    open_cycle: i64,
) -> Result<Picked, StoreError> {
    let rows = sqlx::query!(
        r#"
        WITH evidence AS MATERIALIZED (
            SELECT DISTINCT unnest(example_task_ids) AS clickup_task_id
            FROM (
                SELECT example_task_ids FROM insights
                WHERE workflow_id = $1 AND standing IN ('new', 'confirmed', 'weakened')
                ORDER BY coalesce(judged_in_cycle, cycle) DESC, id DESC
                LIMIT $5
            ) AS standing)
        SELECT t.id, t.clickup_task_id, t.run_id, t.created_at,
               t.analyzed_in_cycle IS NULL
                   AND t.ended_by IN ('completed', 'winner', 'error') AS "unanalyzed!"
        FROM tasks t
        WHERE t.workflow_id = $1
          AND t.created_at < $2
          AND t.ended_by IS NOT NULL
          AND (t.analyzed_in_cycle IS NULL OR t.analyzed_in_cycle < $3)
          AND NOT EXISTS (
              SELECT 1 FROM deck_slots s
              WHERE s.workflow_id = $1 AND s.cycle >= $3
                AND s.clickup_task_id = t.clickup_task_id AND s.run_id = t.run_id)
          AND NOT EXISTS (SELECT 1 FROM evidence e WHERE e.clickup_task_id = t.clickup_task_id)
        ORDER BY t.created_at
        LIMIT $4
        FOR UPDATE OF t SKIP LOCKED
        "#,
        workflow_id,
        cleanup.created_before,
        open_cycle,
        cleanup.batch.max(1),
        insights::STANDING_MAX,
    )
    .fetch_all(connection)
    .await?;

    let mut picked = Picked::default();
    for row in rows {
        picked.ids.push(row.id);
        picked.tasks.push(row.clickup_task_id);
        picked.runs.push(row.run_id);
        picked.arrivals.push(row.created_at);
        picked.unanalyzed += i64::from(row.unanalyzed);
    }
    Ok(picked)
}

pub(super) async fn archive_tasks(
    connection: &mut PgConnection,
    workflow_id: i64,
    ids: &[i64],
    time_zone: Tz,
) -> Result<(), StoreError> {
    // Days in order, so that two cleanups at once cannot lock each other out.
    sqlx::query!(
        r#"
        INSERT INTO archived_task_days AS a (
            workflow_id, day, tasks, completed, errored, abandoned, with_winner,
            iterations_sum, iterations_count, processing_ms_sum, processing_count,
            kept, deleted, unanalyzed, category)
        SELECT t.workflow_id, (t.created_at AT TIME ZONE $3)::date,
               count(*),
               count(*) FILTER (WHERE t.ended_by IN ('completed', 'winner')),
               count(*) FILTER (WHERE t.ended_by = 'error'),
               count(*) FILTER (WHERE t.ended_by = 'abandoned'),
               count(t.winner_model),
               coalesce(sum(t.total_iterations), 0), count(t.total_iterations),
               coalesce(sum(t.processing_time_ms), 0), count(t.processing_time_ms),
               count(*) FILTER (WHERE t.feedback_kept),
               count(*) FILTER (WHERE NOT t.feedback_kept),
               count(*) FILTER (WHERE t.analyzed_in_cycle IS NULL
                                  AND t.ended_by IN ('completed', 'winner', 'error')),
               coalesce(f.category, $4)
        FROM tasks t
        -- The categories that the day's figures keep apart, so that the archive stays as small.
        LEFT JOIN task_day_figures f
               ON f.workflow_id = t.workflow_id AND f.day = (t.created_at AT TIME ZONE $3)::date
              AND f.category = coalesce(t.category, '')
        WHERE t.workflow_id = $1 AND t.id = ANY($2)
        GROUP BY 1, 2, coalesce(f.category, $4)
        ORDER BY 2, coalesce(f.category, $4)
        ON CONFLICT (workflow_id, day, category) DO UPDATE SET
            tasks = a.tasks + excluded.tasks,
            completed = a.completed + excluded.completed,
            errored = a.errored + excluded.errored,
            abandoned = a.abandoned + excluded.abandoned,
            with_winner = a.with_winner + excluded.with_winner,
            iterations_sum = a.iterations_sum + excluded.iterations_sum,
            iterations_count = a.iterations_count + excluded.iterations_count,
            processing_ms_sum = a.processing_ms_sum + excluded.processing_ms_sum,
            processing_count = a.processing_count + excluded.processing_count,
            kept = a.kept + excluded.kept,
            deleted = a.deleted + excluded.deleted,
            unanalyzed = a.unanalyzed + excluded.unanalyzed
        "#,
        workflow_id,
        ids,
        time_zone.name(),
        OTHER_CATEGORIES,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn archive_models(
    connection: &mut PgConnection,
    workflow_id: i64,
    ids: &[i64],
    time_zone: Tz,
) -> Result<(), StoreError> {
    // An attempt belongs to the day of its task, and so does a win, also of a model without attempts.
    sqlx::query!(
        r#"
        INSERT INTO archived_model_days AS a (
            workflow_id, day, model_name, attempts, scored, score_sum, passed, wins, category)
        SELECT m.workflow_id, m.day, m.model_name,
               sum(m.attempts), sum(m.scored), sum(m.score_sum), sum(m.passed), sum(m.wins),
               coalesce(f.category, $4)
        FROM (
            SELECT t.workflow_id, (t.created_at AT TIME ZONE $3)::date AS day,
                   coalesce(t.category, '') AS category, p.model_name,
                   1 AS attempts,
                   (p.validation_score IS NOT NULL)::int AS scored,
                   coalesce(p.validation_score, 0) AS score_sum,
                   coalesce(p.validation_passed AND p.validation_score IS NOT NULL, false)::int AS passed,
                   0 AS wins
            FROM tasks t
            JOIN attempts p ON p.workflow_id = t.workflow_id AND p.task_id = t.id
            WHERE t.workflow_id = $1 AND t.id = ANY($2)
            UNION ALL
            SELECT t.workflow_id, (t.created_at AT TIME ZONE $3)::date, coalesce(t.category, ''),
                   t.winner_model, 0, 0, 0, 0, 1
            FROM tasks t
            WHERE t.workflow_id = $1 AND t.id = ANY($2) AND t.winner_model IS NOT NULL
        ) AS m
        LEFT JOIN task_day_figures f
               ON f.workflow_id = m.workflow_id AND f.day = m.day AND f.category = m.category
        GROUP BY 1, 2, 3, coalesce(f.category, $4)
        ORDER BY 2, coalesce(f.category, $4), 3
        ON CONFLICT (workflow_id, day, category, model_name) DO UPDATE SET
            attempts = a.attempts + excluded.attempts,
            scored = a.scored + excluded.scored,
            score_sum = a.score_sum + excluded.score_sum,
            passed = a.passed + excluded.passed,
            wins = a.wins + excluded.wins
        "#,
        workflow_id,
        ids,
        time_zone.name(),
        OTHER_CATEGORIES,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Leaves the tasks' keys, so that a late event cannot revive them.
async fn bury(
    connection: &mut PgConnection,
    workflow_id: i64,
    picked: &Picked,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        INSERT INTO task_tombstones (workflow_id, clickup_task_id, run_id, removed_at)
        SELECT t.workflow_id, t.clickup_task_id, t.run_id, $3
        FROM tasks t
        WHERE t.workflow_id = $1 AND t.id = ANY($2)
        ON CONFLICT (workflow_id, clickup_task_id, run_id) DO NOTHING
        "#,
        workflow_id,
        &picked.ids,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete(
    connection: &mut PgConnection,
    workflow_id: i64,
    picked: &Picked,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        DELETE FROM task_events AS e
        USING unnest($2::text[], $3::text[]) AS gone (clickup_task_id, run_id)
        WHERE e.workflow_id = $1
          AND e.clickup_task_id = gone.clickup_task_id AND e.run_id = gone.run_id
        "#,
        workflow_id,
        &picked.tasks,
        &picked.runs,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        r#"
        DELETE FROM assignments AS a
        USING unnest($2::text[], $3::text[]) AS gone (clickup_task_id, run_id)
        WHERE a.workflow_id = $1 AND a.slot IS NULL
          AND a.clickup_task_id = gone.clickup_task_id AND a.run_id = gone.run_id
        "#,
        workflow_id,
        &picked.tasks,
        &picked.runs,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM attempts WHERE workflow_id = $1 AND task_id = ANY($2)",
        workflow_id,
        &picked.ids,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM tasks WHERE workflow_id = $1 AND id = ANY($2)",
        workflow_id,
        &picked.ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}
