//! What comes in: signatures, duplicates, both webhooks of one creation, and tasks whose webhook never came.

use axum::http::StatusCode;
use mathesis::orchestrator::Worked;
use mathesis::stand_in::clickup::NewTask;
use mathesis::store::pipeline::jobs::Ended;
use serde_json::json;

use super::Works;

#[tokio::test]
async fn only_what_clickup_signed_is_taken_and_nobody_is_told_401_or_410() {
    let works = Works::new(&[9], &[9]).await;
    let good = json!({"event": "taskCreated", "task_id": "t1", "webhook_id": "w", "history_items": [{"id": "1"}]});
    let good = good.to_string();
    for wrong in ["", "00", "sha256=00", &"0".repeat(64), "ΟΧΙ"] {
        let (status, problem) = works.deliver(&good, Some(&wrong.replace("ΟΧΙ", "no"))).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (StatusCode::FORBIDDEN, Some("bad_signature"))
        );
    }
    // What an automation's "Call webhook" sends, under no secret of ours.
    let automation = r#"{"trigger_id":"x","payload":{"id":"t1"}}"#;
    assert_eq!(works.deliver(automation, Some("")).await.0, StatusCode::FORBIDDEN);
    for unreadable in ["", "{", "[]", r#"{"event":"taskCreated"}"#] {
        let (status, problem) = works.deliver(unreadable, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{unreadable:?} {problem}");
    }
    let long = format!("{}{}", good.trim_end_matches('}'), " ".repeat(1 << 20));
    assert_eq!(works.deliver(&long, None).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let stored = works.value("SELECT to_jsonb(count(*)) FROM pipeline_deliveries").await;
    assert_eq!(stored, 0);
    assert_eq!(works.deliver(&good, None).await, (StatusCode::OK, json!({"result": "job"})));
}

#[tokio::test]
async fn what_comes_twice_or_by_two_webhooks_is_one_run() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    assert_eq!(works.deliver_status(&task, "ready for edit", "1").await.1["result"], "job");
    assert_eq!(works.deliver_status(&task, "ready for edit", "1").await.1["result"], "duplicate");
    assert_eq!(works.deliver_status(&task, "Ready for Edit", "2").await.1["result"], "open");
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    // What the run itself did comes back as deliveries, and asks for nothing.
    assert_eq!(works.deliver_status(&task, "review", "3").await.1["result"], "ignored");
    // A late one is looked at, and the task is not ready any more.
    assert_eq!(works.deliver_status(&task, "ready for edit", "4").await.1["result"], "job");
    assert_eq!(works.work().await, Worked::Finished(Ended::NotWanted));
    assert_eq!(works.wavespeed.billed().len(), 2);
    // A person who puts it back gets another run, with a number of its own.
    assert!(works.clickup.set_status(&task, "ready for edit"));
    works.deliver_status(&task, "ready for edit", "5").await;
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    assert_eq!(works.own_pictures(&task), 2);
    let runs = works.value("SELECT jsonb_agg(run_id ORDER BY run_id) FROM tasks").await;
    assert_eq!(runs, json!(["1", "3"]));
}

#[tokio::test]
async fn a_task_whose_webhook_never_came_is_swept_once() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.clickup.create_task(NewTask { status: "to do".to_owned(), ..NewTask::default() });
    assert_eq!(works.pipeline.sweep().await.expect("it sweeps"), 1);
    assert_eq!(works.pipeline.sweep().await.expect("it sweeps"), 0);
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    assert_eq!(works.state(&task).status, "review");
    assert_eq!(works.work().await, Worked::Idle);
}

#[tokio::test]
async fn a_picture_that_comes_late_is_waited_for() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.clickup.create_task(NewTask { text: "x".to_owned(), ..NewTask::default() });
    works.deliver_status(&task, "ready for edit", "1").await;
    assert_eq!(works.work().await, Worked::Waiting("no_picture".to_owned()));
    assert_eq!(works.work().await, Worked::Idle);
    // The next delivery about it wakes the run before its time.
    works.deliver_status(&task, "ready for edit", "2").await;
    assert_eq!(works.work().await, Worked::Waiting("no_picture".to_owned()));
    works.stage.clock.advance(chrono::Duration::minutes(11));
    assert_eq!(works.work().await, Worked::Finished(Ended::Error));
    assert_eq!(works.state(&task).status, "needs attention");
    assert!(works.state(&task).comments[0].contains("no_picture"));
}
