//! What is to be measured, and for how long.

use std::fmt;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The rows of docs/performance.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Which version for this task, while no test runs.
    Assignment,
    /// The first assignment of a task in a test, over many workflows.
    FirstAssignment,
    /// Events over HTTP, in batches of 1, 10 and 100.
    Events,
    /// A cycle's transitions, one after another.
    Transitions,
    /// Many cycles at once.
    Cycles,
    /// Claiming an effect beside many parked cycles.
    Claim,
    /// Whether enough tasks wait, in a table of many.
    Trigger,
    /// From the start of the process until it is ready, and its memory at rest.
    Start,
    /// The Python client's log call.
    Client,
    /// The dashboard's first page, beside few tasks and beside very many.
    Dashboard,
    /// What runs often, beside ten thousand cycles and a year of tasks.
    Age,
    /// The size of the tables, night after night of removing what is old.
    Retention,
    /// Building from clean, and from one changed line to green unit tests. Not among `all`.
    Build,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("row", |value| value.get_name()))
    }
}

/// Measures Mathesis against floors, each floor and ours in turns.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo bench --bench server --")]
pub struct Options {
    /// The rows to measure; `all` or none for every one but `build`, which takes many minutes
    #[arg(value_name = "ROW")]
    names: Vec<String>,
    /// Rounds of each row
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Seconds of each measurement in a round
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Seconds for which the assignment row holds its rate once, at the end
    #[arg(long, default_value_t = 60)]
    hold_seconds: u64,
    /// The rate of the assignment row, in requests a second
    #[arg(long, default_value_t = 10_000)]
    pub rate: u32,
    /// Workflows of the rows that run many
    #[arg(long, default_value_t = 1_000)]
    pub workflows: u32,
    /// Parked cycles of the claim row
    #[arg(long, default_value_t = 200_000)]
    pub parked: u32,
    /// Tasks of the trigger row
    #[arg(long, default_value_t = 10_000_000)]
    pub tasks: u32,
    /// Tasks of the dashboard row, in ascending order
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    pub dashboard_tasks: Vec<u32>,
    /// Cycles of the age row
    #[arg(long, default_value_t = 10_000)]
    pub cycles: u32,
    /// Tasks a day of the retention row
    #[arg(long, default_value_t = 1_000)]
    pub tasks_a_day: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Where each figure is written as it comes, one JSON object a line
    #[arg(long, default_value = "target/bench-server.jsonl")]
    pub out: std::path::PathBuf,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The rows that were asked for, each once; a name that is none ends the program.
    pub fn rows(&self) -> Vec<Row> {
        let all = Row::value_variants();
        if self.names.is_empty() || self.names.iter().any(|name| name == "all") {
            return all.iter().copied().filter(|row| *row != Row::Build).collect();
        }
        for name in &self.names {
            if Row::from_str(name, true).is_err() {
                let known: Vec<String> = all.iter().map(ToString::to_string).collect();
                eprintln!("there is no row {name:?}; there are: all, {}", known.join(", "));
                std::process::exit(2);
            }
        }
        let named = |row: &&Row| {
            self.names.iter().any(|name| Row::from_str(name, true).is_ok_and(|it| it == **row))
        };
        all.iter().filter(named).copied().collect()
    }

    /// How long each measurement takes.
    pub fn span(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }

    /// How long the rate is held.
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds)
    }
}
