//! Settings: flags win over the environment, the environment over `.env`, `.env` over the defaults.
//!
//! Everything is read and checked once, at the start, and an error names the setting, its value and
//! what would be right. [`ALL`] is the list of settings that `docs/operations.md` shows.

mod list;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use list::{ALL, Setting};

use crate::claude::ApiKey;
use crate::http::{CallLimits, Counted, ListenLimits};
use crate::postgres;

/// The port where nothing else is said.
pub const DEFAULT_PORT: u16 = 8080;

/// Text that must not be printed: a key, or an address with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A database's address without its user, password and options, to be shown to people.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

/// Which address the server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Loopback: nothing was said.
    Loopback,
    /// Every address if there is a key, else loopback: a platform gave the port.
    Platform,
    /// This one.
    Given(IpAddr),
}

impl Host {
    /// The address to bind to.
    #[must_use]
    pub fn address(self, has_key: bool) -> IpAddr {
        match self {
            Self::Given(address) => address,
            Self::Platform if has_key => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::Platform | Self::Loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the command line says; each wins over the environment.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--database-url`
    pub database_url: Option<String>,
    /// `--home`
    pub home: Option<PathBuf>,
    /// `--workflows`
    pub workflows: Option<PathBuf>,
    /// `--port`
    pub port: Option<u16>,
    /// `--bind`
    pub bind: Option<IpAddr>,
}

/// Every setting, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database that was given; none means a private one.
    pub database_url: Option<Secret>,
    /// A replica for dashboards.
    pub database_read_url: Option<Secret>,
    /// The private server's home.
    pub home: PathBuf,
    /// Where the private server's programs are, where that was said.
    pub pg_bindir: Option<PathBuf>,
    /// The folder of the workflows.
    pub workflows: PathBuf,
    /// The port to listen on; 0 is any.
    pub port: u16,
    /// The address to listen on.
    pub host: Host,
    /// The first key.
    pub bootstrap_key: Option<Secret>,
    /// The key for Claude.
    pub anthropic_api_key: Option<ApiKey>,
    /// Where Claude is.
    pub anthropic_base_url: String,
    /// ClickUp's token.
    pub clickup_api_token: Option<Secret>,
    /// Where ClickUp is.
    pub clickup_base_url: String,
    /// What ClickUp signs its deliveries with.
    pub clickup_webhook_secret: Option<Secret>,
    /// WaveSpeed's key.
    pub wavespeed_api_key: Option<Secret>,
    /// Where WaveSpeed is.
    pub wavespeed_base_url: String,
    /// Whether pictures may be read from private addresses, and sent there.
    pub pictures_allow_private: bool,
    /// Which log lines are written; none leaves it to the command.
    pub log: Option<String>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The collector of traces; none means that there are none.
    pub otlp_endpoint: Option<String>,
    /// How long a shutdown waits for running effects.
    pub shutdown_grace: Duration,
    /// The most connections to the database.
    pub connections_max: u32,
    /// How often may be called.
    pub calls: CallLimits,
    /// What one client may take from the others.
    pub listen: ListenLimits,
    /// Where the service is, for commands that ask one elsewhere.
    pub url: String,
    /// The key for that service.
    pub key: Option<Secret>,
    /// The workflow of that service.
    pub workflow: String,
    /// Where a pipeline on this machine keeps events for the service.
    pub spool: Option<PathBuf>,
}

/// A setting whose value cannot be used. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value that is not one.
    #[error("{name} is {value:?}, and must be {expected}. Nothing was started.")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A secret that is not one; its value is not shown.
    #[error("{name} cannot be used: {problem}. Nothing was started.")]
    InvalidSecret {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The `.env` file cannot be read.
    #[error("the file .env cannot be read: {0}. Mend it, or take it away. Nothing was started.")]
    DotEnv(String),
}

/// The settings of `.env` in this folder or one above it; empty where there is none.
///
/// # Errors
/// [`SettingsError::DotEnv`] when the file is there and cannot be read.
pub fn read_dotenv() -> Result<HashMap<String, String>, SettingsError> {
    match dotenvy::dotenv_iter() {
        Ok(pairs) => pairs
            .collect::<Result<_, _>>()
            .map_err(|error| SettingsError::DotEnv(dotenv_problem(&error))),
        Err(error) if error.not_found() => Ok(HashMap::new()),
        Err(error) => Err(SettingsError::DotEnv(dotenv_problem(&error))),
    }
}

/// The secret that a workflow names by its environment variable: from the environment, or from `.env`.
#[must_use]
pub fn secret_of_environment(name: &str) -> Option<Secret> {
    let dotenv = read_dotenv().unwrap_or_default();
    Sources { environment: |name: &str| std::env::var(name).ok(), dotenv: &dotenv }.secret(name)
}

/// The line of a `.env` may hold a secret, so that it is not shown.
fn dotenv_problem(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(line, position) => {
            let name = line.split('=').next().unwrap_or_default().trim();
            format!("the line of {name:?} is not NAME=value (at character {position})")
        }
        other => other.to_string(),
    }
}

impl Settings {
    /// Reads every setting: `flags` first, then `environment`, then `dotenv`, then the defaults. An
    /// empty value counts as not set.
    ///
    /// # Errors
    /// [`SettingsError`] for the first value that cannot be used.
    pub fn read(
        flags: Flags,
        environment: impl Fn(&str) -> Option<String>,
        dotenv: &HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let sources = Sources { environment, dotenv };
        let platform_port = sources.of_environment("PORT").is_some();
        let port = sources.parse("PORT", "a port number, 0 to 65535")?;
        let named_host = flags
            .bind
            .or(sources.parse("MATHESIS_HOST", "an IP address such as 127.0.0.1, 0.0.0.0 or ::")?);
        let host = match named_host {
            Some(address) => Host::Given(address),
            None if flags.port.is_none() && platform_port => Host::Platform,
            None => Host::Loopback,
        };
        let database_url = match flags.database_url {
            Some(url) => Some(database_url("--database-url", url)?),
            None => sources.database_url("DATABASE_URL")?,
        };
        Ok(Self {
            database_url,
            database_read_url: sources.database_url("DATABASE_READ_URL")?,
            home: flags
                .home
                .or_else(|| sources.path("MATHESIS_HOME"))
                .unwrap_or_else(postgres::default_home),
            pg_bindir: sources.path("MATHESIS_PG_BINDIR"),
            workflows: flags
                .workflows
                .or_else(|| sources.path("MATHESIS_WORKFLOWS"))
                .unwrap_or_else(|| PathBuf::from("workflows")),
            port: flags.port.or(port).unwrap_or(DEFAULT_PORT),
            host,
            bootstrap_key: sources.bootstrap_key()?,
            anthropic_api_key: sources.claude_key()?,
            anthropic_base_url: sources
                .get("ANTHROPIC_BASE_URL")
                .unwrap_or_else(|| "https://api.anthropic.com".to_owned()),
            clickup_api_token: sources.secret("CLICKUP_API_TOKEN"),
            clickup_base_url: sources
                .get("CLICKUP_BASE_URL")
                .unwrap_or_else(|| "https://api.clickup.com".to_owned()),
            clickup_webhook_secret: sources.secret("CLICKUP_WEBHOOK_SECRET"),
            wavespeed_api_key: sources.secret("WAVESPEED_API_KEY"),
            wavespeed_base_url: sources
                .get("WAVESPEED_BASE_URL")
                .unwrap_or_else(|| "https://api.wavespeed.ai".to_owned()),
            pictures_allow_private: sources.switch("MATHESIS_PICTURES_ALLOW_PRIVATE")?,
            log: sources.get("MATHESIS_LOG"),
            log_format: sources.log_format()?,
            otlp_endpoint: sources.get("OTEL_EXPORTER_OTLP_ENDPOINT"),
            shutdown_grace: Duration::from_secs(sources.within(
                "MATHESIS_SHUTDOWN_GRACE_SECONDS",
                0,
                3600,
                20,
            )?),
            connections_max: u32::try_from(sources.within(
                "MATHESIS_CONNECTIONS_MAX",
                4,
                200,
                16,
            )?)
            .unwrap_or(16),
            calls: sources.calls()?,
            listen: sources.listen()?,
            url: sources
                .get("MATHESIS_URL")
                .unwrap_or_else(|| format!("http://127.0.0.1:{DEFAULT_PORT}")),
            key: sources.get("MATHESIS_KEY").map(Secret::new),
            workflow: sources
                .get("MATHESIS_WORKFLOW")
                .unwrap_or_else(|| "image-editing".to_owned()),
            spool: sources.path("MATHESIS_SPOOL"),
        })
    }
}

struct Sources<'s, E> {
    environment: E,
    dotenv: &'s HashMap<String, String>,
}

impl<E: Fn(&str) -> Option<String>> Sources<'_, E> {
    fn of_environment(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.trim().is_empty())
    }

    fn get(&self, name: &str) -> Option<String> {
        let written = || self.dotenv.get(name).filter(|value| !value.trim().is_empty());
        self.of_environment(name).or_else(|| written().cloned())
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(|value| Secret::new(value.trim()))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn parse<T: FromStr>(
        &self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let parsed = value.trim().parse().map_err(|_| SettingsError::Invalid {
            name,
            expected: expected.to_owned(),
            value: value.clone(),
        })?;
        Ok(Some(parsed))
    }

    fn within(
        &self,
        name: &'static str,
        least: u64,
        most: u64,
        default: u64,
    ) -> Result<u64, SettingsError> {
        let expected = format!("a whole number from {least} to {most}");
        let number = self.parse(name, &expected)?.unwrap_or(default);
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        Err(SettingsError::Invalid { name, value: number.to_string(), expected })
    }

    fn database_url(&self, name: &'static str) -> Result<Option<Secret>, SettingsError> {
        self.get(name).map(|url| database_url(name, url)).transpose()
    }

    fn claude_key(&self) -> Result<Option<ApiKey>, SettingsError> {
        let name = "ANTHROPIC_API_KEY";
        let invalid = |error: crate::claude::InvalidApiKey| SettingsError::InvalidSecret {
            name,
            problem: error.to_string(),
        };
        self.get(name).map(|key| ApiKey::new(key).map_err(invalid)).transpose()
    }

    fn bootstrap_key(&self) -> Result<Option<Secret>, SettingsError> {
        let name = "MATHESIS_BOOTSTRAP_KEY";
        let Some(key) = self.get(name) else {
            return Ok(None);
        };
        let key = key.trim();
        if key.len() < 16 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "it needs at least 16 letters, digits and signs, without spaces; `openssl rand -hex 32` makes one";
            return Err(SettingsError::InvalidSecret { name, problem: problem.to_owned() });
        }
        Ok(Some(Secret::new(key)))
    }

    /// A whole number from 1 to `most`.
    fn count(
        &self,
        name: &'static str,
        most: u32,
        default: u32,
    ) -> Result<NonZeroU32, SettingsError> {
        let number = self.within(name, 1, most.into(), default.into())?;
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        Ok(number.unwrap_or(NonZeroU32::MIN))
    }

    /// True or false; false where nothing is said.
    fn switch(&self, name: &'static str) -> Result<bool, SettingsError> {
        Ok(self.parse(name, "true or false")?.unwrap_or(false))
    }

    fn calls(&self) -> Result<CallLimits, SettingsError> {
        const MILLION: u32 = 1_000_000;
        let name = "MATHESIS_PIPELINE_CALLS_PER_SECOND";
        let pipeline_per_second = self.count(name, MILLION, CallLimits::PIPELINE_PER_SECOND)?;
        let name = "MATHESIS_CALLS_PER_SECOND";
        let others_per_second = self.count(name, MILLION, CallLimits::OTHERS_PER_SECOND)?;
        let name = "MATHESIS_FAILED_KEYS_PER_MINUTE";
        let failures_per_minute = self.count(name, MILLION, CallLimits::FAILURES_PER_MINUTE)?;
        let behind_proxy = self.switch("MATHESIS_BEHIND_PROXY")?;
        Ok(CallLimits { pipeline_per_second, others_per_second, failures_per_minute, behind_proxy })
    }

    fn listen(&self) -> Result<ListenLimits, SettingsError> {
        const MOST: u32 = 100_000;
        let default = ListenLimits::default();
        let size = |number: NonZeroU32, default| usize::try_from(number.get()).unwrap_or(default);
        let name = "MATHESIS_HTTP_CONNECTIONS_MAX";
        let connections = self.count(name, MOST, ListenLimits::CONNECTIONS_MAX)?;
        let name = "MATHESIS_HTTP_CONNECTIONS_PER_ADDRESS";
        let of_address = self.count(name, MOST, ListenLimits::ADDRESS_CONNECTIONS_MAX)?;
        let behind_proxy = self.switch("MATHESIS_BEHIND_PROXY")?;
        Ok(ListenLimits {
            connections_max: size(connections, default.connections_max),
            address_connections_max: size(of_address, default.address_connections_max),
            counted: if behind_proxy { Counted::Nobody } else { default.counted },
            ..default
        })
    }

    fn log_format(&self) -> Result<LogFormat, SettingsError> {
        let name = "MATHESIS_LOG_FORMAT";
        match self.get(name).as_deref().map(str::trim) {
            None | Some("text") => Ok(LogFormat::Text),
            Some("json") => Ok(LogFormat::Json),
            Some(value) => Err(SettingsError::Invalid {
                name,
                value: value.to_owned(),
                expected: "text or json".to_owned(),
            }),
        }
    }
}

fn database_url(name: &'static str, url: String) -> Result<Secret, SettingsError> {
    let url = url.trim();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Secret::new(url));
    }
    let problem = "it must begin with postgres:// or postgresql://, such as postgres://user:password@host:5432/database";
    Err(SettingsError::InvalidSecret { name, problem: problem.to_owned() })
}
