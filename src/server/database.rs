//! The database of a process: the one that was given, or a private PostgreSQL.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::StartError;
use crate::postgres::{
    self, Access, Binaries, PostgresError, Purpose, SearchInputs, ServerOptions,
};
use crate::settings::{Secret, Settings, shown_url};
use crate::store::schema::{self, SchemaStanding};
use crate::store::{Store, StoreError};

/// How long a given database may take to come up.
pub const REACH_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const REACH_POLL: Duration = Duration::from_millis(500);
/// Connections that the private server keeps for commands beside the serving process.
const CONNECTIONS_BESIDE: u32 = 50;

/// The database of a process.
#[derive(Debug)]
pub struct Database {
    url: Secret,
    home: PathBuf,
    private: Option<Access>,
}

impl Database {
    /// The given database, or a private server that this process will own.
    ///
    /// # Errors
    /// [`StartError::Postgres`] when the private server does not start or another process owns it.
    pub async fn own(settings: &Settings, purpose: Purpose) -> Result<Self, StartError> {
        if let Some(url) = &settings.database_url {
            return Ok(Self::given(settings, url));
        }
        let settings = settings.clone();
        let started = blocking(move || {
            let options = server_options(&settings, purpose)?;
            postgres::PrivateServer::start(options).map(|server| (settings, server))
        });
        let (settings, server) = started.await?;
        Ok(Self::private(&settings, Access::Owned(server)))
    }

    /// The given database, or the running private server, or, while no other process runs it, a
    /// private server of this process.
    ///
    /// # Errors
    /// [`StartError::NoDatabase`] when there is no data yet and `may_create` is false, and
    /// [`StartError::Postgres`] when the private server does not start.
    pub async fn attach(settings: &Settings, may_create: bool) -> Result<Self, StartError> {
        if let Some(url) = &settings.database_url {
            return Ok(Self::given(settings, url));
        }
        if !may_create && !settings.home.join("postgres").join("data").exists() {
            return Err(StartError::NoDatabase(settings.home.clone()));
        }
        let settings = settings.clone();
        let access = blocking(move || {
            if let Some(url) = postgres::attach(&settings.home)? {
                return Ok((settings, Access::Attached { url }));
            }
            let options = server_options(&settings, Purpose::Durable)?;
            postgres::start_or_attach(options).map(|access| (settings, access))
        });
        let (settings, access) = access.await?;
        Ok(Self::private(&settings, access))
    }

    fn given(settings: &Settings, url: &Secret) -> Self {
        Self { url: url.clone(), home: settings.home.clone(), private: None }
    }

    fn private(settings: &Settings, access: Access) -> Self {
        let url = Secret::new(access.url());
        Self { url, home: settings.home.clone(), private: Some(access) }
    }

    /// The address for sqlx and psql.
    #[must_use]
    pub const fn url(&self) -> &Secret {
        &self.url
    }

    /// What it is, in words for a person, without any password.
    #[must_use]
    pub fn described(&self) -> String {
        match &self.private {
            None => shown_url(self.url.expose()),
            Some(_) => format!("a private PostgreSQL in {}", self.home.display()),
        }
    }

    /// True when this process started the server and it ends with it.
    #[must_use]
    pub const fn is_owned(&self) -> bool {
        matches!(self.private, Some(Access::Owned(_)))
    }

    /// False once a private server of this process has ended by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match &self.private {
            Some(Access::Owned(server)) => server.is_running(),
            _ => true,
        }
    }

    /// Where a private server writes its log.
    pub(super) fn log(&self) -> String {
        self.home.join("postgres").join("server.log").display().to_string()
    }

    /// Connects, waiting for a given database that is not up yet.
    ///
    /// # Errors
    /// [`StartError::Unreachable`] when the time is out, [`StartError::Store`] when the database
    /// answers and will not do.
    pub async fn connect(
        &self,
        settings: &Settings,
        patience: Duration,
    ) -> Result<Store, StartError> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let cause = match self.try_connect(settings).await {
                Ok(store) => return Ok(store),
                Err(Attempt::NotUp(cause)) => cause,
                Err(Attempt::Refused(cause)) => {
                    return Err(StartError::Refused { address: self.described(), cause });
                }
                Err(Attempt::Unfit(error)) => return Err(error.into()),
            };
            if began.elapsed() >= patience {
                return Err(StartError::Unreachable {
                    address: self.described(),
                    waited_seconds: began.elapsed().as_secs(),
                    cause,
                });
            }
            if !told {
                told = true;
                tracing::warn!(
                    database.address = self.described(),
                    error = cause,
                    "the database cannot be reached yet; trying for up to {} s",
                    patience.as_secs()
                );
            }
            sleep(REACH_POLL).await;
        }
    }

    async fn try_connect(&self, settings: &Settings) -> Result<Store, Attempt> {
        let url = self.url.expose();
        match tokio::time::timeout(ATTEMPT_TIMEOUT, Store::reach(url)).await {
            Ok(reached) => reached?,
            Err(_) => return Err(Attempt::NotUp("it does not answer".to_owned())),
        }
        let read_url = settings.database_read_url.as_ref().map(Secret::expose);
        Ok(Store::connect(url, read_url, settings.connections_max).await?)
    }

    /// Stops a private server of this process; anything else goes on running.
    pub async fn stop(self) {
        if let Some(Access::Owned(server)) = self.private
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || server.stop()).await
        {
            tracing::error!(error = %error, "the private PostgreSQL did not stop cleanly");
        }
    }
}

/// Migrates the schema, unless a newer program has done more than this one knows.
///
/// # Errors
/// [`StartError::SchemaAhead`], or [`StartError::Store`] when a migration fails.
pub async fn migrate(store: &Store) -> Result<(), StartError> {
    match schema::standing(store.pool()).await? {
        SchemaStanding::Current => Ok(()),
        SchemaStanding::Behind { .. } => Ok(store.migrate().await?),
        SchemaStanding::Ahead { version } => Err(StartError::SchemaAhead { version }),
    }
}

/// Refuses a schema that is not this program's.
///
/// # Errors
/// [`StartError::SchemaAhead`], [`StartError::SchemaBehind`], [`StartError::Store`].
pub async fn check_schema(store: &Store) -> Result<(), StartError> {
    match schema::standing(store.pool()).await? {
        SchemaStanding::Current => Ok(()),
        SchemaStanding::Behind { pending } => Err(StartError::SchemaBehind { pending }),
        SchemaStanding::Ahead { version } => Err(StartError::SchemaAhead { version }),
    }
}

/// Why one attempt to connect failed.
enum Attempt {
    /// Nothing answers there yet; it may come up.
    NotUp(String),
    /// It answered and let nobody in, which no waiting mends: a wrong password, no such database.
    Refused(String),
    /// It let us in and will not do.
    Unfit(StoreError),
}

impl From<StoreError> for Attempt {
    fn from(error: StoreError) -> Self {
        match error {
            error @ (StoreError::NotUtf8(_)
            | StoreError::PooledByTransaction
            | StoreError::Corrupt { .. }
            | StoreError::Newer { .. }) => Self::Unfit(error),
            StoreError::Database(sqlx::Error::Database(said)) => {
                let code = said.code().unwrap_or_default();
                // 57P03 is a server that is starting or stopping, 53300 one with too many connections.
                match code.get(..2) {
                    // 08P01 is a pooler that knows none of the settings a session begins with.
                    Some("28" | "3D") => Self::Refused(said.message().to_owned()),
                    _ if code == "08P01" => Self::Refused(said.message().to_owned()),
                    _ => Self::NotUp(said.message().to_owned()),
                }
            }
            StoreError::Database(error @ (sqlx::Error::Configuration(_) | sqlx::Error::Tls(_))) => {
                Self::Refused(error.to_string())
            }
            StoreError::Database(error) => Self::NotUp(error.to_string()),
            other => Self::NotUp(other.to_string()),
        }
    }
}

fn server_options(settings: &Settings, purpose: Purpose) -> Result<ServerOptions, PostgresError> {
    let mut options = ServerOptions::new(&settings.home);
    options.purpose = purpose;
    options.max_connections = settings.connections_max + CONNECTIONS_BESIDE;
    if let Some(folder) = &settings.pg_bindir {
        let mut inputs = SearchInputs::from_environment(&settings.home)?;
        inputs.bindir = Some(folder.clone());
        options.binaries = Some(Binaries::find_in(&inputs, &settings.home)?);
    }
    Ok(options)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, StartError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => Err(StartError::Interrupted(panic.to_string())),
    }
}
