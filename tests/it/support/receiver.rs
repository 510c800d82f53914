//! A receiver of webhooks on loopback that checks what it gets as the Standard Webhooks specification says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// What the receiver does with the next message.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// Answers with this status.
    Answers(u16),
    /// Sends the caller elsewhere.
    Redirects,
    /// Takes the message and never answers.
    Hangs,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Verifies the signature as a receiver does, with nothing of the sender's code.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
        let (id, timestamp) = (self.id(), self.header("webhook-timestamp"));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &self.body] {
            mac.update(part);
        }
        let given = self.header("webhook-signature").strip_prefix("v1,").unwrap_or_default();
        STANDARD.decode(given).is_ok_and(|given| mac.verify_slice(&given).is_ok())
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    script: VecDeque<Does>,
}

/// The receiver. It answers 200 where nothing else was asked of it.
#[derive(Clone)]
pub struct Receiver {
    seen: Arc<Mutex<Seen>>,
    port: u16,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let app = Router::new().fallback(take).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { seen, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does with the next messages, in order.
    pub fn then(&self, does: &[Does]) {
        self.seen.lock().expect("no test panicked with it").script.extend(does);
    }

    pub fn received(&self) -> Vec<Received> {
        self.seen.lock().expect("no test panicked with it").received.clone()
    }
}

async fn take(
    State(seen): State<Arc<Mutex<Seen>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let does = {
        let mut seen = seen.lock().expect("no test panicked with it");
        seen.received.push(Received { path: uri.path().to_owned(), headers, body });
        seen.script.pop_front().unwrap_or(Does::Answers(200))
    };
    match does {
        Does::Answers(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Does::Redirects => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Does::Hangs => std::future::pending().await,
    }
}
