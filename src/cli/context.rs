//! What a command works with: the database, the workflows that it knows, and the right to operate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use uuid::Uuid;

use super::failure::Failure;
use super::{OfWorkflow, Who, output};
use crate::claude::{
    AttemptError, AttemptErrorKind, AttemptOutcome, ClaudeApi, MessageRequest, TimerPause,
};
use crate::clock::SystemClock;
use crate::runtime::{Bell, Engine, EngineSettings, Operation, Operator, Registry, Workflow};
use crate::server::{self, Database};
use crate::settings::Settings;
use crate::store::Store;

/// Commands do not wait long for a database: a person sits before them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the connections that a serving process leaves to others.
const CONNECTIONS_MAX: u32 = 4;

/// Whether a command may make the private database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It reads or changes what is there.
    Existing,
    /// It may be the first command of all.
    MayBegin,
}

/// What a command works with.
pub struct Context {
    /// The engine; it performs no effects here.
    pub engine: Engine,
    database: Database,
}

impl Context {
    /// Reaches the database and reads its workflows.
    ///
    /// A database that this command itself owns, or may begin, is migrated; any other has to be what
    /// this program needs.
    ///
    /// # Errors
    /// [`Failure`] that says why the database cannot be used, and what to do.
    pub async fn open(settings: &Settings, need: Need) -> Result<Self, Failure> {
        let database = Database::attach(settings, need == Need::MayBegin).await?;
        match Self::open_on(settings, &database, need).await {
            Ok(engine) => Ok(Self { engine, database }),
            Err(failure) => {
                database.stop().await;
                Err(failure)
            }
        }
    }

    /// Reaches the database as it stands: nothing is migrated and no workflow is read. For looking at a database that
    /// may not be what this program needs.
    ///
    /// # Errors
    /// [`Failure`] that says why the database cannot be reached, and what to do.
    pub async fn look(settings: &Settings) -> Result<Self, Failure> {
        let database = Database::attach(settings, false).await?;
        let modest = Settings { connections_max: CONNECTIONS_MAX, ..settings.clone() };
        match database.connect(&modest, PATIENCE).await {
            Ok(store) => Ok(Self { engine: engine(store, Registry::default()), database }),
            Err(error) => {
                database.stop().await;
                Err(error.into())
            }
        }
    }

    /// Reads the workflows of a database that was only looked at, once its schema is known to fit.
    ///
    /// # Errors
    /// [`Failure`] when the database cannot be read.
    pub async fn read_workflows(&mut self) -> Result<(), Failure> {
        self.engine.registry = Registry::attach(&self.engine.store).await?;
        Ok(())
    }

    async fn open_on(
        settings: &Settings,
        database: &Database,
        need: Need,
    ) -> Result<Engine, Failure> {
        let modest = Settings { connections_max: CONNECTIONS_MAX, ..settings.clone() };
        let store = database.connect(&modest, PATIENCE).await?;
        if database.is_owned() || need == Need::MayBegin {
            server::migrate(&store).await?;
        } else {
            server::check_schema(&store).await?;
        }
        let registry = Registry::attach(&store).await?;
        Ok(engine(store, registry))
    }

    /// The database in words, without a password.
    pub fn database(&self) -> String {
        self.database.described()
    }

    /// The workflow that is meant: the one that is named, or the only one.
    ///
    /// # Errors
    /// When there is none of that name, none at all, or several to choose from.
    pub fn workflow(&self, of: &OfWorkflow) -> Result<Workflow, Failure> {
        let all = self.engine.registry.all();
        let names: Vec<&str> = all.iter().map(Workflow::name).collect();
        if let Some(name) = &of.workflow {
            return all.iter().find(|known| known.name() == name).cloned().ok_or_else(|| {
                Failure::not_found(if names.is_empty() {
                    NO_WORKFLOW.to_owned()
                } else {
                    format!("there is no workflow {name:?}; there is {}", names.join(", "))
                })
            });
        }
        match all.as_slice() {
            [] => Err(Failure::not_found(NO_WORKFLOW)),
            [only] => Ok(only.clone()),
            _ => Err(Failure::usage(format!(
                "there are several workflows; name one with --workflow: {}",
                names.join(", ")
            ))),
        }
    }

    /// Carries out an operation and says what it did.
    ///
    /// # Errors
    /// [`Failure`]; nothing was changed then.
    pub async fn perform(
        &self,
        workflow: &Workflow,
        operation: Operation,
        who: &Who,
        cycle: Option<i64>,
    ) -> Result<(), Failure> {
        let name = who.name();
        let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle };
        let performed = operation.perform(&self.engine, workflow.workflow_id, operator).await?;
        output::say(&format!("{}.", capitalised(&performed.said)))
    }

    /// Lets go of the database; a private server of this command stops.
    pub async fn close(self) {
        self.engine.store.pool().close().await;
        self.engine.store.reads().close().await;
        self.database.stop().await;
    }
}

const NO_WORKFLOW: &str = "the database knows no workflow yet; `mathesis serve` registers those in the folder workflows, and `mathesis workflow new` makes one";

/// The time zone in which a workflow's times are shown.
#[must_use]
pub fn zone(workflow: &Workflow) -> Tz {
    workflow.definition.timezone
}

/// The sentence with its first letter in upper case.
pub fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// An engine that operates and reads, and performs no effect.
fn engine(store: Store, registry: Registry) -> Engine {
    Engine {
        store,
        clock: Arc::new(SystemClock),
        claude: Arc::new(NoClaude),
        pause: Arc::new(TimerPause),
        draw_seed: Arc::new(rand::random::<u64>),
        registry,
        worker_id: Uuid::now_v7(),
        settings: Arc::new(EngineSettings {
            root: PathBuf::new(),
            host: server::host_name(),
            lease: Duration::from_secs(60),
            shutdown_grace: Duration::ZERO,
        }),
        work: Arc::new(Notify::new()),
        watch: Bell::default(),
        claims: crate::runtime::Claims::default(),
    }
}

/// Commands submit events and never call Claude.
struct NoClaude;

impl ClaudeApi for NoClaude {
    fn attempt<'a>(&'a self, _: &'a MessageRequest) -> BoxFuture<'a, AttemptOutcome> {
        let error = AttemptError::new(
            AttemptErrorKind::NotConfigured,
            "a command of the command line does not call Claude",
        );
        Box::pin(async { AttemptOutcome::unanswered(error, 0) })
    }

    fn count_tokens<'a>(
        &'a self,
        _: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<u64, AttemptError>> {
        let message = "a command of the command line does not call Claude";
        Box::pin(async move { Err(AttemptError::new(AttemptErrorKind::NotConfigured, message)) })
    }

    fn configured(&self) -> bool {
        false
    }
}

/// Opens a context, does something with it, and closes it again, whatever came of it.
macro_rules! with_context {
    ($settings:expr, $need:expr, |$context:ident| $work:expr) => {{
        let $context = $crate::cli::context::Context::open($settings, $need).await?;
        let done = $work.await;
        $context.close().await;
        done
    }};
}

pub(super) use with_context;
