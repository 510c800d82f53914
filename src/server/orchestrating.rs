//! The pipeline of one workflow inside a serving process: planned before anything is touched, started after the
//! runtime, stopped before the logger.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServerOptions;
use super::error::StartError;
use crate::claude::ClaudeApi;
use crate::http::Route;
use crate::orchestrator::definition::{FILE, load};
use crate::orchestrator::{
    Fates, Pipeline, PipelineDefinition, Probe, ServiceSettings, Services, run_rounds, webhook,
};
use crate::runtime::Runtime;
use crate::settings::{Secret, Settings};
use crate::task_log::TaskLogger;
use crate::workflow::Definition;

const CLAUDE_KEY: &str = "ANTHROPIC_API_KEY";

/// Which workflow's pipeline runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orchestrate {
    /// Its name; not needed while only one has a pipeline.
    pub workflow: Option<String>,
}

/// A pipeline that may be started: its definition is good, its clients are ready.
pub(super) struct Plan {
    workflow: String,
    definition: PipelineDefinition,
    services: Services,
    secret: Secret,
}

/// A pipeline that runs.
pub(super) struct Orchestrating {
    pipeline: Arc<Pipeline>,
    secret: Secret,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Reads the pipeline that is wanted and prepares its clients; touches nothing.
pub(super) fn plan(
    options: &ServerOptions,
    workflows: &[Definition],
    claude: &Arc<dyn ClaudeApi>,
) -> Result<Option<Plan>, StartError> {
    let Some(wanted) = &options.orchestrate else { return Ok(None) };
    let settings = &options.settings;
    let (workflow, definition) =
        definition_of(&settings.workflows, workflows, wanted.workflow.as_deref())?;
    let reached = service_settings(settings, claude.as_ref())?;
    let secret = reached.clickup_webhook_secret.clone();
    let (claude, clock) = (Arc::clone(claude), Arc::clone(&options.clock));
    let services = Services::new(&reached, &definition.keys, claude, clock)?;
    Ok(Some(Plan { workflow, definition, services, secret }))
}

/// The pipeline that is meant: the one of the named workflow, or the only one there is.
///
/// # Errors
/// [`StartError`] with everything that is wrong with it, or when there is none.
pub fn definition_of(
    folder: &Path,
    workflows: &[Definition],
    wanted: Option<&str>,
) -> Result<(String, PipelineDefinition), StartError> {
    let names = |list: &[&str]| list.join(", ");
    if let Some(wanted) = wanted
        && !workflows.iter().any(|known| known.name.as_str() == wanted)
    {
        let known: Vec<&str> = workflows.iter().map(|known| known.name.as_str()).collect();
        let words = format!("there is no workflow {wanted:?}; there is {}", names(&known));
        return Err(StartError::NoPipeline(words));
    }
    let mut found = Vec::new();
    for workflow in workflows {
        let name = workflow.name.as_str();
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        if let Some(definition) = load(&folder.join(name), workflow)? {
            found.push((name.to_owned(), definition));
        }
    }
    if found.len() > 1 {
        let several: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let words = format!(
            "several workflows have a pipeline; name one with --workflow: {}",
            names(&several)
        );
        return Err(StartError::NoPipeline(words));
    }
    found.pop().ok_or_else(|| {
        let place = folder.join(wanted.unwrap_or("<workflow>")).join(FILE);
        StartError::NoPipeline(format!(
            "there is no pipeline: {} does not exist; the shipped workflow image-editing has one to begin with",
            place.display()
        ))
    })
}

/// The settings that the pipeline needs and that are not set.
#[must_use]
pub fn missing_settings(settings: &Settings) -> Vec<&'static str> {
    [
        ("CLICKUP_API_TOKEN", settings.clickup_api_token.is_none()),
        ("CLICKUP_WEBHOOK_SECRET", settings.clickup_webhook_secret.is_none()),
        ("WAVESPEED_API_KEY", settings.wavespeed_api_key.is_none()),
        (CLAUDE_KEY, settings.anthropic_api_key.is_none()),
    ]
    .into_iter()
    .filter_map(|(name, is_missing)| is_missing.then_some(name))
    .collect()
}

/// What the pipeline needs to reach its services.
fn service_settings(
    settings: &Settings,
    claude: &dyn ClaudeApi,
) -> Result<ServiceSettings, StartError> {
    let mut missing = missing_settings(settings);
    // A program that brings its own Claude needs no key here.
    missing.retain(|name| *name != CLAUDE_KEY || !claude.configured());
    match (
        &settings.clickup_api_token,
        &settings.clickup_webhook_secret,
        &settings.wavespeed_api_key,
    ) {
        (Some(token), Some(secret), Some(key)) if missing.is_empty() => Ok(ServiceSettings {
            clickup_base_url: settings.clickup_base_url.clone(),
            clickup_token: token.clone(),
            clickup_webhook_secret: secret.clone(),
            wavespeed_base_url: settings.wavespeed_base_url.clone(),
            wavespeed_key: key.clone(),
            pictures_allow_private: settings.pictures_allow_private,
        }),
        _ => Err(StartError::PipelineSettings(missing)),
    }
}

impl Plan {
    /// Starts the pipeline beside the runtime; `None` for a workflow that was not registered, which cannot be.
    pub(super) fn start(self, runtime: &Runtime, logger: &TaskLogger) -> Option<Orchestrating> {
        let engine = runtime.engine().clone();
        let workflow = engine.registry.find(&self.workflow)?;
        if self.definition.keys.clickup.lists.is_empty() {
            tracing::warn!(
                "orchestrator.toml names no list, so a task whose webhook never comes is not found"
            );
        }
        let pipeline = Arc::new(Pipeline {
            engine,
            workflow,
            definition: self.definition,
            services: self.services,
            logger: logger.clone(),
            assigner: runtime.assigner().clone(),
            probe: Probe::default(),
            wake: Notify::new(),
            fates: Fates::default(),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&pipeline).run(stop.clone()));
        tasks.spawn(run_rounds(Arc::clone(&pipeline), stop.clone()));
        Some(Orchestrating { pipeline, secret: self.secret, stop, tasks })
    }
}

impl Orchestrating {
    /// The pipeline.
    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The route of the webhook.
    pub(super) fn route(&self) -> Route {
        webhook::route(Arc::clone(&self.pipeline), self.secret.clone())
    }

    /// Stops claiming, lets runs come to their next step within the grace time, and hands their jobs back.
    pub(super) async fn shut_down(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
