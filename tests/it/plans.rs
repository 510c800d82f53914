//! The plans of the hottest statements: each finds its rows by an index, however much has piled up.
//!
//! The statements are read from `.sqlx`, so they are those that the program runs, and are planned as a
//! pooled connection plans them in the end: without looking at the parameters.

use std::path::Path;

use mathesis::runtime::Operation;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::Stage;

/// A year of one workflow: tasks with their events, pins, tests, effects, insights and changes, all of them over.
const A_YEAR: &str = "
    SET session_replication_role = replica;
    INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, ended_at, ended_by, analyzed_in_cycle)
    SELECT w.workflow_id, 'past-' || n, now(), now(), now(), 'completed', 1
      FROM workflows w, generate_series(1, 20000) AS n;
    INSERT INTO attempts (workflow_id, task_id, model_name, iteration, created_at)
    SELECT workflow_id, id, 'nano-banana', 1, now() FROM tasks WHERE clickup_task_id LIKE 'past-%';
    INSERT INTO task_events (workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version,
                             discriminator, content_hash, at, received_at)
    SELECT workflow_id, clickup_task_id, run_id, 'completed', '', 0, 0, '', '', now(), now() FROM tasks
     WHERE clickup_task_id LIKE 'past-%';
    INSERT INTO task_tombstones (workflow_id, clickup_task_id, run_id, removed_at)
    SELECT workflow_id, 'gone-' || n, '', now() FROM workflows, generate_series(1, 20000) AS n;
    INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, assigned_at)
    SELECT workflow_id, clickup_task_id, run_id, 'nano-banana', 1, now() FROM tasks WHERE clickup_task_id LIKE 'past-%';
    INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version, deck_seed,
                             opened_at, status, reason, decided_at)
    SELECT workflow_id, n, 'nano-banana', 1, 2, 7, now(), 'rejected', 'threshold_missed', now()
      FROM workflows, generate_series(2, 500) AS n;
    INSERT INTO deck_slots (workflow_id, cycle, model_name, phase, slot, block, arm, state)
    SELECT e.workflow_id, e.cycle, e.model_name, 'test', n, 1, 'control', 'missing'
      FROM experiments e, generate_series(1, 20) AS n WHERE e.cycle > 1;
    INSERT INTO effects (workflow_id, cycle, seq, ordinal, kind, payload, status, run_after, created_at, asks_since,
                         finished_at)
    SELECT workflow_id, 1, n, 0, 'generate', '{}', 'done', now(), now(), now(), now()
      FROM workflows, generate_series(1000, 20000) AS n;
    INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description, confidence_score,
                          tasks_analyzed, example_task_ids, suggested_change, created_at)
    SELECT workflow_id, n, 1, 'failure_mode', 'all', '', 0.5, 50, '{}', '', now()
      FROM workflows, generate_series(1000, 20000) AS n;
    INSERT INTO config_changes (workflow_id, model_name, kind, to_version, cycle, seq, status, backup_name, summary,
                                changed_by, intended_at, finished_at)
    SELECT workflow_id, 'nano-banana', 'apply', 1, n, 1, 'done', '', '', '', now(), now()
      FROM workflows, generate_series(1000, 20000) AS n;
    SET session_replication_role = DEFAULT;
    ANALYZE";

/// The checked statement whose text holds `words`.
pub fn statement(words: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect(".sqlx is there") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("it reads");
        let described: Value = serde_json::from_str(&text).expect("it is JSON");
        let query = described["query"].as_str().expect("it holds the statement").to_owned();
        if query.contains(words) {
            found.push(query);
        }
    }
    assert_eq!(found.len(), 1, "one statement says {words:?}");
    found.remove(0)
}

/// How the statement is carried out, whatever its parameters are.
async fn plan(connection: &mut PgConnection, words: &str) -> String {
    let statement = statement(words);
    let parameters = (1..30).take_while(|n| statement.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    let prepare = format!(
        "SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL; PREPARE hot AS {statement}"
    );
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await.expect("it prepares");
    let explain = format!("EXPLAIN EXECUTE hot ({nulls})");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(connection)
        .await
        .expect("it is planned");
    lines.join("\n")
}

#[tokio::test]
async fn the_hot_statements_find_their_rows_by_an_index() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    stage.please(Operation::Pause).await;
    let mut connection = stage.own_connection().await;
    sqlx::raw_sql(A_YEAR).execute(&mut connection).await.expect("a year has passed");
    let hot: [(&str, &str, &[&str]); 8] = [
        (
            "an assignment in a test",
            "WITH told AS",
            &[
                "assignments_pkey",
                "deck_slots_pkey",
                "tasks_workflow_id_clickup_task_id_run_id_key",
            ],
        ),
        (
            "the trigger check",
            "SELECT count(*) AS \"waiting!\" FROM (\n               SELECT 1 FROM tasks\n                WHERE workflow_id = $1 AND analyzed_in_cycle IS NULL",
            &["tasks_waiting"],
        ),
        (
            "a claim",
            "UPDATE effects\n            SET status = 'claimed', worker_id = $2",
            &["effects_pending"],
        ),
        (
            "a deck's slots",
            "AND NOT s.frozen\n            ORDER BY s.slot\n              FOR UPDATE OF s",
            &["deck_slots_pkey", "tasks_workflow_id_clickup_task_id_run_id_key"],
        ),
        (
            "the keys of events",
            "SELECT known.content_hash FROM task_events AS known",
            &["task_events_pkey", "task_tombstones_pkey"],
        ),
        (
            "what a transition asks for",
            "INSERT INTO effects (workflow_id, cycle, seq, ordinal",
            &["effects_changing_files"],
        ),
        (
            "the models whose files are being changed",
            "SELECT DISTINCT model_name FROM config_changes",
            &["config_changes_intended"],
        ),
        (
            "the insights that a version rests on",
            "UPDATE insights i SET applied = true",
            &["insights_workflow_id_cycle_ordinal_key"],
        ),
    ];
    for (name, words, indexes) in hot {
        let plan = plan(&mut connection, words).await;
        for index in indexes {
            assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
        }
        for table in [
            "tasks",
            "attempts",
            "task_events",
            "assignments",
            "deck_slots",
            "effects",
            "config_changes",
            "insights",
        ] {
            let scan = format!("Seq Scan on {table} ");
            assert!(!plan.contains(&scan), "{name} reads all of {table}:\n{plan}");
        }
    }
}
