//! What the rows put into tables beforehand, and read from them afterwards.

use std::fmt::Write as _;

use chrono::TimeDelta;
use mathesis::clock::{Clock as _, SystemClock};
use sqlx::PgPool;

use super::Outcome;

/// Bytes that a COPY sends at a time.
const COPY_BYTES: usize = 1 << 20;

/// Completed tasks for the next window of each workflow: `tasks` a workflow.
pub async fn complete_tasks(
    pool: &PgPool,
    workflow_ids: &[i64],
    cycle: i64,
    tasks: i32,
) -> Outcome<()> {
    sqlx::query(
        "INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, started_at, original_prompt,
                            task_type, category, ended_at, ended_by, winner_model, winner_score, total_iterations)
         SELECT w, 'window-' || $2 || '-' || n, now(), now(), now(), 'Άλλαξε το φόντο σε λευκό, κράτα το λογότυπο',
                'SIMPLE_EDIT', 'background', now(), 'completed', 'nano-banana', 8, 1
           FROM unnest($1::bigint[]) AS w, generate_series(1, $3) AS n",
    )
    .bind(workflow_ids)
    .bind(cycle)
    .bind(tasks)
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives every open slot of the workflows its task and its score, so that each candidate wins.
pub async fn score_decks(pool: &PgPool, workflow_ids: &[i64]) -> Outcome<()> {
    sqlx::query(
        "UPDATE deck_slots
            SET state = 'scored', clickup_task_id = 'scored-' || cycle || '-' || slot, run_id = '', dealt_at = now(),
                score = CASE arm WHEN 'candidate' THEN 9 ELSE 6 END
          WHERE workflow_id = ANY($1) AND state = 'open'",
    )
    .bind(workflow_ids)
    .execute(pool)
    .await?;
    Ok(())
}

/// The changes of files that a cycle has asked for: id, model, version.
pub async fn intended_changes(pool: &PgPool, workflow_id: i64) -> Outcome<Vec<(i64, String, i32)>> {
    let intended = sqlx::query_as(
        "SELECT id, model_name, to_version FROM config_changes
          WHERE workflow_id = $1 AND status = 'intended' ORDER BY id",
    );
    Ok(intended.bind(workflow_id).fetch_all(pool).await?)
}

/// How many decks there are, and how many of them have exactly `per_arm` tasks an arm, each of another run
/// that was told its slot's version.
pub async fn exact_decks(pool: &PgPool, per_arm: i64) -> Outcome<(i64, i64)> {
    let counted = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE control = $1 AND candidate = $1 AND told = 2 * $1 AND runs = 2 * $1)
           FROM (SELECT count(*) FILTER (WHERE s.arm = 'control' AND s.state = 'dealt') AS control,
                        count(*) FILTER (WHERE s.arm = 'candidate' AND s.state = 'dealt') AS candidate,
                        count(a.*) AS told, count(DISTINCT s.clickup_task_id) AS runs
                   FROM deck_slots s
                   JOIN experiments e USING (workflow_id, cycle, model_name)
                   LEFT JOIN assignments a
                     ON a.workflow_id = s.workflow_id AND a.clickup_task_id = s.clickup_task_id
                    AND a.run_id = s.run_id AND a.model_name = s.model_name AND a.slot = s.slot AND a.arm = s.arm
                    AND a.version = CASE s.arm WHEN 'control' THEN e.control_version ELSE e.candidate_version END
                  GROUP BY s.workflow_id, s.cycle, s.model_name) AS decks",
    );
    Ok(counted.bind(per_arm).fetch_one(pool).await?)
}

/// Parked cycles, each of a workflow of its own: half are paused with an effect that waits, half wait in a
/// test. They copy the workflow, definition and cycle that are there. No worker has looked at them yet.
pub async fn park_cycles(pool: &PgPool, pattern: i64, number: i32) -> Outcome<()> {
    let statements = [
        "INSERT INTO workflows (name, definition_hash, created_at, updated_at)
         SELECT 'parked-' || n, w.definition_hash, now(), now()
           FROM workflows w, generate_series(1, $2) AS n WHERE w.workflow_id = $1",
        "INSERT INTO workflow_definitions (workflow_id, definition_hash, definition, created_at)
         SELECT w.workflow_id, d.definition_hash, '{}', now() FROM workflows w, workflow_definitions d
          WHERE d.workflow_id = $1 AND w.workflow_id <> $1 AND $2 > 0",
        "INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash, opened_at, state_entered_at)
         SELECT w.workflow_id, 1, CASE w.workflow_id % 2 WHEN 0 THEN 'generating' ELSE 'testing' END, c.version,
                c.snapshot, c.definition_hash, now(), now()
           FROM workflows w, cycles c WHERE c.workflow_id = $1 AND w.workflow_id <> $1 AND $2 > 0",
        "INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, status, run_after, created_at, asks_since)
         SELECT workflow_id, 1, 1, 0, 'generate', '{\"kind\": \"generate\"}', 'pending', now(), now(), now()
           FROM workflows WHERE workflow_id <> $1 AND workflow_id % 2 = 0 AND $2 > 0",
        "INSERT INTO holds (workflow_id, cycle, kind, code, reason, remedy, placed_at, placed_by)
         SELECT workflow_id, 1, 'operator', 'paused', 'paused', 'resume', now(), 'bench'
           FROM workflows WHERE workflow_id <> $1 AND workflow_id % 2 = 0 AND $2 > 0",
    ];
    for statement in statements {
        sqlx::query(statement).bind(pattern).bind(number).execute(pool).await?;
    }
    analyze(pool).await
}

/// Effects of a cycle that any worker may claim.
pub async fn ask_for_effects(
    pool: &PgPool,
    workflow_id: i64,
    from: i32,
    number: i32,
) -> Outcome<()> {
    sqlx::query(
        "INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, status, run_after, created_at, asks_since)
         SELECT $1, 1, $2 + n, 0, 'generate', '{\"kind\": \"generate\"}', 'pending', now(), now(), now()
           FROM generate_series(1, $3) AS n",
    )
    .bind(workflow_id)
    .bind(i64::from(from))
    .bind(number)
    .execute(pool)
    .await?;
    Ok(())
}

/// Tasks of the past, which windows have taken; one in a million still waits. By COPY, a chunk at a time, without
/// the check that their workflow exists.
pub async fn past_tasks(pool: &PgPool, workflow_id: i64, from: i64, to: i64) -> Outcome<()> {
    let began = SystemClock.now() - TimeDelta::days(730);
    let mut connection = pool.acquire().await?;
    sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await?;
    let mut copy = connection
        .copy_in_raw(
            "COPY tasks (workflow_id, clickup_task_id, created_at, last_event_at, started_at, original_prompt,
                         ended_at, ended_by, winner_model, winner_score, total_iterations, analyzed_in_cycle)
             FROM STDIN",
        )
        .await?;
    let mut rows = String::new();
    for number in from..=to {
        let at = began + TimeDelta::seconds(5 * number);
        let at = at.format("%Y-%m-%dT%H:%M:%SZ");
        write!(
            rows,
            "{workflow_id}\tpast-{number:09}\t{at}\t{at}\t{at}\tΛευκό φόντο\t{at}\tcompleted\tnano-banana\t8\t1\t"
        )?;
        if number % 1_000_000 == 0 {
            rows.push_str("\\N\n");
        } else {
            writeln!(rows, "{}", 1 + number / 50)?;
        }
        if rows.len() > COPY_BYTES {
            copy.send(std::mem::take(&mut rows).into_bytes()).await?;
        }
    }
    copy.send(rows.into_bytes()).await?;
    copy.finish().await?;
    sqlx::query("SET session_replication_role = DEFAULT").execute(&mut *connection).await?;
    Ok(())
}

/// Gathers the planner's figures, as autovacuum does in time.
pub async fn analyze(pool: &PgPool) -> Outcome<()> {
    sqlx::query("VACUUM ANALYZE").execute(pool).await?;
    Ok(())
}
