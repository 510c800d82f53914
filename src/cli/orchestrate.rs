//! `mathesis orchestrate`, with `status` and `register`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::context::{Need, with_context, zone};
use super::failure::Failure;
use super::output::{self, brief};
use super::{AsJson, OfWorkflow, serve};
use crate::clock::SystemClock;
use crate::orchestrator::clickup::{ClickUp, ClickUpSettings};
use crate::orchestrator::webhook;
use crate::server::{Orchestrate as Wanted, StartError};
use crate::settings::Settings;
use crate::store::pipeline::overview::{self, JobRow};

/// Failed runs are shown for so long.
const FAILED_SHOWN_DAYS: i64 = 7;
/// Jobs that are shown at most.
const JOBS_SHOWN_MAX: i64 = 200;
/// How long a person waits for ClickUp.
const PATIENCE: Duration = Duration::from_secs(30);

/// Run the server with the reference pipeline: a ClickUp task comes in, its edited picture goes back.
///
/// Everything that `mathesis serve` does, and beside it the pipeline that a workflow's orchestrator.toml
/// describes. It needs CLICKUP_API_TOKEN, CLICKUP_WEBHOOK_SECRET, WAVESPEED_API_KEY and ANTHROPIC_API_KEY.
/// A task is never lost: a restart goes on where each run stood, and nothing is paid for twice.
#[derive(Debug, Clone, Args)]
pub struct Orchestrate {
    #[command(subcommand)]
    command: Option<OrchestrateCommand>,
    #[command(flatten)]
    of: OfWorkflow,
    /// The port to listen on; 0 takes a free one [env: PORT] [default: 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The address to listen on; anything but loopback needs a key [env: MATHESIS_HOST] [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
}

/// What else there is to do with the pipeline.
#[derive(Debug, Clone, Subcommand)]
pub enum OrchestrateCommand {
    /// See which runs are open, what they wait for and until when, and which failed lately
    Status {
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        json: AsJson,
    },
    /// Register the webhook at ClickUp, and print the line with its secret, once
    Register {
        /// The workspace's id, the first number in ClickUp's addresses
        #[arg(long, value_name = "ID")]
        team: String,
        /// The list whose tasks are worked on
        #[arg(long, value_name = "ID")]
        list: String,
        /// Where this server is reached from outside, such as https://mathesis.example.com
        #[arg(long, value_name = "URL")]
        endpoint: String,
    },
}

impl Orchestrate {
    /// What the flags say about the address.
    pub(super) const fn address(&self) -> (Option<u16>, Option<IpAddr>) {
        (self.port, self.bind)
    }

    /// True for the command that serves, which logs more.
    pub(super) const fn serves(&self) -> bool {
        self.command.is_none()
    }
}

/// Runs the command.
pub async fn run(command: Orchestrate, settings: Settings) -> Result<(), Failure> {
    match command.command {
        None => serve::run(settings, Some(Wanted { workflow: command.of.workflow })).await,
        Some(OrchestrateCommand::Status { of, json }) => status(&settings, of, json).await,
        Some(OrchestrateCommand::Register { team, list, endpoint }) => {
            register(&settings, &team, &list, &endpoint).await
        }
    }
}

async fn status(settings: &Settings, of: OfWorkflow, json: AsJson) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| async {
        let workflow = context.workflow(&of)?;
        let since = context.engine.now() - chrono::Duration::days(FAILED_SHOWN_DAYS);
        let pool = context.engine.store.pool();
        let jobs = overview::jobs(pool, workflow.workflow_id, since, JOBS_SHOWN_MAX).await?;
        if json.json {
            return output::say_json(&jobs);
        }
        let mut table =
            output::table(&["task", "run", "stands", "since", "until", "step", "usd", "why"]);
        let time = |at| output::time(at, zone(&workflow));
        for job in &jobs {
            let (stands, since, until, why) = standing(job);
            table.add_row([
                job.task_id.clone(),
                job.run.to_string(),
                stands.to_owned(),
                time(since),
                until.map_or_else(|| "-".to_owned(), time),
                output::or_dash(job.last_step.as_deref()),
                job.cost_usd.round_dp(4).to_string(),
                brief(why, 300),
            ]);
        }
        output::say_table(
            &table,
            &format!("No run is open, and none failed in the last {FAILED_SHOWN_DAYS} days."),
        )
    })
}

/// How a job stands, since when, until when it waits, and why.
fn standing(job: &JobRow) -> (&'static str, DateTime<Utc>, Option<DateTime<Utc>>, &str) {
    match (job.status.as_str(), &job.wait_words) {
        ("failed", _) => {
            let why = job.outcome_words.as_deref().unwrap_or_default();
            ("failed", job.finished_at.unwrap_or(job.created_at), None, why)
        }
        ("claimed", _) => ("running", job.created_at, None, ""),
        (_, Some(why)) => {
            ("waiting", job.waiting_since.unwrap_or(job.created_at), Some(job.run_after), why)
        }
        _ => ("queued", job.created_at, None, ""),
    }
}

async fn register(
    settings: &Settings,
    team: &str,
    list: &str,
    endpoint: &str,
) -> Result<(), Failure> {
    let Some(token) = settings.clickup_api_token.clone() else {
        return Err(StartError::PipelineSettings(vec!["CLICKUP_API_TOKEN"]).into());
    };
    let address = endpoint.trim().trim_end_matches('/');
    // ClickUp's POST to http:// becomes a GET at most hosts, and loopback it cannot reach at all.
    if !address.starts_with("https://") && !address.starts_with("http://127.0.0.1") {
        return Err(Failure::usage(format!(
            "--endpoint is {endpoint:?}, and must begin with https://, such as https://mathesis.example.com. Nothing was registered"
        )));
    }
    let path = webhook::PATH;
    let address =
        if address.ends_with(path) { address.to_owned() } else { format!("{address}{path}") };
    let client = ClickUp::new(
        ClickUpSettings { base_url: settings.clickup_base_url.clone(), token, timeout: PATIENCE },
        Arc::new(SystemClock),
    )
    .map_err(Failure::failed)?;
    let made = client.register_webhook(team, list, &address).await.map_err(Failure::failed)?;
    output::say(&format!(
        "ClickUp now tells {address} of the tasks of list {list} (webhook {}).\nIts secret is shown this once; put the line into the environment or into .env:\n\nCLICKUP_WEBHOOK_SECRET={}",
        made.id, made.secret
    ))
}
