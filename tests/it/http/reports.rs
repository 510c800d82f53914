//! The report of a cycle, over HTTP.

use axum::body::Body;
use axum::http::header;

use super::browser::look;
use super::{Site, request};
use crate::support::candidates_win;
use crate::support::stage::testing_stage;

const REPORT: &str = "/analytics/image-editing/cycles/1/report";

#[tokio::test]
async fn a_finished_cycle_is_told_in_both_languages() {
    let stage = testing_stage().await;
    stage.play_test("test", candidates_win).await;
    while stage.watch().await > 0 {}
    while stage.cycle_number(1).await.ended_at.is_none() {
        stage.step().await;
    }
    let site = Site::on(stage, true);
    let english = look(&site, REPORT, "").await.text;
    for told in [
        "Better instructions were found and are in use now, for nano-banana and wan-2.5-edit.",
        "3 finished tasks were read. 2 patterns were found:",
        "Logos change when the prompt does not say to keep them.",
        "(80% sure)",
        "version 2 against version 1",
        "rollback=1#rollback",
    ] {
        assert!(english.contains(told), "{told:?} is not in {english}");
    }
    let greek = look(&site, &format!("{REPORT}?lang=el"), "").await.text;
    assert!(greek.contains("lang=\"el\"") && greek.contains("Τι κερδίσαμε"), "{greek}");
    assert_eq!(site.get(&format!("{REPORT}?lang=fr")).await.problem().1, "invalid_query");
    let unknown = site.get("/analytics/image-editing/cycles/9/report").await;
    assert_eq!(unknown.problem().1, "unknown_cycle");

    let data = request("GET", REPORT).header(header::ACCEPT, "application/json");
    let data = site.send(data.body(Body::empty()).unwrap()).await.ok();
    assert_eq!(data["facts"]["tried"][0]["status"], "adopted");
    assert!(data["markdown"].as_str().unwrap().starts_with("# image-editing: report"));
}
