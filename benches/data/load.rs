//! Fills a database with as many tasks as it is to hold, and measures the dashboard's pages on it.
//!
//! ```sh
//! cargo run --release --example load -- generate --tasks 1000000     # DATABASE_URL, migrated and served once
//! cargo run --release --example load -- dashboard --url http://127.0.0.1:8080 --requests 200
//! ```
//!
//! Tasks go in by COPY, in chunks, so memory stays the same whether a thousand or ten million are asked for. The same
//! seed gives the same tasks. Event keys are not written: no page and no trigger reads them.

#[path = "generator.rs"]
mod generator;

use std::error::Error;
use std::time::{Duration, Instant};

use clap::{Args, Parser};

use generator::Generate;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Requests that are not counted, before those that are.
const WARM_UP: usize = 20;

#[derive(Parser)]
#[command(name = "load", about = "Generate tasks, and measure the dashboard on them")]
enum Command {
    /// Add tasks to a workflow that a server has registered
    Generate(Generate),
    /// Ask for each of the dashboard's pages, one request after another, and print how long they took
    Dashboard(Dashboard),
}

#[derive(Args)]
struct Dashboard {
    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The workflow
    #[arg(long, default_value = "image-editing")]
    workflow: String,
    /// The models whose pages are asked for
    #[arg(long, default_value = "nano-banana,wan-2.5-edit", value_delimiter = ',')]
    models: Vec<String>,
    /// How often each page is asked for
    #[arg(long, default_value_t = 200)]
    requests: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    match Command::parse() {
        Command::Generate(command) => generator::generate(command).await,
        Command::Dashboard(command) => measure(command).await,
    }
}

async fn measure(command: Dashboard) -> Outcome<()> {
    // The client of the program, since its TLS has to be chosen by somebody.
    let base = reqwest::Url::parse(&command.url)?;
    let second = Duration::from_secs(1);
    let client = mathesis::outbound::client(&base, 5 * second, 60 * second)?;
    let workflow = &command.workflow;
    let mut pages = vec![
        "/analytics".to_owned(),
        format!("/analytics/{workflow}"),
        format!("/analytics/{workflow}/tasks"),
    ];
    pages
        .extend(command.models.iter().map(|model| format!("/analytics/{workflow}/models/{model}")));
    println!("| page | p50 ms | p99 ms | worst ms | KB |\n|---|---|---|---|---|");
    for page in pages {
        let address = base.join(&page)?;
        let mut took = Vec::with_capacity(command.requests);
        let mut bytes = 0;
        for request in 0..WARM_UP + command.requests {
            let began = Instant::now();
            let answer = client.get(address.clone()).header("accept", "text/html").send().await?;
            bytes = answer.error_for_status()?.bytes().await?.len();
            if request >= WARM_UP {
                took.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        println!(
            "| `{page}` | {:.1} | {:.1} | {:.1} | {} |",
            at(50),
            at(99),
            at(100),
            bytes / 1_024
        );
    }
    Ok(())
}
