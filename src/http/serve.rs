//! The listener: connections with limits on slow clients, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::connections::{Counted, Crowd, too_many_connections};
use super::limits::Peer;

/// What one client may take from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenLimits {
    /// How long a client may take to send a request's head, and how long a connection may stay open without a request.
    pub head_timeout: Duration,
    /// How long a client may take none of an answer that waits for it. A stream without news has nothing that waits.
    pub write_timeout: Duration,
    /// The most connections at a time. Further ones wait in the operating system's line until one ends.
    pub connections_max: usize,
    /// The most of them from one address. Further ones are told so, and closed.
    pub address_connections_max: usize,
    /// Whose connections [`ListenLimits::address_connections_max`] is about.
    pub counted: Counted,
}

impl ListenLimits {
    /// [`ListenLimits::connections_max`] where nothing else is said.
    pub const CONNECTIONS_MAX: u32 = 4_096;
    /// [`ListenLimits::address_connections_max`] where nothing else is said.
    pub const ADDRESS_CONNECTIONS_MAX: u32 = 512;
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(20),
            connections_max: Self::CONNECTIONS_MAX as usize,
            address_connections_max: Self::ADDRESS_CONNECTIONS_MAX as usize,
            counted: Counted::Strangers,
        }
    }
}

/// How long requests in flight may go on after the stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// So many connections are told at a time that they are too many; more than these are closed without a word.
const REFUSALS_MAX: usize = 64;
/// How long one of them has for its request.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Told to requests that never end by themselves, such as streams.
#[derive(Debug, Clone)]
pub struct Stopping(pub CancellationToken);

/// [`serve_within`] the usual limits.
///
/// # Errors
/// An [`io::Error`] when the listener itself is broken; a broken connection ends alone.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    serve_within(ListenLimits::default(), listener, router, stop).await
}

/// Serves until `stop` is cancelled. Then no further connection is taken, idle ones are closed, and
/// requests in flight get four seconds to finish. What a request had committed by then stays. Dropping
/// the future instead cuts every connection off.
///
/// # Errors
/// An [`io::Error`] when the listener itself is broken; a broken connection ends alone.
pub async fn serve_within(
    limits: ListenLimits,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let kill = CancellationToken::new();
    let _cut_off_when_dropped = kill.clone().drop_guard();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let door = Door {
        limits,
        router: router.layer(Extension(Stopping(stop.clone()))),
        crowd: Crowd::new(limits.address_connections_max, limits.counted),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        connections: TaskTracker::new(),
        stop: stop.clone(),
        kill: kill.clone(),
    };
    loop {
        let Some(place) = place(&places, &stop).await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => door.take(stream, peer.ip(), place),
            // A client that was gone before it was accepted, or no descriptor left: others go on.
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    let connections = door.connections;
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            connections.open = connections.len(),
            "requests did not finish in time and were cut off; clients repeat them safely"
        );
        kill.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// What every connection comes through.
struct Door {
    limits: ListenLimits,
    router: Router,
    crowd: Arc<Crowd>,
    refusals: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Door {
    /// Serves the connection, or tells it that its address has too many.
    fn take(&self, stream: TcpStream, peer: IpAddr, place: OwnedSemaphorePermit) {
        let Some(seat) = self.crowd.enter(peer) else {
            if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
                self.keep(refuse(stream), turn);
            }
            return;
        };
        let (router, stop) = (self.router.clone(), self.stop.clone());
        self.keep(connection(stream, Peer(peer), self.limits, router, stop), (place, seat));
    }

    /// Lets it go on by itself, with what it holds while it does.
    fn keep(
        &self,
        connection: impl Future<Output = ()> + Send + 'static,
        held: impl Send + 'static,
    ) {
        let kill = self.kill.clone();
        self.connections.spawn(async move {
            let _held = held;
            tokio::select! {
                () = kill.cancelled() => {}
                () = connection => {}
            }
        });
    }
}

/// Answers one request of a connection too many, and closes it.
async fn refuse(stream: TcpStream) {
    let answer = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(too_many_connections().into_response())
    });
    let refusing =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
    if !matches!(tokio::time::timeout(REFUSAL_TIME, refusing).await, Ok(Ok(()))) {
        tracing::debug!("a connection too many was closed without a word");
    }
}

/// A place for one more connection; none when the stop comes first.
async fn place(places: &Arc<Semaphore>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    tracing::warn!(
        "there are as many connections as are allowed; further ones wait for one to end"
    );
    tokio::select! {
        () = stop.cancelled() => None,
        place = Arc::clone(places).acquire_owned() => place.ok(),
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    limits: ListenLimits,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "TCP_NODELAY could not be set");
    }
    let told = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.write_timeout));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(told));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke");
    }
}
