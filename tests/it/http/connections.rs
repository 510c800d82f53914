//! What the listener allows one address and one slow reader, over real sockets and with a router of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{MethodRouter, get};
use futures::{StreamExt as _, stream};
use mathesis::http::{Counted, ListenLimits, serve_within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::read_until;

async fn listening(limits: ListenLimits, router: Router) -> (SocketAddr, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let stop = CancellationToken::new();
    tokio::spawn(serve_within(limits, listener, router, stop.clone()));
    (address, stop.drop_guard())
}

fn short() -> Router {
    Router::new().route("/", get(async || "well"))
}

/// A client at that address of this machine.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from.parse().expect("an address"), 0)).expect("it is ours");
    socket.connect(to).await.expect("it listens")
}

async fn send(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
}

/// Asks once, and reads until that was read.
async fn ask(stream: &mut TcpStream, wanted: &str) {
    send(stream, "/").await;
    read_until(stream, wanted).await;
}

#[tokio::test]
async fn an_address_is_told_when_it_has_too_many_connections_and_others_go_on() {
    let limits = ListenLimits {
        address_connections_max: 2,
        counted: Counted::Everybody,
        ..ListenLimits::default()
    };
    let (to, _stop) = listening(limits, short()).await;
    let mut kept = [connect("127.0.0.1", to).await, connect("127.0.0.1", to).await];
    for stream in &mut kept {
        ask(stream, "well").await;
    }

    let mut third = connect("127.0.0.1", to).await;
    send(&mut third, "/").await;
    let mut told = String::new();
    third.read_to_string(&mut told).await.expect("it is told, and closed");
    assert!(told.starts_with("HTTP/1.1 429"), "{told}");
    assert!(told.contains("retry-after: 1") && told.contains("too_many_connections"), "{told}");

    ask(&mut connect("127.0.0.2", to).await, "well").await;
    let [mut first, second] = kept;
    ask(&mut first, "well").await;
    drop(second);
    // The server sees by and by that it has gone.
    loop {
        let mut next = connect("127.0.0.1", to).await;
        send(&mut next, "/").await;
        if read_until(&mut next, "HTTP/1.1 ").await.starts_with("HTTP/1.1 200") {
            break;
        }
    }
}

#[tokio::test]
async fn neither_this_machine_nor_a_proxy_is_counted() {
    assert_eq!(ListenLimits::default().counted, Counted::Strangers);
    for counted in [Counted::Strangers, Counted::Nobody] {
        let limits =
            ListenLimits { address_connections_max: 1, counted, ..ListenLimits::default() };
        let (to, _stop) = listening(limits, short()).await;
        let mut kept = Vec::new();
        for _ in 0..5 {
            let mut stream = connect("127.0.0.1", to).await;
            ask(&mut stream, "well").await;
            kept.push(stream);
        }
    }
}

/// Says when it is dropped, and with it the answer that holds it.
struct Held(Option<oneshot::Sender<()>>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(()).ok();
        }
    }
}

/// An answer without an end.
fn endless(held: Held) -> Body {
    let part = Bytes::from(vec![b'a'; 1 << 16]);
    Body::from_stream(stream::repeat(part).map(move |part| {
        let _ = &held;
        Ok::<_, Infallible>(part)
    }))
}

/// An answer that tells what it is told.
fn telling(told: mpsc::Receiver<&'static str>) -> Body {
    Body::from_stream(stream::unfold(told, async |mut told| {
        told.recv().await.map(|text| (Ok::<_, Infallible>(text), told))
    }))
}

/// A route with an answer that is there once.
fn once(answer: Body) -> MethodRouter {
    let answer = Arc::new(Mutex::new(Some(answer)));
    get(async move || answer.lock().unwrap().take().expect("asked once"))
}

#[tokio::test]
async fn only_an_answer_that_nobody_takes_is_cut_off() {
    let (ended, mut end) = oneshot::channel();
    let (news, told) = mpsc::channel(1);
    let router = Router::new()
        .route("/news", once(telling(told)))
        .route("/left", once(endless(Held(Some(ended)))))
        .route("/taken", once(endless(Held(None))));
    let limits =
        ListenLimits { write_timeout: Duration::from_millis(100), ..ListenLimits::default() };
    let (to, _stop) = listening(limits, router).await;

    let mut quiet = connect("127.0.0.1", to).await;
    send(&mut quiet, "/news").await;
    news.send("the first").await.expect("it is heard");
    read_until(&mut quiet, "the first").await;
    let mut taking = connect("127.0.0.1", to).await;
    send(&mut taking, "/taken").await;
    let mut leaving = connect("127.0.0.1", to).await;
    send(&mut leaving, "/left").await;

    // Ends by the limit alone, and by then the other two have been open for longer than that.
    let mut part = vec![0; 1 << 12];
    loop {
        tokio::select! {
            gone = &mut end => break gone.expect("the answer is given up"),
            read = taking.read_exact(&mut part) => drop(read.expect("there is more")),
        }
    }
    let mut rest = Vec::new();
    let _ = leaving.read_to_end(&mut rest).await;
    // More than the system can have kept of it.
    for _ in 0..5_000 {
        taking.read_exact(&mut part).await.expect("there is more");
    }
    news.send("the second").await.expect("it is heard");
    read_until(&mut quiet, "the second").await;
}
