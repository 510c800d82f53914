//! Invariant 9: the learning layer never breaks production. What a client needs of the server for it:
//! answers without the database, every call safe to repeat, and nothing acknowledged ever lost.

use serde_json::Value;

use crate::support::site::Site;
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

#[tokio::test]
async fn invariant_9_with_the_database_gone_a_task_still_learns_its_version() {
    let stage = Stage::new().await;
    let before = stage.assign("before", NANO).await;
    stage.pool().close().await;
    let told = stage.assigner.assign(&stage.workflow, "during", "", NANO).await;
    let told = told.expect("the last known version is answered from memory");
    assert_eq!((told.version, &told.content_hash), (before.version, &before.content_hash));
}

#[tokio::test]
async fn invariant_9_what_a_client_kept_while_the_server_was_killed_arrives_once() {
    let site = Site::new().await;
    site.start().await;
    let told = site.assign("task-1", WAN).await;
    let runs: Vec<Vec<Value>> = (1..=30)
        .map(|n| TaskRun::new(format!("task-{n}"), &[(WAN, 1, 7), (NANO, 1, 7)]).events())
        .collect();
    // The spool of a client that cannot know which of its calls were taken: it repeats them all.
    let mut refused = 0;
    for (n, run) in runs.iter().enumerate() {
        if n == 10 {
            site.kill();
        }
        if !site.try_post("/events", Value::Array(run.clone())).await {
            refused += 1;
        }
    }
    assert_eq!(refused, 20, "the pipeline goes on while nobody answers");
    site.start().await;
    for run in &runs {
        site.post("/events", Value::Array(run.clone())).await;
    }
    assert_eq!(site.count("SELECT count(*) FROM tasks WHERE ended_by IS NOT NULL").await, 30);
    assert_eq!(site.count("SELECT count(*) FROM attempts").await, 60, "each attempt once");
    let events: usize = runs.iter().map(Vec::len).sum();
    let stored = site.count("SELECT count(*) FROM task_events").await;
    assert_eq!(usize::try_from(stored), Ok(events), "each event once");
    assert_eq!(site.assign("task-1", WAN).await, told, "the same answer after the restart");
}
