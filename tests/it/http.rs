//! The interface over HTTP against a real database: who may call what, what bad input comes to, and
//! what is stored after it.

mod age;
mod bad_input;
mod browser;
mod calls;
mod conflicts;
mod connections;
mod description;
mod limits;
mod listener;
mod matrix;
mod metrics;
mod names;
mod orders;
mod pages;
mod reports;
mod tasks;

use std::num::NonZeroU32;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use mathesis::http::{App, CallLimits, HttpSettings, router};
use mathesis::store::audit::Actor;
use mathesis::store::keys::{self, Role};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use crate::support::{Stage, stage::noon};

/// Who makes and revokes keys here.
const BY: Actor<'static> = Actor { name: "test", reason: None };

/// Reads until what was read contains `wanted`.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut read = String::new();
    let mut part = [0; 4096];
    while !read.contains(wanted) {
        let bytes = stream.read(&mut part).await.expect("it answers");
        assert!(bytes > 0, "it ended without {wanted:?}: {read}");
        read.push_str(&String::from_utf8_lossy(&part[..bytes]));
    }
    read
}

/// A stage with its interface.
struct Site {
    stage: Stage,
    router: Router,
}

/// An answer, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Site {
    async fn with(open: bool) -> Self {
        Self::on(Stage::new().await, open)
    }

    /// The interface of a stage that has been set.
    fn on(stage: Stage, open: bool) -> Self {
        Self::set(stage, HttpSettings { open, ..HttpSettings::default() })
    }

    /// A site that takes so many calls.
    async fn counting(open: bool, calls: CallLimits) -> Self {
        Self::set(Stage::new().await, HttpSettings { open, calls, ..HttpSettings::default() })
    }

    /// A site that takes any number of calls, right and wrong.
    async fn unmeasured(open: bool) -> Self {
        let any = NonZeroU32::MAX;
        let calls = CallLimits {
            pipeline_per_second: any,
            others_per_second: any,
            failures_per_minute: any,
            behind_proxy: false,
        };
        Self::counting(open, calls).await
    }

    fn set(stage: Stage, settings: HttpSettings) -> Self {
        let app =
            App::new(stage.engine.clone(), stage.assigner.clone(), stage.logger.clone(), settings);
        Self { stage, router: router(app) }
    }

    /// A site without keys, on loopback.
    async fn open() -> Self {
        Self::with(true).await
    }

    /// A site that asks for keys.
    async fn closed() -> Self {
        Self::with(false).await
    }

    async fn key(&self, name: &str, role: Role) -> String {
        keys::create(self.stage.pool(), name, role, BY, noon()).await.expect("the key is made")
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.expect("the answer reads");
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).expect("the answer is UTF-8"),
        }
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(method, path).body(body.into()).expect("a request")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call("POST", path, body).await
    }

    /// How many rows the task log has.
    async fn rows_logged(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM attempts)
                  + (SELECT count(*) FROM task_events)",
        )
        .fetch_one(self.stage.pool())
        .await
        .expect("the database answers")
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Status and code of a problem.
    #[track_caller]
    fn problem(&self) -> (u16, String) {
        let kind = self.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or(""));
        assert_eq!(kind, Some("application/problem+json"), "{} {}", self.status, self.text);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{json}");
        for member in ["title", "detail"] {
            assert!(json[member].as_str().is_some_and(|text| text.len() > 10), "{json}");
        }
        for secret in ["SELECT", "INSERT", "mth_", "secret_hash"] {
            assert!(!self.text.contains(secret), "{json}");
        }
        (self.status.as_u16(), json["code"].as_str().unwrap_or("").to_owned())
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }
}

const EVENTS: &str = "/v1/workflows/image-editing/events";
