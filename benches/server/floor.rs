//! The floors: what the parts cost without us.

use std::process::Command;

use axum::Router;
use axum::routing::put;
use tokio::runtime::Runtime;

use super::Outcome;
use super::cluster::Cluster;

/// The first argument that makes this program the bare server.
pub const BARE_AXUM: &str = "bare-axum";

/// An answer as long as an assignment's.
const CONSTANT: &str = r#"{"version":1,"arm":null,"cycle":null,"content_hash":"0000000000000000000000000000000000000000000000000000000000000000","pair":null}"#;

/// A server whose one handler answers a constant, and nothing else. It says its address and serves until
/// it is ended.
pub fn serve_bare_axum() -> Outcome<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let app = Router::new().route(
            "/v1/workflows/{workflow}/tasks/{task}/assignments/{model}",
            put(|| async { ([("content-type", "application/json")], CONSTANT) }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("serves on http://{}", listener.local_addr()?);
        let stop = tokio_util::sync::CancellationToken::new();
        // The same listener as ours, which is hyper with limits.
        mathesis::http::serve(listener, app, stop).await?;
        Ok(())
    })
}

/// `pgbench -N`: one row updated, read and inserted a transaction, on a cluster like ours.
pub struct PgBench<'c> {
    program: std::path::PathBuf,
    url: String,
    _cluster: &'c Cluster,
}

impl<'c> PgBench<'c> {
    /// Fills its tables; none when the machine has no pgbench, which is said aloud.
    pub fn ready(cluster: &'c Cluster, runtime: &Runtime) -> Outcome<Option<Self>> {
        let Some(program) = cluster.program("pgbench") else {
            eprintln!(
                "  pgbench is not beside the PostgreSQL that was found, so its floor is left out"
            );
            return Ok(None);
        };
        let url = runtime.block_on(cluster.empty_database("floor"))?;
        let filled = Command::new(&program).args(["-i", "-s", "10", "-q", &url]).output()?;
        if !filled.status.success() {
            return Err(String::from_utf8_lossy(&filled.stderr).into_owned().into());
        }
        Ok(Some(Self { program, url, _cluster: cluster }))
    }

    /// Transactions a second of that many clients over some seconds.
    pub fn transactions(&self, clients: u32, span: std::time::Duration) -> Outcome<f64> {
        let (clients, seconds) = (clients.to_string(), span.as_secs().max(1).to_string());
        let threads = if clients == "1" { "1" } else { "2" };
        let ran = Command::new(&self.program)
            .args(["-N", "-n", "-c", &clients, "-j", threads, "-T", &seconds, &self.url])
            .output()?;
        let said = String::from_utf8_lossy(&ran.stdout);
        let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let number = line.and_then(|line| line.split_whitespace().next());
        match number.map(str::parse) {
            Some(Ok(number)) => Ok(number),
            _ => {
                Err(format!("pgbench said {said} {}", String::from_utf8_lossy(&ran.stderr)).into())
            }
        }
    }
}
