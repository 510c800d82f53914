//! Putting a server together, step by step.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::database::{Database, REACH_TIMEOUT, migrate};
use super::error::StartError;
use super::{Server, ServerOptions, orchestrating, ring};
use crate::claude::{ClaudeApi, ClaudeSettings, HttpClaude};
use crate::cycle::Event;
use crate::http;
use crate::notify::Notifier;
use crate::runtime::{
    AdvanceError, Bell, Engine, EngineSettings, Operation, OperationError, Operator, Registry,
    Runtime, Submission, What, Workflow, advance,
};
use crate::settings::{Settings, secret_of_environment};
use crate::store::{Store, StoreError, cycles, holds, keys};
use crate::task_log::{LoggerLimits, TaskLogger};
use crate::workflow::{Definition, load};

/// Who the history names for what the start does.
const ACTOR: &str = "mathesis";
/// The lease where no workflow asks for a longer one.
const LEASE_SECONDS_MIN: u32 = 1;

/// Puts a server together; whatever had been started is stopped again when a later step fails.
pub(super) async fn start(options: ServerOptions) -> Result<Server, StartError> {
    let definitions = read_workflows(&options.settings).await?;
    let claude = claude(&options)?;
    let plan = orchestrating::plan(&options, &definitions, &claude)?;
    let database = Database::own(&options.settings, options.purpose).await?;
    match start_on(&options, definitions, claude, plan, &database).await {
        Ok(parts) => Ok(parts.into_server(database)),
        Err(error) => {
            database.stop().await;
            Err(error)
        }
    }
}

async fn start_on(
    options: &ServerOptions,
    definitions: Vec<Definition>,
    claude: Arc<dyn ClaudeApi>,
    plan: Option<orchestrating::Plan>,
    database: &Database,
) -> Result<Parts, StartError> {
    let settings = &options.settings;
    let store = database.connect(settings, REACH_TIMEOUT).await?;
    migrate(&store).await?;
    let open = !has_key(options, &store).await?;
    let listener = bind(settings, open).await?;
    let address = listener.local_addr().map_err(|cause| StartError::Bind {
        address: SocketAddr::new(settings.host.address(!open), settings.port),
        cause,
    })?;
    let engine = engine(options, store, claude, &definitions);
    register(&engine, settings, definitions).await?;
    retry_for_key(&engine).await?;

    let (logger_tasks, stop_logger) = (TaskTracker::new(), CancellationToken::new());
    let logger = TaskLogger::start(
        engine.store.pool().clone(),
        Arc::clone(&engine.clock),
        Arc::new(engine.registry.clone()),
        LoggerLimits::default(),
        &logger_tasks,
        stop_logger.clone(),
    );
    logger_tasks.spawn(ring(logger.touched(), engine.clone(), stop_logger.clone()));
    let runtime = Runtime::start(engine.clone()).await.inspect_err(|_| stop_logger.cancel())?;
    let notifier = Notifier::new(engine.clone(), Arc::new(secret_of_environment));
    logger_tasks.spawn(notifier.run(stop_logger.clone()));
    let stop_http = CancellationToken::new();
    let orchestrating = plan.and_then(|plan| plan.start(&runtime, &logger));
    let hook = orchestrating.as_ref().map(orchestrating::Orchestrating::route);
    let app = http::App::new(
        engine,
        runtime.assigner().clone(),
        logger.clone(),
        http::HttpSettings { open, calls: settings.calls, ..http::HttpSettings::default() },
    );
    let routes = http::router_with(app, hook.into_iter().collect());
    let http =
        tokio::spawn(http::serve_within(settings.listen, listener, routes, stop_http.clone()));
    Ok(Parts {
        address,
        open,
        runtime,
        orchestrating,
        logger,
        logger_tasks,
        stop_logger,
        http,
        stop_http,
    })
}

/// A server but for its database.
struct Parts {
    address: SocketAddr,
    open: bool,
    runtime: Runtime,
    orchestrating: Option<orchestrating::Orchestrating>,
    logger: TaskLogger,
    logger_tasks: TaskTracker,
    stop_logger: CancellationToken,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    stop_http: CancellationToken,
}

impl Parts {
    fn into_server(self, database: Database) -> Server {
        Server {
            address: self.address,
            open: self.open,
            runtime: self.runtime,
            orchestrating: self.orchestrating,
            logger: self.logger,
            logger_tasks: self.logger_tasks,
            stop_logger: self.stop_logger,
            http: self.http,
            stop_http: self.stop_http,
            database,
        }
    }
}

/// Reads every workflow before anything is touched.
async fn read_workflows(settings: &Settings) -> Result<Vec<Definition>, StartError> {
    let folder = settings.workflows.clone();
    if !folder.is_dir() {
        return Err(StartError::NoWorkflows(folder));
    }
    let read = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || load::load_all(&folder)
    });
    let definitions = read.await.map_err(|panic| StartError::Interrupted(panic.to_string()))??;
    if definitions.is_empty() {
        return Err(StartError::NoWorkflows(folder));
    }
    Ok(definitions)
}

fn claude(options: &ServerOptions) -> Result<Arc<dyn ClaudeApi>, StartError> {
    if let Some(claude) = &options.claude {
        return Ok(Arc::clone(claude));
    }
    let settings = &options.settings;
    let settings = ClaudeSettings::new(
        settings.anthropic_base_url.clone(),
        settings.anthropic_api_key.clone(),
    );
    Ok(Arc::new(HttpClaude::new(settings)?.by_clock(Arc::clone(&options.clock))))
}

async fn has_key(options: &ServerOptions, store: &Store) -> Result<bool, StartError> {
    if let Some(secret) = &options.settings.bootstrap_key
        && keys::bootstrap(store.pool(), secret.expose(), options.clock.now()).await?
    {
        tracing::info!("the bootstrap key was stored; it may operate everything");
    }
    Ok(keys::any_key_exists(store.pool()).await?)
}

/// Listens, though nothing answers yet: a port that is taken ends the start before it changes anything.
async fn bind(settings: &Settings, open: bool) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(settings.host.address(!open), settings.port);
    if open && !address.ip().is_loopback() {
        return Err(StartError::NeedsKey(address.ip()));
    }
    if open && settings.host == crate::settings::Host::Platform {
        tracing::warn!(
            "no key exists, so only this machine can reach the server; set MATHESIS_BOOTSTRAP_KEY to open it to others"
        );
    }
    TcpListener::bind(address).await.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AddrInUse => StartError::PortTaken(address),
        _ => StartError::Bind { address, cause },
    })
}

fn engine(
    options: &ServerOptions,
    store: Store,
    claude: Arc<dyn ClaudeApi>,
    definitions: &[Definition],
) -> Engine {
    // One lock and one lease a process serve all its workflows, so the longest lease holds for all.
    let lease = definitions.iter().map(|definition| definition.timeouts.lease_seconds).max();
    Engine {
        store,
        clock: Arc::clone(&options.clock),
        claude,
        pause: Arc::clone(&options.pause),
        draw_seed: Arc::clone(&options.draw_seed),
        registry: Registry::default(),
        worker_id: Uuid::now_v7(),
        settings: Arc::new(EngineSettings {
            root: options.root.clone(),
            host: host_name(),
            lease: Duration::from_secs(lease.unwrap_or(60).max(LEASE_SECONDS_MIN).into()),
            shutdown_grace: options.settings.shutdown_grace,
        }),
        work: Arc::new(Notify::new()),
        watch: Bell::default(),
        claims: crate::runtime::Claims::default(),
    }
}

/// This machine's name, which tells config folders of several replicas apart.
pub(crate) fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    if name.is_empty() { "localhost".to_owned() } else { name.into_owned() }
}

async fn register(
    engine: &Engine,
    settings: &Settings,
    definitions: Vec<Definition>,
) -> Result<(), StartError> {
    for definition in definitions {
        let name = definition.name.as_str().to_owned();
        let folder = engine.config_folder(&definition.config_folder);
        let starter = starter_folder(&settings.workflows, &name);
        let registered = engine
            .registry
            .register(&engine.store, definition, &folder, starter.as_deref(), engine.now())
            .await;
        let (workflow, retired) = registered.map_err(|cause| StartError::Registry {
            workflow: name.clone(),
            cause: Box::new(cause),
        })?;
        for model in retired {
            retire(engine, &workflow, model).await?;
        }
        tracing::info!(
            workflow.name = name,
            workflow.id = workflow.workflow_id,
            "workflow registered"
        );
    }
    Ok(())
}

/// Documents that a workflow ships for models that have none yet.
fn starter_folder(workflows: &Path, name: &str) -> Option<PathBuf> {
    let folder = workflows.join(name).join("starter");
    folder.is_dir().then_some(folder)
}

/// Tells the open cycle that a model has left the workflow; a cycle without it has nothing to do.
async fn retire(engine: &Engine, workflow: &Workflow, model: String) -> Result<(), StartError> {
    let submission = Submission {
        workflow_id: workflow.workflow_id,
        cycle: None,
        actor: ACTOR,
        reason: Some("the model was taken out of the workflow"),
        what: What::Event(Event::ModelRetired { model: model.clone() }),
        completes: None,
        claims_next: false,
    };
    match advance(engine, submission).await {
        Ok(_) => {}
        Err(AdvanceError::Store(error)) => return Err(error.into()),
        Err(refusal) => {
            tracing::debug!(model.name = model, reason = %refusal, "no cycle had to be told that a model left");
        }
    }
    Ok(())
}

/// Tries again what waited for a Claude key, once one is there.
async fn retry_for_key(engine: &Engine) -> Result<(), StartError> {
    if !engine.claude.configured() {
        tracing::warn!(
            "ANTHROPIC_API_KEY is not set: tasks are logged and counted, and learning waits for a key"
        );
        return Ok(());
    }
    for workflow in engine.registry.all() {
        if !waits_for_key(engine, workflow.workflow_id).await? {
            continue;
        }
        let operator =
            Operator { name: ACTOR, reason: Some("a Claude key is configured now"), cycle: None };
        match Operation::Retry.perform(engine, workflow.workflow_id, operator).await {
            Ok(performed) => {
                tracing::info!(
                    workflow.name = workflow.name(),
                    cycle.number = performed.cycle,
                    "a Claude key is there now; the cycle tries again"
                );
            }
            Err(OperationError::Advance(AdvanceError::Store(error))) => return Err(error.into()),
            Err(refusal) => {
                tracing::debug!(reason = %refusal, "nothing had to be tried again");
            }
        }
    }
    Ok(())
}

async fn waits_for_key(engine: &Engine, workflow_id: i64) -> Result<bool, StoreError> {
    let Some(cycle) = cycles::find_open(engine.store.pool(), workflow_id).await? else {
        return Ok(false);
    };
    let mut conn = engine.store.pool().acquire().await?;
    let standing = holds::standing(&mut conn, workflow_id, cycle.number).await?;
    Ok(standing.iter().any(|hold| hold.code == "claude_not_configured"))
}
