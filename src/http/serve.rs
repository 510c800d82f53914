//! The listener: connections with limits on slow clients, and an orderly end.

use std::io;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests in flight may go on after the stop.
const GRACE: Duration = Duration::from_secs(4);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Told to requests that never end by themselves, such as streams.
#[derive(Debug, Clone)]
pub struct Stopping(pub CancellationToken);

/// Serves until `stop` is cancelled. Then no further connection is taken, idle ones are closed, and
/// requests in flight get four seconds to finish. What a request had committed by then stays. Dropping
/// the future instead cuts every connection off.
///
/// # Errors
/// An [`io::Error`] when the listener itself is broken; a broken connection ends alone.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let router = router.layer(Extension(Stopping(stop.clone())));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _cut_off_when_dropped = kill.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), stop.clone());
                let kill = kill.clone();
                connections.spawn(async move {
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

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "TCP_NODELAY could not be set");
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
