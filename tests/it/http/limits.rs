//! How much one caller may ask for: calls, wrong keys, bytes, depth, time, connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures::stream::{self, StreamExt as _};
use mathesis::http::{BodyTimes, CallLimits, HttpSettings, ListenLimits, serve_within};
use mathesis::store::keys::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::matrix::{Call, fingerprint};
use super::{Answer, EVENTS, Site, request};
use crate::support::Stage;

const WORKFLOWS: &str = "/v1/workflows";
const FORM: &str = "application/x-www-form-urlencoded";

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("more than none")
}

/// A site behind a proxy that tells who calls, and with few calls for each.
async fn measured(open: bool) -> Site {
    let calls = CallLimits {
        others_per_second: number(1),
        failures_per_minute: number(3),
        behind_proxy: true,
        ..CallLimits::default()
    };
    Site::counting(open, calls).await
}

fn from(address: &str, method: &str, path: &str) -> axum::http::request::Builder {
    request(method, path).header("x-forwarded-for", format!("203.0.113.9, {address}"))
}

async fn with_key(site: &Site, address: &str, path: &str, key: &str) -> Answer {
    let sent = from(address, "GET", path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    site.send(sent.body(Body::empty()).expect("a request")).await
}

/// How many of twenty calls were made; those that were not say when to come back.
async fn twenty(site: &Site, call: impl Fn() -> Request<Body>) -> usize {
    let mut made = 0;
    for _ in 0..20 {
        let answer = site.send(call()).await;
        if answer.status == 200 {
            made += 1;
        } else {
            assert_eq!(answer.problem(), (429, "too_many_calls".to_owned()));
            assert_eq!(answer.headers[header::RETRY_AFTER], "1");
        }
    }
    made
}

#[tokio::test]
async fn an_address_and_a_key_are_told_when_they_call_too_often() {
    let site = measured(true).await;
    let looks = |address: &'static str| {
        move || from(address, "GET", WORKFLOWS).body(Body::empty()).expect("a request")
    };
    // A bucket fills again while the calls are made, so what counts is that most were refused.
    assert!((1..20).contains(&twenty(&site, looks("192.0.2.1")).await));
    assert!(
        (1..20).contains(&twenty(&site, looks("192.0.2.2")).await),
        "another address has its own"
    );
    let cycle = || from("192.0.2.1", "GET", "/v1/workflows/image-editing/cycle");
    let pipelines = twenty(&site, || cycle().body(Body::empty()).expect("a request")).await;
    assert_eq!(pipelines, 20, "what a pipeline looks up is counted by itself, and generously");

    let site = measured(false).await;
    let key = site.key("reader", Role::Read).await;
    let mut made = 0;
    for n in 0..20 {
        let answer = with_key(&site, &format!("198.51.100.{n}"), WORKFLOWS, &key).await;
        made += usize::from(answer.status == 200);
        assert!(answer.status == 200 || answer.problem() == (429, "too_many_calls".to_owned()));
    }
    assert!((1..20).contains(&made), "a key is one, wherever it calls from");
}

#[tokio::test]
async fn whoever_guesses_keys_is_refused_and_whoever_has_one_is_not() {
    let site = measured(false).await;
    let key = site.key("pipeline", Role::Ingest).await;
    let cycle = "/v1/workflows/image-editing/cycle";
    let guess =
        async |address: &str| with_key(&site, address, cycle, "mth_read_guess").await.problem();
    for _ in 0..3 {
        assert_eq!(guess("192.0.2.1").await, (401, "key_unknown".to_owned()));
    }
    assert_eq!(guess("192.0.2.1").await, (429, "too_many_failures".to_owned()));
    assert_eq!(guess("192.0.2.2").await, (401, "key_unknown".to_owned()), "another address");
    let answer = with_key(&site, "192.0.2.1", cycle, &key).await;
    assert_eq!(answer.status, 200, "a pipeline beside the guesser goes on: {}", answer.text);
}

/// A sign-in from an address, by a form that this site made.
async fn sign_in(site: &Site, address: &str, key: &str) -> Answer {
    let sent = from(address, "POST", "/login")
        .header(header::COOKIE, "mathesis_form=token")
        .header(header::CONTENT_TYPE, FORM);
    let body = Body::from(format!("csrf=token&key={key}"));
    site.send(sent.body(body).expect("a request")).await
}

#[tokio::test]
async fn sign_ins_are_few_and_the_right_key_is_not_told_apart_after_them() {
    let site = measured(false).await;
    let key = site.key("reader", Role::Read).await;
    for _ in 0..3 {
        assert_eq!(sign_in(&site, "192.0.2.1", "mth_read_guess").await.status, 401);
    }
    for key in ["mth_read_guess", key.as_str()] {
        let answer = sign_in(&site, "192.0.2.1", key).await;
        assert_eq!(answer.status, 429);
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        assert!(
            answer.text.contains("too many sign-ins") && !answer.text.contains(key),
            "{}",
            answer.text
        );
    }
    assert_eq!(sign_in(&site, "192.0.2.2", &key).await.status, 303, "another address signs in");
}

#[tokio::test]
async fn no_route_takes_a_body_that_is_too_deep_or_too_large() {
    let site = Site::unmeasured(true).await;
    let before = fingerprint(&site).await;
    let mut tried = 0;
    for call in Call::all(&site).await.iter().filter(|call| call.name() != "POST /logout ") {
        if call.name().starts_with("GET") || call.path.contains("/assignments/") {
            continue;
        }
        let bodies = [
            "[".repeat(100_000),
            "{\"a\":".repeat(12_000),
            format!("{{\"metadata\":{}", "[".repeat(60_000)),
            format!("{{\"reason\": \"{}\"}}", "a".repeat(65 << 10)),
        ];
        for body in bodies {
            let sent = call.to(&call.filled_with("", "")).body(Body::from(body.clone()));
            let status = site.send(sent.expect("a request")).await.status.as_u16();
            assert!(matches!(status, 400 | 403 | 413 | 422), "{}{body:.20}: {status}", call.name());
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    let nested = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
    let event = format!("{{\"type\":\"completed\",\"task_id\":\"a\",\"metadata\":{nested}}}");
    assert_eq!(site.post(EVENTS, event).await.problem(), (422, "too_deep".to_owned()));
    let large = format!("{{\"reason\": \"{}\"}}", "a".repeat(64 << 10));
    let large = site.post("/v1/workflows/image-editing/cycles/1/pause", large).await.problem();
    assert_eq!(large, (413, "body_too_large".to_owned()));
    assert_eq!(before, fingerprint(&site).await);
}

#[tokio::test]
async fn a_body_that_stops_on_its_way_or_takes_for_ever_is_told_so_and_nothing_of_it_is_stored() {
    let (short, long) = (Duration::from_millis(30), Duration::from_secs(600));
    let part = || Ok::<_, Infallible>(&b" "[..]);
    let stops = stream::iter([part()]).chain(stream::pending()).boxed();
    // Never a pause that is too long, and never an end.
    let trickles = stream::repeat_with(part).then(async |part| {
        tokio::task::yield_now().await;
        part
    });
    for (body, bodies) in [
        (stops, BodyTimes { pause_max: short, whole_max: long }),
        (trickles.boxed(), BodyTimes { pause_max: long, whole_max: short }),
    ] {
        let settings = HttpSettings { open: true, bodies, ..HttpSettings::default() };
        let site = Site::set(Stage::new().await, settings);
        let before = fingerprint(&site).await;
        let post = request("POST", EVENTS).body(Body::from_stream(body)).expect("a request");
        assert_eq!(site.send(post).await.problem(), (408, "body_incomplete".to_owned()));
        assert_eq!(before, fingerprint(&site).await);
    }
}

struct Listening {
    _site: Site,
    address: SocketAddr,
    _stop: tokio_util::sync::DropGuard,
}

async fn listening(limits: ListenLimits) -> Listening {
    let site = Site::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let stop = CancellationToken::new();
    tokio::spawn(serve_within(limits, listener, site.router.clone(), stop.clone()));
    Listening { _site: site, address, _stop: stop.drop_guard() }
}

const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asks once and reads the head of the answer.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(ASK).await.expect("it reads");
    let mut part = [0; 4096];
    let bytes = stream.read(&mut part).await.expect("it answers");
    String::from_utf8_lossy(&part[..bytes]).into_owned()
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_cut_off() {
    let limits =
        ListenLimits { head_timeout: Duration::from_millis(50), ..ListenLimits::default() };
    let it = listening(limits).await;
    let mut slow = TcpStream::connect(it.address).await.expect("it listens");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.expect("it reads");
    let mut rest = Vec::new();
    // Ends with the connection, and only with it.
    slow.read_to_end(&mut rest).await.expect("it is closed");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "it was never answered");

    let mut idle = TcpStream::connect(it.address).await.expect("it listens");
    assert!(ask(&mut idle).await.starts_with("HTTP/1.1 200"));
    idle.read_to_end(&mut rest).await.expect("it is closed");
}

#[tokio::test]
async fn a_connection_too_many_waits_until_one_ends() {
    let it = listening(ListenLimits { connections_max: 1, ..ListenLimits::default() }).await;
    let mut first = TcpStream::connect(it.address).await.expect("it listens");
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = TcpStream::connect(it.address).await.expect("the system takes it in line");
    second.write_all(ASK).await.expect("it is kept");
    for _ in 0..20 {
        assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
    }
    let nothing = second.try_read(&mut [0; 16]).expect_err("it waits");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    let mut part = [0; 4096];
    let bytes = second.read(&mut part).await.expect("it answers");
    assert!(part[..bytes].starts_with(b"HTTP/1.1 200"));
}
