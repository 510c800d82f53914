//! The crash campaign: the real binary is killed before and after every statement and every call of a whole cycle,
//! one point a run, and must come to the same end each time.
//!
//! `docs/reliability.md` has its figures and how they are repeated. `tests/it/campaign.rs` runs a bounded part of it.

mod calls;
mod check;
mod drive;
mod faults;
mod load;
mod plant;
mod points;
mod proxy;
mod run;
mod sweep;

#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../it/support/cluster.rs"]
mod cluster;
#[path = "../it/support/disk.rs"]
mod disk;
#[path = "../it/support/documents.rs"]
mod documents;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../it/support/events.rs"]
mod events;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../it/support/record.rs"]
mod record;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use faults::Fault;

/// Has something go wrong at every point of a learning cycle of the real binary, and holds each end against an
/// undisturbed one.
#[derive(Debug, Parser)]
#[command(name = "campaign")]
struct Arguments {
    /// The program to be killed; by default the `mathesis` beside this one.
    #[arg(long)]
    mathesis: Option<PathBuf>,
    /// What is chosen by chance is chosen by this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs at most so many points of a scenario, chosen by the seed; all of them where it is left out.
    #[arg(long)]
    points: Option<usize>,
    /// Runs only the points whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// Runs each statement and each call once, with its passing and its side chosen by the seed.
    #[arg(long)]
    bounded: bool,
    /// What goes wrong at the points.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kill")]
    faults: Vec<Fault>,
    /// Instead: sends so many events while processes, PostgreSQL and connections are killed at random.
    #[arg(long)]
    events: Option<u64>,
    /// Replicas on the one database.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Runs at once.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Has the binary break one of its own rules, which the campaign must find out.
    #[arg(long)]
    broken: Option<String>,
    /// How long a run may stand still before it counts as stuck.
    #[arg(long, default_value_t = 40)]
    patience_seconds: u64,
    /// Stops at the first run that ends otherwise.
    #[arg(long)]
    stop_at_first: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    match campaign(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the campaign could not be run: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when every run ended as the undisturbed one.
async fn campaign(arguments: Arguments) -> Result<bool, String> {
    let mathesis = program(arguments.mathesis.clone())?;
    println!("seed {}, program {}", arguments.seed, mathesis.display());
    if let Some(events) = arguments.events {
        return load::under_kills(events, &arguments, &mathesis).await;
    }
    let mut well = true;
    for fault in &arguments.faults {
        well &= sweep::every_point(*fault, &arguments, &mathesis).await?;
    }
    Ok(well)
}

fn program(named: Option<PathBuf>) -> Result<PathBuf, String> {
    let program = match named {
        Some(program) => program,
        None => std::env::current_exe().map_err(plant::words)?.with_file_name("mathesis"),
    };
    let missing = || {
        format!(
            "{} is not there; build it with `cargo build --release --features testing --bins`, or name it with --mathesis",
            program.display()
        )
    };
    program.canonicalize().map_err(|_| missing())
}
