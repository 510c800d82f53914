//! The dashboard's first page, in a database of few tasks and of very many.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::generator::{Generate, Texts, generate};
use crate::load::{self, Measured, Pace};
use crate::options::Row;
use crate::process::{Served, shipped_workflows};
use crate::report::{Line, Reach, Rounds};
use crate::requests::{self, MODELS};
use crate::{Bench, Outcome};

const ROW: Row = Row::Dashboard;
const REQUESTS_A_ROUND: u64 = 100;
/// Days over which the tasks are spread.
const DAYS: i64 = 90;

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let server = Served::mathesis(&url, &shipped_workflows())?;
    let mut lines = Vec::new();
    let mut there = 0;
    for tasks in bench.options.dashboard_tasks.iter().copied() {
        runtime.block_on(fill(&url, tasks.saturating_sub(there)))?;
        there = tasks.max(there);
        ask(&server, 20)?;
        let (mut p99, mut median) = (Rounds::default(), Rounds::default());
        for _ in 0..bench.options.rounds {
            let measured = ask(&server, REQUESTS_A_ROUND)?;
            p99.0.push(measured.milliseconds(0.99));
            median.0.push(measured.milliseconds(0.5));
        }
        lines.push(
            Line::new(ROW, format!("/analytics at {there} tasks, p99"), "ms", p99)
                .reaching(Reach::Below(50.0))
                .noting(format!("median {:.1} ms; one request after another", median.median())),
        );
    }
    Ok(lines)
}

/// Adds that many tasks. The figures are added up by the time that this returns.
async fn fill(url: &str, tasks: u32) -> Outcome<()> {
    if tasks == 0 {
        return Ok(());
    }
    generate(Generate {
        database_url: url.to_owned(),
        tasks: tasks.into(),
        workflow: "image-editing".to_owned(),
        models: MODELS.map(str::to_owned).to_vec(),
        days: DAYS,
        waiting: 0,
        texts: Texts::Short,
        seed: 1,
    })
    .await
}

fn ask(server: &Served, requests: u64) -> Outcome<Measured> {
    // The refresher may still be at work; what it does beside the pages is part of what they cost.
    std::thread::sleep(Duration::from_millis(300));
    let pace = Pace::Count { requests };
    load::run(server.address, 1, pace, &mut |_, out| requests::page("/analytics", out))?.checked()
}
