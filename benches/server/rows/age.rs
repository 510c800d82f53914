//! What ten thousand cycles and a year of tasks cost: everything that runs often, young and old.
//!
//! The history is not made up: the engine runs every cycle, over tasks that came evenly through the year.

use std::time::Instant;

use mathesis::store::{effects, figures, window};
use tokio::runtime::Runtime;

use crate::cycles::{Cycle, Site, WINDOW};
use crate::load::{self, Pace};
use crate::options::Row;
use crate::process::Served;
use crate::report::{Line, Reach, Rounds};
use crate::requests::{MODELS, page};
use crate::{Bench, Outcome, history, tables};

const ROW: Row = Row::Age;
/// Cycles of each measurement.
const FEW: i64 = 20;
/// A system is young after one of them: its lists and charts are full, and nothing has grown old.
const MONTHS: i64 = 12;
const CHECKS: u32 = 200;
/// Cycles until the planner learns how large the tables have become.
const BETWEEN_LOOKS: i64 = 250;
/// Past every step of a real cycle.
const FIRST_SEQ: i32 = 1_000;
const PAGE_REQUESTS: u64 = 100;
const YEAR_SECONDS: i64 = 365 * 86_400;

/// One moment's figures, in the order of [`WHATS`].
struct Figures(Vec<Rounds>);

const WHATS: [(&str, &str); 7] = [
    ("a whole cycle's transitions", "ms"),
    ("claim", "µs"),
    ("trigger check, 99 of 100", "ms"),
    ("first page, 99 of 100", "ms"),
    ("page of all cycles, 99 of 100", "ms"),
    ("a model's page, 99 of 100", "ms"),
    ("start to ready", "ms"),
];

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let a_year = i64::from(bench.options.cycles).max(2 * MONTHS * FEW);
    let a_month = a_year / MONTHS;
    let young = lived_for(bench, runtime, a_month, a_year)?;
    let old = lived_for(bench, runtime, a_year, a_year)?;
    let lines = WHATS.iter().zip(old.figures.0.into_iter().zip(young.figures.0));
    let mut lines: Vec<Line> = lines
        .map(|((what, unit), (old, young))| {
            Line::new(ROW, format!("{what}, after a year of {a_year} cycles"), unit, old)
                .against(format!("after a month of {a_month}"), young)
                .reaching(Reach::RatioBelow(2.0))
        })
        .collect();
    let grown = (old.bytes - young.bytes) / ((a_year - a_month) as f64);
    lines.push(
        Line::once(ROW, "kept on the disk a cycle, with its 50 tasks", "KiB", grown / 1_024.0)
            .noting("two versions of 4 KB each among it"),
    );
    Ok(lines)
}

/// A system that has lived for so many cycles, up to now.
struct Lived {
    figures: Figures,
    bytes: f64,
}

/// Has a workflow live for so many cycles, which come at the pace of `a_year`, and measures the last of them and what
/// runs often behind them.
fn lived_for(bench: &Bench, runtime: &Runtime, cycles: i64, a_year: i64) -> Outcome<Lived> {
    let url = runtime.block_on(bench.cluster.database())?;
    let site = runtime.block_on(Site::with(&url, 1, 2))?;
    let workflow = site.workflows.first().ok_or("no workflow was registered")?;
    let mut cycle = Cycle::first(workflow.clone());
    let began = Instant::now();
    let mut left = cycles - FEW;
    while left > 0 {
        runtime.block_on(live(&site, &mut cycle, left.min(BETWEEN_LOOKS), (cycles, a_year)))?;
        // As autovacuum looks at them, which comes within a minute; so many cycles take years in production.
        runtime.block_on(tables::analyze(site.engine.store.pool()))?;
        left -= BETWEEN_LOOKS;
    }
    eprintln!("  {cycles} cycles in {:.0} s", began.elapsed().as_secs_f64());
    let taken = runtime.block_on(live(&site, &mut cycle, FEW, (cycles, a_year)))?;
    let bytes = runtime.block_on(history::database_bytes(site.engine.store.pool()))?;
    Ok(Lived { figures: measure(bench, runtime, &site, &url, taken)?, bytes })
}

/// Runs so many more cycles of those `all` that end now; returns how long each one's transitions took, in milliseconds.
async fn live(
    site: &Site,
    cycle: &mut Cycle,
    number: i64,
    (all, a_year): (i64, i64),
) -> Outcome<Rounds> {
    let pool = site.engine.store.pool();
    let mut taken = Rounds::default();
    for _ in 0..number {
        let ago = (YEAR_SECONDS * (all - cycle.number) / a_year).max(0);
        history::complete_tasks_ago(pool, cycle.workflow.workflow_id, (cycle.number, WINDOW), ago)
            .await?;
        let spent = cycle.whole(site).await?.iter().sum::<std::time::Duration>();
        taken.0.push(spent.as_secs_f64() * 1e3);
    }
    Ok(taken)
}

fn measure(
    bench: &Bench,
    runtime: &Runtime,
    site: &Site,
    url: &str,
    cycles: Rounds,
) -> Outcome<Figures> {
    runtime.block_on(settle(site))?;
    let mut rounds: Vec<Rounds> = WHATS.iter().map(|_| Rounds::default()).collect();
    if let Some(first) = rounds.first_mut() {
        *first = cycles;
    }
    for _ in 0..bench.options.rounds {
        let quick = runtime.block_on(checks(site))?;
        let server = Served::mathesis(url, &site.workflows_folder())?;
        let mut row = quick.to_vec();
        for address in pages(site) {
            let mut write = |_, out: &mut Vec<u8>| page(&address, out);
            let pace = Pace::Count { requests: PAGE_REQUESTS };
            row.push(load::run(server.address, 1, pace, &mut write)?.checked()?.milliseconds(0.99));
        }
        row.push(server.ready_after.as_secs_f64() * 1e3);
        for (all, figure) in rounds.iter_mut().skip(1).zip(row) {
            all.0.push(figure);
        }
    }
    Ok(Figures(rounds))
}

/// As autovacuum and the refresher leave it within a minute.
async fn settle(site: &Site) -> Outcome<()> {
    let pool = site.engine.store.pool();
    tables::analyze(pool).await?;
    for workflow in &site.workflows {
        figures::mark_all(&mut *pool.acquire().await?, workflow.workflow_id).await?;
        let zone = workflow.definition.timezone;
        figures::refresh(pool, workflow.workflow_id, zone, site.engine.now()).await?;
    }
    Ok(())
}

fn pages(site: &Site) -> Vec<String> {
    let name = site.workflows.first().map_or("", |workflow| workflow.name());
    let model = MODELS.first().copied().unwrap_or_default();
    let home = format!("/analytics/{name}");
    vec![home.clone(), format!("{home}/cycles"), format!("{home}/models/{model}")]
}

/// A claim in microseconds, by the median, and a trigger check in milliseconds, by 99 of 100.
async fn checks(site: &Site) -> Outcome<[f64; 2]> {
    let (engine, pool) = (&site.engine, site.engine.store.pool());
    let workflow = site.ids().first().copied().unwrap_or(1);
    let number = i32::try_from(CHECKS)?;
    let (mut claims, mut looks) = (Rounds::default(), Vec::new());
    tables::ask_for_effects(pool, workflow, FIRST_SEQ, number).await?;
    for _ in 0..CHECKS {
        let began = Instant::now();
        let named = effects::workflows_with_work(pool, engine.now()).await?;
        let found = named.first().copied().unwrap_or(workflow);
        let lease = engine.settings.lease;
        let claimed = effects::claim(pool, found, engine.worker_id, lease, engine.now()).await?;
        claims.0.push(began.elapsed().as_secs_f64() * 1e6);
        if claimed.is_none() {
            return Err("there was an effect to claim, and it was not found".into());
        }
        let began = Instant::now();
        if window::is_full(pool, workflow, WINDOW.into()).await? {
            return Err("every task is in a window, and a window was called full".into());
        }
        looks.push(began.elapsed().as_secs_f64() * 1e3);
    }
    history::drop_effects_asked(pool, workflow, FIRST_SEQ.into()).await?;
    looks.sort_by(f64::total_cmp);
    Ok([claims.median(), looks.get(looks.len() * 99 / 100).copied().unwrap_or(f64::NAN)])
}
