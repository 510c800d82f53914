//! Dealing in one statement: what `assignments` does step by step, for one run and for many at once.
//!
//! Every row is locked before it counts, and PostgreSQL looks at a locked row as it is by then, so a slot
//! that was dealt or frozen since the statement began is passed over.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::StoreError;
use super::assignments::{AssignmentRow, RunKey, StoredAssignment};

/// Tells a run its version in one statement, which is its own transaction: what it was told before, else
/// the next open slot of the deck, under the rules of the steps in [`super::assignments`]. `None` when there
/// is no slot for it, or another call of the same run was quicker: nothing was written then, and the
/// steps one by one tell more.
///
/// # Errors
/// [`StoreError`] when the database fails or the row cannot be read; nothing was dealt unless the
/// connection broke while the answer was under way, and then asking again tells the same.
pub async fn deal_at_once(
    pool: &PgPool,
    key: RunKey<'_>,
    now: DateTime<Utc>,
) -> Result<Option<AssignmentRow>, StoreError> {
    let row = sqlx::query_as!(
        StoredAssignment,
        r#"WITH told AS (
               SELECT version, arm, cycle, pair_version FROM assignments
                WHERE workflow_id = $1 AND clickup_task_id = $2 AND run_id = $3 AND model_name = $4),
           test AS (
               SELECT e.cycle, e.control_version, e.candidate_version, e.paired
                 FROM experiments e
                WHERE e.workflow_id = $1 AND e.model_name = $4 AND e.status = 'testing'
                  AND NOT EXISTS (SELECT FROM told)
                  FOR SHARE OF e),
           probation AS (
               SELECT p.cycle, e.control_version, e.candidate_version, false AS paired
                 FROM probations p
                 JOIN experiments e
                   ON e.workflow_id = p.workflow_id AND e.cycle = p.cycle AND e.model_name = p.model_name
                WHERE p.workflow_id = $1 AND p.model_name = $4 AND p.status = 'open'
                  AND NOT EXISTS (SELECT FROM told)
                  FOR SHARE OF p),
           deck AS (
               SELECT d.* FROM (SELECT * FROM test UNION ALL SELECT * FROM probation) AS d
                WHERE NOT EXISTS (
                          SELECT FROM holds h
                           WHERE h.workflow_id = $1 AND h.lifted_at IS NULL
                             AND (h.cycle IS NULL OR h.cycle = d.cycle))
                  AND NOT EXISTS (
                          SELECT FROM tasks t
                            JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
                           WHERE t.workflow_id = $1 AND t.clickup_task_id = $2 AND t.run_id = $3
                             AND a.model_name = $4)
                LIMIT 1),
           slot AS (
               SELECT s.cycle, s.slot, s.arm,
                      CASE s.arm WHEN 'control' THEN d.control_version ELSE d.candidate_version END AS version,
                      CASE WHEN d.paired THEN
                          CASE s.arm WHEN 'control' THEN d.candidate_version ELSE d.control_version END
                      END AS pair_version
                 FROM deck d, deck_slots s
                -- By subqueries, so that the deck is found by its whole key under every plan.
                WHERE s.workflow_id = $1 AND s.cycle = (SELECT cycle FROM deck) AND s.model_name = $4
                  AND s.state = 'open' AND NOT s.frozen AND (NOT d.paired OR s.slot % 2 = 1)
                ORDER BY s.slot LIMIT 1 FOR UPDATE OF s SKIP LOCKED),
           held AS (
               INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, arm, cycle, slot,
                      assigned_at, pair_version, pair_slot)
               SELECT $1, $2, $3, $4, version, arm, cycle, slot, $5, pair_version,
                      CASE WHEN pair_version IS NOT NULL THEN slot + 1 END
                 FROM slot
               ON CONFLICT DO NOTHING
               RETURNING version, arm, cycle, pair_version, slot),
           taken AS (
               UPDATE deck_slots s
                  SET state = 'dealt', clickup_task_id = $2, run_id = $3, dealt_at = $5
                WHERE s.workflow_id = $1 AND s.cycle = (SELECT cycle FROM held) AND s.model_name = $4
                  AND s.slot IN ((SELECT slot FROM held),
                                 (SELECT slot + 1 FROM held WHERE pair_version IS NOT NULL)))
           SELECT a.version AS "version!", a.arm, a.cycle, a.pair_version, (
                      SELECT v.content_hash FROM prompt_versions v
                       WHERE v.workflow_id = $1 AND v.model_name = $4 AND v.version = a.version) AS "content_hash!"
             FROM (SELECT version, arm, cycle, pair_version FROM told
                   UNION ALL
                   SELECT version, arm, cycle, pair_version FROM held) AS a"#,
        key.workflow_id,
        key.task,
        key.run,
        key.model,
        now
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| row.read(key)).transpose()
}

/// As [`deal_at_once`] for many runs, in one statement and one commit; each answer at its run's place. No two
/// of the runs may be of one workflow, and they must be in the order of their workflows: then two
/// processes that deal at once never wait for each other in a circle.
///
/// A run whose test is locked by somebody is passed over instead of making the others wait. Who gets `None`
/// asks by itself.
///
/// # Errors
/// As [`deal_at_once`], for all of them.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub async fn deal_together(
    pool: &PgPool,
    keys: &[RunKey<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<Option<AssignmentRow>>, StoreError> {
    let workflows: Vec<i64> = keys.iter().map(|key| key.workflow_id).collect();
    let tasks: Vec<&str> = keys.iter().map(|key| key.task).collect();
    let runs: Vec<&str> = keys.iter().map(|key| key.run).collect();
    let models: Vec<&str> = keys.iter().map(|key| key.model).collect();
    let rows = sqlx::query!(
        r#"WITH asked AS (
               SELECT a.workflow_id, a.task, a.run, a.model, a.place, g.version, g.arm, g.cycle, g.pair_version
                 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
                      WITH ORDINALITY AS a (workflow_id, task, run, model, place)
                 -- LIMIT 1 wherever the key finds at most one: such a part is looked up row by row under every plan.
                 LEFT JOIN LATERAL (
                      SELECT version, arm, cycle, pair_version FROM assignments
                       WHERE workflow_id = a.workflow_id AND clickup_task_id = a.task AND run_id = a.run
                         AND model_name = a.model
                       LIMIT 1) AS g ON true),
           deck AS (
               SELECT a.workflow_id, a.task, a.run, a.model, a.place, d.*
                 FROM asked a, LATERAL (
                      SELECT * FROM (
                          SELECT e.cycle, e.control_version, e.candidate_version, e.paired
                            FROM experiments e
                           WHERE e.workflow_id = a.workflow_id AND e.model_name = a.model AND e.status = 'testing'
                           LIMIT 1 FOR SHARE OF e SKIP LOCKED) AS test
                      UNION ALL
                      SELECT * FROM (
                          SELECT p.cycle, e.control_version, e.candidate_version, false AS paired
                            FROM probations p
                            JOIN experiments e
                              ON e.workflow_id = p.workflow_id AND e.cycle = p.cycle AND e.model_name = p.model_name
                           WHERE p.workflow_id = a.workflow_id AND p.model_name = a.model AND p.status = 'open'
                           LIMIT 1 FOR SHARE OF p SKIP LOCKED) AS probation
                      LIMIT 1) AS d
                WHERE a.version IS NULL
                  AND NOT EXISTS (
                          SELECT FROM holds h
                           WHERE h.workflow_id = a.workflow_id AND h.lifted_at IS NULL
                             AND (h.cycle IS NULL OR h.cycle = d.cycle)
                           LIMIT 1)
                  AND NOT EXISTS (
                          SELECT FROM tasks t
                            JOIN attempts x ON x.workflow_id = t.workflow_id AND x.task_id = t.id
                           WHERE t.workflow_id = a.workflow_id AND t.clickup_task_id = a.task AND t.run_id = a.run
                             AND x.model_name = a.model
                           LIMIT 1)),
           slot AS (
               SELECT d.workflow_id, d.task, d.run, d.model, d.place, d.cycle, s.slot, s.arm,
                      CASE s.arm WHEN 'control' THEN d.control_version ELSE d.candidate_version END AS version,
                      CASE WHEN d.paired THEN
                          CASE s.arm WHEN 'control' THEN d.candidate_version ELSE d.control_version END
                      END AS pair_version
                 FROM deck d, LATERAL (
                      SELECT slot, arm FROM deck_slots
                       WHERE workflow_id = d.workflow_id AND cycle = d.cycle AND model_name = d.model
                         AND state = 'open' AND NOT frozen AND (NOT d.paired OR slot % 2 = 1)
                       ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED) AS s),
           held AS (
               INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, arm, cycle, slot,
                      assigned_at, pair_version, pair_slot)
               SELECT workflow_id, task, run, model, version, arm, cycle, slot, $5, pair_version,
                      CASE WHEN pair_version IS NOT NULL THEN slot + 1 END
                 FROM slot
                ORDER BY place
               ON CONFLICT DO NOTHING
               RETURNING workflow_id, clickup_task_id, run_id, model_name, version, arm, cycle, pair_version, slot),
           taken AS (
               UPDATE deck_slots s
                  SET state = 'dealt', clickup_task_id = h.clickup_task_id, run_id = h.run_id, dealt_at = $5
                 FROM (SELECT *, unnest(CASE WHEN pair_version IS NULL THEN ARRAY[slot]
                                             ELSE ARRAY[slot, slot + 1] END) AS own
                         FROM held) AS h
                WHERE s.workflow_id = h.workflow_id AND s.cycle = h.cycle AND s.model_name = h.model_name
                  AND s.slot = h.own)
           SELECT a.workflow_id AS "workflow_id!", a.version AS "version!", a.arm, a.cycle, a.pair_version, (
                      SELECT v.content_hash FROM prompt_versions v
                       WHERE v.workflow_id = a.workflow_id AND v.model_name = a.model
                         AND v.version = a.version) AS "content_hash!"
             FROM (SELECT workflow_id, model, version, arm, cycle, pair_version FROM asked WHERE version IS NOT NULL
                   UNION ALL
                   SELECT workflow_id, model_name, version, arm, cycle, pair_version FROM held) AS a"#,
        &workflows,
        &tasks as _,
        &runs as _,
        &models as _,
        now
    )
    .fetch_all(pool)
    .await?;
    let mut told: HashMap<i64, StoredAssignment> = rows
        .into_iter()
        .map(|row| {
            let stored = StoredAssignment {
                version: row.version,
                arm: row.arm,
                cycle: row.cycle,
                pair_version: row.pair_version,
                content_hash: row.content_hash,
            };
            (row.workflow_id, stored)
        })
        .collect();
    keys.iter()
        .map(|key| told.remove(&key.workflow_id).map(|row| row.read(*key)).transpose())
        .collect()
}
