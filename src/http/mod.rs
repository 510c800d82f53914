//! A stand-in for the HTTP interface, which is being written elsewhere.

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Engine, VersionAssigner};
use crate::task_log::TaskLogger;

/// How the interface is set up.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// True when no key exists and everybody on this machine may do everything.
    pub open: bool,
}

/// What the handlers share.
#[derive(Clone)]
pub struct App {}

impl App {
    /// The shared part.
    #[must_use]
    pub fn new(_: Engine, _: VersionAssigner, _: TaskLogger, _: HttpSettings) -> Self {
        Self {}
    }
}

/// The routes.
pub fn router(_: App) -> Router {
    Router::new().route("/healthz", get(|| async { "ok" }))
}

/// Serves until the token is cancelled.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
