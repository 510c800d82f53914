//! The statements that write the task log. What merges into a row merges by the rule of
//! `task_log::fold`, so that the order of arrival does not matter.
//!
//! Rows are looked up by scalar subqueries, not joins: a plan that was made while the tables were
//! small cannot turn those into scans, and is kept until somebody analyses the tables.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::StoreError;
use crate::task_log::{Arrived, AttemptChange, EventKey, EventType, Fault, Metadata, TaskChange};

/// A row of `tasks` that this transaction has written and holds locked.
#[derive(Debug, Clone)]
pub(super) struct StoredTask {
    pub id: i64,
    /// When the first and the last event of its run arrived.
    pub arrived: [DateTime<Utc>; 2],
    /// The attempt that was selected; another cannot be, since the row is locked.
    pub selected: Option<Selected>,
}

/// The attempt that a winner event names.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    model: String,
    iteration: i32,
    /// As in `attempts.version`: 0 but for a leg of a pair. A winner event that names no leg of a paired task names
    /// an attempt that is not there, so that neither leg is marked.
    leg: i32,
}

/// The tasks of a batch, by task and run.
pub(super) type StoredTasks<'a> = HashMap<(&'a str, &'a str), StoredTask>;

/// One value of each, as a column for `unnest`.
fn column<'c, C, T>(rows: &'c [C], value: impl Fn(&'c C) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Inserts the keys that are new and not of a removed task, and returns them. Events must be in key
/// order and have a key of their own each.
pub(super) async fn insert_keys(
    connection: &mut PgConnection,
    workflow_id: i64,
    events: &[&Arrived],
) -> Result<HashSet<EventKey>, StoreError> {
    let rows = sqlx::query!(
        r#"
        INSERT INTO task_events (
            workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version,
            discriminator, content_hash, event_id, at, received_at)
        SELECT $1, new.task, new.run, new.event_type, new.model, new.iteration, new.version,
               new.discriminator, new.content_hash, new.event_id, new.at, new.received_at
        FROM unnest(
            $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::int[],
            $8::bytea[], $9::bytea[], $10::uuid[], $11::timestamptz[], $12::timestamptz[])
            WITH ORDINALITY AS new (
                task, run, event_type, model, iteration, version,
                discriminator, content_hash, event_id, at, received_at, place)
        WHERE (
            SELECT true FROM task_tombstones AS gone
            WHERE gone.workflow_id = $1
              AND gone.clickup_task_id = new.task
              AND gone.run_id = new.run) IS NULL
        ORDER BY new.place
        -- Without a target it covers the event id too.
        ON CONFLICT DO NOTHING
        RETURNING clickup_task_id, run_id, event_type, model_name, iteration, version, discriminator
        "#,
        workflow_id,
        column(events, |e| e.key.task_id.as_str()) as _,
        column(events, |e| e.key.run_id.as_str()) as _,
        column(events, |e| e.key.event_type) as _,
        column(events, |e| e.key.model.as_str()) as _,
        &column(events, |e| e.key.iteration),
        &column(events, |e| e.key.version),
        column(events, |e| e.key.discriminator.as_slice()) as _,
        column(events, |e| e.hash.0.as_slice()) as _,
        column(events, |e| e.event.event_id) as _,
        &column(events, |e| e.at()),
        &column(events, |e| e.received_at),
    )
    .fetch_all(connection)
    .await?;
    let type_name =
        |stored: &str| EventType::ALL.into_iter().map(EventType::name).find(|name| *name == stored);
    let keys = rows.into_iter().map(|row| EventKey {
        workflow_id,
        task_id: row.clickup_task_id,
        run_id: row.run_id,
        // It is one of those that went in.
        event_type: type_name(&row.event_type).unwrap_or_default(),
        model: row.model_name,
        iteration: row.iteration,
        version: row.version,
        discriminator: row.discriminator,
    });
    Ok(keys.collect())
}

/// For each event, the stored content hash of its key, if any, and whether its task was removed.
pub(super) async fn look_up_keys(
    connection: &mut PgConnection,
    workflow_id: i64,
    events: &[&Arrived],
) -> Result<Vec<(Option<Vec<u8>>, bool)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        SELECT (
                   SELECT known.content_hash FROM task_events AS known
                   WHERE known.workflow_id = $1
                     AND known.clickup_task_id = ours.task
                     AND known.run_id = ours.run
                     AND known.event_type = ours.event_type
                     AND known.model_name = ours.model
                     AND known.iteration = ours.iteration
                     AND known.version = ours.version
                     AND known.discriminator = ours.discriminator) AS content_hash,
               (
                   SELECT true FROM task_tombstones AS gone
                   WHERE gone.workflow_id = $1
                     AND gone.clickup_task_id = ours.task
                     AND gone.run_id = ours.run) IS NOT NULL AS "removed!"
        FROM unnest(
            $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::int[], $8::bytea[])
            WITH ORDINALITY AS ours (
                task, run, event_type, model, iteration, version, discriminator, place)
        ORDER BY ours.place
        "#,
        workflow_id,
        column(events, |e| e.key.task_id.as_str()) as _,
        column(events, |e| e.key.run_id.as_str()) as _,
        column(events, |e| e.key.event_type) as _,
        column(events, |e| e.key.model.as_str()) as _,
        &column(events, |e| e.key.iteration),
        &column(events, |e| e.key.version),
        column(events, |e| e.key.discriminator.as_slice()) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.content_hash, row.removed)).collect())
}

/// Merges changes into their tasks, makes those that are missing, and returns them by task and
/// run. The rows stay locked until the transaction ends.
#[expect(clippy::too_many_lines, reason = "one statement, one line a column")]
pub(super) async fn upsert_tasks<'a>(
    connection: &mut PgConnection,
    workflow_id: i64,
    changes: &[TaskChange<'a>],
) -> Result<StoredTasks<'a>, StoreError> {
    let rows = sqlx::query!(
        r#"
        INSERT INTO tasks (
            workflow_id, clickup_task_id, run_id, created_at, last_event_at,
            original_prompt, task_name, task_type, category, started_at,
            winner_model, winner_score, total_iterations, processing_time_reported_ms,
            ended_at, ended_by, error, error_stage, error_fault, error_at, error_hash,
            feedback_kept, feedback_comment, feedback_at, feedback_hash, metadata, metadata_stamps,
            winner_leg)
        SELECT $1, new.*
        FROM unnest(
            $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[],
            $11::text[], $12::int[], $13::int[], $14::bigint[],
            $15::timestamptz[], $16::text[],
            $17::text[], $18::text[], $19::text[], $20::timestamptz[], $21::bytea[],
            $22::bool[], $23::text[], $24::timestamptz[], $25::bytea[],
            $26::jsonb[], $27::jsonb[], $28::int[]) AS new
        ON CONFLICT (workflow_id, clickup_task_id, run_id) DO UPDATE SET
            created_at = least(tasks.created_at, excluded.created_at),
            last_event_at = greatest(tasks.last_event_at, excluded.last_event_at),
            -- One event writes these, so at most one side has them.
            original_prompt = coalesce(tasks.original_prompt, excluded.original_prompt),
            task_name = coalesce(tasks.task_name, excluded.task_name),
            task_type = coalesce(tasks.task_type, excluded.task_type),
            category = coalesce(tasks.category, excluded.category),
            started_at = coalesce(tasks.started_at, excluded.started_at),
            winner_model = coalesce(tasks.winner_model, excluded.winner_model),
            winner_score = coalesce(tasks.winner_score, excluded.winner_score),
            winner_leg = coalesce(tasks.winner_leg, excluded.winner_leg),
            total_iterations = coalesce(tasks.total_iterations, excluded.total_iterations),
            processing_time_reported_ms =
                coalesce(tasks.processing_time_reported_ms, excluded.processing_time_reported_ms),
            -- A run that was given up and then ends for real ends then.
            ended_at = CASE tasks.ended_by
                WHEN 'abandoned' THEN coalesce(excluded.ended_at, tasks.ended_at)
                ELSE least(tasks.ended_at, excluded.ended_at) END,
            ended_by = CASE
                WHEN coalesce(array_position(ARRAY['abandoned', 'error', 'winner', 'completed'], excluded.ended_by), 0)
                   > coalesce(array_position(ARRAY['abandoned', 'error', 'winner', 'completed'], tasks.ended_by), 0)
                THEN excluded.ended_by ELSE tasks.ended_by END,
            (error, error_stage, error_fault, error_at, error_hash) = (
                SELECT e.error, e.stage, e.fault, e.at, e.hash
                FROM (VALUES
                    (tasks.error, tasks.error_stage, tasks.error_fault, tasks.error_at, tasks.error_hash),
                    (excluded.error, excluded.error_stage, excluded.error_fault, excluded.error_at, excluded.error_hash)
                ) AS e (error, stage, fault, at, hash)
                -- The names of the faults happen to sort by rank.
                ORDER BY e.error IS NULL, coalesce(e.fault, '') DESC, e.at DESC, e.hash DESC
                LIMIT 1),
            (feedback_kept, feedback_comment, feedback_at, feedback_hash) = (
                SELECT f.kept, f.comment, f.at, f.hash
                FROM (VALUES
                    (tasks.feedback_kept, tasks.feedback_comment, tasks.feedback_at, tasks.feedback_hash),
                    (excluded.feedback_kept, excluded.feedback_comment, excluded.feedback_at, excluded.feedback_hash)
                ) AS f (kept, comment, at, hash)
                ORDER BY f.at IS NULL, f.at DESC, f.hash DESC
                LIMIT 1),
            metadata = CASE excluded.metadata WHEN '{}' THEN tasks.metadata
                ELSE tasks.metadata || coalesce((
                    SELECT jsonb_object_agg(later.name, later.value)
                    FROM jsonb_each(excluded.metadata) AS later (name, value)
                    WHERE (excluded.metadata_stamps ->> later.name) COLLATE "C"
                        > coalesce(tasks.metadata_stamps ->> later.name, '')), '{}') END,
            metadata_stamps = CASE excluded.metadata WHEN '{}' THEN tasks.metadata_stamps
                ELSE tasks.metadata_stamps || coalesce((
                    SELECT jsonb_object_agg(later.name, later.stamp)
                    FROM jsonb_each_text(excluded.metadata_stamps) AS later (name, stamp)
                    WHERE later.stamp COLLATE "C"
                        > coalesce(tasks.metadata_stamps ->> later.name, '')), '{}') END
        RETURNING id, clickup_task_id, run_id, winner_model, total_iterations, winner_leg,
                  created_at, last_event_at
        "#,
        workflow_id,
        column(changes, |c| c.task_id) as _,
        column(changes, |c| c.run_id) as _,
        &column(changes, |c| c.created_at),
        &column(changes, |c| c.last_event_at),
        column(changes, |c| c.started.map(|s| s.body.original_prompt.as_str())) as _,
        column(changes, |c| c.started.and_then(|s| s.body.task_name.as_deref())) as _,
        column(changes, |c| c.started.and_then(|s| s.body.task_type.as_deref())) as _,
        column(changes, |c| c.started.and_then(|s| s.body.category.as_deref())) as _,
        column(changes, |c| c.started.map(|s| s.at)) as _,
        column(changes, |c| c.winner.and_then(|w| w.winner.as_deref())) as _,
        column(changes, |c| c.winner.and_then(|w| w.score.map(i32::from))) as _,
        column(changes, |c| c.winner.map(|w| w.total_iterations)) as _,
        column(changes, |c| c.processing_time_reported_ms) as _,
        column(changes, |c| c.end.map(|e| e.at)) as _,
        column(changes, |c| c.end.map(|e| e.by.name())) as _,
        column(changes, |c| c.error.map(|e| e.body.error.as_str())) as _,
        column(changes, |c| c.error.and_then(|e| e.body.stage.as_deref())) as _,
        column(changes, |c| c.error.and_then(|e| e.body.fault).map(Fault::name)) as _,
        column(changes, |c| c.error.map(|e| e.stamp.at)) as _,
        column(changes, |c| c.error.map(|e| e.stamp.hash.0.to_vec())) as _,
        column(changes, |c| c.feedback.and_then(|f| f.body.kept)) as _,
        column(changes, |c| c.feedback.and_then(|f| f.body.comment.as_deref())) as _,
        column(changes, |c| c.feedback.map(|f| f.stamp.at)) as _,
        column(changes, |c| c.feedback.map(|f| f.stamp.hash.0.to_vec())) as _,
        &column(changes, |c| values(&c.metadata)),
        &column(changes, |c| stamps(&c.metadata)),
        column(changes, |c| c.winner.and_then(|w| w.leg)) as _,
    )
    .fetch_all(connection)
    .await?;
    let keys: HashMap<(&str, &str), (&str, &str)> =
        changes.iter().map(|c| (c.task_id, c.run_id)).map(|key| (key, key)).collect();
    let stored = rows.into_iter().filter_map(|row| {
        let key = keys.get(&(row.clickup_task_id.as_str(), row.run_id.as_str()))?;
        let named = row.winner_model.zip(row.total_iterations);
        let leg = row.winner_leg.unwrap_or(0);
        let selected = named.map(|(model, iteration)| Selected { model, iteration, leg });
        let arrived = [row.created_at, row.last_event_at];
        Some((*key, StoredTask { id: row.id, arrived, selected }))
    });
    Ok(stored.collect())
}

/// Merges changes into their attempts and makes those that are missing. Their tasks must be locked.
#[expect(clippy::too_many_lines, reason = "one statement, one line a column")]
pub(super) async fn upsert_attempts(
    connection: &mut PgConnection,
    workflow_id: i64,
    changes: &[AttemptChange<'_>],
    tasks: &StoredTasks<'_>,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let owners: Vec<&StoredTask> =
        changes.iter().filter_map(|c| tasks.get(&(c.task_id, c.run_id))).collect();
    debug_assert_eq!(owners.len(), changes.len(), "every attempt's task was written before it");
    let selected: Vec<bool> = owners
        .iter()
        .zip(changes)
        .map(|(task, c)| {
            task.selected.as_ref().is_some_and(|won| {
                won.model == c.model && won.iteration == c.iteration && won.leg == c.leg
            })
        })
        .collect();
    sqlx::query!(
        r#"
        INSERT INTO attempts (
            workflow_id, task_id, model_name, iteration, observed, created_at,
            prompt_version, original_prompt, enhanced_prompt, enhancement_latency_ms,
            image_url, generation_time_ms, cost_usd,
            validation_score, validation_passed, validation_issues, validation_reasoning,
            judge_model, judge_prompt_version,
            error, error_stage, error_fault, error_at, error_hash, metadata, metadata_stamps,
            was_selected, version)
        SELECT $1, new.*
        FROM unnest(
            $2::bigint[], $3::text[], $4::int[], $5::bool[], $6::timestamptz[],
            $7::int[], $8::text[], $9::text[], $10::bigint[],
            $11::text[], $12::bigint[], $13::numeric[],
            $14::int[], $15::bool[], $16::jsonb[], $17::text[], $18::text[], $19::text[],
            $20::text[], $21::text[], $22::text[], $23::timestamptz[], $24::bytea[],
            $25::jsonb[], $26::jsonb[], $27::bool[], $28::int[]) AS new
        ON CONFLICT (workflow_id, task_id, model_name, iteration, version) DO UPDATE SET
            observed = attempts.observed AND excluded.observed,
            created_at = least(attempts.created_at, excluded.created_at),
            -- The enhancement that names the greatest version, with all its texts.
            (prompt_version, original_prompt, enhanced_prompt, enhancement_latency_ms) = (
                SELECT e.version, e.original, e.enhanced, e.latency_ms
                FROM (VALUES
                    (attempts.prompt_version, attempts.original_prompt, attempts.enhanced_prompt, attempts.enhancement_latency_ms),
                    (excluded.prompt_version, excluded.original_prompt, excluded.enhanced_prompt, excluded.enhancement_latency_ms)
                ) AS e (version, original, enhanced, latency_ms)
                ORDER BY e.enhanced IS NULL, coalesce(e.version, 0) DESC
                LIMIT 1),
            -- One event writes these, so at most one side has them.
            image_url = coalesce(attempts.image_url, excluded.image_url),
            generation_time_ms = coalesce(attempts.generation_time_ms, excluded.generation_time_ms),
            cost_usd = coalesce(attempts.cost_usd, excluded.cost_usd),
            validation_score = coalesce(attempts.validation_score, excluded.validation_score),
            validation_passed = coalesce(attempts.validation_passed, excluded.validation_passed),
            validation_issues = coalesce(attempts.validation_issues, excluded.validation_issues),
            validation_reasoning =
                coalesce(attempts.validation_reasoning, excluded.validation_reasoning),
            judge_model = coalesce(attempts.judge_model, excluded.judge_model),
            judge_prompt_version =
                coalesce(attempts.judge_prompt_version, excluded.judge_prompt_version),
            (error, error_stage, error_fault, error_at, error_hash) = (
                SELECT e.error, e.stage, e.fault, e.at, e.hash
                FROM (VALUES
                    (attempts.error, attempts.error_stage, attempts.error_fault, attempts.error_at, attempts.error_hash),
                    (excluded.error, excluded.error_stage, excluded.error_fault, excluded.error_at, excluded.error_hash)
                ) AS e (error, stage, fault, at, hash)
                -- The names of the faults happen to sort by rank.
                ORDER BY e.error IS NULL, coalesce(e.fault, '') DESC, e.at DESC, e.hash DESC
                LIMIT 1),
            metadata = CASE excluded.metadata WHEN '{}' THEN attempts.metadata
                ELSE attempts.metadata || coalesce((
                    SELECT jsonb_object_agg(later.name, later.value)
                    FROM jsonb_each(excluded.metadata) AS later (name, value)
                    WHERE (excluded.metadata_stamps ->> later.name) COLLATE "C"
                        > coalesce(attempts.metadata_stamps ->> later.name, '')), '{}') END,
            metadata_stamps = CASE excluded.metadata WHEN '{}' THEN attempts.metadata_stamps
                ELSE attempts.metadata_stamps || coalesce((
                    SELECT jsonb_object_agg(later.name, later.stamp)
                    FROM jsonb_each_text(excluded.metadata_stamps) AS later (name, stamp)
                    WHERE later.stamp COLLATE "C"
                        > coalesce(attempts.metadata_stamps ->> later.name, '')), '{}') END
        "#,
        workflow_id,
        &column(&owners, |task| task.id),
        column(changes, |c| c.model) as _,
        &column(changes, |c| c.iteration),
        &column(changes, |c| c.observed),
        &column(changes, |c| c.created_at),
        column(changes, |c| c.enhancement.and_then(|e| e.version)) as _,
        column(changes, |c| c.enhancement.map(|e| e.body.original_prompt.as_str())) as _,
        column(changes, |c| c.enhancement.map(|e| e.body.enhanced_prompt.as_str())) as _,
        column(changes, |c| c.enhancement.and_then(|e| e.body.latency_ms)) as _,
        column(changes, |c| c.generation.map(|g| g.image_url.as_str())) as _,
        column(changes, |c| c.generation.and_then(|g| g.generation_time_ms)) as _,
        column(changes, AttemptChange::cost_usd) as _,
        column(changes, |c| c.validation.map(|v| i32::from(v.score))) as _,
        column(changes, |c| c.validation.map(|v| v.passed)) as _,
        column(changes, |c| c.validation.map(|v| Value::from(v.issues.clone()))) as _,
        column(changes, |c| c.validation.and_then(|v| v.reasoning.as_deref())) as _,
        column(changes, |c| c.validation.and_then(|v| v.judge.as_ref()).map(|j| j.model.as_str())) as _,
        column(changes, |c| c.validation.and_then(|v| v.judge.as_ref()).map(|j| j.prompt_version.as_str())) as _,
        column(changes, |c| c.error.map(|e| e.body.error.as_str())) as _,
        column(changes, |c| c.error.and_then(|e| e.body.stage.as_deref())) as _,
        column(changes, |c| c.error.and_then(|e| e.body.fault).map(Fault::name)) as _,
        column(changes, |c| c.error.map(|e| e.stamp.at)) as _,
        column(changes, |c| c.error.map(|e| e.stamp.hash.0.to_vec())) as _,
        &column(changes, |c| values(&c.metadata)),
        &column(changes, |c| stamps(&c.metadata)),
        &selected,
        &column(changes, |c| c.leg),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets `was_selected` on the attempts that tasks, whose winner has just been named, had before.
/// Attempts that come with the winner or later see to themselves.
pub(super) async fn mark_selected(
    connection: &mut PgConnection,
    workflow_id: i64,
    decided: &[&StoredTask],
) -> Result<(), StoreError> {
    let selected: Vec<(i64, &Selected)> =
        decided.iter().filter_map(|task| Some((task.id, task.selected.as_ref()?))).collect();
    if selected.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        UPDATE attempts SET was_selected = true
        WHERE attempts.workflow_id = $1
          AND attempts.id = ANY(ARRAY(
              SELECT (
                  SELECT a.id FROM attempts AS a
                  WHERE a.workflow_id = $1
                    AND a.task_id = won.task_id
                    AND a.model_name = won.model
                    AND a.iteration = won.iteration
                    AND a.version = won.leg)
              FROM unnest($2::bigint[], $3::text[], $4::int[], $5::int[])
                  AS won (task_id, model, iteration, leg)))
          AND NOT attempts.was_selected
        "#,
        workflow_id,
        &column(&selected, |(task_id, _)| *task_id),
        column(&selected, |(_, won)| won.model.as_str()) as _,
        &column(&selected, |(_, won)| won.iteration),
        &column(&selected, |(_, won)| won.leg),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn values(metadata: &Metadata<'_>) -> Value {
    let entries = metadata.iter().map(|(name, (_, value))| ((*name).to_owned(), (*value).clone()));
    Value::Object(entries.collect::<Map<String, Value>>())
}

fn stamps(metadata: &Metadata<'_>) -> Value {
    let entries =
        metadata.iter().map(|(name, (stamp, _))| ((*name).to_owned(), stamp.text().into()));
    Value::Object(entries.collect::<Map<String, Value>>())
}
