//! Traces over OTLP, off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! A trace goes from the request whose events reached a trigger over the transition to its effects and their calls to
//! Claude. Between processes it is carried as a W3C `traceparent`: in the header of a request, and on the effect's row.
//! Spans of this crate leave, and nothing else: no log line, so no prompt and no error's words, and no header.
//!
//! Off, every function here reads one flag and returns.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter::LevelFilter};

use crate::outbound;

/// The setting that names the collector.
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// W3C's header, and the column of an effect.
pub const TRACEPARENT: &str = "traceparent";
/// For one batch of spans; a collector that is away costs a batch and nothing else.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last batch at the end of a process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

static ON: AtomicBool = AtomicBool::new(false);

/// The traces of this process. Flush them before it ends.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send spans to the collector at this address, such as `http://127.0.0.1:4318`. Connects to nothing yet.
    ///
    /// # Errors
    /// What is wrong with the address or this machine's certificates, in words.
    pub fn start(endpoint: &str, runtime: Handle) -> Result<Self, String> {
        let base = outbound::base_address(endpoint)
            .ok_or_else(|| "it is no address such as http://127.0.0.1:4318".to_owned())?;
        let address = outbound::address_below(&base, &["v1", "traces"])
            .ok_or_else(|| "no path can be put behind it".to_owned())?;
        let http = outbound::client(&base, EXPORT_TIMEOUT, EXPORT_TIMEOUT)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector { http, runtime })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name("mathesis").build())
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Self { provider })
    }

    /// The layer that makes spans of this crate's spans, from info up. Log lines are left out.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("mathesis"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|meta| meta.is_span() && meta.target().starts_with("mathesis")))
            .with_filter(LevelFilter::INFO)
    }

    /// Sends what is left, and ends. The runtime must still run.
    pub fn end(self) {
        ON.store(false, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(error = %error, "the last spans did not reach the collector");
        }
    }
}

/// Where this moment stands in its trace, to be carried elsewhere; none while traces are off.
#[must_use]
pub fn current() -> Option<String> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Puts a span, which must not have been entered yet, under the moment that was carried here. What is no
/// `traceparent` is passed over.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    let (true, Some(traceparent)) = (ON.load(Ordering::Relaxed), traceparent) else {
        return;
    };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // A span that no layer looks at has no parent to set, and needs none.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// The latest moment of each workflow at which events came.
static CAUSES: Mutex<BTreeMap<i64, String>> = Mutex::new(BTreeMap::new());

/// Notes that events of a workflow come at this moment, so that the transition they lead to goes on with their trace. Of
/// several requests it is the last one's.
pub fn note_cause(workflow_id: i64) {
    if let Some(moment) = current() {
        CAUSES.lock().unwrap_or_else(PoisonError::into_inner).insert(workflow_id, moment);
    }
}

/// Takes what was noted last for a workflow.
#[must_use]
pub fn take_cause(workflow_id: i64) -> Option<String> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    CAUSES.lock().unwrap_or_else(PoisonError::into_inner).remove(&workflow_id)
}

/// The collector, reached by this program's client on its runtime: the exporter has a thread of its own.
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move {
            let answer = http.execute(reqwest::Request::try_from(request)?).await?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        Box::pin(async move { Ok(sending.await??) })
    }
}
