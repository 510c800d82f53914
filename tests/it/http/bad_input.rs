//! Every bad input is a problem with a stable code, and nothing of it is stored.

use axum::body::{Body, Bytes};
use serde_json::{Value, json};

use super::{EVENTS, Site};

fn validation(score: Value) -> Value {
    json!({"type": "validation", "task_id": "86c1", "model": "nano-banana", "score": score, "passed": true})
}

fn started(task: &str, prompt: &str) -> Value {
    json!({"type": "task_started", "task_id": task, "original_prompt": prompt})
}

#[tokio::test]
async fn a_bad_event_is_a_problem_and_nothing_is_stored() {
    let site = Site::open().await;
    let cases = [
        (validation(json!(11)), 422, "score_out_of_range"),
        (validation(json!(7.5)), 422, "invalid_score"),
        (validation(json!(null)), 422, "invalid_score"),
        (validation(json!("8")), 422, "invalid_score"),
        (validation(json!(-1)), 422, "invalid_score"),
        (started(&"a".repeat(10_240), "p"), 422, "text_too_long"),
        (started("", "p"), 422, "missing_field"),
        (started("86c1", "a\u{0}b"), 422, "nul_character"),
        (started("86c1", &"p".repeat((1 << 20) + 1)), 422, "text_too_long"),
        (json!({"type": "began", "task_id": "86c1"}), 422, "unknown_type"),
        (json!({"type": "completed", "task_id": "86c1", "colour": 1}), 422, "unknown_field"),
        (json!(7), 422, "not_an_object"),
    ];
    for (event, status, code) in cases {
        let answer = site.post(EVENTS, event.to_string()).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{:.200}", event.to_string());
    }
    let mut hostile = validation(json!(8));
    hostile["model"] = json!("../../etc");
    assert_eq!(
        site.post(EVENTS, hostile.to_string()).await.problem(),
        (422, "invalid_name".to_owned())
    );
    assert_eq!(site.rows_logged().await, 0);
}

#[tokio::test]
async fn a_body_that_is_no_event_at_all_is_a_problem() {
    let site = Site::open().await;
    for (body, code) in [
        (&b""[..], "invalid_json"),
        (b"nonsense", "invalid_json"),
        (b"[{\"type\":\"completed\",\"task_id\":\"a\"}", "invalid_json"),
        (b"{\"type\":\"completed\",\"task_id\":\"\xff\"}", "invalid_json"),
    ] {
        assert_eq!(site.post(EVENTS, body.to_vec()).await.problem(), (422, code.to_owned()));
    }
    let many = format!("[{}]", vec!["{}"; 10_001].join(","));
    assert_eq!(site.post(EVENTS, many).await.problem(), (422, "too_many_events".to_owned()));
    assert_eq!(site.rows_logged().await, 0);
}

#[tokio::test]
async fn a_body_of_a_hundred_megabytes_is_refused_while_it_streams() {
    let site = Site::open().await;
    let chunk = Bytes::from(vec![b' '; 1 << 20]);
    let chunks = (0..100).map(move |_| Ok::<_, std::convert::Infallible>(chunk.clone()));
    let body = Body::from_stream(futures::stream::iter(chunks));
    let answer = site.post(EVENTS, body).await;
    assert_eq!(answer.problem(), (413, "body_too_large".to_owned()));
    assert_eq!(site.rows_logged().await, 0);
}

#[tokio::test]
async fn a_workflow_that_is_not_there_is_named_beside_those_that_are() {
    let site = Site::open().await;
    let event = started("86c1", "p").to_string();
    let answer = site.post("/v1/workflows/imagediting/events", event).await;
    assert_eq!(answer.problem(), (404, "unknown_workflow".to_owned()));
    assert_eq!(answer.json()["workflows"], json!(["image-editing"]));
    assert_eq!(site.rows_logged().await, 0);
}

#[tokio::test]
async fn names_in_a_path_are_checked_before_anything_is_done() {
    let site = Site::open().await;
    let wf = "/v1/workflows/image-editing";
    let long = "a".repeat(10_240);
    let cases = [
        ("PUT", format!("{wf}/tasks/86c1/assignments/%2e%2e%2f..%2Fetc"), 422, "invalid_name"),
        ("PUT", format!("{wf}/tasks/86c1/assignments/a%00b"), 422, "invalid_name"),
        ("PUT", format!("{wf}/tasks/86c1/assignments/flux"), 404, "unknown_model"),
        ("PUT", format!("{wf}/tasks/a%00b/assignments/nano-banana"), 422, "invalid_name"),
        ("PUT", format!("{wf}/tasks/{long}/assignments/nano-banana"), 422, "invalid_name"),
        ("PUT", format!("{wf}/tasks/86c1/assignments/nano-banana?run=a%00b"), 422, "invalid_name"),
        ("GET", format!("{wf}/tasks/a%00b/why"), 422, "invalid_name"),
        ("GET", format!("{wf}/tasks/86c1/why?run=a%00b"), 400, "invalid_query"),
        ("GET", format!("{wf}/audit?act=a%00b"), 400, "invalid_query"),
        ("GET", "/v1/audit?actor=a%00b".to_owned(), 400, "invalid_query"),
        (
            "PUT",
            format!("{wf}/tasks/86c1/assignments/nano-banana?content=perhaps"),
            400,
            "invalid_query",
        ),
        ("PUT", format!("{wf}/tasks/86c1/assignments/nano-banana?wrong=1"), 400, "invalid_query"),
        ("PUT", format!("{wf}/tasks/%ff/assignments/nano-banana"), 422, "invalid_name"),
        ("GET", "/v1/workflows/..%2f..%2fetc/cycle".to_owned(), 422, "invalid_name"),
        ("GET", format!("{wf}/cycles/two"), 422, "invalid_name"),
        ("GET", format!("{wf}/cycles/99"), 404, "unknown_cycle"),
        ("GET", format!("{wf}/cycles/99/transitions"), 404, "unknown_cycle"),
        ("POST", format!("{wf}/cycles/99/pause"), 404, "unknown_cycle"),
        ("GET", format!("{wf}/models/nano-banana/versions/99"), 404, "unknown_version"),
        ("GET", format!("{wf}/models/..%2f..%2fetc/versions"), 422, "invalid_name"),
        ("GET", format!("{wf}/models/nano-banana/versions/1/diff/99"), 404, "unknown_version"),
        ("GET", "/analytics?from=yesterday".to_owned(), 400, "invalid_query"),
        ("GET", format!("{wf}/cycles?limit=ten"), 400, "invalid_query"),
        ("GET", "/v2/workflows".to_owned(), 404, "no_such_route"),
        ("GET", format!("{wf}/cycles/1/burn"), 404, "no_such_route"),
        ("DELETE", EVENTS.to_owned(), 405, "method_not_allowed"),
        ("GET", format!("{wf}/cycles/1/pause"), 405, "method_not_allowed"),
    ];
    for (method, path, status, code) in cases {
        let answer = site.call(method, &path, "").await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path:.200}");
    }
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM assignments")
        .fetch_one(site.stage.pool())
        .await
        .expect("the database answers");
    assert_eq!((told, site.rows_logged().await), (0, 0));
}

#[tokio::test]
async fn an_operators_body_is_checked_before_anything_is_changed() {
    let site = Site::open().await;
    let wf = "/v1/workflows/image-editing";
    let cases = [
        ("cycles/1/pause", json!({"reason": "a\u{0}b"}), 422, "invalid_reason"),
        ("cycles/1/pause", json!({"because": "x"}), 422, "invalid_body"),
        ("cycles/1/pause", json!({"models": ["nano-banana"]}), 422, "invalid_body"),
        ("cycles/1/refuse", json!({"models": ["flux"]}), 404, "unknown_model"),
        ("cycles/1/resume", json!({}), 409, "nothing_to_do"),
        ("cycles/1/approve", json!({}), 409, "nothing_to_do"),
        ("cycles/1/refuse", json!({}), 409, "nothing_to_do"),
        ("automation", json!({}), 422, "invalid_body"),
        ("automation", json!({"enabled": "no"}), 422, "invalid_body"),
        ("models/nano-banana/rollback", json!({"to": 9}), 404, "unknown_version"),
        ("models/nano-banana/rollback", json!({"to": 1}), 409, "nothing_to_do"),
        ("models/flux/rollback", json!({"to": 1}), 404, "unknown_model"),
    ];
    for (path, body, status, code) in cases {
        let answer = site.post(&format!("{wf}/{path}"), body.to_string()).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{path} {body}");
    }
    let status = site.stage.status().await;
    assert!(status.holds.is_empty() && status.seq == 0, "{status:?}");
}

#[tokio::test]
async fn a_database_that_is_away_is_said_and_assignments_go_on_from_memory() {
    let site = Site::open().await;
    let assignment = "/v1/workflows/image-editing/tasks/86c1/assignments/nano-banana";
    site.stage.pool().close().await;
    assert_eq!(site.call("PUT", assignment, "").await.ok()["version"], 1, "no statement is needed");
    let refused = site.post(EVENTS, started("86c1", "p").to_string()).await.problem();
    assert_eq!(refused.0, 503);
    assert_eq!(site.get("/readyz").await.problem().0, 503);
    assert_eq!(site.get("/healthz").await.status, 200);
}
