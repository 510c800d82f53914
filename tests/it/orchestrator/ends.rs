//! How runs end: nobody wins, one model fails, a service is away, and what becomes of the picture.

use mathesis::orchestrator::Worked;
use mathesis::stand_in::fault::Fault;
use mathesis::stand_in::script::Matcher;
use mathesis::store::pipeline::jobs::Ended;
use serde_json::json;

use super::Works;

#[tokio::test]
async fn nobody_passes_in_three_rounds_and_a_person_is_asked() {
    let works = Works::new(&[4, 5, 6], &[7, 3, 2]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    assert_eq!(works.work().await, Worked::Finished(Ended::NoWinner));
    let state = works.state(&task);
    assert_eq!((state.status.as_str(), works.own_pictures(&task)), ("needs attention", 0));
    assert!(
        state.comments[0].contains("3 γύρους")
            && state.comments[0].contains("nano-banana: 7 στα 10")
    );
    // The second round was told what was wrong with the best failure of the first.
    let second = works.script.seen(&Matcher::claude().body("too dark for nano-banana"));
    assert!(!second.is_empty());
    let logged = works
        .value("SELECT jsonb_build_array(winner_model, total_iterations, ended_by) FROM tasks")
        .await;
    assert_eq!(logged, json!([null, 3, "completed"]));
}

#[tokio::test]
async fn one_model_fails_and_the_other_wins() {
    let works = Works::new(&[9], &[8]).await;
    let refusal = Fault::status(400, r#"{"code":400,"message":"property \"images\" is missing"}"#);
    works.script.when(Matcher::wavespeed().path("/api/v3/alibaba/wan-2.5/image-edit"), 9, refusal);
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
    assert!(works.state(&task).comments[0].contains("wan-2.5-edit"));
    let failed = works
        .value("SELECT jsonb_build_array(error_stage, error_fault) FROM attempts WHERE error IS NOT NULL")
        .await;
    assert_eq!(failed, json!(["generation", "infrastructure"]));
}

#[tokio::test]
async fn a_service_that_is_away_is_waited_for_and_given_up_in_the_end() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let away = Fault::status(401, r#"{"code":401,"message":"invalid authentication"}"#);
    works.script.when(Matcher::wavespeed(), 1000, away);
    assert_eq!(works.work().await, Worked::Waiting("wavespeed_key_invalid".to_owned()));
    works.stage.clock.advance(chrono::Duration::hours(1));
    assert_eq!(works.work().await, Worked::Waiting("wavespeed_key_invalid".to_owned()));
    works.stage.clock.advance(chrono::Duration::hours(12));
    assert_eq!(works.work().await, Worked::GaveUp);
    assert_eq!(works.work().await, Worked::Finished(Ended::Error));
    assert_eq!(works.state(&task).status, "needs attention");
    assert_eq!(works.state(&task).comments.len(), 1);
    assert_eq!(works.value("SELECT to_jsonb(ended_by) FROM tasks").await, "error");
    assert!(works.wavespeed.billed().is_empty());
}

#[tokio::test]
async fn what_becomes_of_the_picture_is_told_as_feedback() {
    let works = Works::new(&[9], &[9]).await;
    let mut tasks = Vec::new();
    for number in 0..2 {
        let task = works.task("Σκούρος ουρανός");
        works.deliver_status(&task, "ready for edit", &number.to_string()).await;
        assert!(matches!(works.work().await, Worked::Finished(Ended::Winner { .. })));
        tasks.push(task);
    }
    assert_eq!(works.pipeline.find_out_fates().await.expect("it looks"), 0);
    assert!(works.clickup.delete_task(&tasks[0]));
    let deleted =
        json!({"event": "taskDeleted", "task_id": tasks[0], "webhook_id": "w"}).to_string();
    assert_eq!(works.deliver(&deleted, None).await.1["result"], "feedback");
    assert_eq!(works.pipeline.log_known_fates().await.expect("it logs"), 1);
    works.stage.clock.advance(chrono::Duration::days(8));
    assert_eq!(works.pipeline.find_out_fates().await.expect("it looks"), 1);
    let kept =
        works.value("SELECT jsonb_object_agg(clickup_task_id, feedback_kept) FROM tasks").await;
    assert_eq!(kept, json!({&tasks[0]: false, &tasks[1]: true}));
    assert_eq!(works.pipeline.log_known_fates().await.expect("it logs"), 0);
}
