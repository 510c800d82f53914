//! `mathesis serve`.

use std::net::IpAddr;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::output;
use crate::server::{Orchestrate, Server, ServerOptions};
use crate::settings::Settings;

/// The exit code of a process that a second signal ended.
const ENDED_BY_SIGNAL: i32 = 130;

/// Run the server: log tasks, run the learning cycle, answer over HTTP.
///
/// Without a database address it starts a private PostgreSQL. SIGTERM and Ctrl-C end it in order:
/// what was acknowledged is stored, and what it cannot finish in time the next process does. A second
/// signal ends it at once, which loses nothing either.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The port to listen on; 0 takes a free one [env: PORT] [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The address to listen on; anything but loopback needs a key [env: MATHESIS_HOST] [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
}

impl Serve {
    /// What the flags say about the address.
    pub(super) const fn address(&self) -> (Option<u16>, Option<IpAddr>) {
        (self.port, self.bind)
    }
}

/// Runs the command, with a pipeline in the same process where one is wanted.
pub async fn run(settings: Settings, orchestrate: Option<Orchestrate>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let server = tokio::select! {
        started = Server::start(ServerOptions { orchestrate, ..ServerOptions::new(settings) }) => started?,
        // Ended before it began: the private PostgreSQL, if it runs, stops with this process.
        () = signals.next() => return Ok(()),
    };
    greet(&server)?;
    server
        .run_until(async move {
            signals.next().await;
            tracing::info!("stopping: no more calls are taken; a second signal ends at once");
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(ENDED_BY_SIGNAL);
            });
        })
        .await
        .map_err(Failure::failed)?;
    tracing::info!("stopped; everything acknowledged is stored");
    Ok(())
}

fn greet(server: &Server) -> Result<(), Failure> {
    let address = server.address();
    let names: Vec<String> =
        server.engine().registry.all().iter().map(|workflow| workflow.name().to_owned()).collect();
    tracing::info!(
        http.address = %address,
        http.open = server.is_open(),
        database = server.database().described(),
        workflows = names.join(", "),
        "serving"
    );
    let access = if server.is_open() {
        "open to this machine only, since no key exists"
    } else {
        "keys are asked for"
    };
    output::say(&format!(
        "Mathesis serves {} on http://{address} ({access}).\nDatabase: {}.\nDashboard: http://{address}/analytics",
        names.join(", "),
        server.database().described(),
    ))?;
    match server.pipeline() {
        None => Ok(()),
        Some(pipeline) => output::say(&format!(
            "Pipeline: {} takes ClickUp's webhooks at {}.",
            pipeline.workflow.name(),
            crate::orchestrator::webhook::PATH
        )),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::failed(format!(
                    "this process cannot listen for signals: {error}. Nothing was started"
                ))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
