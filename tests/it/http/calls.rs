//! What each call answers, and who may make it.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header;
use mathesis::store::keys::{self, Role};
use serde_json::json;

use super::{Answer, BY, EVENTS, Site, request};
use crate::support::stage::{NANO, WAN, noon};
use crate::support::{Statements, TaskRun};

const WF: &str = "/v1/workflows/image-editing";

/// Every route of the interface, and which of ingest, read and operate may call it.
fn routes() -> Vec<(&'static str, String, [bool; 3])> {
    const LOG: [bool; 3] = [true, false, true];
    const LOOK: [bool; 3] = [true, true, true];
    const READ: [bool; 3] = [false, true, true];
    const OPERATE: [bool; 3] = [false, false, true];
    let mut routes = vec![
        ("POST", format!("{WF}/events"), LOG),
        ("PUT", format!("{WF}/tasks/86c1/assignments/{NANO}"), LOG),
        ("GET", format!("{WF}/tasks/86c1/assignments/{NANO}"), LOOK),
        ("GET", format!("{WF}/cycle"), LOOK),
        ("GET", format!("{WF}/models/{NANO}"), LOOK),
        ("GET", format!("{WF}/models/{NANO}/versions"), LOOK),
        ("GET", format!("{WF}/models/{NANO}/versions/1"), LOOK),
        ("GET", format!("{WF}/models/{NANO}/versions/1/diff/1"), LOOK),
        ("GET", format!("{WF}/models/{NANO}/versions/1/blame"), READ),
        ("GET", format!("{WF}/tasks/86c1/why"), READ),
        ("GET", "/v1/workflows".to_owned(), READ),
        ("GET", format!("{WF}/cycles"), READ),
        ("GET", format!("{WF}/cycles/1"), READ),
        ("GET", format!("{WF}/cycles/1/transitions"), READ),
        ("GET", format!("{WF}/cycles/1/effects"), READ),
        ("GET", format!("{WF}/cycles/1/calls"), READ),
        ("GET", format!("{WF}/costs"), READ),
        ("GET", format!("{WF}/insights"), READ),
        ("GET", format!("{WF}/notifications"), READ),
        ("GET", format!("{WF}/changes"), READ),
        ("GET", "/analytics".to_owned(), READ),
        ("GET", "/metrics".to_owned(), READ),
        // Refused by its id, so that the stream ends by itself.
        ("GET", format!("{WF}/stream"), READ),
        ("POST", format!("{WF}/automation"), OPERATE),
        ("DELETE", format!("{WF}/tasks/86c1"), OPERATE),
        ("POST", format!("{WF}/models/{NANO}/rollback"), OPERATE),
    ];
    for operation in ["pause", "resume", "cancel", "approve", "refuse", "retry", "step"] {
        routes.push(("POST", format!("{WF}/cycles/1/{operation}"), OPERATE));
    }
    routes
}

async fn with_key(site: &Site, method: &str, path: &str, key: Option<&str>) -> Answer {
    let mut request = request(method, path).header("last-event-id", "none");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    site.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn each_route_answers_those_keys_that_may_call_it() {
    let site = Site::unmeasured(false).await;
    let mut keys = Vec::new();
    for role in Role::ALL {
        keys.push(site.key(role.as_str(), role).await);
    }
    let revoked = site.key("old", Role::Operate).await;
    keys::revoke(site.stage.pool(), "old", BY, noon()).await.expect("it is revoked");
    let wrong = format!("mth_operate_{}", "0".repeat(64));
    for (method, path, may) in routes() {
        for (key, code) in [
            (None, "key_missing"),
            (Some(wrong.as_str()), "key_unknown"),
            (Some(revoked.as_str()), "key_unknown"),
        ] {
            let answer = with_key(&site, method, &path, key).await;
            assert_eq!(answer.problem(), (401, code.to_owned()), "{method} {path}");
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        }
        for (key, may) in keys.iter().zip(may) {
            let answer = with_key(&site, method, &path, Some(key)).await;
            if may {
                assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path} {key:.12}");
            } else {
                assert_eq!(
                    answer.problem(),
                    (403, "role_insufficient".to_owned()),
                    "{method} {path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_needs_no_key_says_nothing_but_signs_of_life() {
    let site = Site::closed().await;
    for path in ["/healthz", "/readyz", "/login", "/analytics/style.css", "/assets/style.css"] {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
    assert_eq!(site.get("/readyz").await.text, "ready\n");
}

#[tokio::test]
async fn a_key_works_at_once_though_others_did_not_a_moment_ago() {
    let site = Site::unmeasured(false).await;
    let path = format!("{WF}/cycle");
    for n in 0..20 {
        let wrong = with_key(&site, "GET", &path, Some("mth_read_guess")).await;
        assert_eq!(wrong.problem(), (401, "key_unknown".to_owned()));
        let key = site.key(&format!("reader-{n}"), Role::Read).await;
        assert_eq!(with_key(&site, "GET", &path, Some(&key)).await.status, 200, "key {n}");
    }
}

#[tokio::test]
async fn many_wrong_keys_at_a_time_cost_a_read_or_two() {
    let site = Site::unmeasured(false).await;
    let path = format!("{WF}/cycle");
    assert_eq!(with_key(&site, "GET", &path, Some("mth_read_guess")).await.status, 401);
    let statements = Statements::counting();
    let guesses: Vec<String> = (0..500).map(|n| format!("mth_read_{n}")).collect();
    let guesses = guesses.iter().map(|guess| with_key(&site, "GET", &path, Some(guess)));
    for answer in futures::future::join_all(guesses).await {
        assert_eq!(answer.problem(), (401, "key_unknown".to_owned()));
    }
    let cost = statements.since();
    assert!((1..=4).contains(&cost), "{cost} statements");
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_two_seconds() {
    let site = Site::closed().await;
    let key = site.key("reader", Role::Read).await;
    let path = format!("{WF}/cycle");
    assert_eq!(
        with_key(&site, "GET", &path, Some(&key)).await.status,
        200,
        "a new key works at once"
    );
    keys::revoke(site.stage.pool(), "reader", BY, noon()).await.expect("it is revoked");
    let revoked = Instant::now();
    while with_key(&site, "GET", &path, Some(&key)).await.status == 200 {
        assert!(revoked.elapsed() < Duration::from_secs(2), "it still works");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_known_key_goes_on_working_while_the_database_is_away() {
    let site = Site::closed().await;
    let key = site.key("pipeline", Role::Ingest).await;
    let path = format!("{WF}/tasks/86c1/assignments/{NANO}");
    assert_eq!(with_key(&site, "PUT", &path, Some(&key)).await.status, 200);
    site.stage.pool().close().await;
    // Longer than keys are kept without being read again.
    let away = Instant::now();
    while away.elapsed() < Duration::from_millis(1_300) {
        assert_eq!(with_key(&site, "PUT", &path, Some(&key)).await.status, 200);
        tokio::task::yield_now().await;
    }
    assert_eq!(with_key(&site, "PUT", &path, Some("mth_ingest_other")).await.status, 401);
}

#[tokio::test]
async fn the_bootstrap_key_is_made_once_and_follows_its_variable() {
    let site = Site::closed().await;
    let pool = site.stage.pool();
    assert!(!keys::any_key_exists(pool).await.expect("the database answers"));
    let first = "a-bootstrap-key-of-the-team";
    assert!(keys::bootstrap(pool, first, noon()).await.expect("it is made"));
    assert!(!keys::bootstrap(pool, first, noon()).await.expect("it is there"));
    let second = "another-bootstrap-key-of-theirs";
    assert!(keys::bootstrap(pool, second, noon()).await.expect("it is replaced"));
    assert!(!keys::bootstrap(pool, first, noon()).await.expect("a revoked key stays revoked"));
    let path = format!("{WF}/automation");
    assert_eq!(with_key(&site, "POST", &path, Some(first)).await.problem().0, 401);
    assert_eq!(with_key(&site, "POST", &path, Some(second)).await.problem().0, 422);
    assert!(keys::bootstrap(pool, "short", noon()).await.is_err());
}

#[tokio::test]
async fn a_run_is_logged_as_objects_arrays_and_lines_and_counts_once() {
    let site = Site::open().await;
    let events = TaskRun::new("86c1", &[(WAN, 1, 9), (NANO, 1, 6)]).events();
    let report = site.post(EVENTS, json!(events).to_string()).await.ok();
    assert_eq!(report, json!({"accepted": events.len(), "duplicate": 0, "rejected": []}));
    for event in &events {
        let report = site.post(EVENTS, event.to_string()).await.ok();
        assert_eq!(report, json!({"accepted": 0, "duplicate": 1, "rejected": []}));
    }
    let mut lines: Vec<String> = events.iter().map(ToString::to_string).collect();
    lines.push("{".to_owned());
    let ndjson = request("POST", EVENTS)
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Body::from(lines.join("\n")))
        .expect("a request");
    let report = site.send(ndjson).await.ok();
    assert_eq!(report["duplicate"], events.len());
    assert_eq!(report["rejected"][0]["index"], events.len(), "the others were taken all the same");
    assert_eq!(report["rejected"][0]["code"], "invalid_json");
}

#[tokio::test]
async fn one_event_that_differs_from_what_is_stored_is_a_conflict() {
    let site = Site::open().await;
    let score = |score: u8| json!({"type": "validation", "task_id": "86c1", "model": NANO, "score": score, "passed": true});
    site.post(EVENTS, score(8).to_string()).await.ok();
    let answer = site.post(EVENTS, score(9).to_string()).await;
    assert_eq!(answer.problem(), (409, "event_conflict".to_owned()));
    let listed = site.post(EVENTS, json!([score(9)]).to_string()).await.ok();
    assert_eq!(listed["rejected"][0]["code"], "event_conflict");
}

#[tokio::test]
async fn an_assignment_comes_with_its_texts_where_they_are_asked_for() {
    let site = Site::open().await;
    let path = format!("{WF}/tasks/86c1/assignments/{NANO}");
    let told = site.call("PUT", &path, "").await.ok();
    assert_eq!(told["version"], 1);
    assert!(told["arm"].is_null() && told.get("research").is_none());
    let answer = site.call("PUT", &format!("{path}?content=true"), "").await;
    let tag = answer.headers[header::ETAG].to_str().expect("a tag").to_owned();
    let whole = answer.ok();
    assert_eq!(tag, format!("\"{}\"", whole["content_hash"].as_str().expect("a hash")));
    assert_eq!(whole["research"], site.stage.read(NANO, "research.md"));
    assert_eq!(whole["activation"], site.stage.read(NANO, "activation.txt"));
    assert!(whole["template"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(site.get(&path).await.ok(), told);
}

#[tokio::test]
async fn a_version_is_immutable_and_need_not_be_sent_twice() {
    let site = Site::open().await;
    let path = format!("{WF}/models/{NANO}/versions/1");
    let answer = site.get(&path).await;
    assert!(answer.headers[header::CACHE_CONTROL].to_str().expect("text").contains("immutable"));
    let tag = answer.headers[header::ETAG].clone();
    let again = request("GET", &path).header(header::IF_NONE_MATCH, tag);
    let again = site.send(again.body(Body::empty()).expect("a request")).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    let list = site.get(&format!("{WF}/models/{NANO}/versions")).await.ok();
    assert_eq!(list["versions"][0]["is_active"], true);
}

#[tokio::test]
async fn a_client_that_keeps_a_copy_hears_only_what_changed() {
    let site = Site::open().await;
    let path = format!("{WF}/models/{NANO}");
    let answer = site.get(&path).await;
    let tag = answer.headers[header::ETAG].clone();
    let before = answer.ok();
    let hash = site.get(&format!("{path}/versions/1")).await.ok()["content_hash"].clone();
    assert_eq!(
        before,
        json!({"model": NANO, "active_version": 1, "content_hash": hash, "testing": false, "cycle": null})
    );
    let asked_again = || async {
        let again = request("GET", &path).header(header::IF_NONE_MATCH, tag.clone());
        site.send(again.body(Body::empty()).expect("a request")).await
    };
    let unchanged = asked_again().await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
    assert_eq!(unchanged.headers[header::ETAG], tag);

    site.stage.reach_testing().await;
    site.stage.assigner.refresh().await.expect("the memory is refreshed");
    let during = asked_again().await.ok();
    assert_eq!((&during["testing"], &during["cycle"]), (&json!(true), &json!(1)));
    assert_eq!(
        during["active_version"], 1,
        "the old version serves whoever is not part of the test"
    );

    site.stage.pool().close().await;
    assert_eq!(site.get(&path).await.ok(), during, "memory answers while the database is away");
    let unknown = site.get(&format!("{WF}/models/no-such-model")).await;
    assert_eq!(unknown.problem(), (404, "unknown_model".to_owned()));
}

#[tokio::test]
async fn a_cycle_shows_where_it_stands_and_what_happened() {
    let site = Site::open().await;
    site.stage.reach_testing().await;
    let status = site.get(&format!("{WF}/cycle")).await.ok();
    assert_eq!((&status["state"], &status["cycle"]), (&json!("testing"), &json!(1)));
    assert_eq!(site.get(&format!("{WF}/cycles/1")).await.ok(), status);
    let history = site.get(&format!("{WF}/cycles/1/transitions")).await.ok();
    let told = history["transitions"].as_array().expect("a list");
    let path: Vec<_> = told.iter().map(|one| one["to"].as_str().unwrap_or("")).collect();
    assert_eq!(path, ["analyzing", "generating", "testing"]);
    let effects = site.get(&format!("{WF}/cycles/1/effects")).await.ok();
    assert_eq!(effects["effects"].as_array().map(Vec::len), Some(2));
    let calls = site.get(&format!("{WF}/cycles/1/calls")).await.ok();
    assert_eq!(calls["calls"].as_array().map(Vec::len), Some(3));
    let costs = site.get(&format!("{WF}/costs")).await.ok();
    let (month, cycle) = (&costs["months"][0], &costs["cycles"][0]);
    assert_eq!((&month["month"], &month["calls"]), (&json!("2026-11-01"), &json!(3)));
    assert_eq!((&cycle["cycle"], &cycle["cost_usd"]), (&json!(1), &calls["cost_usd"]));
    let insights = site.get(&format!("{WF}/insights")).await.ok();
    assert_eq!(insights["insights"].as_array().map(Vec::len), Some(2));
    let changes = site.get(&format!("{WF}/changes")).await.ok();
    assert_eq!(changes["changes"][0]["kind"], "first_start");
    assert_eq!(site.get(&format!("{WF}/cycles")).await.ok()["cycles"][0]["state"], "testing");
    let diff = site.get(&format!("{WF}/models/{NANO}/versions/1/diff/2")).await;
    assert!(diff.text.contains("--- research.md\tversion 1"), "{}", diff.text);
    assert_eq!(diff.headers[header::CONTENT_TYPE], "text/x-diff; charset=utf-8");
}

#[tokio::test]
async fn an_operator_is_on_record_by_the_keys_name() {
    let site = Site::closed().await;
    let key = site.key("Ελένη", Role::Operate).await;
    let pause = request("POST", &format!("{WF}/cycles/1/pause"))
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Body::from(r#"{"reason": "the Friday freeze"}"#))
        .expect("a request");
    let performed = site.send(pause).await.ok();
    assert_eq!((&performed["cycle"], &performed["state"]), (&json!(1), &json!("collecting")));
    let status = site.stage.status().await;
    assert_eq!(
        (status.holds[0].by.as_str(), status.holds[0].reason.as_str()),
        ("Ελένη", "the Friday freeze")
    );
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_tell_where_the_cycle_stands() {
    let site = Site::open().await;
    site.get(&format!("{WF}/cycle")).await.ok();
    site.get("/nowhere").await;
    let page = site.get("/metrics").await.text;
    for line in [
        "mathesis_http_requests_total{method=\"GET\",route=\"/v1/workflows/{workflow}/cycle\",status=\"200\"} 1",
        "mathesis_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "mathesis_cycle_state{workflow=\"image-editing\",state=\"collecting\"} 1",
        "mathesis_tasks_waiting{workflow=\"image-editing\"} 0",
        "mathesis_claude_cost_usd_month{workflow=\"image-editing\"} 0",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}
