//! The listener itself, over a real socket: big bodies, streams, and an orderly end.

use std::net::SocketAddr;

use mathesis::http::serve;
use mathesis::store::figures;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{EVENTS, Site, read_until};

struct Listening {
    site: Site,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn listening() -> Listening {
    let site = Site::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, site.router.clone(), stop.clone()));
    Listening { site, address, stop, serving }
}

async fn connect(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

#[tokio::test]
async fn a_client_that_streams_a_hundred_megabytes_gets_its_answer() {
    let it = listening().await;
    let head =
        format!("POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut stream = connect(it.address, &head).await;
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend(vec![b' '; 1 << 20]);
    chunk.extend(b"\r\n");
    for _ in 0..100 {
        stream.write_all(&chunk).await.expect("it goes on reading");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("it reads the end");
    let answer = read_until(&mut stream, "body_too_large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_stream_tells_transitions_and_goes_on_where_it_was_left() {
    let it = listening().await;
    let path = "/v1/workflows/image-editing/stream";
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut stream = connect(it.address, &head).await;
    read_until(&mut stream, "text/event-stream").await;
    it.site.stage.reach_testing().await;
    let told = read_until(&mut stream, "id: 1-3").await;
    assert!(told.contains("event: transition") && told.contains("id: 1-1"), "{told}");

    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1-2\r\n\r\n");
    let mut again = connect(it.address, &head).await;
    let told = read_until(&mut again, "id: 1-3").await;
    assert!(!told.contains("id: 1-2"), "{told}");

    let (stage, zone) = (&it.site.stage, it.site.stage.workflow.definition.timezone);
    figures::refresh(stage.pool(), stage.id(), zone, stage.engine.now()).await.expect("it counts");
    let told = read_until(&mut again, "event: figures").await;
    assert!(!told.contains("event: transition"), "nothing moved, tasks were counted: {told}");

    it.stop.cancel();
    it.serving.await.expect("it ends").expect("in order, though streams were open");
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_finish() {
    let it = listening().await;
    let event =
        json!({"type": "task_started", "task_id": "86c1", "original_prompt": "p"}).to_string();
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        event.len()
    );
    let mut stream = connect(it.address, &head).await;
    // The server asks for the body only once the handler reads it: from here the request is in flight.
    read_until(&mut stream, "100 Continue").await;
    it.stop.cancel();
    stream.write_all(event.as_bytes()).await.expect("it still reads");
    let answer = read_until(&mut stream, "accepted").await;
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    it.serving.await.expect("it ends").expect("in order");
    assert!(TcpStream::connect(it.address).await.is_err(), "nobody listens any more");
    assert_eq!(it.site.rows_logged().await, 2);
}
