//! Hand-edited files over HTTP and on the pages: who may decide, what must be named, what is shown.

use std::fs;

use axum::body::Body;
use axum::http::header;
use mathesis::runtime::reconcile;
use mathesis::store::keys::Role;
use serde_json::{Value, json};

use super::browser::{form, look, signed_in};
use super::{Site, request};
use crate::support::Stage;
use crate::support::stage::WAN;

const CONFLICTS: &str = "/v1/workflows/image-editing/conflicts";
const PAGES: &str = "/analytics/image-editing/conflicts";
const MINE: &str = "<script>document.title='taken'</script>\nedited by hand\n";

/// A stage with one file edited by hand.
async fn edited_stage() -> Stage {
    let stage = Stage::new().await;
    reconcile(&stage.engine, &stage.workflow).await.unwrap();
    fs::write(stage.file(WAN, "research.md"), MINE).unwrap();
    reconcile(&stage.engine, &stage.workflow).await.unwrap();
    stage
}

async fn first(site: &Site, key: &str) -> Value {
    let get = request("GET", CONFLICTS).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let answer = site.send(get.body(Body::empty()).unwrap()).await.ok();
    answer["conflicts"][0].clone()
}

#[tokio::test]
async fn who_may_look_and_who_may_decide() {
    let site = Site::on(edited_stage().await, false);
    let (reader, operator) = (site.key("r", Role::Read).await, site.key("o", Role::Operate).await);
    let conflict = first(&site, &reader).await;
    let one = format!("{CONFLICTS}/{}", conflict["conflict_id"]);
    let decide = |way: &str, key: &str, body: Value| {
        let post = request("POST", &format!("{one}/{way}"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json");
        site.send(post.body(Body::from(body.to_string())).unwrap())
    };
    for way in ["keep-mine", "take-theirs", "cancel"] {
        let body = json!({ "seen": conflict["edit_hash"] });
        let refused = decide(way, &reader, body).await.problem();
        assert_eq!(refused, (403, "role_insufficient".to_owned()), "{way}");
    }
    let blind = decide("keep-mine", &operator, json!({})).await.problem();
    assert_eq!(blind.0, 422, "an order names what it saw: {blind:?}");
    let stale = decide("keep-mine", &operator, json!({ "seen": "0000" })).await;
    assert_eq!(stale.json()["edit_hash"], conflict["edit_hash"]);
    assert_eq!(stale.problem(), (409, "conflict_changed".to_owned()));
    let body = json!({ "seen": conflict["edit_hash"], "reason": "mine is better" });
    let taken = decide("keep-mine", &operator, body.clone()).await.ok();
    assert!(taken["said"].as_str().unwrap().starts_with("ordered: "), "{taken}");
    let twice = decide("take-theirs", &operator, body).await.problem();
    assert_eq!(twice, (409, "conflict_begun".to_owned()));
    let now = first(&site, &reader).await;
    assert_eq!(
        [&now["status"], &now["way"], &now["ordered_by"], &now["order_reason"]],
        ["ordered", "keep_mine", "o", "mine is better"]
    );
    assert_eq!(fs::read_to_string(site.stage.file(WAN, "research.md")).unwrap(), MINE);
}

#[tokio::test]
async fn the_page_shows_the_edit_as_text_and_decides_behind_a_confirmation() {
    let site = Site::on(edited_stage().await, true);
    let list = look(&site, PAGES, "").await;
    assert!(list.text.contains("Config files that a person edited"), "{}", list.text);
    let home = look(&site, "/analytics/image-editing", "").await.text;
    assert!(home.contains("Look at the edit and decide"), "the hold leads to the page");
    let found = site.get(CONFLICTS).await.ok()["conflicts"][0].clone();
    let page = format!("{PAGES}/{}", found["conflict_id"]);
    let html = look(&site, &page, "").await.text;
    assert!(html.contains("+&lt;script&gt;document") && html.contains("Changed by hand"), "{html}");
    assert_eq!(html.matches("<script").count(), 1, "only the page's own");
    assert!(!html.contains("name=\"seen\""), "no button before the confirmation");

    let asked = look(&site, &format!("{page}?way=take-theirs"), "").await.text;
    let seen = found["edit_hash"].as_str().unwrap();
    assert!(asked.contains("Take version 1?") && asked.contains(seen), "{asked}");
    let body = format!("way=take-theirs&seen={seen}&reason=no");
    let answer = form(&site, &format!("{page}/settle"), "", body).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    reconcile(&site.stage.engine, &site.stage.workflow).await.unwrap();
    let html = look(&site, &page, "").await.text;
    assert!(html.contains("the edit is kept as version 2"), "{html}");
    assert_ne!(fs::read_to_string(site.stage.file(WAN, "research.md")).unwrap(), MINE);
    let nowhere = form(&site, &format!("{page}/settle"), "", "way=other".to_owned()).await;
    assert_eq!(nowhere.problem().0, 422);
    assert_eq!(site.get(&format!("{PAGES}/99")).await.problem().1, "unknown_conflict");
}

#[tokio::test]
async fn a_form_without_its_sessions_token_decides_nothing() {
    let site = Site::on(edited_stage().await, false);
    let key = site.key("o", Role::Operate).await;
    let session = signed_in(&site, &key).await;
    let conflict = first(&site, &key).await;
    let path = format!("{PAGES}/{}/settle", conflict["conflict_id"]);
    let body = format!("way=take-theirs&seen={}", conflict["edit_hash"].as_str().unwrap());
    let refused = form(&site, &path, &session, body).await.problem();
    assert_eq!(refused, (403, "csrf_token".to_owned()));
    assert_eq!(first(&site, &key).await["status"], "open");
}
