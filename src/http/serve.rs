//! The listener: connections with limits on slow clients, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::limits::Peer;

/// What one client may take from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenLimits {
    /// How long a client may take to send a request's head, and how long a connection may stay open without a request.
    pub head_timeout: Duration,
    /// The most connections at a time. Further ones wait in the operating system's line until one ends.
    pub connections_max: usize,
}

impl ListenLimits {
    /// [`ListenLimits::connections_max`] where nothing else is said.
    pub const CONNECTIONS_MAX: u32 = 4_096;
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(15),
            connections_max: Self::CONNECTIONS_MAX as usize,
        }
    }
}

/// How long requests in flight may go on after the stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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
    let router = router.layer(Extension(Stopping(stop.clone())));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _cut_off_when_dropped = kill.clone().drop_guard();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let Some(place) = place(&places, &stop).await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                let connection =
                    connection(stream, Peer(peer.ip()), limits.head_timeout, router, stop);
                let kill = kill.clone();
                connections.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = kill.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
            // A client that was gone before it was accepted, or no descriptor left: others go on.
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
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
    head_timeout: Duration,
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
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(told));
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
