//! Signs of life: `/healthz` for whoever restarts the process, `/readyz` for whoever sends it work.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::error::Problem;

const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process runs. It says nothing of the database, since a restart would not help.
pub async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers and has this program's schema. The runtime has started before
/// the first request can arrive.
///
/// # Errors
/// `database_unavailable` or `schema_outdated`.
pub async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    let asked = tokio::time::timeout(READY_TIMEOUT, app.engine.store.schema_is_current()).await;
    match asked {
        Ok(Ok(true)) => Ok("ready\n"),
        Ok(Ok(false)) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "schema_outdated",
            "the database lacks a migration of this program; run `mathesis migrate`",
        )),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Problem::database_unavailable()),
    }
}
