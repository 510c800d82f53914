//! What a run keeps waiting for and what it does not, and how long anything is kept.

use chrono::Duration;
use mathesis::orchestrator::Worked;
use mathesis::runtime::prune;
use mathesis::stand_in::fault::Fault;
use mathesis::stand_in::script::Matcher;
use mathesis::store::pipeline::jobs::Ended;
use serde_json::json;

use super::Works;

fn claude_about_wan() -> Matcher {
    Matcher::claude().body("Target model: wan-2.5-edit")
}

#[tokio::test]
async fn a_straggler_is_waited_for_and_then_left_out_of_its_round() {
    let works = Works::new(&[9], &[8]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let full = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    works.script.when(claude_about_wan(), 1000, Fault::status(529, full));
    let waits = Worked::Waiting("claude_overloaded".to_owned());
    assert_eq!(works.work().await, waits);
    works.stage.clock.advance(Duration::minutes(9));
    assert_eq!(works.work().await, waits, "its patience is not over");
    assert_eq!(
        works.value("SELECT to_jsonb(count(*)) FROM attempts WHERE error IS NOT NULL").await,
        0
    );
    works.stage.clock.advance(Duration::minutes(2));
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    let left_out = works
        .value(
            "SELECT jsonb_build_object('model', model_name, 'iteration', iteration, 'stage', error_stage,
                'fault', error_fault, 'words', error LIKE '%left out of this round, since it waits%')
               FROM attempts WHERE error IS NOT NULL",
        )
        .await;
    assert_eq!(
        left_out,
        json!({"model": "wan-2.5-edit", "iteration": 1, "stage": "enhancement", "fault": "infrastructure", "words": true})
    );
    assert_eq!(works.value("SELECT to_jsonb(winner_model) FROM tasks").await, "nano-banana");
    assert_eq!(works.wavespeed.billed().len(), 1);
}

#[tokio::test]
async fn a_straggler_that_only_a_person_can_help_is_left_out_at_once() {
    let works = Works::new(&[9], &[8]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let poor = Fault::status(402, r#"{"code":402,"message":"insufficient balance"}"#);
    works.script.when(Matcher::wavespeed().path("/api/v3/alibaba/*"), 1000, poor);
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    let words =
        works.value("SELECT to_jsonb(error) FROM attempts WHERE model_name = 'wan-2.5-edit'").await;
    assert!(
        words.as_str().is_some_and(|words| words.contains("left out of this round")),
        "{words}"
    );
}

#[tokio::test]
async fn nobody_is_left_out_while_no_picture_was_judged() {
    let works = Works::new(&[9], &[8]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let full = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    works.script.when(Matcher::claude(), 1000, Fault::status(529, full));
    for _ in 0..3 {
        assert_eq!(works.work().await, Worked::Waiting("claude_overloaded".to_owned()));
        works.stage.clock.advance(Duration::hours(1));
    }
    assert_eq!(
        works.value("SELECT to_jsonb(count(*)) FROM attempts WHERE error IS NOT NULL").await,
        0
    );
}

#[tokio::test]
async fn a_wait_for_the_accounts_limits_is_no_call() {
    let works = Works::new(&[9], &[9]).await;
    let (first, second) = (works.task("Πρώτη"), works.task("Δεύτερη"));
    works.deliver_status(&first, "ready for edit", "1").await;
    works.deliver_status(&second, "ready for edit", "2").await;
    let full = Fault::Status {
        status: 429,
        headers: [("retry-after".to_owned(), "120".to_owned())].into(),
        body: r#"{"code":429,"message":"too many requests"}"#.to_owned(),
    };
    works.script.when(Matcher::wavespeed().method("POST").path("/api/v3/*edit"), 1, full);
    let limited = Worked::Waiting("wavespeed_rate_limited".to_owned());
    assert_eq!(works.work().await, limited);
    let calls = "SELECT to_jsonb(count(*)) FROM pipeline_calls WHERE service = 'wavespeed'";
    let made = works.value(calls).await;
    assert_eq!(works.work().await, limited, "the other run waits as well");
    assert_eq!(works.value(calls).await, made, "and has asked for nothing that could be billed");
    works.stage.clock.advance(Duration::minutes(3));
    for _ in 0..2 {
        assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    }
    let ended = works
        .value("SELECT jsonb_agg(DISTINCT status) FROM pipeline_calls WHERE service = 'wavespeed'")
        .await;
    assert_eq!(ended, json!(["answered", "refused"]));
    assert_eq!(works.wavespeed.billed().len(), 4);
}

#[tokio::test]
async fn a_log_call_that_fails_is_made_again_later_and_counts_once() {
    let works = Works::new(&[9], &[8]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    // The log is away, and the rest of the database is there.
    works.stage.by_hand("ALTER TABLE task_events RENAME TO away").await;
    assert_eq!(works.work().await, Worked::Waiting("log_unavailable".to_owned()));
    works.stage.clock.advance(Duration::hours(1));
    assert_eq!(works.work().await, Worked::Waiting("log_unavailable".to_owned()));
    assert!(works.wavespeed.billed().is_empty(), "nothing is bought that cannot be told of");
    works.stage.by_hand("ALTER TABLE away RENAME TO task_events").await;
    works.stage.clock.advance(Duration::hours(1));
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    let told = works.value("SELECT jsonb_object_agg(event_type, times) FROM (SELECT event_type, count(*) AS times FROM task_events GROUP BY 1) AS e").await;
    assert_eq!(
        told,
        json!({"task_started": 1, "enhancement": 2, "generation": 2, "validation": 2, "winner": 1, "completed": 1})
    );
    assert_eq!(works.wavespeed.billed().len(), 2);
}

#[tokio::test]
async fn the_pipelines_rows_go_with_their_tasks_and_no_number_is_given_twice() {
    let works = Works::new(&[9], &[9]).await;
    let rows = "SELECT jsonb_build_array((SELECT count(*) FROM pipeline_deliveries), (SELECT count(*) FROM pipeline_jobs),
        (SELECT count(*) FROM pipeline_steps), (SELECT count(*) FROM pipeline_calls))";
    let done = works.task("Έτοιμη");
    works.deliver_status(&done, "ready for edit", "1").await;
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    // Its fate is known and not told yet.
    let deleted = json!({"event": "taskDeleted", "task_id": done, "webhook_id": "w"}).to_string();
    let days = i64::from(works.stage.workflow.definition.retention.days);
    works.stage.clock.advance(Duration::days(days - 1));
    assert_eq!(works.deliver(&deleted, None).await.1["result"], "feedback");
    let before = works.value(rows).await;
    prune(&works.stage.engine, &works.stage.workflow).await.expect("it prunes");
    assert_eq!(works.value(rows).await, before, "nothing is old enough");

    works.stage.clock.advance(Duration::days(2));
    let open = works.clickup.create_task(mathesis::stand_in::clickup::NewTask::default());
    works.deliver_status(&open, "ready for edit", "3").await;
    prune(&works.stage.engine, &works.stage.workflow).await.expect("it prunes");
    let kept = works.value("SELECT jsonb_agg(task_id ORDER BY job_id) FROM pipeline_jobs").await;
    assert_eq!(kept, json!([done, open]), "feedback that is not told yet, and an open run");
    let keys = works.value("SELECT to_jsonb(count(*)) FROM pipeline_deliveries").await;
    assert_eq!(keys, 2, "the first delivery is gone");

    assert_eq!(works.pipeline.log_known_fates().await.expect("it logs"), 1);
    prune(&works.stage.engine, &works.stage.workflow).await.expect("it prunes");
    let kept = works.value("SELECT jsonb_agg(task_id) FROM pipeline_jobs").await;
    assert_eq!(kept, json!([open]));
    let left = works.value("SELECT to_jsonb((SELECT count(*) FROM pipeline_steps) + (SELECT count(*) FROM pipeline_calls))").await;
    assert_eq!(left, 0);
    works.deliver_status(&done, "ready for edit", "4").await;
    let run = works.value("SELECT to_jsonb(max(run)) FROM pipeline_jobs WHERE task_id <> ''").await;
    assert_eq!(run, 2, "the removed run keeps its number");
}

#[tokio::test]
async fn a_picture_that_cannot_be_looked_at_keeps_no_other_from_being_looked_at() {
    let works = Works::new(&[9], &[9]).await;
    let tasks = [works.task("Πρώτη"), works.task("Δεύτερη"), works.task("Τρίτη")];
    for (task, delivery) in tasks.iter().zip(["1", "2", "3"]) {
        works.deliver_status(task, "ready for edit", delivery).await;
        assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    }
    let kept_after = works.pipeline.definition.keys.rounds.kept_after_days;
    works.stage.clock.advance(Duration::days(i64::from(kept_after) + 1));
    let forbidden = Fault::status(403, r#"{"err":"Forbidden","ECODE":"ACCESS_999"}"#);
    let first = Matcher::clickup().method("GET").path(&format!("/api/v2/task/{}*", tasks[0]));
    works.script.when(first, 1, forbidden);
    let failed = works.pipeline.find_out_fates().await.expect_err("the first look fails");
    assert!(failed.to_string().starts_with("ClickUp"), "{failed}");
    let told = "SELECT jsonb_agg(clickup_task_id ORDER BY id) FROM tasks WHERE feedback_kept";
    assert_eq!(works.value(told).await, json!([tasks[1], tasks[2]]), "the others are told");
    assert_eq!(works.script.left(), 0);
    assert_eq!(works.pipeline.find_out_fates().await.expect("it looks"), 1);
    assert_eq!(works.value(told).await, json!(tasks));
}

#[tokio::test]
async fn fifty_pictures_that_can_never_be_looked_at_do_not_starve_the_next() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    sqlx::query(
        "INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, run_after, outcome, upload_title,
                                    created_at, finished_at)
         SELECT workflow_id, 'locked' || n, 1, source, status, run_after, outcome, upload_title, created_at,
                finished_at - interval '1 day'
           FROM pipeline_jobs, generate_series(1, 50) AS n",
    )
    .execute(works.stage.pool())
    .await
    .expect("older ones are there");
    let kept_after = works.pipeline.definition.keys.rounds.kept_after_days;
    works.stage.clock.advance(Duration::days(i64::from(kept_after) + 1));
    let forbidden = Fault::status(403, r#"{"err":"Forbidden","ECODE":"ACCESS_999"}"#);
    let locked = Matcher::clickup().method("GET").path("/api/v2/task/locked*");
    works.script.when(locked.clone(), 1000, forbidden);

    works.pipeline.find_out_fates().await.expect_err("every look fails");
    assert_eq!(works.script.seen(&locked).len(), 50);
    assert_eq!(works.pipeline.find_out_fates().await.expect("it goes on behind them"), 1);
    let kept = works.value("SELECT to_jsonb(feedback_kept) FROM tasks").await;
    assert_eq!(kept, json!(true));
    works.pipeline.find_out_fates().await.expect_err("and begins with the oldest again");
    assert_eq!(works.script.seen(&locked).len(), 100);
}
