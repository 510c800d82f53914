//! The scratch schema that a rehearsal plays in: a copy of what the next cycle would read, beside the live tables.
//!
//! A connection of the scratch store finds the scratch tables under their plain names; the live ones are named with their
//! schema, `public`. What is copied back are calls and their outcomes, since their money was really spent.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{MIGRATOR, Store, StoreError};

const PREFIX: &str = "mathesis_rehearsal_";

/// The name of a rehearsal's schema.
#[must_use]
pub fn schema_of(rehearsal: Uuid) -> String {
    format!("{PREFIX}{}", rehearsal.simple())
}

/// Makes the schema and its tables, and opens a store in it.
///
/// # Errors
/// [`StoreError`] when the database fails, or its user may not make a schema.
pub async fn make(live: &Store, rehearsal: Uuid) -> Result<Store, StoreError> {
    let schema = schema_of(rehearsal);
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(live.pool()).await?;
    let scratch = open(live, rehearsal).await?;
    MIGRATOR.run(scratch.pool()).await.map_err(StoreError::Migrate)?;
    Ok(scratch)
}

async fn open(live: &Store, rehearsal: Uuid) -> Result<Store, StoreError> {
    let options = live.pool().connect_options().as_ref().clone();
    let options = options.options([("search_path", schema_of(rehearsal))]);
    let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
    Ok(Store {
        reads: pool.clone(),
        pool,
        followed: Vec::new(),
        hints: super::hints::Hints::default(),
    })
}

/// Drops the schema of a rehearsal.
///
/// # Errors
/// [`StoreError`] when the database fails; the next rehearsal drops it.
pub async fn drop_schema(live: &Store, rehearsal: Uuid) -> Result<(), StoreError> {
    let schema = schema_of(rehearsal);
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE")))
        .execute(live.pool())
        .await?;
    Ok(())
}

/// Takes the lock that says a rehearsal is being played. Held by the connection.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock(conn: &mut PgConnection, rehearsal: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock(hashtext($1)) AS "taken!""#,
        schema_of(rehearsal)
    )
    .fetch_one(conn)
    .await?)
}

/// Puts the costs of rehearsals that died on record, and drops what they left.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn clear_away(live: &Store) -> Result<(), StoreError> {
    let left = sqlx::query_scalar!(
        r#"SELECT nspname::text AS "name!" FROM pg_namespace WHERE nspname LIKE 'mathesis\_rehearsal\_%'"#
    )
    .fetch_all(live.pool())
    .await?;
    for name in left {
        let Ok(rehearsal) = Uuid::parse_str(name.trim_start_matches(PREFIX)) else { continue };
        let mut conn = live.pool().acquire().await?.detach();
        if lock(&mut conn, rehearsal).await? {
            let scratch = open(live, rehearsal).await?;
            // One that died while it was made has no tables and cost nothing.
            if let Err(error) = keep_costs(&scratch, rehearsal).await {
                tracing::info!(error = %error, "a rehearsal that died early left no costs");
            }
            scratch.pool().close().await;
            drop_schema(live, rehearsal).await?;
        }
    }
    Ok(())
}

/// Copies a workflow with the last `tasks` finished tasks, unanalysed, and everything that it learnt so far; returns how
/// many tasks there were and the number of its last cycle. What is open is ended in the copy.
///
/// # Errors
/// [`StoreError`] when the database fails; the scratch schema is then of no use.
pub async fn copy(scratch: &Store, workflow_id: i64, tasks: i64) -> Result<(u64, i64), StoreError> {
    let mut tx = scratch.pool().begin().await?;
    sqlx::query!(
        "INSERT INTO workflows OVERRIDING SYSTEM VALUE
         SELECT * FROM public.workflows WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO workflow_definitions SELECT * FROM public.workflow_definitions WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *tx)
    .await?;
    copy_learnt(&mut tx, workflow_id).await?;
    let copied = copy_tasks(&mut tx, workflow_id, tasks).await?;
    let cycle = sqlx::query_scalar!(
        r#"SELECT coalesce(max(number), 0) AS "number!" FROM cycles WHERE workflow_id = $1"#,
        workflow_id
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok((copied, cycle))
}

async fn copy_learnt(conn: &mut PgConnection, workflow_id: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash, opened_at,
                             state_entered_at, ended_at)
         SELECT workflow_id, number, CASE WHEN ended_at IS NULL THEN 'cancelled' ELSE state END, version,
                snapshot, definition_hash, opened_at, state_entered_at, coalesce(ended_at, state_entered_at)
           FROM public.cycles WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO prompt_versions OVERRIDING SYSTEM VALUE
         SELECT * FROM public.prompt_versions WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO insights OVERRIDING SYSTEM VALUE SELECT * FROM public.insights WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO experiments SELECT * FROM public.experiments WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO probations SELECT * FROM public.probations WHERE workflow_id = $1",
        workflow_id
    )
    .execute(&mut *conn)
    .await?;
    // New rows are numbered on from the copied ones.
    sqlx::query!(
        "SELECT setval(pg_get_serial_sequence('insights', 'id'),
                       (SELECT coalesce(max(id), 0) + 1 FROM insights), false) AS insights,
                setval(pg_get_serial_sequence('prompt_versions', 'id'),
                       (SELECT coalesce(max(id), 0) + 1 FROM prompt_versions), false) AS versions"
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

async fn copy_tasks(
    conn: &mut PgConnection,
    workflow_id: i64,
    tasks: i64,
) -> Result<u64, StoreError> {
    let copied = sqlx::query!(
        "INSERT INTO tasks (workflow_id, id, clickup_task_id, run_id, original_prompt, task_name, task_type,
                category, metadata, metadata_stamps, created_at, last_event_at, started_at, ended_at, ended_by,
                winner_model, winner_score, total_iterations, processing_time_reported_ms, error, error_stage,
                error_fault, error_at, error_hash, winner_leg)
         OVERRIDING SYSTEM VALUE
         SELECT workflow_id, id, clickup_task_id, run_id, original_prompt, task_name, task_type,
                category, metadata, metadata_stamps, created_at, last_event_at, started_at, ended_at, ended_by,
                winner_model, winner_score, total_iterations, processing_time_reported_ms, error, error_stage,
                error_fault, error_at, error_hash, winner_leg
           FROM public.tasks
          WHERE workflow_id = $1 AND ended_by IN ('completed', 'winner', 'error')
          ORDER BY ended_at DESC, id DESC LIMIT $2",
        workflow_id,
        tasks
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    sqlx::query!(
        "INSERT INTO attempts (workflow_id, id, task_id, model_name, iteration, version, prompt_version, observed,
                original_prompt, enhanced_prompt, enhancement_latency_ms, image_url, generation_time_ms, cost_usd,
                validation_score, validation_passed, validation_issues, validation_reasoning, judge_model,
                judge_prompt_version, was_selected, error, error_stage, error_fault, error_at, error_hash,
                metadata, metadata_stamps, created_at)
         OVERRIDING SYSTEM VALUE
         SELECT a.workflow_id, a.id, a.task_id, a.model_name, a.iteration, a.version, a.prompt_version, a.observed,
                a.original_prompt, a.enhanced_prompt, a.enhancement_latency_ms, a.image_url,
                a.generation_time_ms, a.cost_usd, a.validation_score, a.validation_passed,
                a.validation_issues, a.validation_reasoning, a.judge_model, a.judge_prompt_version,
                a.was_selected, a.error, a.error_stage, a.error_fault, a.error_at, a.error_hash, a.metadata,
                a.metadata_stamps, a.created_at
           FROM public.attempts a JOIN tasks t ON t.workflow_id = a.workflow_id AND t.id = a.task_id
          WHERE a.workflow_id = $1",
        workflow_id
    )
    .execute(conn)
    .await?;
    Ok(copied)
}

/// How many bytes of text the copied tasks hold, which is about what an analysis shows of them.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn text_bytes(scratch: &Store) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT (SELECT coalesce(sum(octet_length(original_prompt) + 300), 0) FROM tasks)::bigint
                + (SELECT coalesce(sum(coalesce(octet_length(enhanced_prompt), 0)
                                       + coalesce(octet_length(validation_reasoning), 0)
                                       + coalesce(octet_length(validation_issues::text), 0) + 200), 0)
                     FROM attempts)::bigint AS "bytes!""#
    )
    .fetch_one(scratch.pool())
    .await?)
}

/// Puts the calls that a rehearsal has made so far on the live record, where the month's spending counts them. Done
/// again, it adds what is new.
///
/// # Errors
/// [`StoreError`] when the database fails; the next time adds all of it.
pub async fn keep_costs(scratch: &Store, rehearsal: Uuid) -> Result<(), StoreError> {
    let mut tx = scratch.pool().begin().await?;
    sqlx::query!(
        "INSERT INTO public.claude_calls (workflow_id, call_id, rehearsal, purpose, model_name, attempt, batch,
                claude_model, request_hash, estimated_cost_usd, worker_id, started_at)
         SELECT workflow_id, call_id, $1, purpose, model_name, attempt, batch, claude_model, request_hash,
                estimated_cost_usd, worker_id, started_at
           FROM claude_calls ON CONFLICT (workflow_id, call_id) DO NOTHING",
        rehearsal
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO public.claude_call_outcomes (workflow_id, call_id, status, http_status, stop_reason,
                request_id, input_tokens, cache_creation_tokens, cache_read_tokens, output_tokens, cost_usd,
                cost_estimated, response_text, error_code, error_message, duration_ms, recorded_at)
         SELECT workflow_id, call_id, status, http_status, stop_reason, request_id, input_tokens,
                cache_creation_tokens, cache_read_tokens, output_tokens, cost_usd, cost_estimated,
                response_text, error_code, error_message, duration_ms, recorded_at
           FROM claude_call_outcomes o
          WHERE NOT EXISTS (SELECT FROM public.claude_call_outcomes p
                             WHERE p.workflow_id = o.workflow_id AND p.call_id = o.call_id)"
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
