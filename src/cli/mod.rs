//! The command line: one file a subcommand.
//!
//! Every command ends with an exit code that means something ([`Exit`]) and, where it fails, a sentence
//! on standard error that says what became of the data and what to do.

mod audit;
mod automation;
mod blame;
mod context;
mod cost;
mod cycle;
mod demo;
mod doctor;
mod export;
mod failure;
mod files;
mod gate;
mod import;
mod insight;
mod key;
mod manual;
mod migrate;
mod notify;
mod openapi;
mod orchestrate;
mod output;
mod overall;
mod rehearse;
mod serve;
mod spool;
mod stand_ins;
mod task;
mod version;
mod workflow;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use failure::{Exit, Failure};

use crate::otlp::{self, Traces};
use crate::settings::{Flags, LogFormat, Settings, read_dotenv};

/// Threads that run tasks. The work is waiting for PostgreSQL and Claude, so few are enough.
const WORKER_THREADS: usize = 2;

const AFTER_HELP: &str = "\
Begin with `mathesis demo`, which shows everything in about a minute and leaves nothing behind.
For your own pipeline: `mathesis workflow new --from config/deep_research`, then `mathesis serve`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by the state, 5 no database.";

/// The learning layer of a generative pipeline: it watches every task, learns what works, and improves
/// each model's prompts by itself.
#[derive(Debug, Parser)]
#[command(name = "mathesis", version, after_help = AFTER_HELP, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The PostgreSQL to use [env: DATABASE_URL] [default: a private one]
    #[arg(long, global = true, value_name = "URL", help_heading = "Where the data is")]
    database_url: Option<String>,
    /// Where the private PostgreSQL keeps its data [env: MATHESIS_HOME] [default: .mathesis]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Where the data is")]
    home: Option<PathBuf>,
    /// The folder of the workflows [env: MATHESIS_WORKFLOWS] [default: workflows]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Where the data is")]
    workflows: Option<PathBuf>,
}

// Those without words here have theirs on their own type.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Orchestrate(orchestrate::Orchestrate),
    Migrate(migrate::Migrate),
    /// Make, check and show workflows
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// See where the learning cycle stands, and steer it
    #[command(subcommand)]
    Cycle(cycle::CycleCommand),
    /// See a model's prompt versions, compare them, go back to one
    #[command(subcommand)]
    Version(version::VersionCommand),
    /// See why a picture looks as it does: its prompt version, that version's sections, and what they rest on
    Why(blame::WhyArgs),
    /// Switch learning on or off; tasks are logged either way
    #[command(subcommand)]
    Automation(automation::AutomationCommand),
    /// See what Claude found in the tasks
    #[command(subcommand)]
    Insight(insight::InsightCommand),
    Cost(cost::Cost),
    Rehearse(rehearse::Rehearse),
    /// See how far the adoption gate can be trusted
    #[command(subcommand)]
    Gate(gate::GateCommand),
    /// See to a single task: have it forgotten
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Make, list and revoke the keys of the HTTP interface
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// See what the webhook was told, try it, send again what was given up
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// See what operators did, when and why
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Import(import::Import),
    Export(export::Export),
    /// Compare the models' files with their active versions, or pull those of a service elsewhere
    #[command(subcommand)]
    Files(files::FilesCommand),
    Doctor(doctor::Doctor),
    Openapi(openapi::Openapi),
    Completions(manual::Completions),
    Man(manual::Man),
    StandIns(stand_ins::StandIns),
}

/// Which workflow a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfWorkflow {
    /// The workflow; not needed while there is only one
    #[arg(long, short = 'w', value_name = "NAME")]
    workflow: Option<String>,
}

/// How a command that reads answers.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AsJson {
    /// Answer in JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Who does something, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct Who {
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who, for the history [default: the user that is logged in]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Who {
    fn name(&self) -> String {
        let of_environment = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        let given = self.by.clone().or_else(of_environment);
        given.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "operator".to_owned())
    }
}

/// The whole program, for `main` after the shim has been looked for.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs one command line and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; clap knows which stream each belongs to.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return code.into();
        }
    };
    match prepare(cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.tell();
            failure.exit.into()
        }
    }
}

fn prepare(cli: Cli) -> Result<(), Failure> {
    let (port, bind) = match &cli.command {
        Command::Serve(serve) => serve.address(),
        Command::Orchestrate(orchestrate) => orchestrate.address(),
        _ => (None, None),
    };
    let flags = Flags {
        database_url: cli.global.database_url,
        home: cli.global.home,
        workflows: cli.global.workflows,
        port,
        bind,
    };
    let dotenv = read_dotenv().map_err(Failure::usage)?;
    let settings =
        Settings::read(flags, |name| std::env::var(name).ok(), &dotenv).map_err(Failure::usage)?;
    let serving = match &cli.command {
        Command::Serve(_) => true,
        Command::Orchestrate(orchestrate) => orchestrate.serves(),
        _ => false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::failed(format!("this process could not start its threads: {error}"))
        })?;
    let traces = start_logging(&settings, serving, runtime.handle())?;
    let done = runtime.block_on(dispatch(cli.command, settings));
    if let Some(traces) = traces {
        traces.end();
    }
    // A blocked read of standard input would keep the process alive.
    runtime.shutdown_background();
    done
}

async fn dispatch(command: Command, settings: Settings) -> Result<(), Failure> {
    match command {
        Command::Demo(command) => demo::run(command).await,
        Command::Serve(_) => serve::run(settings, None).await,
        Command::Orchestrate(command) => orchestrate::run(command, settings).await,
        Command::Migrate(_) => migrate::run(&settings).await,
        Command::Workflow(command) => workflow::run(command, &settings).await,
        Command::Cycle(command) => cycle::run(command, &settings).await,
        Command::Version(command) => version::run(command, &settings).await,
        Command::Why(args) => blame::run(args, &settings).await,
        Command::Automation(command) => automation::run(command, &settings).await,
        Command::Insight(command) => insight::run(command, &settings).await,
        Command::Cost(command) => cost::run(command, &settings).await,
        Command::Rehearse(command) => rehearse::run(command, &settings).await,
        Command::Gate(command) => gate::run(command, &settings).await,
        Command::Task(command) => task::run(command, &settings).await,
        Command::Key(command) => key::run(command, &settings).await,
        Command::Notify(command) => notify::run(command, &settings).await,
        Command::Audit(command) => audit::run(command, &settings).await,
        Command::Import(command) => import::run(command, &settings).await,
        Command::Export(command) => export::run(command, &settings).await,
        Command::Files(command) => files::run(command, &settings).await,
        Command::Doctor(command) => doctor::run(command, &settings).await,
        Command::Openapi(_) => openapi::run(),
        Command::Completions(command) => manual::completions(&command),
        Command::Man(command) => manual::man(&command),
        Command::StandIns(command) => stand_ins::run(command).await,
    }
}

/// Logs go to standard error, so that standard output stays what was asked for. Traces go to their collector, where one
/// is named.
fn start_logging(
    settings: &Settings,
    serving: bool,
    runtime: &Handle,
) -> Result<Option<Traces>, Failure> {
    let default = if serving { "info,sqlx=warn" } else { "warn,sqlx=error" };
    let wanted = settings.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        Failure::usage(format!(
            "MATHESIS_LOG is {wanted:?}, and must be a list such as `mathesis=debug,info`: {error}. Nothing was started."
        ))
    })?;
    let start = |endpoint: &String| Traces::start(endpoint, runtime.clone());
    let traces = settings.otlp_endpoint.as_ref().map(start).transpose().map_err(|error| {
        Failure::usage(format!("{} cannot be used: {error}. Nothing was started.", otlp::ENDPOINT))
    })?;
    let logging = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(output::colours_on_stderr());
    let logging = match settings.log_format {
        LogFormat::Text => logging.with_target(false).boxed(),
        LogFormat::Json => logging.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(logging.with_filter(filter))
        .with(traces.as_ref().map(Traces::layer))
        .try_init();
    // A second command in one process, as in a test, keeps the first one's log.
    drop(started);
    Ok(traces)
}
