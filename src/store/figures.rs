//! The dashboard's figures: each day of living tasks added up, kept ready for the pages.
//!
//! Whoever changes tasks marks their hours in the same transaction ([`mark`]); the refresher takes the
//! marks and adds those days up anew ([`refresh`]). A mark is seen exactly when the change that it tells
//! of is, so no change can be missed, whatever crashes or races, and no clock is trusted. Ingest only adds
//! rows of its own and never waits for a refresh.

use std::collections::BTreeSet;

use chrono::{DateTime, DurationRound, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// Categories that a day keeps apart; the others of the day are together under [`OTHER_CATEGORIES`].
pub const CATEGORIES_A_DAY_MAX: i64 = 20;
/// The name of what is not kept apart.
pub const OTHER_CATEGORIES: &str = "other";

/// Notes that tasks of these instants have changed, to be added up later. Part of the transaction that
/// changes them.
///
/// # Errors
/// [`StoreError`] when the statement fails.
pub async fn mark(
    connection: &mut PgConnection,
    workflow_id: i64,
    arrivals: impl IntoIterator<Item = DateTime<Utc>>,
) -> Result<(), StoreError> {
    let hours: BTreeSet<DateTime<Utc>> = arrivals
        .into_iter()
        .map(|at| at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at))
        .collect();
    if hours.is_empty() {
        return Ok(());
    }
    let hours: Vec<DateTime<Utc>> = hours.into_iter().collect();
    sqlx::query!(
        "INSERT INTO figure_marks (workflow_id, hour) SELECT $1, unnest($2::timestamptz[])",
        workflow_id,
        &hours,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks every hour that has tasks.
///
/// # Errors
/// [`StoreError`] when the statement fails.
pub async fn mark_all(connection: &mut PgConnection, workflow_id: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO figure_marks (workflow_id, hour)
         SELECT DISTINCT $1::bigint, date_trunc('hour', created_at) FROM tasks WHERE workflow_id = $1",
        workflow_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of the workflows, each with its time zone, that [`refresh`] has something to do for: one statement for
/// all of them.
///
/// # Errors
/// [`StoreError`] when the statement fails.
pub async fn due(
    pool: &PgPool,
    workflow_ids: &[i64],
    zones: &[String],
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT asked.workflow_id AS "workflow_id!"
             FROM unnest($1::bigint[], $2::text[]) AS asked (workflow_id, time_zone)
             LEFT JOIN figure_states s ON s.workflow_id = asked.workflow_id
            WHERE s.time_zone IS DISTINCT FROM asked.time_zone
               OR EXISTS (SELECT FROM figure_marks m WHERE m.workflow_id = asked.workflow_id)"#,
        workflow_ids,
        zones,
    )
    .fetch_all(pool)
    .await?)
}

/// Adds up the days whose tasks have changed, and returns how many that were. Nothing is done while another
/// process does it, which finds the same marks.
///
/// One transaction: a crash before its commit leaves the marks for the next refresh, after it there is
/// nothing to repeat. A workflow whose time zone was changed is added up as a whole.
///
/// # Errors
/// [`StoreError`] when a statement fails; the figures stay as they were.
pub async fn refresh(
    pool: &PgPool,
    workflow_id: i64,
    zone: Tz,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    // Mostly there is nothing to do, which is found without a lock.
    if !is_due(pool, workflow_id, zone).await? {
        return Ok(0);
    }
    let mut transaction = pool.begin().await?;
    let free = sqlx::query_scalar!(
        "SELECT time_zone FROM figure_states WHERE workflow_id = $1 FOR UPDATE SKIP LOCKED",
        workflow_id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(known) = free else { return Ok(0) };
    if known != zone.name() {
        begin_anew(&mut transaction, workflow_id, zone).await?;
    }
    let days = take_marks(&mut transaction, workflow_id, zone).await?;
    add_up(&mut transaction, workflow_id, zone, &days).await?;
    note_refresh(&mut transaction, workflow_id, now).await?;
    transaction.commit().await?;
    Ok(days.len())
}

/// Adds days up within the caller's transaction, which has removed tasks of them: a page then never counts
/// a task twice, as living and as archived. Waits for a refresh that is under way.
///
/// # Errors
/// [`StoreError`] when a statement fails; the caller's transaction is then to be rolled back.
pub async fn add_up_now(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
    days: &[NaiveDate],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    ensure_state(&mut *connection, workflow_id, zone).await?;
    let known = sqlx::query_scalar!(
        "SELECT time_zone FROM figure_states WHERE workflow_id = $1 FOR UPDATE",
        workflow_id,
    )
    .fetch_one(&mut *connection)
    .await?;
    if known != zone.name() {
        begin_anew(&mut *connection, workflow_id, zone).await?;
    }
    add_up(&mut *connection, workflow_id, zone, days).await?;
    note_refresh(connection, workflow_id, now).await
}

/// How often the figures have changed: a page that knows an older number is out of date.
///
/// # Errors
/// [`StoreError`] when the statement fails.
pub async fn version(pool: &PgPool, workflow_id: i64) -> Result<i64, StoreError> {
    let version = sqlx::query_scalar!(
        "SELECT version FROM figure_states WHERE workflow_id = $1",
        workflow_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(version.unwrap_or(0))
}

async fn is_due(pool: &PgPool, workflow_id: i64, zone: Tz) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM figure_marks WHERE workflow_id = $1) AS "marked!",
                  (SELECT time_zone FROM figure_states WHERE workflow_id = $1) AS zone"#,
        workflow_id,
    )
    .fetch_one(pool)
    .await?;
    match row.zone {
        Some(known) => Ok(row.marked || known != zone.name()),
        None => {
            ensure_state(&mut *pool.acquire().await?, workflow_id, zone).await?;
            Ok(row.marked)
        }
    }
}

async fn ensure_state(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO figure_states (workflow_id, time_zone, version, refreshed_at)
         VALUES ($1, $2, 0, to_timestamp(0)) ON CONFLICT (workflow_id) DO NOTHING",
        workflow_id,
        zone.name(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets every day, since days begin elsewhere now, and marks all of them.
async fn begin_anew(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
) -> Result<(), StoreError> {
    for forget in [
        sqlx::query!("DELETE FROM task_day_figures WHERE workflow_id = $1", workflow_id),
        sqlx::query!("DELETE FROM model_day_figures WHERE workflow_id = $1", workflow_id),
        sqlx::query!(
            "UPDATE figure_states SET time_zone = $2 WHERE workflow_id = $1",
            workflow_id,
            zone.name(),
        ),
    ] {
        forget.execute(&mut *connection).await?;
    }
    mark_all(connection, workflow_id).await
}

async fn note_refresh(
    connection: &mut PgConnection,
    workflow_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE figure_states SET version = version + 1, refreshed_at = $2 WHERE workflow_id = $1",
        workflow_id,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the marks that are there, and says which days they mean. An hour may lie on two days where the
/// zone is not whole hours from UTC.
async fn take_marks(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
) -> Result<Vec<NaiveDate>, StoreError> {
    let days = sqlx::query_scalar!(
        r#"
        WITH taken AS (DELETE FROM figure_marks WHERE workflow_id = $1 RETURNING hour)
        SELECT DISTINCT (t.hour + part.offset_from_hour) AT TIME ZONE $2 AS "at!"
        FROM (SELECT DISTINCT hour FROM taken) AS t
        CROSS JOIN (VALUES (interval '0'), (interval '59 minutes 59 seconds')) AS part (offset_from_hour)
        "#,
        workflow_id,
        zone.name(),
    )
    .fetch_all(connection)
    .await?;
    let days: BTreeSet<NaiveDate> = days.into_iter().map(|at| at.date()).collect();
    Ok(days.into_iter().collect())
}

/// Replaces the figures of these days by what their tasks amount to now. The caller holds the state's lock,
/// so that no older sum can come after a newer one.
async fn add_up(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
    days: &[NaiveDate],
) -> Result<(), StoreError> {
    if days.is_empty() {
        return Ok(());
    }
    for forget in [
        sqlx::query!(
            "DELETE FROM task_day_figures WHERE workflow_id = $1 AND day = ANY($2)",
            workflow_id,
            days,
        ),
        sqlx::query!(
            "DELETE FROM model_day_figures WHERE workflow_id = $1 AND day = ANY($2)",
            workflow_id,
            days,
        ),
    ] {
        forget.execute(&mut *connection).await?;
    }
    add_up_tasks(&mut *connection, workflow_id, zone, days).await?;
    add_up_models(connection, workflow_id, zone, days).await
}

async fn add_up_tasks(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
    days: &[NaiveDate],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        INSERT INTO task_day_figures (
            workflow_id, day, category, tasks, completed, errored, abandoned, with_winner,
            iterations_sum, iterations_count, processing_ms_sum, processing_count, kept, deleted)
        SELECT $1::bigint, c.day, CASE WHEN c.place <= $4 THEN c.category ELSE $5 END,
               sum(c.tasks), sum(c.completed), sum(c.errored), sum(c.abandoned), sum(c.with_winner),
               sum(c.iterations_sum), sum(c.iterations_count),
               sum(c.processing_ms_sum), sum(c.processing_count), sum(c.kept), sum(c.deleted)
        FROM (
            SELECT d.day, coalesce(t.category, '') AS category,
                   row_number() OVER (
                       PARTITION BY d.day ORDER BY count(*) DESC, coalesce(t.category, '')) AS place,
                   count(*) AS tasks,
                   count(*) FILTER (WHERE t.ended_by IN ('completed', 'winner')) AS completed,
                   count(*) FILTER (WHERE t.ended_by = 'error') AS errored,
                   count(*) FILTER (WHERE t.ended_by = 'abandoned') AS abandoned,
                   count(t.winner_model) AS with_winner,
                   coalesce(sum(t.total_iterations), 0) AS iterations_sum,
                   count(t.total_iterations) AS iterations_count,
                   coalesce(sum(t.processing_time_ms), 0) AS processing_ms_sum,
                   count(t.processing_time_ms) AS processing_count,
                   count(*) FILTER (WHERE t.feedback_kept) AS kept,
                   count(*) FILTER (WHERE NOT t.feedback_kept) AS deleted
            FROM unnest($3::date[]) AS d (day)
            -- Bounds on the bare column, so that the index by age serves them.
            JOIN tasks t ON t.workflow_id = $1
                        AND t.created_at >= d.day::timestamp AT TIME ZONE $2
                        AND t.created_at < (d.day + 1)::timestamp AT TIME ZONE $2
            GROUP BY d.day, coalesce(t.category, '')) AS c
        GROUP BY 2, 3
        "#,
        workflow_id,
        zone.name(),
        days,
        CATEGORIES_A_DAY_MAX,
        OTHER_CATEGORIES,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn add_up_models(
    connection: &mut PgConnection,
    workflow_id: i64,
    zone: Tz,
    days: &[NaiveDate],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        INSERT INTO model_day_figures (
            workflow_id, day, category, model_name, attempts, scored, score_sum, passed, wins)
        SELECT $1::bigint, m.day, coalesce(f.category, $4), m.model_name,
               sum(m.attempts), sum(m.scored), sum(m.score_sum), sum(m.passed), sum(m.wins)
        FROM (
            SELECT d.day, coalesce(t.category, '') AS category, p.model_name,
                   count(*) AS attempts,
                   count(p.validation_score) AS scored,
                   coalesce(sum(p.validation_score), 0) AS score_sum,
                   count(*) FILTER (WHERE p.validation_passed AND p.validation_score IS NOT NULL) AS passed,
                   0 AS wins
            FROM unnest($3::date[]) AS d (day)
            JOIN tasks t ON t.workflow_id = $1
                        AND t.created_at >= d.day::timestamp AT TIME ZONE $2
                        AND t.created_at < (d.day + 1)::timestamp AT TIME ZONE $2
            JOIN attempts p ON p.workflow_id = t.workflow_id AND p.task_id = t.id
            GROUP BY 1, 2, 3
            UNION ALL
            -- Wins come from the task: a winner may have no attempt on record.
            SELECT d.day, coalesce(t.category, ''), t.winner_model, 0, 0, 0, 0, count(*)
            FROM unnest($3::date[]) AS d (day)
            JOIN tasks t ON t.workflow_id = $1
                        AND t.created_at >= d.day::timestamp AT TIME ZONE $2
                        AND t.created_at < (d.day + 1)::timestamp AT TIME ZONE $2
            WHERE t.winner_model IS NOT NULL
            GROUP BY 1, 2, 3) AS m
        -- Which categories the day keeps apart was decided when its tasks were added up.
        LEFT JOIN task_day_figures f
               ON f.workflow_id = $1 AND f.day = m.day AND f.category = m.category
        GROUP BY 2, 3, 4
        "#,
        workflow_id,
        zone.name(),
        days,
        OTHER_CATEGORIES,
    )
    .execute(connection)
    .await?;
    Ok(())
}
