//! One task is forgotten over HTTP.

use serde_json::json;

use super::Site;
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

const TASK: &str = "/v1/workflows/image-editing/tasks/seed%2F1";
const WHY: &str = r#"{"reason": "a customer asked"}"#;

async fn site() -> Site {
    let stage =
        Stage::builder().definition(|definition| definition.trigger.tasks = 2).build().await;
    let run = TaskRun::new("seed/1", &[(WAN, 0, 7), (NANO, 0, 7)]);
    stage.log(run.events()).await;
    Site::on(stage, true)
}

#[tokio::test]
async fn a_task_goes_once_with_a_word_on_what_went() {
    let site = site().await;
    let told = site.call("DELETE", TASK, WHY).await.ok();
    assert_eq!(
        told,
        json!({
            "task": "seed/1", "runs": [""], "removed": 1, "unanalyzed": 1, "texts_mended": 0,
            "said": "task seed/1 is forgotten: 1 run was removed, 1 of them never analysed",
        })
    );
    assert_eq!(site.rows_logged().await, 0);
    let again = site.call("DELETE", TASK, WHY).await.ok();
    assert_eq!(again["said"], "nothing of task seed/1 was left to forget");
}

#[tokio::test]
async fn what_cannot_be_done_changes_nothing_and_says_why() {
    let site = site().await;
    let rows = site.rows_logged().await;
    let problem =
        async |path: &str, body: &'static str| site.call("DELETE", path, body).await.problem();
    assert_eq!(problem(TASK, r#"{"reason": " "}"#).await, (422, "invalid_reason".to_owned()));
    assert_eq!(problem(TASK, "{}").await, (422, "invalid_body".to_owned()));
    assert_eq!(problem(&format!("{TASK}?run=7"), WHY).await, (404, "unknown_task".to_owned()));
    assert_eq!(problem(&format!("{TASK}%00"), WHY).await, (422, "invalid_name".to_owned()));
    site.stage.complete_tasks("more", 1, 7).await;
    let rows = rows + site.rows_logged().await - rows;
    site.stage.watch().await;
    assert_eq!(problem(TASK, WHY).await, (409, "task_in_use".to_owned()));
    assert_eq!(site.rows_logged().await, rows);
}
