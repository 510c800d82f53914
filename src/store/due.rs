//! Which of many workflows the watcher has to look at: one statement for all of them.
//!
//! These only save looks. What is due is decided by the look itself, under its locks; what these leave out (a
//! test or a slot whose time has run out, a late score) is seen by the watcher's rare sweep over all workflows.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::StoreError;

/// Those of the workflows whose open cycle may move: enough tasks wait, the holder of a slot has reported, or a deck
/// has no slot left to wait for.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cycles(pool: &PgPool, workflow_ids: &[i64]) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT c.workflow_id AS "workflow_id!"
             FROM unnest($1::bigint[]) AS asked (workflow_id)
             JOIN cycles c ON c.workflow_id = asked.workflow_id AND c.state IN ('collecting', 'probation')
            WHERE EXISTS (
                    SELECT FROM tasks t
                     WHERE t.workflow_id = c.workflow_id AND t.analyzed_in_cycle IS NULL
                       AND t.ended_by IN ('completed', 'winner', 'error')
                       AND (c.state = 'collecting' OR t.created_at >= c.state_entered_at)
                    OFFSET coalesce((c.snapshot #>> '{rules,trigger_tasks}')::bigint, 1) - 1 LIMIT 1)
           UNION
           SELECT c.workflow_id
             FROM unnest($1::bigint[]) AS asked (workflow_id)
             JOIN cycles c ON c.workflow_id = asked.workflow_id AND c.state IN ('testing', 'probation')
            WHERE EXISTS (
                    SELECT FROM deck_slots s
                      JOIN experiments e
                        ON e.workflow_id = s.workflow_id AND e.cycle = s.cycle AND e.model_name = s.model_name
                      JOIN tasks t
                        ON t.workflow_id = s.workflow_id AND t.clickup_task_id = s.clickup_task_id
                       AND t.run_id = s.run_id
                      LEFT JOIN attempts a
                        ON a.workflow_id = t.workflow_id AND a.task_id = t.id AND a.model_name = s.model_name
                       AND a.iteration = 1
                       AND a.version = CASE WHEN NOT e.paired THEN 0 WHEN s.arm = 'control' THEN e.control_version
                                            ELSE e.candidate_version END
                     WHERE s.workflow_id = c.workflow_id AND s.cycle = c.number AND s.state = 'dealt' AND NOT s.frozen
                       AND (t.ended_by = 'error'
                            OR (a.validation_score IS NULL
                                AND (a.error IS NOT NULL OR a.error_fault IS NOT NULL))
                            OR (a.validation_score IS NOT NULL
                                AND a.prompt_version = CASE s.arm WHEN 'control' THEN e.control_version
                                                                  ELSE e.candidate_version END)))
               OR EXISTS (
                    SELECT FROM deck_slots s
                     WHERE s.workflow_id = c.workflow_id AND s.cycle = c.number AND NOT s.frozen
                     GROUP BY s.model_name
                    HAVING NOT bool_or(s.state IN ('open', 'dealt')))"#,
        workflow_ids
    )
    .fetch_all(pool)
    .await?)
}

/// Those of the workflows whose standing watches may move: one is missing or outlived its version, the next run of
/// one has ended, or, for those that `roll_back`, one has raised its alarm.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn standing_watches(
    pool: &PgPool,
    workflow_ids: &[i64],
    roll_back: &[i64],
    arrived_before: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT w.workflow_id AS "workflow_id!"
             FROM unnest($1::bigint[]) AS asked (workflow_id)
             JOIN watches w ON w.workflow_id = asked.workflow_id AND w.ended_at IS NULL
             LEFT JOIN LATERAL (
                  SELECT t.ended_at IS NOT NULL AS ended
                    FROM tasks t
                   WHERE t.workflow_id = w.workflow_id AND t.created_at >= w.taken_at
                     AND (t.created_at, t.id) > (w.taken_at, w.taken_task_id)
                     AND t.created_at < $3 AND t.analyzed_in_cycle IS DISTINCT FROM 0
                   ORDER BY t.created_at, t.id
                   LIMIT 1) AS next ON true
            WHERE next.ended
               OR (w.alarmed_at IS NOT NULL AND w.workflow_id = ANY($2))
               OR NOT EXISTS (
                      SELECT FROM prompt_versions v
                       WHERE v.workflow_id = w.workflow_id AND v.model_name = w.model_name
                         AND v.version = w.version AND v.is_active)
           UNION
           SELECT v.workflow_id
             FROM unnest($1::bigint[]) AS asked (workflow_id)
             JOIN prompt_versions v ON v.workflow_id = asked.workflow_id AND v.is_active
             JOIN experiments e
               ON e.workflow_id = v.workflow_id AND e.cycle = v.cycle
              AND e.model_name = v.model_name AND e.candidate_version = v.version
            WHERE e.status = 'adopted' AND e.control_count > 0
              AND NOT EXISTS (
                      SELECT FROM watches w
                       WHERE w.workflow_id = e.workflow_id AND w.cycle = e.cycle
                         AND w.model_name = e.model_name)"#,
        workflow_ids,
        roll_back,
        arrived_before
    )
    .fetch_all(pool)
    .await?)
}
