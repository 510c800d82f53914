//! A person in a browser: signing in, looking, signing out; and what other pages cannot make it do.

use axum::body::Body;
use axum::http::header;
use chrono::Duration;
use mathesis::store::keys::{self, Role};

use super::{Answer, BY, Site, request};
use crate::support::stage::noon;

/// The value of a cookie that an answer sets.
fn cookie(answer: &Answer, name: &str) -> String {
    let set = answer.headers.get_all(header::SET_COOKIE).iter();
    let set = set.filter_map(|value| value.to_str().ok());
    let found = set.filter_map(|value| value.split(';').next()?.split_once('='));
    found.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next().expect(name)
}

pub(super) async fn form(site: &Site, path: &str, cookies: &str, body: String) -> Answer {
    let request = request("POST", path)
        .header(header::COOKIE, cookies)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    site.send(request.body(Body::from(body)).expect("a request")).await
}

pub(super) async fn look(site: &Site, path: &str, cookies: &str) -> Answer {
    let request =
        request("GET", path).header(header::COOKIE, cookies).header(header::ACCEPT, "text/html");
    site.send(request.body(Body::empty()).expect("a request")).await
}

/// The cookie of a browser that has signed in with that key.
pub(super) async fn signed_in(site: &Site, key: &str) -> String {
    format!("mathesis_session={}", cookie(&sign_in(site, key).await, "mathesis_session"))
}

async fn sign_in(site: &Site, key: &str) -> Answer {
    let page = site.get("/login").await;
    let token = cookie(&page, "mathesis_form");
    assert!(page.text.contains(&token), "the form carries its token");
    form(site, "/login", &format!("mathesis_form={token}"), format!("csrf={token}&key={key}")).await
}

#[tokio::test]
async fn a_person_signs_in_looks_and_signs_out() {
    let site = Site::closed().await;
    let key = site.key("Ελένη", Role::Read).await;
    let sent_away = look(&site, "/analytics", "").await;
    assert_eq!(
        (sent_away.status.as_u16(), &sent_away.headers[header::LOCATION]),
        (303, &"/login".parse().unwrap())
    );
    let signed_in = sign_in(&site, &key).await;
    assert_eq!(
        (signed_in.status.as_u16(), &signed_in.headers[header::LOCATION]),
        (303, &"/analytics".parse().unwrap())
    );
    let session = format!("mathesis_session={}", cookie(&signed_in, "mathesis_session"));
    let page = look(&site, "/analytics", &session).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("image-editing"));
    assert!(page.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE encode(session_hash, 'hex') = $1")
            .bind(session.trim_start_matches("mathesis_session="))
            .fetch_one(site.stage.pool())
            .await
            .unwrap();
    assert_eq!(stored, 0, "the database has the hash of the session only");

    let me = look(&site, "/login", &session).await.text;
    assert!(me.contains("Ελένη"));
    let csrf = me
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .to_owned();
    let forged = form(&site, "/logout", &session, "csrf=0".to_owned()).await;
    assert_eq!(forged.problem(), (403, "csrf_token".to_owned()));
    assert_eq!(form(&site, "/logout", &session, format!("csrf={csrf}")).await.status, 303);
    assert_eq!(look(&site, "/analytics", &session).await.status, 303, "the session is over");
}

#[tokio::test]
async fn a_sign_in_that_does_not_fit_shows_the_form_again() {
    let site = Site::closed().await;
    let ingest = site.key("pipeline", Role::Ingest).await;
    assert_eq!(sign_in(&site, "mth_read_wrong").await.status, 401);
    assert_eq!(sign_in(&site, &ingest).await.status, 403);
    let read = site.key("reader", Role::Read).await;
    let forged = form(&site, "/login", "mathesis_form=a", format!("csrf=b&key={read}")).await;
    assert_eq!(forged.status, 403);
    assert!(!forged.text.contains(&read), "the key is not shown back");
    assert_eq!(form(&site, "/login", "", "key=a".to_owned()).await.status, 400);
}

#[tokio::test]
async fn a_session_may_look_but_not_act_and_ends() {
    let site = Site::closed().await;
    let key = site.key("operator", Role::Operate).await;
    let session =
        format!("mathesis_session={}", cookie(&sign_in(&site, &key).await, "mathesis_session"));
    let act =
        form(&site, "/v1/workflows/image-editing/cycles/1/pause", &session, String::new()).await;
    assert_eq!(act.problem(), (401, "key_missing".to_owned()));
    assert_eq!(look(&site, "/v1/workflows/image-editing/cycles", &session).await.status, 200);
    site.stage.clock.advance(Duration::hours(13));
    assert_eq!(
        look(&site, "/v1/workflows/image-editing/cycles", &session).await.problem(),
        (401, "session_ended".to_owned())
    );
    let again =
        format!("mathesis_session={}", cookie(&sign_in(&site, &key).await, "mathesis_session"));
    keys::revoke(site.stage.pool(), "operator", BY, noon()).await.unwrap();
    assert_eq!(look(&site, "/analytics", &again).await.status, 303, "a session ends with its key");
}

#[tokio::test]
async fn an_open_server_cannot_be_reached_through_somebody_elses_page() {
    let site = Site::open().await;
    let path = "/v1/workflows/image-editing/automation";
    for (name, value) in [("host", "rebound.example"), ("origin", "https://evil.example")] {
        let request =
            request("POST", path).header(name, value).body(Body::from(r#"{"enabled": false}"#));
        let answer = site.send(request.unwrap()).await;
        assert_eq!(answer.problem(), (403, "foreign_origin".to_owned()));
    }
    assert!(site.stage.status().await.holds.is_empty());
}

#[tokio::test]
async fn the_dashboard_is_a_page_or_its_data() {
    let site = Site::open().await;
    let data =
        request("GET", "/analytics?from=&to=2026-11-23").header(header::ACCEPT, "application/json");
    let data = site.send(data.body(Body::empty()).unwrap()).await.ok();
    assert_eq!(data["workflows"][0]["workflow"], "image-editing");
    assert_eq!(look(&site, "/analytics", "").await.status, 200);
    assert_eq!(site.get("/").await.headers[header::LOCATION], "/analytics");
}
