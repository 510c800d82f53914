//! The real binary, killed, told to stop, and cut off from its database in the middle of several runs.

use std::collections::BTreeMap;
use std::time::Duration;

use mathesis::stand_in::fault::Fault;
use mathesis::stand_in::script::Matcher;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use super::plant::{Plant, TEXT};
use crate::support::site::until;

/// Everybody asks for a picture at such a path.
fn submits() -> Matcher {
    Matcher::wavespeed().method("POST").path("/api/v3/*edit")
}

/// WaveSpeed's bill and the pipeline's record of it say the same: each task, model and round was asked for once at most,
/// and whatever the record does not know by name stands in it as lost.
async fn assert_billed_once(plant: &Plant) {
    let asked_twice = plant
        .value(
            "SELECT coalesce(jsonb_agg(step), '[]') FROM (
                SELECT job_id, step FROM pipeline_calls
                 WHERE service = 'wavespeed' AND status IN ('begun', 'answered', 'lost')
                 GROUP BY job_id, step HAVING count(*) > 1) AS twice",
        )
        .await;
    assert_eq!(asked_twice, json!([]));
    let known: Vec<(Option<String>, String, String)> = sqlx::query_as(
        "SELECT c.request_id, c.called_model, t.original_prompt
           FROM pipeline_calls c JOIN pipeline_jobs j USING (workflow_id, job_id)
           JOIN tasks t ON t.clickup_task_id = j.task_id
          WHERE c.service = 'wavespeed' AND c.status IN ('answered', 'lost')",
    )
    .fetch_all(&plant.pool)
    .await
    .expect("the calls");
    let mut lost: BTreeMap<(String, String), i32> = BTreeMap::new();
    for (_, endpoint, text) in known.iter().filter(|(id, ..)| id.is_none()) {
        *lost.entry((endpoint.clone(), text.clone())).or_default() += 1;
    }
    let billed = plant.wavespeed.billed();
    for bill in &billed {
        if known.iter().any(|(id, ..)| id.as_deref() == Some(&bill.id)) {
            continue;
        }
        let text = format!("{TEXT}{}", bill.prompt.split(TEXT).nth(1).expect("a task's prompt"));
        let left = lost.entry((bill.endpoint.clone(), text)).or_default();
        *left -= 1;
        assert!(*left >= 0, "billed and not on record: {bill:?}");
    }
    let named = known.iter().filter(|(id, ..)| id.is_some()).count();
    assert!(named <= billed.len() && named > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_several_runs_each_task_gets_its_picture_and_no_bill_twice() {
    let plant = Plant::new().await;
    // The fifth submit is under way when the first kill comes; nobody will know what became of it.
    plant.script.when(submits(), 4, Fault::Pass);
    plant.script.when(submits(), 1, Fault::Slow(Duration::from_mins(5)));
    plant.hook();
    plant.start().await;
    let tasks = plant.tasks(6);
    until("pictures are asked for", || async { plant.script.seen(&submits()).len() >= 6 }).await;
    plant.kill();
    plant.start().await;
    let uploads = Matcher::clickup().method("POST").path("/api/v2/task/*/attachment");
    until("a picture is given back", || async { !plant.script.seen(&uploads).is_empty() }).await;
    plant.kill();
    plant.start().await;
    until("some are done", || async { plant.clickup.count(&["review"]) >= 3 }).await;
    plant.kill();
    plant.start().await;
    plant.until_done(tasks.len()).await;

    plant.assert_given_back(&tasks);
    assert_billed_once(&plant).await;
    let lost = plant
        .value("SELECT to_jsonb(count(*)) FROM pipeline_calls WHERE service = 'wavespeed' AND status = 'lost'")
        .await;
    assert!(lost.as_i64() >= Some(1), "the submit that the kill cut off stands as lost: {lost}");
    let told = plant
        .value("SELECT jsonb_agg(DISTINCT error) FROM attempts WHERE error LIKE '%may have been made and billed%'")
        .await;
    assert!(told.is_array(), "{told}");
    let ended =
        plant.value("SELECT jsonb_agg(jsonb_build_array(run_id, ended_by)) FROM tasks").await;
    assert_eq!(ended, json!(vec![json!(["1", "completed"]); tasks.len()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_hands_its_runs_back_within_the_grace_and_spends_no_attempt() {
    let plant = Plant::new().await;
    // One run is inside a call that no grace outlasts; the others wait for pictures.
    let hanging = Matcher::claude().body(&format!("{TEXT}1."));
    plant.script.when(hanging.clone(), 1, Fault::Hang);
    plant.hook();
    plant.start().await;
    let tasks = plant.tasks(4);
    until("every run is on its way", || async {
        !plant.script.seen(&hanging).is_empty() && plant.wavespeed.billed().len() >= 4
    })
    .await;
    let (code, took) = plant.terminate().await;
    assert_eq!(code, Some(0));
    assert!(took <= plant.stop_max(), "it took {took:?}");
    let jobs = plant
        .value("SELECT jsonb_agg(DISTINCT jsonb_build_array(status, deaths, waits)) FROM pipeline_jobs WHERE finished_at IS NULL")
        .await;
    assert_eq!(jobs, json!([["pending", 0, 0]]));

    plant.start().await;
    plant.until_done(tasks.len()).await;
    plant.assert_given_back(&tasks);
    assert_billed_once(&plant).await;
    assert_eq!(plant.wavespeed.billed().len(), tasks.len() * 4, "two models, two rounds");
    let failed =
        plant.value("SELECT to_jsonb(count(*)) FROM attempts WHERE error IS NOT NULL").await;
    assert_eq!(failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_its_database_it_goes_on_when_that_is_back_and_pays_nothing_twice() {
    let plant = Plant::new().await;
    plant.hook();
    plant.start().await;
    let tasks = plant.tasks(4);
    until("pictures are asked for", || async { plant.wavespeed.billed().len() >= 3 }).await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&plant.pool)
        .await
        .expect("the database's name");
    let mut beside = plant.beside().await;
    let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    let cut =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    beside.execute(sqlx::AssertSqlSafe(close)).await.expect("it is closed");
    beside.execute(sqlx::AssertSqlSafe(cut)).await.expect("everybody is put out");
    let log = || std::fs::read_to_string(plant.path("log")).unwrap_or_default();
    until("it notices", || async { log().contains("looking for jobs failed") }).await;
    let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    beside.execute(sqlx::AssertSqlSafe(open)).await.expect("it is open");
    beside.close().await.expect("the connection closes");

    plant.until_done(tasks.len()).await;
    plant.assert_given_back(&tasks);
    assert_billed_once(&plant).await;
}
