//! Every route × every key that a caller can send: who gets in, what a refusal says, and that a refused call
//! changed nothing.
//!
//! The calls are read from the interface's description, which is made of the table of routes, so a new route is
//! called here without a word. Who may call it stands here a second time, on purpose: a route that the table opens
//! further than these lines do is a failure, and a new route is an operator's until it is named here. ClickUp's webhook
//! is a route of a server with a pipeline alone, and what opens it is a signature: it has a table of its own.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use mathesis::orchestrator::webhook;
use mathesis::stand_in::clickup::signature;
use mathesis::store::keys::{self, Role};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tower::ServiceExt as _;

use super::browser::{look, signed_in};
use super::{Answer, BY, Site, request};
use crate::orchestrator::{SECRET, Works};
use crate::support::{Stage, stage::noon};

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// Calls that need no key.
const OPEN: [&str; 10] = [
    "GET / ",
    "GET /healthz ",
    "GET /readyz ",
    "GET /openapi.json ",
    "GET /login ",
    "POST /login ",
    "POST /logout ",
    "GET /analytics/style.css ",
    "GET /analytics/live.js ",
    "GET /assets/style.css ",
];
/// What a pipeline writes.
const LOG: [&str; 2] = [
    "POST /v1/workflows/{workflow}/events ",
    "PUT /v1/workflows/{workflow}/tasks/{task}/assignments/{model} ",
];
/// What a pipeline looks up.
const LOOK: [&str; 6] = [
    "GET /v1/workflows/{workflow}/tasks/{task}/assignments/{model} ",
    "GET /v1/workflows/{workflow}/cycle ",
    "GET /v1/workflows/{workflow}/models/{model} ",
    "GET /v1/workflows/{workflow}/models/{model}/versions ",
    "GET /v1/workflows/{workflow}/models/{model}/versions/{number} ",
    "GET /v1/workflows/{workflow}/models/{model}/versions/{from}/diff/{to} ",
];
/// Calls whose bodies below are whole, so that they change something when they are let in.
const WRITING: [&str; 6] = [
    "POST /v1/automation ",
    "POST /v1/cycles/pause ",
    "POST /v1/workflows/{workflow}/automation ",
    "POST /v1/workflows/{workflow}/cycles/{number}/cancel ",
    "POST /v1/workflows/{workflow}/events ",
    "DELETE /v1/workflows/{workflow}/tasks/{task} ",
];

/// A call of the table.
pub(super) struct Call {
    method: String,
    pub(super) path: String,
}

impl Call {
    /// Every call that the server describes.
    pub(super) async fn all(site: &Site) -> Vec<Self> {
        let document = site.get("/openapi.json").await.ok();
        let paths = document["paths"].as_object().expect("paths").iter();
        let methods = |item: &Value| item.as_object().expect("methods").keys().cloned().collect();
        let calls: Vec<Self> = paths
            .flat_map(|(path, item)| {
                let methods: Vec<String> = methods(item);
                let call = move |method: String| Self {
                    method: method.to_uppercase(),
                    path: path.clone(),
                };
                methods.into_iter().map(call)
            })
            .collect();
        assert!(calls.len() > 70, "{}", calls.len());
        calls
    }

    pub(super) fn name(&self) -> String {
        format!("{} {} ", self.method, self.path)
    }

    fn is(&self, list: &[&str]) -> bool {
        list.contains(&self.name().as_str())
    }

    fn is_open(&self) -> bool {
        self.is(&OPEN)
    }

    fn is_button(&self) -> bool {
        self.method == "POST" && self.path.starts_with("/analytics/")
    }

    /// The roles that may make it.
    fn roles(&self) -> &'static [Role] {
        match self.method.as_str() {
            _ if self.is(&LOG) => &[Role::Ingest, Role::Operate],
            _ if self.is(&LOOK) => &Role::ALL,
            "GET" => &[Role::Read, Role::Operate],
            _ => &[Role::Operate],
        }
    }

    /// True where a browser's session is as good as its key.
    fn is_for_sessions(&self) -> bool {
        self.method == "GET" || self.is_button()
    }

    /// Its path with names that a fresh stage has.
    fn filled(&self) -> String {
        self.filled_with("{none}", "")
    }

    /// The same with this in the place of one capture.
    pub(super) fn filled_with(&self, capture: &str, name: &str) -> String {
        let part = |part: &str| match part {
            part if part == capture => name.to_owned(),
            "{workflow}" => "image-editing".to_owned(),
            "{model}" => "nano-banana".to_owned(),
            "{task}" => "86d1".to_owned(),
            part if part.starts_with('{') => "1".to_owned(),
            part => part.to_owned(),
        };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    pub(super) fn body(&self) -> Value {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        match (self.method.as_str(), last) {
            (_, "events") => {
                json!({"type": "task_started", "task_id": "86d1", "original_prompt": "p"})
            }
            ("POST", "automation") => json!({ "enabled": false }),
            ("POST", "rollback") => json!({ "to": 1 }),
            ("POST" | "DELETE", _) => json!({ "reason": "for the matrix" }),
            _ => Value::Null,
        }
    }

    /// The call to another path.
    pub(super) fn to(&self, path: &str) -> axum::http::request::Builder {
        let kind = if self.is_button() { FORM } else { "application/json" };
        request(&self.method, path).header(header::CONTENT_TYPE, kind)
    }

    /// The call with a header; a button's form carries this token.
    fn with(&self, name: header::HeaderName, value: &str, csrf: Option<&str>) -> Request<Body> {
        let built = request(&self.method, &self.filled());
        let built = if value.is_empty() { built } else { built.header(name, value) };
        let (kind, body) = match self.body() {
            _ if self.is_button() => {
                let token = csrf.map(|token| format!("csrf={token}&")).unwrap_or_default();
                (FORM, format!("{token}enabled=false&to=1"))
            }
            Value::Null => ("application/json", String::new()),
            body => ("application/json", body.to_string()),
        };
        built.header(header::CONTENT_TYPE, kind).body(Body::from(body)).expect("a request")
    }

    /// The status of the call with that key. Only the head is looked at: a stream has no end.
    async fn status_with(&self, site: &Site, name: header::HeaderName, value: &str) -> u16 {
        let sent = self.with(name, value, None);
        site.router.clone().oneshot(sent).await.expect("an answer").status().as_u16()
    }
}

/// A hash of every row of every table, and of every config file.
pub(super) async fn fingerprint(site: &Site) -> String {
    fingerprint_of(&site.stage).await
}

async fn fingerprint_of(stage: &Stage) -> String {
    let pool = stage.pool();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(table_name) FROM information_schema.tables
          WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .expect("the tables are listed");
    assert!(tables.len() > 30, "{tables:?}");
    let of = |table: &String| {
        format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '-') FROM {table} t"
        )
    };
    let all = tables.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
    let rows: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(pool).await.expect("the rows are read");
    let files = crate::support::Record::of(pool, stage.folder.path()).await;
    format!("{rows:?} {files:?}")
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(answer.problem(), (status, code.to_owned()), "{what}");
}

#[tokio::test]
async fn every_route_lets_in_its_roles_and_nobody_else() {
    let site = Site::unmeasured(false).await;
    let mut roles = Vec::new();
    for role in Role::ALL {
        roles.push((role, bearer(&site.key(role.as_str(), role).await)));
    }
    let revoked = bearer(&site.key("revoked", Role::Operate).await);
    keys::revoke(site.stage.pool(), "revoked", BY, noon()).await.expect("it is revoked");
    let wrong = bearer(&format!("mth_operate_{}", "0".repeat(64)));

    let calls = Call::all(&site).await;
    for call in calls.iter().filter(|call| !call.is_open()) {
        let before = fingerprint(&site).await;
        for (value, code) in [
            ("", "key_missing"),
            ("Basic b3BlcmF0ZTo=", "key_malformed"),
            (wrong.as_str(), "key_unknown"),
            (revoked.as_str(), "key_unknown"),
        ] {
            let answer = site.send(call.with(header::AUTHORIZATION, value, None)).await;
            assert_refused(&answer, 401, code, &format!("{}{value:.20}", call.name()));
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE), "{}", call.name());
        }
        for (role, key) in roles.iter().filter(|(role, _)| !call.roles().contains(role)) {
            let answer = site.send(call.with(header::AUTHORIZATION, key, None)).await;
            assert_refused(&answer, 403, "role_insufficient", &format!("{}{role}", call.name()));
        }
        assert_eq!(
            before,
            fingerprint(&site).await,
            "{} was refused and did something",
            call.name()
        );
    }
    for call in &calls {
        let without = call.status_with(&site, header::AUTHORIZATION, "").await;
        for (role, key) in &roles {
            let before = fingerprint(&site).await;
            let status = call.status_with(&site, header::AUTHORIZATION, key).await;
            let name = call.name();
            if call.is_open() {
                assert_eq!(status, without, "{name}: a key makes no difference");
            } else if call.roles().contains(role) {
                assert!(!matches!(status, 401 | 403 | 405 | 429 | 500..), "{name}{role}: {status}");
            }
            if call.is(&WRITING) && *role == call.roles()[0] {
                assert_ne!(before, fingerprint(&site).await, "{name}{role}: {status}");
            }
        }
    }
}

/// The token that the forms of this session carry.
async fn token_of(site: &Site, session: &str) -> String {
    let page = look(site, "/login", session).await.text;
    let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    token.expect("the form has a token").to_owned()
}

#[tokio::test]
async fn a_browsers_session_looks_and_acts_only_by_its_own_forms() {
    let site = Site::unmeasured(false).await;
    let reader = site.key("reader", Role::Read).await;
    let operator = site.key("operator", Role::Operate).await;
    let another = site.key("another", Role::Operate).await;
    let reading = signed_in(&site, &reader).await;
    let operating = signed_in(&site, &operator).await;
    let elsewhere = signed_in(&site, &another).await;
    let foreign = token_of(&site, &elsewhere).await;
    let own = token_of(&site, &operating).await;
    let invented = format!("mathesis_session={}", "0".repeat(64));

    let mut buttons = 0;
    for call in Call::all(&site).await.iter().filter(|call| !call.is_open()) {
        let before = fingerprint(&site).await;
        let name = call.name();
        let sent = async |cookie: &str, csrf: Option<&str>| {
            site.send(call.with(header::COOKIE, cookie, csrf)).await
        };
        if !call.is_for_sessions() {
            for cookie in [&reading, &operating] {
                assert_refused(&sent(cookie, Some(&own)).await, 401, "key_missing", &name);
            }
        } else if call.is_button() {
            buttons += 1;
            assert_refused(&sent(&reading, Some(&own)).await, 403, "role_insufficient", &name);
            for csrf in [None, Some(""), Some("0"), Some(foreign.as_str())] {
                assert_refused(&sent(&operating, csrf).await, 403, "csrf_token", &name);
            }
            assert_refused(&sent(&invented, Some(&own)).await, 401, "session_ended", &name);
        } else {
            assert_refused(&sent(&invented, None).await, 401, "session_ended", &name);
            for cookie in [&reading, &operating] {
                let status = call.status_with(&site, header::COOKIE, cookie).await;
                assert!(!matches!(status, 401 | 403 | 405 | 429 | 500..), "{name}: {status}");
            }
        }
        assert_eq!(before, fingerprint(&site).await, "{name} was refused and did something");
        if call.is_button() {
            let status = sent(&operating, Some(&own)).await.status.as_u16();
            assert!(!matches!(status, 401 | 403 | 405 | 429 | 500..), "{name}: {status}");
        }
    }
    assert!(buttons > 8, "{buttons} buttons were pressed");
}

/// The documented delivery of a change of status.
const DELIVERY: &str = r#"{"event":"taskStatusUpdated","history_items":[{"id":"2800787326392370170","type":1,"date":"1642736194135","field":"status","parent_id":"162641062","data":{"status_type":"custom"},"source":null,"user":{"id":183,"username":"John"},"before":{"status":"to do"},"after":{"status":"ready for edit"}}],"task_id":"1vj38vv","webhook_id":"7fa3ec74-69a8-4530-a251-8a13730bd204"}"#;

/// The status and the code of a delivery with these headers, or what became of it.
async fn deliver(
    router: &Router,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> (u16, String) {
    let sent = request("POST", path).header(header::CONTENT_TYPE, "application/json");
    let sent = headers.iter().fold(sent, |sent, (name, value)| sent.header(*name, value));
    let sent = sent.body(Body::from(body.to_owned())).expect("a request");
    let answer = router.clone().oneshot(sent).await.expect("an answer");
    let status = answer.status().as_u16();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("it reads");
    let told: Value = serde_json::from_slice(&bytes).expect("it is JSON");
    let told = told.get("code").or_else(|| told.get("result")).and_then(Value::as_str);
    (status, told.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn clickups_webhook_takes_what_is_signed_and_nothing_else() {
    let works = Works::new(&[9], &[9]).await;
    let key = keys::create(works.stage.pool(), "operator", Role::Operate, BY, noon()).await;
    let key = bearer(&key.expect("the key is made"));
    let right = signature(SECRET, DELIVERY.as_bytes());
    let another = DELIVERY.replace("1vj38vv", "1vj38vw");
    let signed = |value: &str| vec![("x-signature", value.to_owned())];
    let refused = [
        ("none", vec![]),
        ("empty", signed("")),
        ("no hex", signed("signed")),
        ("wrong", signed(&"0".repeat(64))),
        ("cut", signed(&right[..62])),
        ("another body's", signed(&signature(SECRET, another.as_bytes()))),
        ("another secret's", signed(&signature("another", DELIVERY.as_bytes()))),
        ("an operator's key", vec![("authorization", key.clone())]),
        ("in another header", vec![("authorization", bearer(&right))]),
    ];
    // An open server and one with keys: the signature is the key of both.
    for router in [works.router(true), works.router(false)] {
        let before = fingerprint_of(&works.stage).await;
        for (what, headers) in &refused {
            let told = deliver(&router, webhook::PATH, headers, DELIVERY).await;
            assert_eq!(told, (403, "bad_signature".to_owned()), "{what}");
        }
        for body in [another.as_str(), &format!("{DELIVERY} "), ""] {
            let told = deliver(&router, webhook::PATH, &signed(&right), body).await;
            assert_eq!(told, (403, "bad_signature".to_owned()), "{body}");
        }
        for path in ["/webhooks/clickup/image-editing", "/webhooks/another"] {
            let told = deliver(&router, path, &signed(&right), DELIVERY).await;
            assert_eq!(told, (404, "no_such_route".to_owned()), "{path}");
        }
        let plain = mathesis::http::router(works.app(true));
        let told = deliver(&plain, webhook::PATH, &signed(&right), DELIVERY).await;
        assert_eq!(told, (404, "no_such_route".to_owned()), "no workflow has a pipeline here");
        assert_eq!(before, fingerprint_of(&works.stage).await, "a refusal did something");
    }
    for (router, result) in [(works.router(false), "job"), (works.router(true), "duplicate")] {
        let before = fingerprint_of(&works.stage).await;
        let told = deliver(&router, webhook::PATH, &signed(&right), DELIVERY).await;
        assert_eq!(told, (200, result.to_owned()));
        assert_eq!(before == fingerprint_of(&works.stage).await, result == "duplicate");
    }
}
