//! The task log against a real PostgreSQL: what is acknowledged is stored, once, and lands the same in
//! whatever order it comes.

mod logger;
mod order;

use chrono::{DateTime, TimeDelta, Utc};
use mathesis::store::task_log::{Recorded, TaskRecord, abandon_silent, load_task, record};
use mathesis::store::window;
use mathesis::task_log::{Arrived, parse_event};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{self, Statements};

fn time(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_800_000, 0).unwrap() + TimeDelta::seconds(second)
}

fn models() -> Vec<String> {
    ["wan", "nano"].map(str::to_owned).to_vec()
}

async fn workflow(pool: &PgPool, name: &str) -> i64 {
    sqlx::query_scalar(
        "INSERT INTO workflows (name, definition_hash, created_at, updated_at)
         VALUES ($1, '', $2, $2) RETURNING workflow_id",
    )
    .bind(name)
    .bind(time(0))
    .fetch_one(pool)
    .await
    .unwrap()
}

fn event(workflow_id: i64, event: &Value, second: i64) -> Arrived {
    Arrived::new(workflow_id, parse_event(&event.to_string()).unwrap(), time(second))
}

/// Records events that arrive a second apart.
async fn send(pool: &PgPool, workflow_id: i64, events: &[Value]) -> Vec<Recorded> {
    let events: Vec<Arrived> =
        events.iter().zip(0..).map(|(sent, second)| event(workflow_id, sent, second)).collect();
    record(pool, workflow_id, &models(), &events).await.unwrap()
}

async fn task(pool: &PgPool, workflow_id: i64, task_id: &str) -> TaskRecord {
    load_task(pool, workflow_id, task_id, "").await.unwrap().unwrap()
}

/// The nine events of a run that one model wins in its first iteration.
fn run(task_id: &str) -> Vec<Value> {
    let model_events = |model: &str, score: u16| {
        [
            json!({"type": "enhancement", "task_id": task_id, "model": model, "original_prompt": "Ἀλλάξτε", "enhanced_prompt": "Change", "latency_ms": 2300, "version": 1}),
            json!({"type": "generation", "task_id": task_id, "model": model, "image_url": "https://x/y.png", "generation_time_ms": 12500, "cost_usd": 0.04}),
            json!({"type": "validation", "task_id": task_id, "model": model, "score": score, "passed": score >= 8, "issues": ["dim"], "reasoning": "r", "judge": {"model": "claude", "prompt_version": "2"}}),
        ]
    };
    let mut events = vec![
        json!({"type": "task_started", "task_id": task_id, "original_prompt": "Ἀλλάξτε", "task_type": "SIMPLE_EDIT", "metadata": {"by": "start"}}),
    ];
    events.extend(model_events("wan", 9));
    events.extend(model_events("nano", 6));
    events.push(json!({"type": "winner", "task_id": task_id, "winner": "wan", "score": 9, "total_iterations": 1, "metadata": {"by": "winner"}}));
    events
        .push(json!({"type": "completed", "task_id": task_id, "metadata": {"by": "end", "at": 1}}));
    events
}

/// Every stored column of a workflow's tasks and attempts but the ids, in key order.
async fn rows(pool: &PgPool, workflow_id: i64) -> Vec<Value> {
    sqlx::query_scalar(
        "SELECT to_jsonb(t) - '{workflow_id,id}'::text[] || jsonb_build_object('attempts', (
            SELECT jsonb_agg(to_jsonb(a) - '{workflow_id,id,task_id}'::text[]
                             ORDER BY a.model_name, a.iteration, a.version)
            FROM attempts a WHERE a.workflow_id = $1 AND a.task_id = t.id))
         FROM tasks t WHERE t.workflow_id = $1 ORDER BY t.clickup_task_id, t.run_id",
    )
    .bind(workflow_id)
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_run_is_stored_with_all_that_was_said() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    let verdicts = send(&pool, wf, &run("86c1")).await;
    assert_eq!(verdicts, vec![Recorded::Accepted; 9]);
    let task = task(&pool, wf, "86c1").await;
    assert_eq!(task.original_prompt.as_deref(), Some("Ἀλλάξτε"));
    assert_eq!(
        (task.original_prompt_length, task.ended_by.as_deref()),
        (Some(7), Some("completed"))
    );
    assert_eq!((task.started_at, task.ended_at), (Some(time(0)), Some(time(7))));
    assert_eq!(task.processing_time_ms, Some(7000), "computed, since nobody reported it");
    assert_eq!((task.winner_model.as_deref(), task.winner_score), (Some("wan"), Some(9)));
    assert_eq!(task.metadata, json!({"by": "end", "at": 1}));
    let [nano, wan] = task.attempts.as_slice() else { panic!("two attempts") };
    assert_eq!(
        (wan.model.as_str(), wan.validation_score, wan.was_selected),
        ("wan", Some(9), true)
    );
    assert_eq!(
        (nano.model.as_str(), nano.validation_score, nano.was_selected),
        ("nano", Some(6), false)
    );
    assert_eq!(wan.validation_issues, Some(json!(["dim"])));
    assert_eq!((wan.prompt_version, wan.observed), (Some(1), false));
    assert_eq!(
        (wan.judge_model.as_deref(), wan.judge_prompt_version.as_deref()),
        (Some("claude"), Some("2"))
    );
    assert_eq!(wan.cost_usd.unwrap().to_string(), "0.040000");
    assert_eq!(wan.enhanced_prompt_length, Some(6));
    assert_eq!(window::waiting(&pool, wf, 50).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_sent_twice_counts_once_and_what_differs_is_told() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    send(&pool, wf, &run("a")).await;
    let before = rows(&pool, wf).await;
    assert_eq!(send(&pool, wf, &run("a")).await, vec![Recorded::Duplicate; 9]);
    let other = json!({"type": "winner", "task_id": "a", "winner": "nano", "score": 6, "total_iterations": 1});
    let told = send(&pool, wf, &[other]).await;
    insta::assert_debug_snapshot!(told, @r#"
    [
        Conflict {
            detail: "a `winner` with other content was logged for this run before; the first one stands",
        },
    ]
    "#);
    assert_eq!(rows(&pool, wf).await, before);
}

#[tokio::test]
async fn one_batch_may_hold_an_event_its_repetition_and_its_contradiction() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    let score = |score: f64| json!({"type": "validation", "task_id": "a", "model": "wan", "score": score, "passed": true});
    let verdicts = send(&pool, wf, &[score(8.0), score(9.0), json!({"type": "validation", "task_id": "a", "model": "wan", "score": 8, "passed": true})]).await;
    assert!(
        matches!(
            verdicts.as_slice(),
            [Recorded::Accepted, Recorded::Conflict { .. }, Recorded::Duplicate]
        ),
        "{verdicts:?}"
    );
    // The store's content decides, not the place in the batch.
    let verdicts = send(&pool, wf, &[score(9.0), score(8.0)]).await;
    assert!(
        matches!(verdicts.as_slice(), [Recorded::Conflict { .. }, Recorded::Duplicate]),
        "{verdicts:?}"
    );
}

#[tokio::test]
async fn an_event_id_belongs_to_one_event() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    let id = "018f0000-0000-7000-8000-000000000001";
    let completed = |task: &str| json!({"type": "completed", "task_id": task, "event_id": id});
    let verdicts = send(&pool, wf, &[completed("a"), completed("b")]).await;
    assert!(
        matches!(verdicts.as_slice(), [Recorded::Accepted, Recorded::Conflict { .. }]),
        "{verdicts:?}"
    );
    let verdicts = send(&pool, wf, &[completed("c"), completed("a")]).await;
    assert!(
        matches!(verdicts.as_slice(), [Recorded::Conflict { .. }, Recorded::Conflict { .. }]),
        "{verdicts:?}"
    );
    let verdicts = send(&pool, wf, &[completed("a")]).await;
    assert_eq!(verdicts, [Recorded::Duplicate]);
    let verdicts = send(&pool, wf, &[completed("c")]).await;
    assert!(matches!(verdicts.as_slice(), [Recorded::Conflict { .. }]), "{verdicts:?}");
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks").await, 1);
}

#[tokio::test]
async fn texts_come_back_byte_for_byte() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    // Polytonic Greek, an emoji of several code points, é in two code points, blanks and CRLF.
    let prompt = "  ᾯ τῆς Ἑλλάδος 👩‍🎨 cafe\u{301}\r\n\tΆ/Ά ";
    send(&pool, wf, &[json!({"type": "task_started", "task_id": "ᾧ-1", "original_prompt": prompt, "metadata": {"Ἀ\u{301}": prompt}})]).await;
    let task = task(&pool, wf, "ᾧ-1").await;
    assert_eq!(task.original_prompt.as_deref().map(str::as_bytes), Some(prompt.as_bytes()));
    assert_eq!(task.original_prompt_length, i32::try_from(prompt.chars().count()).ok());
    assert_eq!(task.metadata["Ἀ\u{301}"], prompt);
}

#[tokio::test]
async fn a_silent_run_is_given_up_and_counts_if_it_ends_after_all() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    send(&pool, wf, &run("a")[..4]).await;
    send(&pool, wf, &run("ended")).await;
    assert_eq!(
        abandon_silent(&pool, wf, time(3)).await.unwrap(),
        0,
        "its last event came in second 3"
    );
    assert_eq!(abandon_silent(&pool, wf, time(4)).await.unwrap(), 1);
    let given_up = task(&pool, wf, "a").await;
    assert_eq!(
        (given_up.ended_by.as_deref(), given_up.ended_at),
        (Some("abandoned"), Some(time(3)))
    );
    assert_eq!(given_up.processing_time_ms, None);
    assert_eq!(window::waiting(&pool, wf, 50).await.unwrap(), 1);

    let late = event(wf, &json!({"type": "completed", "task_id": "a"}), 90_000);
    record(&pool, wf, &models(), &[late]).await.unwrap();
    let ended = task(&pool, wf, "a").await;
    assert_eq!(
        (ended.ended_by.as_deref(), ended.ended_at),
        (Some("completed"), Some(time(90_000)))
    );
    assert_eq!(ended.processing_time_ms, Some(90_000_000));
    assert_eq!(window::waiting(&pool, wf, 50).await.unwrap(), 2);
    assert_eq!(
        window::waiting(&pool, wf, 1).await.unwrap(),
        1,
        "counted to the limit and no further"
    );
}

#[tokio::test]
async fn a_removed_task_does_not_come_back() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    sqlx::query("INSERT INTO task_tombstones VALUES ($1, 'gone', '', now())")
        .bind(wf)
        .execute(&pool)
        .await
        .unwrap();
    let verdicts = send(
        &pool,
        wf,
        &[
            json!({"type": "feedback", "task_id": "gone", "kept": true}),
            json!({"type": "feedback", "task_id": "new", "kept": true}),
            json!({"type": "completed", "task_id": "gone", "run_id": "2"}),
        ],
    )
    .await;
    assert_eq!(verdicts, [Recorded::TaskRemoved, Recorded::Accepted, Recorded::Accepted]);
    assert_eq!(task(&pool, wf, "new").await.feedback_kept, Some(true));
    assert!(load_task(&pool, wf, "gone", "").await.unwrap().is_none());
    assert_eq!(count(&pool, "SELECT count(*) FROM task_events").await, 2);
}

#[tokio::test]
async fn a_task_that_is_removed_while_its_event_is_written_does_not_come_back() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    send(&pool, wf, &run("a")).await;
    let mut cleanup = pool.begin().await.unwrap();
    sqlx::query("DELETE FROM tasks WHERE workflow_id = $1")
        .bind(wf)
        .execute(&mut *cleanup)
        .await
        .unwrap();
    sqlx::query("INSERT INTO task_tombstones VALUES ($1, 'a', '', now())")
        .bind(wf)
        .execute(&mut *cleanup)
        .await
        .unwrap();

    let late = vec![event(wf, &json!({"type": "feedback", "task_id": "a", "kept": true}), 99)];
    let writing = tokio::spawn({
        let pool = pool.clone();
        async move { record(&pool, wf, &models(), &late).await.unwrap() }
    });
    while count(&pool, "SELECT count(*) FROM pg_locks WHERE NOT granted").await == 0 {
        tokio::task::yield_now().await;
    }
    cleanup.commit().await.unwrap();
    assert_eq!(writing.await.unwrap(), [Recorded::TaskRemoved]);
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_with_the_same_events_store_them_once() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    let events: Vec<Value> = (0..12).flat_map(|n| run(&format!("t{n}"))).collect();
    let writers = (0..8_usize).map(|writer| {
        let pool = pool.clone();
        let mut own: Vec<Arrived> = events.iter().map(|sent| event(wf, sent, 5)).collect();
        own.rotate_left(writer * 13);
        tokio::spawn(async move { record(&pool, wf, &models(), &own).await.unwrap() })
    });
    let (mut accepted, mut duplicate) = (0, 0);
    for writer in writers.collect::<Vec<_>>() {
        for verdict in writer.await.unwrap() {
            match verdict {
                Recorded::Accepted => accepted += 1,
                Recorded::Duplicate => duplicate += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((accepted, duplicate), (events.len(), 7 * events.len()));
    assert_eq!(count(&pool, "SELECT count(*) FROM tasks").await, 12);
    assert_eq!(count(&pool, "SELECT count(*) FROM attempts").await, 24);
    assert_eq!(count(&pool, "SELECT count(*) FROM attempts WHERE was_selected").await, 12);
}

#[tokio::test]
async fn the_number_of_statements_does_not_grow_with_the_batch() {
    let pool = support::database().await;
    let wf = workflow(&pool, "w").await;
    // Every branch is taken: new and known keys, tasks, attempts and winners.
    send(&pool, wf, &run("t0")).await;
    let statements = Statements::counting();
    let events: Vec<Value> = (0..200).flat_map(|n| run(&format!("t{n}"))).collect();
    let verdicts = send(&pool, wf, &events).await;
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Recorded::Accepted).count(), 199 * 9);
    let statements = statements.since();
    assert!((6..=8).contains(&statements), "{statements} statements");
}
