//! What Mathesis costs, measured against floors in the same run: `cargo bench --bench server -- all`.
//!
//! It starts a PostgreSQL of its own with fsync and synchronous_commit on, runs each floor and ours in
//! turns for some rounds, and prints the median and the range of each ratio, with the absolute figures
//! and the machine beside them. Nothing here is asserted: a row that falls short is a finding.
//! docs/performance.md says what each row is, and what limits it.

#[path = "server/cluster.rs"]
mod cluster;
#[path = "server/cycles.rs"]
mod cycles;
#[path = "server/floor.rs"]
mod floor;
#[path = "data/generator.rs"]
mod generator;
#[path = "server/history.rs"]
mod history;
#[path = "server/load.rs"]
mod load;
#[path = "server/machine.rs"]
mod machine;
#[path = "server/options.rs"]
mod options;
#[path = "server/process.rs"]
mod process;
#[path = "server/report.rs"]
mod report;
#[path = "server/requests.rs"]
mod requests;
#[path = "server/rows/mod.rs"]
mod rows;
#[path = "server/tables.rs"]
mod tables;

use clap::Parser as _;

use cluster::Cluster;
use options::{Options, Row};
use report::Report;

/// Whatever went wrong ends the bench with its words.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What every row works with.
struct Bench {
    options: Options,
    cluster: Cluster,
}

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some(floor::BARE_AXUM) {
        return floor::serve_bare_axum();
    }
    let options = Options::parse();
    let rows = options.rows();
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = Cluster::start(&runtime)?;
    let mut report = Report::new(machine::Machine::read(&cluster, &runtime)?, &options.out)?;
    let bench = Bench { options, cluster };
    let (number, started) = (rows.len(), std::time::Instant::now());
    for (place, row) in rows.into_iter().enumerate() {
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        eprintln!("{row} … ({} of {number}, after {minutes:.1} minutes)", place + 1);
        let began = std::time::Instant::now();
        let lines = match row {
            Row::Assignment => rows::assignment::run(&bench, &runtime),
            Row::FirstAssignment => rows::first_assignment::run(&bench, &runtime),
            Row::Events => rows::events::run(&bench, &runtime),
            Row::Transitions => rows::transitions::run_one_after_another(&bench, &runtime),
            Row::Cycles => rows::transitions::run_at_once(&bench, &runtime),
            Row::Claim => rows::claim::run(&bench, &runtime),
            Row::Trigger => rows::trigger::run(&bench, &runtime),
            Row::Start => rows::start::run(&bench, &runtime),
            Row::Client => rows::client::run(&bench),
            Row::Dashboard => rows::dashboard::run(&bench, &runtime),
            Row::Age => rows::age::run(&bench, &runtime),
            Row::Retention => rows::retention::run(&bench, &runtime),
            Row::Build => rows::build::run(&bench),
        };
        match lines {
            Ok(lines) => report.add(lines)?,
            Err(error) => report.failed(row, &*error)?,
        }
        eprintln!("{row}: {:.0} s", began.elapsed().as_secs_f64());
    }
    report.print(bench.options.json)
}
