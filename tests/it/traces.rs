//! One trace from an event to Claude's call, as a collector sees it, and on across a killed process.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::support::TaskRun;
use crate::support::site::{Site, until};
use crate::support::stage::{NANO, WAN};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let router = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The spans of the trace by this name, in the order of their start.
    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("no test panicked with it");
        let ours =
            spans.iter().filter(|span| span.name == name && hex::encode(&span.trace_id) == TRACE);
        let mut ours: Vec<Span> = ours.cloned().collect();
        ours.sort_by_key(|span| span.start_time_unix_nano);
        ours
    }

    async fn until_there_are(&self, number: usize, name: &str) -> Vec<Span> {
        until(name, || async { self.named(name).len() >= number }).await;
        self.named(name)
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let sent = ExportTraceServiceRequest::decode(body.clone()).expect("protobuf");
    collector.raw.lock().expect("no test panicked with it").extend_from_slice(&body);
    let scopes = sent.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    collector.spans.lock().expect("no test panicked with it").extend(spans);
}

/// An attribute, as text.
fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

async fn traced_site(collector: &Collector) -> Site {
    let mut site = Site::new().await;
    site.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.listen().await);
    site.set("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned());
    site.open_analyses_after(1);
    site
}

async fn complete_one(site: &Site) {
    let run = TaskRun::new("task-1".to_owned(), &[(WAN, 0, 7), (NANO, 0, 7)]);
    site.post_events_within(TRACEPARENT, serde_json::Value::Array(run.events())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_event_over_the_effect_to_claudes_call() {
    let collector = Collector::default();
    let site = traced_site(&collector).await;
    site.start().await;
    complete_one(&site).await;

    let calls = collector.until_there_are(3, "claude.call").await;
    let request = collector.until_there_are(1, "request").await.remove(0);
    let transition = collector.until_there_are(1, "transition").await.remove(0);
    let effects = collector.until_there_are(2, "effect").await;
    assert_eq!(hex::encode(&request.parent_span_id), "00f067aa0ba902b7", "the caller's span");
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(transition.parent_span_id, request.span_id);
    assert_eq!(effects[0].parent_span_id, transition.span_id);
    assert_eq!(effects[1].parent_span_id, effects[0].span_id, "one effect leads to the next");
    assert_eq!(calls[0].parent_span_id, effects[0].span_id);
    assert_eq!(calls[0].kind(), SpanKind::Client);
    assert_eq!(attribute(&calls[0], "claude.model"), "claude-opus-5-5");
    assert!(attribute(&calls[0], "claude.request_id").starts_with("req_"), "{:?}", calls[0]);
    assert!(
        attribute(&calls[0], "claude.input_tokens").parse::<u64>().is_ok_and(|tokens| tokens > 100)
    );
    assert_eq!(attribute(&effects[0], "effect.kind"), "analyze");

    let raw = collector.raw.lock().expect("no test panicked with it").clone();
    let sent = String::from_utf8_lossy(&raw);
    for secret in ["sk-test", "Logos", "<task"] {
        assert!(!sent.contains(secret), "{secret} was sent to the collector");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_goes_on_with_the_trace_of_one_that_was_killed() {
    let collector = Collector::default();
    let site = traced_site(&collector).await;
    site.claude_hangs(true);
    site.start().await;
    complete_one(&site).await;
    site.until_asked(1, 0).await;
    collector.until_there_are(1, "transition").await;
    site.kill();
    assert!(collector.named("effect").is_empty(), "the dead process told nothing of its effect");

    site.claude_hangs(false);
    site.start().await;
    let effects = collector.until_there_are(1, "effect").await;
    let transition = collector.until_there_are(1, "transition").await.remove(0);
    assert_eq!(effects[0].parent_span_id, transition.span_id);
    assert_eq!(attribute(&effects[0], "effect.attempt"), "2");
}
