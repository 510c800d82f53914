//! What the demo stands on: a home, a PostgreSQL, the three stand-ins and the real server with the pipeline in it,
//! brought up and taken down.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::DemoError;
use super::api::Api;
use super::child::{Launch, ServerProcess, last_lines};
use super::documents;
use super::ledger::Ledger;
use crate::postgres::{self, PrivateServer, Purpose, ServerOptions};
use crate::stand_in::claude::{ClaudeStandIn, StandInSettings};
use crate::stand_in::clickup::{ClickUpStandIn, ClickUpStandInSettings};
use crate::stand_in::script::Script;
use crate::stand_in::wavespeed::{WaveSpeedStandIn, WaveSpeedStandInSettings};
use crate::stand_in::world::{WorldClaude, WorldPainter};

/// The port that the demo likes best.
const PORT: u16 = 8420;
/// The only key that Claude's stand-in takes. It opens nothing else.
const KEY: &str = "sk-ant-demo-key-of-the-stand-in";
/// Set to anything, it keeps the demo's home.
const KEEP_VARIABLE: &str = "MATHESIS_DEMO_KEEP";
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(50);

/// Everything that runs. Dropping it ends it all, in order, as the fields go from the first to the last; it blocks.
pub(super) struct Stage {
    server: Option<ServerProcess>,
    launch: Launch,
    services: Services,
    postgres: Option<PrivateServer>,
    api: Api,
    home: Option<TempDir>,
}

impl Stage {
    /// Brings everything up; the server answers when this returns.
    ///
    /// # Errors
    /// [`DemoError`]; whatever had been started is stopped again.
    pub(super) async fn set_up(port: Option<u16>, seed: u64) -> Result<Self, DemoError> {
        let home = postgres::temporary_home().map_err(DemoError::Home)?;
        documents::write(home.path()).map_err(DemoError::Home)?;
        println!("Home            {} (removed at the end)", home.path().display());
        let postgres = start_postgres(home.path().to_owned()).await?;
        println!("PostgreSQL      a private one, process {}", postgres.pid());
        let port = free_port(port.unwrap_or(PORT)).map_err(DemoError::Server)?;
        let services = Services::start(seed, port).await.map_err(DemoError::StandIn)?;
        println!("Claude          a stand-in on {}", services.claude.base_url());
        println!("WaveSpeed       a stand-in on {}", services.wavespeed.base_url());
        println!("ClickUp         a stand-in on {}", services.clickup.base_url());
        let mut environment = services.environment();
        environment.extend([
            ("DATABASE_URL", postgres.url().into()),
            ("MATHESIS_WORKFLOWS", home.path().join("workflows").into()),
            ("MATHESIS_HOME", home.path().join("unused").into()),
            ("MATHESIS_SHUTDOWN_GRACE_SECONDS", "3".into()),
            ("NO_COLOR", "1".into()),
        ]);
        let launch = Launch {
            program: std::env::current_exe().map_err(DemoError::Server)?,
            home: home.path().to_owned(),
            port,
            environment,
        };
        let mut stage = Self {
            server: None,
            launch,
            services,
            postgres: Some(postgres),
            api: Api::new(port)?,
            home: Some(home),
        };
        stage.start_server().await?;
        println!("Server          {} process {}", stage.api.base(), stage.pid());
        Ok(stage)
    }

    /// The server's interface.
    pub(super) const fn api(&self) -> &Api {
        &self.api
    }

    /// The home.
    pub(super) fn home(&self) -> &Path {
        &self.launch.home
    }

    /// The server's process; 0 while none runs.
    pub(super) fn pid(&self) -> u32 {
        self.server.as_ref().map_or(0, ServerProcess::pid)
    }

    /// The stand-ins.
    pub(super) const fn services(&self) -> &Services {
        &self.services
    }

    /// The task log as it is now.
    ///
    /// # Errors
    /// [`DemoError::Export`].
    pub(super) async fn ledger(&self) -> Result<Ledger, DemoError> {
        let launch = self.launch.clone();
        let exported = spawn_blocking(move || launch.export()).await?;
        Ok(Ledger::read(&exported.map_err(DemoError::Export)?))
    }

    /// What the server says of itself at its end, if it has ended without being asked.
    pub(super) fn server_ended(&self) -> Option<String> {
        let ended = self.server.as_ref().is_some_and(ServerProcess::has_ended);
        ended.then(|| last_lines(&self.launch.log()))
    }

    /// SIGKILL for the server.
    ///
    /// # Errors
    /// [`DemoError::Server`].
    pub(super) async fn kill_server(&mut self) -> Result<(), DemoError> {
        match self.server.take() {
            Some(server) => spawn_blocking(move || server.kill()).await?.map_err(DemoError::Server),
            None => Ok(()),
        }
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// [`DemoError`] when it ends by itself, or is not ready within a minute.
    pub(super) async fn start_server(&mut self) -> Result<(), DemoError> {
        self.server = Some(ServerProcess::start(&self.launch).map_err(DemoError::Server)?);
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.api.is_ready().await {
            if self.server_ended().is_some() || Instant::now() > deadline {
                return Err(DemoError::NotReady(last_lines(&self.launch.log())));
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// Ends everything, in order, and removes the home unless it is to be kept.
    pub(super) async fn take_down(self) {
        let Self { server, services, postgres, api, home, .. } = self;
        // The server waits for open connections at its end; these are ours.
        drop(api);
        let stopped = spawn_blocking(move || drop(server)).await;
        services.claude.stop().await;
        services.wavespeed.stop().await;
        drop(services.clickup);
        let ended = spawn_blocking(move || {
            drop(postgres);
            if std::env::var_os(KEEP_VARIABLE).is_some()
                && let Some(home) = home
            {
                println!("The home is kept: {}", home.keep().display());
            }
        });
        if let Err(error) = stopped.and(ended.await) {
            eprintln!("The demo could not be taken down whole: {error}");
        }
    }
}

/// The stand-ins for the paid services.
pub(super) struct Services {
    /// Enhances, judges and learns.
    pub(super) claude: ClaudeStandIn,
    /// Paints.
    pub(super) wavespeed: WaveSpeedStandIn,
    /// Has the board.
    pub(super) clickup: Arc<ClickUpStandIn>,
}

impl Services {
    /// Starts the three; ClickUp tells the server on that port of everything that happens on the board.
    async fn start(seed: u64, port: u16) -> std::io::Result<Self> {
        let script = Script::new(seed);
        let claude = StandInSettings { api_key: KEY.to_owned(), port: 0 };
        // Its pictures are done at once: the pipeline looks a second apart, and a minute is all there is.
        let wavespeed = WaveSpeedStandInSettings::default();
        let clickup = ClickUpStandInSettings {
            webhook_endpoint: Some(format!("http://127.0.0.1:{port}/webhooks/clickup")),
            ..ClickUpStandInSettings::default()
        };
        let painter = WorldPainter::new(seed);
        Ok(Self {
            claude: ClaudeStandIn::start_scripted(claude, script.clone(), WorldClaude::default())
                .await?,
            wavespeed: WaveSpeedStandIn::start(wavespeed, script.clone(), painter).await?,
            clickup: Arc::new(ClickUpStandIn::start(clickup, script).await?),
        })
    }

    /// Where they are and what opens them, as the server's settings name it.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let wavespeed = WaveSpeedStandInSettings::default();
        let clickup = ClickUpStandInSettings::default();
        vec![
            ("ANTHROPIC_BASE_URL", self.claude.base_url().into()),
            ("ANTHROPIC_API_KEY", KEY.into()),
            ("WAVESPEED_BASE_URL", self.wavespeed.base_url().into()),
            ("WAVESPEED_API_KEY", wavespeed.key.into()),
            ("CLICKUP_BASE_URL", self.clickup.base_url().into()),
            ("CLICKUP_API_TOKEN", clickup.token.into()),
            ("CLICKUP_WEBHOOK_SECRET", clickup.webhook_secret.into()),
        ]
    }
}

async fn start_postgres(home: PathBuf) -> Result<PrivateServer, DemoError> {
    let options = ServerOptions {
        purpose: Purpose::ThrowawayDurable,
        max_connections: 40,
        ..ServerOptions::new(home)
    };
    Ok(spawn_blocking(move || PrivateServer::start(options)).await??)
}

/// The port, or another one if it is busy.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", wanted))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_replaced_by_a_free_one() {
        let busy = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
        let wanted = busy.local_addr().expect("it has an address").port();
        let found = free_port(wanted).expect("some port is free");
        assert!(found != wanted && found != 0);
    }
}
