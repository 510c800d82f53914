//! Retention takes what is old and nothing that is needed, and the totals stay.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use futures::future::join_all;
use mathesis::store::analytics::{Analytics, AnalyticsQuery, TaskDay, load};
use mathesis::store::retention::{
    Cleanup, CleanupStep, cleanup, prune_assignments, prune_sessions,
};
use mathesis::store::{figures, insights};
use sqlx::PgPool;

/// 120 tasks, twelve a day over ten days; each with two models, events and a pinned version. Cycle 1
/// is over, cycle 2 is open and has no window yet. Every task is waiting for an analysis, but the
/// first 20, which cycle 1 took.
const LOG: &str = "
    INSERT INTO workflows (name, definition_hash, created_at, updated_at) VALUES ('w', 'h', '2026-01-01Z', '2026-01-01Z');
    INSERT INTO workflow_definitions (workflow_id, definition_hash, definition, created_at) VALUES (1, 'h', '{}', '2026-01-01Z');
    INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash, opened_at, state_entered_at, ended_at)
    VALUES (1, 1, 'rejected', 5, '{}', 'h', '2026-01-01Z', '2026-01-03Z', '2026-01-03Z'),
           (1, 2, 'collecting', 0, '{}', 'h', '2026-01-03Z', '2026-01-03Z', NULL);
    INSERT INTO prompt_versions (workflow_id, model_name, version, prompt_template, activation_text, research_text,
        content_hash, is_active, created_at, created_by)
    SELECT 1, m, v, 't', 'a', 'r', m || v, v = 1, '2026-01-01Z', 'files'
    FROM unnest(ARRAY['nano', 'wan']) AS m, generate_series(1, 2) AS v;
    INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, ended_at, ended_by, winner_model,
        total_iterations, processing_time_reported_ms, feedback_kept, analyzed_in_cycle)
    SELECT 1, 't' || n, at, at, at,
           CASE WHEN n % 11 = 0 THEN 'error' WHEN n % 13 = 0 THEN 'abandoned' ELSE 'completed' END,
           CASE WHEN n % 11 > 0 AND n % 13 > 0 THEN CASE WHEN n % 3 = 0 THEN 'wan' ELSE 'nano' END END,
           CASE WHEN n % 11 > 0 THEN 1 + n % 3 END, CASE WHEN n % 11 > 0 THEN 1000 * n END,
           CASE n % 5 WHEN 0 THEN true WHEN 1 THEN false END,
           CASE WHEN n <= 20 THEN 1 END
    FROM (SELECT n, timestamptz '2026-01-01T01:00Z' + n * interval '2 hours' AS at FROM generate_series(1, 120) AS n) AS s;
    INSERT INTO attempts (workflow_id, task_id, model_name, iteration, validation_score, validation_passed, created_at)
    SELECT 1, t.id, m, 1, CASE WHEN t.id % 7 > 0 THEN (t.id + length(m)) % 11 END,
           CASE WHEN t.id % 7 > 0 THEN (t.id + length(m)) % 11 >= 8 END, t.created_at
    FROM tasks t, unnest(ARRAY['nano', 'wan']) AS m;
    INSERT INTO task_events (workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version,
        discriminator, content_hash, at, received_at)
    SELECT 1, clickup_task_id, '', 'completed', '', 0, 0, '', '', created_at, created_at FROM tasks;
    INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, assigned_at)
    SELECT 1, clickup_task_id, '', 'nano', 1, created_at FROM tasks;
";

async fn logged() -> PgPool {
    let pool = crate::support::database().await;
    run(&pool, LOG).await;
    figures::mark_all(&mut pool.acquire().await.unwrap(), 1).await.unwrap();
    figures::refresh(&pool, 1, Tz::Europe__Athens, at("2026-02-01T00:00:00Z")).await.unwrap();
    pool
}

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn everything(batch: i64) -> Cleanup {
    Cleanup {
        created_before: at("2026-02-01T00:00:00Z"),
        now: at("2026-05-01T00:00:00Z"),
        time_zone: Tz::Europe__Athens,
        batch,
    }
}

/// Steps until nothing is left to do, and adds the steps up.
async fn clean(pool: &PgPool, rules: Cleanup) -> CleanupStep {
    let mut total = CleanupStep::default();
    loop {
        let step = cleanup(pool, 1, &rules).await.unwrap();
        total.removed += step.removed;
        total.unanalyzed += step.unanalyzed;
        if !step.more {
            return total;
        }
    }
}

async fn dashboard(pool: &PgPool) -> Analytics {
    let query = AnalyticsQuery {
        now: at("2026-01-11T12:00:00Z"),
        time_zone: Tz::Europe__Athens,
        from: None,
        to: None,
        model: None,
        category: None,
        trigger_tasks: 50,
        score_max: 10,
        budget_usd_per_month: None,
    };
    load(pool, 1, &query).await.unwrap()
}

#[tokio::test]
async fn totals_and_trends_survive_the_cleanup() {
    let pool = logged().await;
    let before = dashboard(&pool).await;
    // Seven a step, so that steps end within days and add to the same archive rows.
    let half = Cleanup { created_before: at("2026-01-06T07:00:00Z"), ..everything(7) };
    let removed = clean(&pool, half).await.removed;
    assert!((1..120).contains(&removed), "{removed}");
    assert_same(&before, &dashboard(&pool).await);
    clean(&pool, everything(7)).await;
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks").await, 0);
    assert_same(&before, &dashboard(&pool).await);
}

fn assert_same(before: &Analytics, after: &Analytics) {
    let forget = |day: &TaskDay| TaskDay { removed_unanalyzed: 0, ..*day };
    let days = |of: &Analytics| of.task_days.iter().map(forget).collect::<Vec<_>>();
    assert_eq!(days(before), days(after));
    assert_eq!(before.model_days, after.model_days);
    assert_eq!(before.models, after.models);
    assert_eq!(before.learning, after.learning);
    assert_eq!(before.tasks.total, after.tasks.total);
    assert_eq!(before.tasks.mean_processing_seconds, after.tasks.mean_processing_seconds);
}

#[tokio::test]
async fn what_no_analysis_saw_is_counted_and_reported() {
    let pool = logged().await;
    let waiting = dashboard(&pool).await.cycle.unwrap().waiting_tasks;
    let step = clean(&pool, everything(50)).await;
    assert_eq!((step.removed, step.unanalyzed), (120, waiting));
    assert_eq!(dashboard(&pool).await.tasks.removed_unanalyzed, waiting);
    assert_eq!(clean(&pool, everything(50)).await, CleanupStep::default());
}

#[tokio::test]
async fn an_open_cycles_window_is_never_touched() {
    let pool = logged().await;
    run(
        &pool,
        "UPDATE cycles SET state = 'analyzing' WHERE number = 2;
                UPDATE tasks SET analyzed_in_cycle = 2 WHERE id BETWEEN 21 AND 70;",
    )
    .await;
    assert_eq!(clean(&pool, everything(500)).await.removed, 70);
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 2").await, 50);
    run(
        &pool,
        "UPDATE cycles SET state = 'rejected', ended_at = now() WHERE number = 2;
                INSERT INTO cycles SELECT 1, 3, 'collecting', 0, '{}', 'h', now(), now(), NULL;",
    )
    .await;
    assert_eq!(clean(&pool, everything(500)).await.removed, 50);
}

#[tokio::test]
async fn holders_of_an_open_cycles_slots_and_running_tasks_stay() {
    let pool = logged().await;
    run(&pool, "UPDATE cycles SET state = 'testing' WHERE number = 2;
                INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version, deck_seed,
                    opened_at, status, reason, decided_at)
                VALUES (1, 1, 'nano', 1, 2, 1, now(), 'rejected', 'too_little', now()),
                       (1, 2, 'nano', 1, 2, 1, now(), 'testing', NULL, NULL);
                INSERT INTO deck_slots (workflow_id, cycle, model_name, slot, block, arm, state, clickup_task_id, run_id, dealt_at)
                VALUES (1, 1, 'nano', 1, 1, 'control', 'dealt', 't30', '', now()),
                       (1, 2, 'nano', 1, 1, 'control', 'dealt', 't31', '', now());
                UPDATE tasks SET ended_by = NULL, ended_at = NULL WHERE clickup_task_id = 't32';").await;
    assert_eq!(clean(&pool, everything(500)).await.removed, 118);
    assert_eq!(
        count(&pool, "SELECT count(*) FROM tasks WHERE clickup_task_id IN ('t31', 't32')").await,
        2
    );
}

#[tokio::test]
async fn the_evidence_of_insights_that_candidates_may_rest_on_stays() {
    let pool = logged().await;
    run(
        &pool,
        "INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description, confidence_score,
             tasks_analyzed, example_task_ids, suggested_change, standing, judged_in_cycle, created_at)
         SELECT 1, 1, n, 'failure_mode', 'nano', 'd', 0.9, 20, ARRAY['t' || 2 * n, 't' || 2 * n + 1], 's', standing,
                CASE WHEN n > 1 THEN 1 END, '2026-01-03Z'
           FROM unnest(ARRAY['new', 'confirmed', 'weakened', 'retired']) WITH ORDINALITY AS s (standing, n)",
    )
    .await;
    assert_eq!(clean(&pool, everything(7)).await.removed, 114);
    let left = "SELECT string_agg(clickup_task_id, ' ' ORDER BY id) FROM tasks";
    let left: String = sqlx::query_scalar(left).fetch_one(&pool).await.unwrap();
    assert_eq!(left, "t2 t3 t4 t5 t6 t7");
    run(&pool, "UPDATE insights SET standing = 'retired', judged_in_cycle = 2").await;
    assert_eq!(clean(&pool, everything(7)).await.removed, 6);
}

#[tokio::test]
async fn insights_that_no_candidate_may_rest_on_any_more_keep_nothing() {
    let pool = logged().await;
    run(
        &pool,
        "INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description, confidence_score,
             tasks_analyzed, example_task_ids, suggested_change, created_at)
         SELECT 1, 1, n, 'failure_mode', 'nano', 'd', 0.9, 20, ARRAY['t' || n], 's', '2026-01-03Z'
           FROM generate_series(1, 100) AS n",
    )
    .await;
    clean(&pool, everything(7)).await;
    let newest = "SELECT count(*) FROM tasks WHERE id > 40 AND id <= 100";
    assert_eq!(count(&pool, newest).await, insights::STANDING_MAX);
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks").await, insights::STANDING_MAX);
}

#[tokio::test]
async fn a_removed_task_leaves_its_tombstone_and_its_slot_and_nothing_else() {
    let pool = logged().await;
    run(&pool, "INSERT INTO assignments (workflow_id, clickup_task_id, run_id, model_name, version, arm, cycle, slot, assigned_at)
                VALUES (1, 't1', '', 'wan', 1, 'control', 1, 1, now());").await;
    clean(&pool, everything(500)).await;
    assert_eq!(count(&pool, "SELECT count(*) FROM task_tombstones").await, 120);
    assert_eq!(count(&pool, "SELECT count(*) FROM task_events").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM attempts").await, 0);
    assert_eq!(count(&pool, "SELECT count(*) FROM assignments").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM prompt_versions").await, 4);
}

#[tokio::test]
async fn concurrent_cleanups_remove_each_task_once() {
    let pool = logged().await;
    let before = dashboard(&pool).await;
    let steps = join_all((0..4).map(|_| clean(&pool, everything(5)))).await;
    assert_eq!(steps.iter().map(|step| step.removed).sum::<i64>(), 120);
    assert_same(&before, &dashboard(&pool).await);
}

#[tokio::test]
async fn a_task_that_ingest_holds_waits_for_the_next_time() {
    let pool = logged().await;
    let mut ingest = pool.begin().await.unwrap();
    sqlx::query("UPDATE tasks SET last_event_at = now() WHERE clickup_task_id = 't9'")
        .execute(&mut *ingest)
        .await
        .unwrap();
    assert_eq!(clean(&pool, everything(500)).await.removed, 119);
    ingest.commit().await.unwrap();
    assert_eq!(clean(&pool, everything(500)).await.removed, 1);
}

#[tokio::test]
async fn old_pins_and_sessions_that_ran_out_go() {
    let pool = logged().await;
    run(&pool, "INSERT INTO api_keys (name, role, secret_hash, prefix, created_at, created_by)
                VALUES ('k', 'read', 'x', 'p', now(), 'test');
                INSERT INTO sessions VALUES ('a', 1, 'c', '2026-01-01Z', '2026-01-02Z'), ('b', 1, 'c', '2026-01-01Z', '2026-01-03Z');").await;
    assert_eq!(prune_sessions(&pool, at("2026-01-02T00:00:00Z")).await.unwrap(), 1);
    let limit = at("2026-01-01T12:00:00Z");
    assert_eq!(prune_assignments(&pool, 1, limit, 3).await.unwrap(), 3);
    assert_eq!(prune_assignments(&pool, 1, limit, 30).await.unwrap(), 2);
    assert_eq!(prune_assignments(&pool, 1, limit, 30).await.unwrap(), 0);
}
