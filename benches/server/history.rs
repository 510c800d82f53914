//! What years leave behind: tasks that came long ago, and the size of it all.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::Outcome;

/// Completed tasks for the next window, which came that many seconds ago; each with an attempt of both models.
pub async fn complete_tasks_ago(
    pool: &PgPool,
    workflow_id: i64,
    (cycle, tasks): (i64, i32),
    seconds_ago: i64,
) -> Outcome<()> {
    sqlx::query(
        "WITH came AS (
             INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, started_at, original_prompt,
                                task_type, category, ended_at, ended_by, winner_model, winner_score, total_iterations)
             SELECT $1, 'window-' || $2 || '-' || n, at, at, at, 'Άλλαξε το φόντο σε λευκό, κράτα το λογότυπο',
                    'SIMPLE_EDIT', 'background', at, 'completed', 'nano-banana', 8, 1
               FROM generate_series(1, $3) AS n, (SELECT now() - make_interval(secs => $4) AS at) AS clock
             RETURNING workflow_id, id, created_at
         )
         INSERT INTO attempts (workflow_id, task_id, model_name, iteration, enhanced_prompt, validation_score,
                               validation_passed, created_at)
         SELECT workflow_id, id, model, 1, 'Replace only the background with pure white.', 8, true, created_at
           FROM came, unnest(ARRAY['wan-2.5-edit', 'nano-banana']) AS model",
    )
    .bind(workflow_id)
    .bind(cycle)
    .bind(tasks)
    .bind(seconds_ago as f64)
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes back the effects that were put there to be claimed.
pub async fn drop_effects_asked(pool: &PgPool, workflow_id: i64, from_seq: i64) -> Outcome<()> {
    sqlx::query("DELETE FROM effects WHERE workflow_id = $1 AND cycle = 1 AND seq >= $2")
        .bind(workflow_id)
        .bind(from_seq)
        .execute(pool)
        .await?;
    Ok(())
}

/// The first of the days that [`a_day_of_tasks`] counts.
pub fn day_zero() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000)
}

/// A part of a day's tasks, each with two attempts of real length and its five event keys, already analysed.
pub async fn a_day_of_tasks(
    pool: &PgPool,
    workflow_id: i64,
    day: i64,
    (from, until): (i32, i32),
) -> Outcome<()> {
    sqlx::query(
        "WITH came AS (
             INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, started_at, original_prompt,
                                ended_at, ended_by, winner_model, winner_score, total_iterations, analyzed_in_cycle)
             SELECT $1, 'day-' || $2 || '-' || n, at, at, at, 'Άλλαξε το φόντο σε λευκό, κράτα το λογότυπο',
                    at, 'completed', 'nano-banana', 8, 1, 0
               FROM generate_series($4, $5 - 1) AS n,
                    LATERAL (SELECT $3 + n * interval '1 second' AS at) AS clock
             RETURNING workflow_id, id, clickup_task_id, created_at
         ), tried AS (
             INSERT INTO attempts (workflow_id, task_id, model_name, iteration, enhanced_prompt, validation_score,
                                   validation_passed, validation_reasoning, created_at)
             SELECT workflow_id, id, model, 1, repeat('Replace only the background; ', 34), 8, true,
                    repeat('The subject is intact. ', 17), created_at
               FROM came, unnest(ARRAY['wan-2.5-edit', 'nano-banana']) AS model
         )
         INSERT INTO task_events (workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version,
                                  discriminator, content_hash, at, received_at)
         SELECT workflow_id, clickup_task_id, '', kind, '', 0, 0, '', sha256(clickup_task_id::bytea), created_at, created_at
           FROM came, unnest(ARRAY['task_started', 'enhancement', 'generation', 'validation', 'completed']) AS kind",
    )
    .bind(workflow_id)
    .bind(day)
    .bind(day_zero() + chrono::TimeDelta::days(day))
    .bind(from)
    .bind(until)
    .execute(pool)
    .await?;
    Ok(())
}

/// What the database takes on the disk.
pub async fn database_bytes(pool: &PgPool) -> Outcome<f64> {
    let size = "SELECT pg_database_size(current_database())::float8";
    Ok(sqlx::query_scalar(size).fetch_one(pool).await?)
}

/// Vacuums the tables whose own threshold is passed, as autovacuum does in the course of a day that lasts a second here.
/// Returns how many those were.
pub async fn vacuum_what_is_due(pool: &PgPool) -> Outcome<usize> {
    let due: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text
           FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
          WHERE s.n_dead_tup > current_setting('autovacuum_vacuum_threshold')::float8 + greatest(c.reltuples, 0) * coalesce(
                    (SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                      WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                    current_setting('autovacuum_vacuum_scale_factor')::float8)",
    )
    .fetch_all(pool)
    .await?;
    for table in &due {
        pool.execute(AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).await?;
    }
    Ok(due.len())
}
