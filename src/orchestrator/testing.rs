//! What the clients' tests share: a service of canned answers on a real socket, and a clock that runs only when it is
//! slept on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::Clock;

/// A clock that a sleep moves on by as long as it was to last, and that keeps each of them.
pub(super) struct SleptClock {
    now: Mutex<DateTime<Utc>>,
    slept: Mutex<Vec<Duration>>,
}

impl SleptClock {
    /// Stands at 2026-11-22T10:00:00Z.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(start()), slept: Mutex::default() })
    }

    /// The sleeps so far, in whole seconds, rounded down.
    pub(super) fn slept_s(&self) -> Vec<u64> {
        self.slept.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    pub(super) fn advance(&self, by: TimeDelta) {
        *self.now.lock().unwrap() += by;
    }
}

pub(super) fn start() -> DateTime<Utc> {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

impl Clock for SleptClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.advance(TimeDelta::from_std(duration).unwrap());
            self.slept.lock().unwrap().push(duration);
            tokio::task::yield_now().await;
        })
    }
}

/// What the service does with a request, after it has read all of it.
#[derive(Debug, Clone)]
pub(super) enum Canned {
    /// Answers.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Sends half of an answer, then closes.
    Cut,
    /// Closes without a byte.
    Drop,
    /// Never answers.
    Hang,
}

pub(super) fn json(status: u16, body: impl Into<String>) -> Canned {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Canned::Answer { status, headers, body: body.into().into_bytes() }
}

pub(super) fn html(status: u16) -> Canned {
    let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
    Canned::Answer { status, headers, body: b"<html><h1>Bad gateway</h1></html>".to_vec() }
}

pub(super) fn file(body: &[u8]) -> Canned {
    // A lie, so that a test sees that nobody believes it.
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    Canned::Answer { status: 200, headers, body: body.to_vec() }
}

impl Canned {
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_string()));
        }
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its first line, such as `GET /api/v2/task/1 HTTP/1.1`.
    pub(super) line: String,
    /// Its head, in lower case.
    pub(super) head: String,
    /// Its body; bytes that are no UTF-8 are replaced.
    pub(super) body: String,
}

/// A service that gives these answers in turn, and the last one for ever.
pub(super) struct Service {
    pub(super) base_url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<VecDeque<Canned>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Service {
    pub(super) async fn answering(answers: impl IntoIterator<Item = Canned>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (todo, record) = (Arc::clone(&answers), Arc::clone(&seen));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&todo), Arc::clone(&record)));
            }
        });
        Self { base_url, seen, answers, server }
    }

    /// An address of this machine where nobody listens.
    pub(super) async fn nowhere() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// From now on, these.
    pub(super) fn then(&self, answers: impl IntoIterator<Item = Canned>) {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<VecDeque<Canned>>>,
    record: Arc<Mutex<Vec<Seen>>>,
) {
    let Some(seen) = read_request(&mut stream).await else { return };
    record.lock().unwrap().push(seen);
    let answer = {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
    };
    match answer.expect("an answer is prepared") {
        Canned::Answer { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Canned\r\nconnection: close\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            let _gone = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            let _gone = stream.shutdown().await;
        }
        Canned::Cut => {
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":";
            let _gone = stream.write_all(half).await;
            let _gone = stream.shutdown().await;
        }
        Canned::Drop => drop(stream),
        Canned::Hang => std::future::pending().await,
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut part = [0_u8; 16 * 1024];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let lower = head.to_lowercase();
            let length = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                let line = head.lines().next().unwrap_or_default().to_owned();
                return Some(Seen { line, head: lower, body });
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
}
