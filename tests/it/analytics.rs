//! The dashboard's numbers, read from rows that are small enough to count by hand.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use mathesis::store::analytics::{Analytics, AnalyticsQuery, Phase, load};
use mathesis::store::figures;
use sqlx::PgPool;

/// Two workflows; everything is read from the first. Cycle 2 is open, cycle 1 was applied.
const WORKFLOWS: &str = "
    INSERT INTO workflows (name, definition_hash, created_at, updated_at)
    VALUES ('image-editing', 'h', '2026-11-01Z', '2026-11-01Z'), ('other', 'h', '2026-11-01Z', '2026-11-01Z');
    INSERT INTO workflow_definitions (workflow_id, definition_hash, definition, created_at)
    VALUES (1, 'h', '{}', '2026-11-01Z'), (2, 'h', '{}', '2026-11-01Z');
    INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash, opened_at, state_entered_at, ended_at)
    VALUES (1, 1, 'applied', 9, '{}', 'h', '2026-11-01Z', '2026-11-08Z', '2026-11-08Z'),
           (1, 2, 'testing', 4, '{}', 'h', '2026-11-08Z', '2026-11-10T12:00Z', NULL),
           (2, 1, 'collecting', 0, '{}', 'h', '2026-11-01Z', '2026-11-01Z', NULL);
    INSERT INTO prompt_versions (workflow_id, model_name, version, prompt_template, activation_text,
        research_text, content_hash, parent_version, summary, is_active, created_at, created_by)
    VALUES (1, 'nano-banana', 1, 't', 'a', 'r', 'n1', NULL, '', false, '2026-11-01Z', 'files'),
           (1, 'nano-banana', 2, 't', 'a', 'r', 'n2', 1, 'Say what must stay.', true, '2026-11-02Z', 'generation'),
           (1, 'nano-banana', 3, 't', 'a', 'r', 'n3', 2, 'Shorter.', false, '2026-11-09Z', 'generation'),
           (1, 'wan-2.5-edit', 1, 't', 'a', 'r', 'w1', NULL, '', true, '2026-11-01Z', 'files');
";

/// Four tasks. The second arrives at 23:30 UTC, which is the next day in Athens.
const TASKS: &str = "
    INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at, ended_at, ended_by,
        winner_model, total_iterations, processing_time_reported_ms, feedback_kept, analyzed_in_cycle)
    VALUES (1, 'a', '2026-11-09T10:00Z', '2026-11-09T10:00Z', '2026-11-09T10:01Z', 'completed', 'nano-banana', 1, 30000, true, 1),
           (1, 'b', '2026-11-09T23:30Z', '2026-11-09T23:30Z', '2026-11-09T23:31Z', 'completed', 'nano-banana', 3, 90000, false, NULL),
           (1, 'c', '2026-11-10T08:00Z', '2026-11-10T08:00Z', '2026-11-10T08:01Z', 'error', NULL, NULL, NULL, NULL, NULL),
           (1, 'd', '2026-11-10T09:00Z', '2026-11-10T09:00Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
           (2, 'a', '2026-11-10T09:00Z', '2026-11-10T09:00Z', '2026-11-10T09:01Z', 'completed', 'nano-banana', 1, 1, true, NULL);
    INSERT INTO attempts (workflow_id, task_id, model_name, iteration, observed, validation_score, validation_passed, created_at)
    SELECT t.workflow_id, t.id, v.model, v.iteration, v.model = 'flux', v.score, v.score >= 8, t.created_at
    FROM tasks t
    JOIN (VALUES ('a', 'nano-banana', 1, 9), ('a', 'wan-2.5-edit', 1, 6), ('b', 'nano-banana', 1, 4),
                 ('b', 'nano-banana', 2, 8), ('b', 'flux', 1, 7), ('c', 'wan-2.5-edit', 1, NULL))
         AS v (task, model, iteration, score) ON v.task = t.clickup_task_id
    WHERE t.workflow_id = 1;
    INSERT INTO attempts (workflow_id, task_id, model_name, iteration, validation_score, created_at)
    SELECT 2, id, 'nano-banana', 1, 0, created_at FROM tasks WHERE workflow_id = 2;
";

async fn seeded(rows: &[&'static str]) -> PgPool {
    let pool = crate::support::database().await;
    for &sql in rows {
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    }
    counted(&pool).await;
    pool
}

/// Has the refresher count what was written by hand.
async fn counted(pool: &PgPool) {
    for workflow in [1, 2] {
        figures::mark_all(&mut pool.acquire().await.unwrap(), workflow).await.unwrap();
        let zone = Tz::Europe__Athens;
        figures::refresh(pool, workflow, zone, at("2026-11-10T20:00:00Z")).await.unwrap();
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, number).unwrap()
}

fn query() -> AnalyticsQuery {
    AnalyticsQuery {
        now: at("2026-11-10T20:00:00Z"),
        time_zone: Tz::Europe__Athens,
        from: None,
        to: None,
        model: None,
        category: None,
        trigger_tasks: 50,
        score_max: 10,
        budget_usd_per_month: Some("20".parse().unwrap()),
    }
}

async fn loaded(pool: &PgPool) -> Analytics {
    load(pool, 1, &query()).await.unwrap()
}

#[tokio::test]
async fn totals_count_every_task_of_the_workflow_and_of_no_other() {
    let analytics = loaded(&seeded(&[WORKFLOWS, TASKS]).await).await;
    let tasks = analytics.tasks;
    assert_eq!((tasks.total, tasks.completed, tasks.errored, tasks.running), (4, 2, 1, 1));
    assert_eq!((tasks.with_winner, tasks.kept, tasks.deleted), (2, 1, 1));
    assert_eq!((tasks.mean_iterations, tasks.mean_processing_seconds), (Some(2.0), Some(60.0)));
    assert_eq!(analytics.cycle.unwrap().waiting_tasks, 2);
}

#[tokio::test]
async fn a_model_has_its_mean_pass_rate_and_share_of_the_wins() {
    let analytics = loaded(&seeded(&[WORKFLOWS, TASKS]).await).await;
    let seen: Vec<_> = analytics
        .models
        .iter()
        .map(|model| {
            (model.model.as_str(), model.observed, model.attempts, model.scored, model.wins)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("flux", true, 1, 1, 0),
            ("nano-banana", false, 3, 3, 2),
            ("wan-2.5-edit", false, 2, 1, 0)
        ]
    );
    let nano = &analytics.models[1];
    assert_eq!((nano.mean_score, nano.win_rate), (Some(7.0), Some(1.0)));
    assert_eq!(nano.pass_rate, Some(2.0 / 3.0));
}

#[tokio::test]
async fn a_day_begins_in_the_workflows_time_zone() {
    let analytics = loaded(&seeded(&[WORKFLOWS, TASKS]).await).await;
    let days: Vec<_> = analytics.task_days.iter().map(|day| (day.day, day.total)).collect();
    assert_eq!(days, [(day(9), 1), (day(10), 3)]);
    let means: Vec<_> = analytics
        .model_days
        .iter()
        .filter(|point| point.model == "nano-banana")
        .map(|point| (point.day, point.mean_score, point.wins))
        .collect();
    assert_eq!(means, [(day(9), Some(9.0), 1), (day(10), Some(6.0), 1)]);
}

#[tokio::test]
async fn a_range_takes_both_its_days_in() {
    let pool = seeded(&[WORKFLOWS, TASKS]).await;
    let range = AnalyticsQuery { from: Some(day(10)), to: Some(day(10)), ..query() };
    let analytics = load(&pool, 1, &range).await.unwrap();
    assert_eq!((analytics.tasks.total, analytics.task_days.len()), (3, 1));
    let before = AnalyticsQuery { to: Some(day(8)), ..query() };
    assert_eq!(load(&pool, 1, &before).await.unwrap().tasks.total, 0);
}

#[tokio::test]
async fn what_was_archived_is_added_to_what_lives() {
    const ARCHIVE: &str = "
        INSERT INTO archived_task_days VALUES (1, '2026-11-09', 10, 8, 1, 1, 8, 8, 8, 80000, 8, 5, 3, 4);
        INSERT INTO archived_model_days VALUES (1, '2026-11-09', 'nano-banana', 10, 9, 63, 5, 8);
    ";
    let analytics = loaded(&seeded(&[WORKFLOWS, TASKS, ARCHIVE]).await).await;
    let tasks = analytics.tasks;
    assert_eq!((tasks.total, tasks.abandoned, tasks.removed_unanalyzed), (14, 1, 4));
    assert_eq!(analytics.model_days[0].mean_score, Some(7.2));
    assert_eq!(analytics.models[1].wins, 10);
}

/// Ten slots an arm; the old one has two scores, the new one has one and one that waits for it.
const TEST: &str = "
    INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version,
        deck_seed, opened_at, status)
    VALUES (1, 2, 'nano-banana', 2, 3, 1, '2026-11-10T12:00Z', 'testing');
    INSERT INTO deck_slots (workflow_id, cycle, model_name, slot, block, arm, state, clickup_task_id, run_id, dealt_at, score)
    SELECT 1, 2, 'nano-banana', n, 1 + (n - 1) / 4,
           CASE WHEN n % 2 = 1 THEN 'control' ELSE 'candidate' END,
           CASE WHEN n <= 3 THEN 'scored' WHEN n = 4 THEN 'dealt' ELSE 'open' END,
           CASE WHEN n <= 4 THEN 't' || n END, CASE WHEN n <= 4 THEN '' END,
           CASE WHEN n <= 4 THEN timestamptz '2026-11-10T13:00Z' END,
           CASE WHEN n <= 3 THEN 5 + n END
    FROM generate_series(1, 20) AS n;
";

#[tokio::test]
async fn a_test_shows_what_is_dealt_and_scored_in_each_arm() {
    let analytics = loaded(&seeded(&[WORKFLOWS, TEST]).await).await;
    let [running] = analytics.running.as_slice() else { panic!("{:?}", analytics.running) };
    assert_eq!((running.phase, running.old_version, running.new_version), (Phase::Test, 2, 3));
    assert_eq!(
        (running.old.slots, running.old.dealt, running.old.scored, running.old.sum),
        (10, 2, 2, 14)
    );
    assert_eq!(
        (running.new.slots, running.new.dealt, running.new.scored, running.new.sum),
        (10, 2, 1, 7)
    );
    assert_eq!((running.old.mean, running.new.mean), (Some(7.0), Some(7.0)));
    assert!(analytics.past.is_empty());
}

#[tokio::test]
async fn an_adopted_version_on_watch_counts_its_own_deck_and_stands_among_the_verdicts() {
    const ADOPTED: &str = "
        UPDATE cycles SET state = 'probation' WHERE workflow_id = 1 AND number = 2;
        UPDATE prompt_versions SET is_active = false WHERE workflow_id = 1 AND model_name = 'nano-banana';
        UPDATE prompt_versions SET is_active = true WHERE workflow_id = 1 AND model_name = 'nano-banana' AND version = 3;
        UPDATE experiments SET status = 'adopted', reason = 'beat_the_threshold', decided_at = '2026-11-10T14:00Z',
               improvement = 0.2, control_sum = 70, control_count = 10, candidate_sum = 84, candidate_count = 10,
               sentence = 'Adopted.', evidence = '{\"p\": 0.03}';
        UPDATE deck_slots SET frozen = true;
        INSERT INTO probations (workflow_id, cycle, model_name, opened_at, status)
        VALUES (1, 2, 'nano-banana', '2026-11-10T14:00Z', 'open');
        INSERT INTO deck_slots (workflow_id, cycle, model_name, slot, block, arm, phase, state, clickup_task_id, run_id, dealt_at, score)
        VALUES (1, 2, 'nano-banana', 21, 6, 'control', 'probation', 'open', NULL, NULL, NULL, NULL),
               (1, 2, 'nano-banana', 22, 6, 'candidate', 'probation', 'scored', 'u', '', '2026-11-10T15:00Z', 9);
    ";
    let analytics = loaded(&seeded(&[WORKFLOWS, TEST, ADOPTED]).await).await;
    let [running] = analytics.running.as_slice() else { panic!("{:?}", analytics.running) };
    assert_eq!(running.phase, Phase::Watch);
    assert_eq!((running.old.slots, running.old.scored), (1, 0));
    assert_eq!((running.new.slots, running.new.scored, running.new.sum), (1, 1, 9));
    let [verdict] = analytics.past.as_slice() else { panic!("{:?}", analytics.past) };
    assert!(verdict.on_watch);
    assert_eq!(
        (verdict.old_sum, verdict.new_sum, verdict.improvement),
        (Some(70), Some(84), Some(0.2))
    );
}

#[tokio::test]
async fn holds_of_the_workflow_and_of_its_open_cycle_stand_and_lifted_ones_do_not() {
    const HOLDS: &str = "
        INSERT INTO holds (workflow_id, cycle, kind, code, reason, remedy, placed_at, placed_by, lifted_at, lifted_by)
        VALUES (1, NULL, 'automation_off', 'automation_off', 'Off.', 'Switch it on.', '2026-11-09Z', 'maria', NULL, NULL),
               (1, 2, 'operator', 'paused', 'Paused.', 'Resume.', '2026-11-10Z', 'maria', NULL, NULL),
               (1, 2, 'approval', 'asked', 'Asked.', 'Approve.', '2026-11-10Z', 'machine', '2026-11-10Z', 'maria'),
               (1, 1, 'operator', 'paused', 'Old.', 'None.', '2026-11-02Z', 'maria', NULL, NULL),
               (2, NULL, 'budget_spent', 'budget_spent', 'Other.', 'Wait.', '2026-11-02Z', 'machine', NULL, NULL);
    ";
    let analytics = loaded(&seeded(&[WORKFLOWS, HOLDS]).await).await;
    let holds: Vec<_> =
        analytics.holds.iter().map(|hold| (hold.kind.as_str(), hold.workflow_wide)).collect();
    assert_eq!(holds, [("automation_off", true), ("operator", false)]);
}

#[tokio::test]
async fn the_month_costs_what_is_known_and_else_what_was_estimated() {
    // Known; lost, then answered after all; begun and never ended; the last minutes of October in Athens.
    const CALLS: &str = "
        INSERT INTO claude_calls (workflow_id, call_id, cycle, effect_id, purpose, attempt, claude_model,
            request_hash, estimated_cost_usd, worker_id, started_at)
        SELECT 1, ('00000000-0000-0000-0000-00000000000' || v.n)::uuid, 1, v.n, 'analysis', 1, 'claude', 'h', 0.50,
               '00000000-0000-0000-0000-000000000009', v.at
        FROM (VALUES (1, timestamptz '2026-10-31T22:30Z'), (2, '2026-11-02Z'), (3, '2026-11-03Z'), (4, '2026-10-31T21:30Z'))
             AS v (n, at);
        INSERT INTO claude_call_outcomes (workflow_id, call_id, status, cost_usd, cost_estimated, recorded_at)
        VALUES (1, '00000000-0000-0000-0000-000000000001', 'answered', 0.20, false, '2026-11-01Z'),
               (1, '00000000-0000-0000-0000-000000000002', 'lost', 0.60, true, '2026-11-02Z'),
               (1, '00000000-0000-0000-0000-000000000002', 'answered', 0.10, false, '2026-11-02Z');
    ";
    let cost = loaded(&seeded(&[WORKFLOWS, CALLS]).await).await.cost;
    assert_eq!((cost.month, cost.calls), (day(1), 3));
    assert_eq!(cost.spent_usd, "0.80".parse().unwrap());
    assert_eq!(cost.estimated_usd, "0.50".parse().unwrap());
}

#[tokio::test]
async fn changes_of_files_mark_activations_once_they_are_done() {
    const CHANGES: &str = "
        INSERT INTO config_changes (workflow_id, model_name, kind, from_version, to_version, cycle, seq, status,
            backup_name, backup_path, summary, changed_by, intended_at, finished_at)
        VALUES (1, 'nano-banana', 'apply', 1, 2, 1, 7, 'done', 'backup_1', '/c/backup_1', 'Say what must stay.', 'cycle 1', '2026-11-08T22:10Z', '2026-11-08T22:30Z'),
               (1, 'nano-banana', 'repair', 2, 2, NULL, NULL, 'done', 'backup_2', NULL, 'Stale.', 'reconciler', '2026-11-09Z', '2026-11-09Z'),
               (1, 'nano-banana', 'apply', 2, 3, 2, 9, 'intended', 'backup_3', NULL, 'Shorter.', 'cycle 2', '2026-11-10Z', NULL);
    ";
    let analytics = loaded(&seeded(&[WORKFLOWS, CHANGES]).await).await;
    let marks: Vec<_> = analytics.activations.iter().map(|mark| (mark.day, mark.version)).collect();
    assert_eq!(marks, [(day(9), 2)]);
    let backups: Vec<_> =
        analytics.config_changes.iter().map(|change| change.backup_name.as_str()).collect();
    assert_eq!(backups, ["backup_3", "backup_2", "backup_1"]);
}

#[tokio::test]
async fn the_latest_twenty_insights_come_with_their_evidence() {
    const INSIGHTS: &str = "
        INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description, confidence_score,
            tasks_analyzed, example_task_ids, suggested_change, created_at)
        SELECT 1, 1 + n / 15, n % 15, 'failure_mode', 'all', 'Τόνοι λείπουν', 0.8, 50, ARRAY['a', 'b'], 'Quote.', '2026-11-08Z'
        FROM generate_series(0, 24) AS n;
    ";
    let insights = loaded(&seeded(&[WORKFLOWS, INSIGHTS]).await).await.insights;
    assert_eq!((insights.len(), insights[0].cycle, insights[19].cycle), (20, 2, 1));
    assert_eq!(insights[0].example_task_ids, ["a", "b"]);
    assert_eq!(insights[0].description, "Τόνοι λείπουν");
}

#[tokio::test]
async fn versions_stand_under_their_model_latest_first() {
    let analytics = loaded(&seeded(&[WORKFLOWS]).await).await;
    let versions: Vec<_> = analytics
        .versions
        .iter()
        .flat_map(|known| {
            known
                .versions
                .iter()
                .map(|version| (known.model.as_str(), version.version, version.active))
        })
        .collect();
    assert_eq!(
        versions,
        [
            ("nano-banana", 3, false),
            ("nano-banana", 2, true),
            ("nano-banana", 1, false),
            ("wan-2.5-edit", 1, true)
        ]
    );
    assert_eq!(analytics.learning, None);
}
