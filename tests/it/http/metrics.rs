//! `/metrics`: each family is documented, and the dashboard and the alerts name nothing else.

use std::collections::BTreeSet;
use std::fs;

use axum::body::Body;
use mathesis::store::figures;
use serde_json::{Value, json};

use super::{EVENTS, Site};
use crate::support::TaskRun;
use crate::support::stage::NANO;

fn docs(name: &str) -> String {
    fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).expect("it reads")
}

/// The families that a server has, by the heads of its page.
async fn families() -> BTreeSet<String> {
    let page = Site::open().await.get("/metrics").await.text;
    let heads = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    heads.map(|head| head.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// Every word of a text that begins as a metric's name does.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
    words.filter(|word| word.starts_with("mathesis_")).map(str::to_owned).collect()
}

/// A histogram's series go by the family's name with an end.
fn family_of(name: &str, families: &BTreeSet<String>) -> Option<String> {
    let bare = || ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    [Some(name), bare()].into_iter().flatten().find(|it| families.contains(*it)).map(str::to_owned)
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let documented: BTreeSet<String> = docs("operations.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `mathesis_")?.split('`').next())
        .map(|name| format!("mathesis_{name}"))
        .collect();
    assert_eq!(documented, families().await);
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let families = families().await;
    let dashboard: Value = serde_json::from_str(&docs("grafana.json")).expect("JSON");
    let mut expressions: Vec<String> = vec![];
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().expect("targets");
        expressions.extend(
            targets.iter().map(|it| it["expr"].as_str().expect("an expression").to_owned()),
        );
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        expressions.extend(variable["query"].as_str().map(str::to_owned));
    }
    let alerts = docs("alerts.yml");
    let rules = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    expressions.extend(rules.map(str::to_owned));
    assert!(expressions.len() > 30, "only {} were found", expressions.len());
    let mut shown = BTreeSet::new();
    for expression in &expressions {
        for name in named(expression) {
            let family = family_of(&name, &families);
            shown.insert(family.unwrap_or_else(|| panic!("there is no {name} in {expression}")));
        }
    }
    let unseen: Vec<&String> = families.difference(&shown).collect();
    assert_eq!(
        unseen,
        ["mathesis_cycle_state_seconds", "mathesis_http_request_seconds_total"],
        "what nobody looks at"
    );
}

/// The samples of the families that the database answers for, which a hand-held clock makes the same each time.
fn of_the_database(page: &str) -> String {
    let of_process = [
        "mathesis_http_",
        "mathesis_pool_",
        "mathesis_assignment_",
        "mathesis_ingest_",
        "mathesis_build_",
    ];
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter(|line| !of_process.iter().any(|start| line.starts_with(start)));
    samples.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_test_under_way_a_hold_and_an_effect_that_failed_can_be_read_off() {
    let site = Site::open().await;
    site.stage.reach_testing().await;
    let zone = site.stage.engine.registry.all()[0].definition.timezone;
    let now = site.stage.engine.now();
    figures::refresh(site.stage.pool(), site.stage.id(), zone, now)
        .await
        .expect("they are added up");
    site.call("POST", "/v1/workflows/image-editing/cycles/1/pause", r#"{"reason": "lunch"}"#)
        .await
        .ok();
    site.call("POST", "/v1/workflows/image-editing/cycles/1/resume", r#"{"reason": "back"}"#)
        .await
        .ok();
    for task in ["a", "b", "c"] {
        site.stage.assign(task, NANO).await;
    }
    let told = site.stage.assign("d", NANO).await;
    let run = TaskRun::new("d".to_owned(), &[(NANO, told.version, 9)]);
    site.post(EVENTS, json!(run.events()).to_string()).await.ok();
    site.post(EVENTS, Body::from(json!(run.events()).to_string())).await.ok();
    site.stage.watch().await;
    site.call("POST", "/v1/workflows/image-editing/cycles/1/pause", r#"{"reason": "the night"}"#)
        .await
        .ok();
    site.stage.by_hand("UPDATE effects SET status = 'failed' WHERE kind = 'analyze'").await;
    site.stage
        .by_hand(
            "UPDATE effects SET status = 'claimed', finished_at = NULL, worker_id = gen_random_uuid(),
                    lease_until = now() - interval '1 hour' WHERE kind = 'generate'",
        )
        .await;
    site.stage.clock.advance(chrono::Duration::minutes(7));
    let page = site.get("/metrics").await.text;
    insta::assert_snapshot!(of_the_database(&page));
    assert!(page.contains("mathesis_ingest_seconds_count 2\n"), "{page}");
}
