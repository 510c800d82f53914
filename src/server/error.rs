//! Why a server did not start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::claude::ClientError;
use crate::postgres::PostgresError;
use crate::runtime::RegistryError;
use crate::settings::SettingsError;
use crate::store::StoreError;
use crate::store::keys::KeyError;
use crate::workflow::DefinitionErrors;

/// Why a server did not start, or a command did not reach the database. Nothing that was stored is lost.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings that the pipeline needs are missing.
    #[error(
        "the pipeline needs {}, which {} not set. Nothing was started. Set {} in the environment or in .env; docs/orchestrator.md says where each comes from, and `mathesis orchestrate register` makes the webhook and prints its secret",
        .0.join(", "),
        if .0.len() == 1 { "is" } else { "are" },
        if .0.len() == 1 { "it" } else { "them" }
    )]
    PipelineSettings(Vec<&'static str>),
    /// There is no pipeline to run, or several to choose from.
    #[error("{0}. Nothing was started")]
    NoPipeline(String),
    /// A client of a service cannot be set up.
    #[error("{0} Nothing was started")]
    PipelineService(#[from] crate::orchestrator::service::ServiceError),
    /// The private PostgreSQL did not start.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The given database does not answer.
    #[error(
        "the database at {address} could not be reached for {waited_seconds} s: {cause}. Nothing was changed. See that it runs, and that DATABASE_URL names it"
    )]
    Unreachable {
        /// Its address, without the password.
        address: String,
        /// How long it was tried.
        waited_seconds: u64,
        /// What it said last.
        cause: String,
    },
    /// The given database answers and lets nobody in.
    #[error(
        "the database at {address} refuses the connection: {cause}. Nothing was changed. See that DATABASE_URL has the right user, password and database"
    )]
    Refused {
        /// Its address, without the password.
        address: String,
        /// What it said.
        cause: String,
    },
    /// The database answers and will not do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema is newer than this program.
    #[error(
        "the database was migrated by a newer Mathesis (to migration {version}), which this one does not know. Nothing was changed. Use that version, or restore a backup from before it"
    )]
    SchemaAhead {
        /// The newest unknown migration.
        version: i64,
    },
    /// The schema is older than this program.
    #[error(
        "the database's schema is behind this program by {pending} migration(s). Nothing was changed. Run `mathesis migrate`, or start `mathesis serve`, which does it"
    )]
    SchemaBehind {
        /// How many migrations have not run.
        pending: usize,
    },
    /// There is no private database yet.
    #[error("there is no database yet: {} holds none, and DATABASE_URL is not set. Start `mathesis serve` (or `mathesis demo`) in this folder, or set MATHESIS_HOME or DATABASE_URL to where the data is", .0.display())]
    NoDatabase(PathBuf),
    /// The folder of the workflows is not there, or is empty.
    #[error("{} holds no workflow, so there is nothing to serve. Make one from your models' documents with `mathesis workflow new --from config/deep_research`, or set MATHESIS_WORKFLOWS to the folder that has them", .0.display())]
    NoWorkflows(PathBuf),
    /// A workflow has errors.
    #[error("{0}\nNothing was started. `mathesis workflow check` looks at them again")]
    Workflows(#[from] DefinitionErrors),
    /// A workflow could not be registered.
    #[error("workflow {workflow} could not be registered: {cause}. {}", cause.fate())]
    Registry {
        /// The workflow.
        workflow: String,
        /// Why.
        cause: Box<RegistryError>,
    },
    /// The Claude client cannot be made.
    #[error(transparent)]
    Claude(#[from] ClientError),
    /// The bootstrap key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Without a key, other machines would have everything open to them.
    #[error(
        "no key exists, so Mathesis listens on loopback only, and {0} is not loopback: whoever reaches it could do everything. Nothing was started. Set MATHESIS_BOOTSTRAP_KEY (`openssl rand -hex 32` makes one), or make a key with `mathesis key create NAME --role operate`"
    )]
    NeedsKey(IpAddr),
    /// The port is taken.
    #[error("port {} on {} is in use by another program. Nothing was started. Stop that one, or choose another port with --port or PORT (0 takes a free one)", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// The address cannot be listened on.
    #[error(
        "Mathesis cannot listen on {address}: {cause}. Nothing was started. Choose another address with --bind, or another port with --port"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A thread of this process ended without a word.
    #[error("a part of the start ended unexpectedly: {0}. Everything stored is safe; start again")]
    Interrupted(String),
}

impl StartError {
    /// True when the database could not be reached, as against reached and refused.
    #[must_use]
    pub fn is_about_reaching_the_database(&self) -> bool {
        match self {
            Self::Postgres(_) | Self::Unreachable { .. } | Self::Refused { .. } => true,
            Self::Store(error) => error.is_transient(),
            Self::Registry { cause, .. } => {
                matches!(&**cause, RegistryError::Store(error) if error.is_transient())
            }
            Self::Key(KeyError::Store(error)) => error.is_transient(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registering_failed_by(cause: impl Into<RegistryError>) -> String {
        let cause = Box::new(cause.into());
        StartError::Registry { workflow: "image-editing".to_owned(), cause }.to_string()
    }

    #[test]
    fn nobody_claims_to_know_what_a_broken_connection_has_committed() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let said = registering_failed_by(StoreError::Database(sqlx::Error::Io(broken)));
        assert!(said.ends_with("stored wholly or not at all; starting again is safe"), "{said}");
    }

    #[test]
    fn what_was_refused_was_not_stored() {
        let (model, folder) = ("wan-2.5-edit".to_owned(), "config/deep_research".to_owned());
        let said = registering_failed_by(RegistryError::NoDocuments { model, folder });
        assert!(said.ends_with(". Nothing of it was stored"), "{said}");
    }
}
