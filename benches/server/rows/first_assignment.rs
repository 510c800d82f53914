//! The first assignment of a task in a test, committed before it is answered, over many workflows.

use tokio::runtime::Runtime;

use crate::cycles::{Cycle, STEPS_TO_TEST, Site, WINDOW};
use crate::floor::PgBench;
use crate::load::{self, Pace};
use crate::options::Row;
use crate::process::Served;
use crate::report::{Line, Reach, Rounds};
use crate::requests::{self, MODELS};
use crate::{Bench, Outcome, tables};

const CONNECTIONS: usize = 64;
const ROW: Row = Row::FirstAssignment;
/// Tasks that a test takes, as shipped.
const DECK: u64 = 20;

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let site = runtime.block_on(in_test(&url, bench.options.workflows))?;
    let server = Served::mathesis(&url, &site.workflows_folder())?;
    let floor = PgBench::ready(&bench.cluster, runtime)?;
    let rounds = u64::from(bench.options.rounds).clamp(1, DECK);
    let (mut ours, mut floors, mut p99) = (Rounds::default(), Rounds::default(), Rounds::default());
    let mut dealt = 0;
    for round in 1..=rounds {
        if let Some(floor) = &floor {
            floors.0.push(floor.transactions(16, bench.options.span())?);
        }
        // Every round deals a part of every deck; after the last one each deck is full.
        let until = DECK * round / rounds;
        let measured = deal(&server, &site, dealt..until)?;
        dealt = until;
        ours.0.push(measured.rate());
        p99.0.push(measured.milliseconds(0.99));
    }
    let memory = server.memory_mib()?;
    drop(server);
    let pool = site.engine.store.pool();
    let (decks, exact) = runtime.block_on(tables::exact_decks(pool, DECK.cast_signed() / 2))?;
    let workflows = site.workflows.len();
    let mut line = Line::new(
        ROW,
        format!("rate, {CONNECTIONS} connections, {workflows} workflows"),
        "/s",
        ours,
    )
    .reaching(Reach::RatioAtLeast(1.0))
    .noting(format!("{exact} of {decks} decks are exactly 10/10"));
    if !floors.0.is_empty() {
        line = line.against("pgbench -N -c16", floors);
    }
    Ok(vec![
        line,
        Line::new(ROW, "p99 at that rate", "ms", p99),
        Line::once(ROW, "memory of the server after it", "MiB", memory)
            .reaching(Reach::Below(150.0)),
    ])
}

/// Workflows whose test has just begun.
async fn in_test(url: &str, workflows: u32) -> Outcome<Site> {
    let site = Site::with(url, workflows, 16).await?;
    let pool = site.engine.store.pool();
    tables::complete_tasks(pool, &site.ids(), 1, WINDOW).await?;
    for workflow in &site.workflows {
        let mut cycle = Cycle::first(workflow.clone());
        for _ in 0..STEPS_TO_TEST {
            let what = cycle.prepare(&site.engine).await?;
            cycle.advance(&site.engine, what).await?;
        }
    }
    tables::analyze(pool).await?;
    Ok(site)
}

/// Asks once for each workflow, model and task number, the workflows in turns.
fn deal(server: &Served, site: &Site, tasks: std::ops::Range<u64>) -> Outcome<load::Measured> {
    let (workflows, models) = (site.workflows.len() as u64, MODELS.len() as u64);
    let requests = (tasks.end - tasks.start) * workflows * models;
    let measured =
        load::run(server.address, CONNECTIONS, Pace::Count { requests }, &mut |number, out| {
            let (workflow, rest) = (number % workflows, number / workflows);
            let (model, task) = (rest % models, tasks.start + rest / models);
            let name = usize::try_from(workflow).ok().and_then(|place| site.workflows.get(place));
            let model = usize::try_from(model).ok().and_then(|place| MODELS.get(place));
            let (name, model) =
                (name.map_or("", |it| it.name()), model.copied().unwrap_or_default());
            requests::assignment(name, &format!("task-{task:03}"), model, out);
        })?;
    measured.checked()
}
