//! Whether enough tasks wait for an analysis: asked each second, in a table that only grows.

use std::time::Instant;

use mathesis::store::window;
use tokio::runtime::Runtime;

use crate::cycles::{Site, WINDOW};
use crate::options::Row;
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome, tables};

const ROW: Row = Row::Trigger;
/// The table before it grows.
const FEW: i64 = 10_000;
const CHECKS_A_ROUND: u32 = 200;
const TASKS_A_STATEMENT: i64 = 250_000;

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    runtime.block_on(measure(bench))
}

async fn measure(bench: &Bench) -> Outcome<Vec<Line>> {
    let url = bench.cluster.database().await?;
    let site = Site::with(&url, 1, 4).await?;
    let (pool, workflow) = (site.engine.store.pool(), site.ids().first().copied().unwrap_or(1));
    tables::past_tasks(pool, workflow, 1, FEW).await?;
    tables::complete_tasks(pool, &site.ids(), 1, WINDOW - 20).await?;
    tables::analyze(pool).await?;
    let mut few = Rounds::default();
    for _ in 0..bench.options.rounds {
        few.0.push(check(&site, workflow).await?);
    }
    let tasks = i64::from(bench.options.tasks).max(FEW);
    bench.cluster.wide_log(true).await?;
    let began = Instant::now();
    fill(&site, workflow, tasks).await?;
    eprintln!("  {tasks} tasks in {:.0} s", began.elapsed().as_secs_f64());
    bench.cluster.wide_log(false).await?;
    let mut many = Rounds::default();
    for _ in 0..bench.options.rounds {
        many.0.push(check(&site, workflow).await?);
    }
    let line = Line::new(ROW, format!("check at {tasks} tasks, 99 of 100"), "ms", many)
        .against(format!("at {FEW}"), few)
        .reaching(Reach::Below(1.0));
    Ok(vec![line.noting("too few tasks wait, so that all of them are counted")])
}

/// The rest of the table, over two connections.
async fn fill(site: &Site, workflow: i64, tasks: i64) -> Outcome<()> {
    let next = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(FEW + 1));
    let filling = (0..2).map(|_| {
        let (pool, next) = (site.engine.store.pool().clone(), std::sync::Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let from = next.fetch_add(TASKS_A_STATEMENT, std::sync::atomic::Ordering::Relaxed);
                if from > tasks {
                    return Outcome::Ok(());
                }
                let to = tasks.min(from + TASKS_A_STATEMENT - 1);
                tables::past_tasks(&pool, workflow, from, to).await?;
            }
        })
    });
    for filled in filling.collect::<Vec<_>>() {
        filled.await??;
    }
    tables::analyze(site.engine.store.pool()).await
}

/// The time below which 99 of 100 checks stay, in milliseconds.
async fn check(site: &Site, workflow: i64) -> Outcome<f64> {
    let mut taken = Vec::new();
    for _ in 0..CHECKS_A_ROUND {
        let began = Instant::now();
        let full = window::is_full(site.engine.store.pool(), workflow, WINDOW.into()).await?;
        taken.push(began.elapsed().as_secs_f64() * 1e3);
        if full {
            return Err("fewer tasks than a window wait, and it was called full".into());
        }
    }
    taken.sort_by(f64::total_cmp);
    Ok(taken.get(taken.len() * 99 / 100).copied().unwrap_or(f64::NAN))
}
