//! The server below the three stand-ins: it listens on loopback, records what arrives, and makes the script's faults.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fault::Fault;
use super::script::{Script, Seen};
use crate::orchestrator::service::Service;

/// Paths of calls that no service has: those by which a person steers a stand-in. No script meets them.
pub(super) const CONTROL: &str = "/stand-in/";

/// What one of the services makes of requests.
pub(super) trait Answers: Send + Sync + 'static {
    /// Which service it is.
    const SERVICE: Service;
    /// The longest body that it reads, in bytes; a longer one arrives as none.
    const BODY_BYTES_MAX: usize;

    /// The answer to a request, with the work done that it asks for; an error breaks the connection. The fault is one
    /// of this service's own, or [`Fault::Pass`].
    fn answer<'a>(
        &'a self,
        request: &'a Request,
        fault: &'a Fault,
    ) -> BoxFuture<'a, io::Result<Response>>;

    /// Adds what the service sends with every answer, scripted ones too.
    fn dress(&self, request: &Request, response: &mut Response);

    /// An error of the documentation as the service words it.
    fn envelope(&self, _request: &Request, body: &str) -> String {
        body.to_owned()
    }
}

/// A request, read whole.
#[derive(Debug)]
pub(super) struct Request {
    /// Its number at this stand-in, from 1.
    pub(super) number: u64,
    /// Method, address and headers.
    pub(super) head: Parts,
    /// The body; none when it was too long or broke off.
    pub(super) body: Option<Bytes>,
    /// Cancelled when the stand-in stops, so that whoever waits lets go.
    pub(super) stopping: CancellationToken,
}

impl Request {
    /// A header as text; empty when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The path without the query.
    pub(super) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The values of a query parameter, decoded.
    pub(super) fn query(&self, name: &str) -> Vec<String> {
        let query = self.head.uri.query().unwrap_or_default();
        let pairs = reqwest::Url::parse(&format!("http://localhost/?{query}"));
        pairs
            .map(|url| {
                let wanted = url.query_pairs().filter(|(key, _)| key == name);
                wanted.map(|(_, value)| value.into_owned()).collect()
            })
            .unwrap_or_default()
    }

    /// Waits; false when the stand-in stops before the time is over.
    pub(super) async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stopping.cancelled() => false,
        }
    }

    /// The body's bytes; none for no body.
    pub(super) fn bytes(&self) -> Bytes {
        self.body.clone().unwrap_or_default()
    }
}

/// The answer to a call, or the refusal that it gets.
pub(super) type Answered = Result<Response, Refused>;

/// A refusal, ready to be sent. Boxed, since a response is large for an error.
#[derive(Debug)]
pub(super) struct Refused(Box<Response>);

impl Refused {
    /// The response.
    pub(super) fn response(self) -> Response {
        *self.0
    }
}

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Listener {
    base_url: String,
    stopping: CancellationToken,
    server: Option<JoinHandle<()>>,
}

/// A port that is taken and not yet served, so that a service may know its own address before it answers.
pub(super) struct Bound {
    listener: TcpListener,
    base_url: String,
}

impl Bound {
    /// Takes the port on loopback; 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) async fn take(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, base_url })
    }

    /// The address, such as `http://127.0.0.1:41234`.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Serves until it is stopped.
    pub(super) fn serve<S: Answers>(self, script: Script, service: Arc<S>) -> Listener {
        let stopping = CancellationToken::new();
        let site = Arc::new(Site {
            service,
            script,
            stopping: stopping.clone(),
            requests: std::sync::atomic::AtomicU64::new(0),
        });
        let server = tokio::spawn(accept(self.listener, site));
        Listener { base_url: self.base_url, stopping, server: Some(server) }
    }
}

impl Listener {
    /// The address, such as `http://127.0.0.1:41234`.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Stops it: hanging requests are let go, and no further one is answered once this returns.
    pub(super) async fn stop(&mut self) {
        self.stopping.cancel();
        if let Some(server) = self.server.take() {
            let _ended = server.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

struct Site<S> {
    service: Arc<S>,
    script: Script,
    stopping: CancellationToken,
    requests: std::sync::atomic::AtomicU64,
}

async fn accept<S: Answers>(listener: TcpListener, site: Arc<Site<S>>) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = site.stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&site)));
                }
                Err(error) => {
                    tracing::warn!(%error, service = %S::SERVICE, "a stand-in could not take a connection");
                    // Out of descriptors, most likely; a turn of the loop at once would only burn the processor.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve<S: Answers>(stream: TcpStream, site: Arc<Site<S>>) {
    let stopping = site.stopping.clone();
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { site.handle(request).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that a fault broke ends in an error, as it should.
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// The connection is to break now, without a word.
pub(super) fn broken() -> io::Error {
    io::Error::other("the script breaks this connection")
}

impl<S: Answers> Site<S> {
    async fn handle(&self, request: hyper::Request<Incoming>) -> io::Result<Response> {
        let number = self.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), S::BODY_BYTES_MAX).await.ok();
        let number = number.saturating_add(1);
        let request = Request { number, head, body, stopping: self.stopping.clone() };
        let fault = self.met(&request);
        match fault {
            Fault::Hang => {
                self.stopping.cancelled().await;
                Err(broken())
            }
            Fault::DropBeforeWork => Err(broken()),
            Fault::DropBeforeAnswer => {
                self.work(&request, &Fault::Pass).await?;
                Err(broken())
            }
            Fault::CutBody => Ok(cut(self.work(&request, &Fault::Pass).await?).await),
            Fault::Slow(delay) => {
                if !request.wait(delay).await {
                    return Err(broken());
                }
                self.work(&request, &Fault::Pass).await
            }
            own => match self.canned(&request, &own) {
                Some(mut response) => {
                    self.service.dress(&request, &mut response);
                    Ok(response)
                }
                None => self.work(&request, &own).await,
            },
        }
    }

    fn met(&self, request: &Request) -> Fault {
        if request.path().starts_with(CONTROL) {
            return Fault::Pass;
        }
        let path = request.head.uri.path_and_query().map_or("/", |path| path.as_str());
        self.script.meet(Seen {
            service: S::SERVICE,
            method: request.head.method.to_string(),
            path: path.to_owned(),
            body: request.bytes(),
        })
    }

    async fn work(&self, request: &Request, fault: &Fault) -> io::Result<Response> {
        let mut response = self.service.answer(request, fault).await?;
        self.service.dress(request, &mut response);
        Ok(response)
    }

    /// The answer that a fault has ready, if it has one.
    fn canned(&self, request: &Request, fault: &Fault) -> Option<Response> {
        Some(match fault {
            Fault::Documented(error) => {
                let body = self.service.envelope(request, error.body());
                let mut response = json(error.status(), body);
                response.headers_mut().extend(error.header().and_then(|(name, value)| {
                    Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_static(value)))
                }));
                response
            }
            Fault::Status { status, headers, body } => {
                let mut response = json(*status, body.clone());
                for (name, value) in headers {
                    set_header(&mut response, name, value);
                }
                response
            }
            Fault::Html(status) => html(*status),
            _ => return None,
        })
    }
}

/// Half of a body, and then a broken connection.
pub(super) async fn cut(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(whole) = body.collect().await else { return Response::from_parts(head, Body::empty()) };
    let whole = whole.to_bytes();
    head.headers.remove("content-length");
    let half = whole.slice(..whole.len() / 2);
    let parts = [Ok::<Bytes, io::Error>(half), Err(broken())];
    let parts = futures::StreamExt::then(futures::stream::iter(parts), |part| async move {
        // Without a turn of the loop in between, the half would never leave.
        tokio::task::yield_now().await;
        part
    });
    Response::from_parts(head, Body::from_stream(parts))
}

/// An answer in JSON.
pub(super) fn json(status: u16, body: impl Into<String>) -> Response {
    answer(status, "application/json", body.into())
}

/// A page such as a proxy sends.
pub(super) fn html(status: u16) -> Response {
    let words = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let page = format!("<html><body><h1>{}</h1></body></html>", words.unwrap_or("Error"));
    answer(status, "text/html", page)
}

/// An answer with that body.
pub(super) fn answer(status: u16, media_type: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set_header(&mut response, "content-type", media_type);
    response
}

/// Sets a header; one that HTTP cannot carry is left out.
pub(super) fn set_header(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        response.headers_mut().insert(name, value);
    }
}

/// A client for what a stand-in sends by itself.
///
/// # Errors
/// When none can be made.
pub(super) fn client(timeout: Duration) -> io::Result<reqwest::Client> {
    // The build has no default provider of cryptography, and a client wants one even for plain HTTP.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(timeout).build().map_err(io::Error::other)
}
