//! A cycle's transitions: one after another, and of many cycles at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::cycles::{Cycle, STEP_NAMES, STEPS_AFTER_TEST, STEPS_TO_TEST, Site, WINDOW};
use crate::floor::PgBench;
use crate::options::Row;
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome, tables};

/// Connections of many cycles, as many as of their floor.
const CONNECTIONS: u32 = 16;

/// One workflow's cycles, one after another: the clock runs while `advance` does.
pub fn run_one_after_another(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let floor = PgBench::ready(&bench.cluster, runtime)?;
    let site = Arc::new(runtime.block_on(Site::with(&url, 1, 1))?);
    let Some(workflow) = site.workflows.first() else { return Ok(Vec::new()) };
    let mut cycle = Cycle::first(workflow.clone());
    let (mut ours, mut floors) = (Rounds::default(), Rounds::default());
    let mut steps = STEP_NAMES.map(|_| Rounds::default());
    // A few cycles into tables that were empty.
    (cycle, _) = runtime.block_on(on_a_worker(&site, cycle, Duration::from_millis(500)))?;
    for _ in 0..bench.options.rounds {
        if let Some(floor) = &floor {
            floors.0.push(floor.transactions(1, bench.options.span())?);
        }
        // Here cycles come within milliseconds, in production within days: autovacuum has looked at the tables by then.
        runtime.block_on(tables::analyze(site.engine.store.pool()))?;
        let driven;
        (cycle, driven) = runtime.block_on(on_a_worker(&site, cycle, bench.options.span()))?;
        ours.0.push(driven.rate());
        for (rounds, milliseconds) in steps.iter_mut().zip(driven.milliseconds_a_step()) {
            rounds.0.push(milliseconds);
        }
    }
    let line = Line::new(Row::Transitions, "one after another, one commit each", "/s", ours)
        .reaching(Reach::RatioAtLeast(0.8));
    let profile = STEP_NAMES.into_iter().zip(steps);
    let profile = profile.map(|(step, took)| Line::new(Row::Transitions, step, "ms", took));
    Ok(std::iter::once(against(line, "pgbench -N -c1", floors)).chain(profile).collect())
}

/// A spawned task, as the server's worker is one. Outside the runtime's own threads each answer of PostgreSQL would
/// first have to wake another thread.
async fn on_a_worker(
    site: &Arc<Site>,
    mut cycle: Cycle,
    span: Duration,
) -> Outcome<(Cycle, Driven)> {
    let site = Arc::clone(site);
    let driving = tokio::spawn(async move {
        let driven = whole_cycles(&site, &mut cycle, span).await?;
        Outcome::Ok((cycle, driven))
    });
    driving.await?
}

/// Cycles that were driven one after another.
#[derive(Default)]
struct Driven {
    cycles: u32,
    /// How long each step took in all of them.
    spent: [Duration; STEP_NAMES.len()],
}

impl Driven {
    fn all_spent(&self) -> Duration {
        self.spent.iter().sum()
    }

    /// Transitions a second.
    fn rate(&self) -> f64 {
        let transitions = f64::from(self.cycles) * STEP_NAMES.len() as f64;
        transitions / self.all_spent().as_secs_f64()
    }

    fn milliseconds_a_step(&self) -> [f64; STEP_NAMES.len()] {
        self.spent.map(|spent| spent.as_secs_f64() * 1e3 / f64::from(self.cycles))
    }
}

async fn whole_cycles(site: &Site, cycle: &mut Cycle, span: Duration) -> Outcome<Driven> {
    let pool = site.engine.store.pool();
    let mut driven = Driven::default();
    while driven.all_spent() < span {
        tables::complete_tasks(pool, &site.ids(), cycle.number, WINDOW).await?;
        for (sum, took) in driven.spent.iter_mut().zip(cycle.whole(site).await?) {
            *sum += took;
        }
        driven.cycles += 1;
    }
    Ok(driven)
}

/// Many workflows, each with its cycle, over as many connections as the floor has.
pub fn run_at_once(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let floor = PgBench::ready(&bench.cluster, runtime)?;
    let site =
        Arc::new(runtime.block_on(Site::with(&url, bench.options.workflows, CONNECTIONS))?);
    let mut cycles: Vec<Cycle> = site.workflows.iter().cloned().map(Cycle::first).collect();
    let (mut ours, mut floors) = (Rounds::default(), Rounds::default());
    let (mut commits, mut wal) = (Rounds::default(), Rounds::default());
    cycles = runtime.block_on(round_of(bench, &site, cycles))?.cycles;
    for _ in 0..bench.options.rounds {
        runtime.block_on(tables::analyze(site.engine.store.pool()))?;
        if let Some(floor) = &floor {
            floors.0.push(floor.transactions(CONNECTIONS, bench.options.span())?);
        }
        let round = runtime.block_on(round_of(bench, &site, std::mem::take(&mut cycles)))?;
        cycles = round.cycles;
        ours.0.push(f64::from(round.transitions) / round.spent.as_secs_f64());
        commits.0.push(round.commits / f64::from(round.transitions));
        wal.0.push(round.wal_bytes / f64::from(round.transitions));
    }
    let what = format!("{} cycles at once, {CONNECTIONS} connections", bench.options.workflows);
    let line = Line::new(Row::Cycles, what, "/s", ours).reaching(Reach::RatioAtLeast(0.8));
    Ok(vec![
        against(line, "pgbench -N -c16", floors),
        Line::new(Row::Cycles, "commits a transition", "", commits),
        Line::new(Row::Cycles, "write-ahead log a transition", "bytes", wal),
    ])
}

fn against(line: Line, name: &str, floors: Rounds) -> Line {
    if floors.0.is_empty() { line } else { line.against(name, floors) }
}

struct Round {
    cycles: Vec<Cycle>,
    transitions: u32,
    spent: Duration,
    commits: f64,
    wal_bytes: f64,
}

/// One whole cycle of every workflow. What stands between the transitions is not measured.
async fn round_of(bench: &Bench, site: &Arc<Site>, cycles: Vec<Cycle>) -> Outcome<Round> {
    let pool = site.engine.store.pool();
    let number = cycles.first().map_or(1, |cycle| cycle.number);
    tables::complete_tasks(pool, &site.ids(), number, WINDOW).await?;
    let mut round =
        Round { cycles, transitions: 0, spent: Duration::ZERO, commits: 0.0, wal_bytes: 0.0 };
    for step in 0..STEPS_TO_TEST + STEPS_AFTER_TEST {
        if step == STEPS_TO_TEST {
            tables::score_decks(pool, &site.ids()).await?;
        }
        let mut prepared = VecDeque::with_capacity(round.cycles.len());
        for cycle in round.cycles.drain(..) {
            prepared.push_back((cycle.prepare(&site.engine).await?, cycle));
        }
        let before = bench.cluster.effort(pool).await?;
        let began = Instant::now();
        round.cycles = step_all(site, prepared).await?;
        round.spent += began.elapsed();
        let (commits, wal_bytes) = bench.cluster.effort(pool).await?.since(before);
        round.transitions += u32::try_from(round.cycles.len())?;
        round.commits += commits;
        round.wal_bytes += wal_bytes;
    }
    Ok(round)
}

/// Moves every cycle by one transition, as many at a time as there are connections.
async fn step_all(
    site: &Arc<Site>,
    prepared: VecDeque<(mathesis::runtime::What, Cycle)>,
) -> Outcome<Vec<Cycle>> {
    let waiting = Arc::new(Mutex::new(prepared));
    let moving = (0..CONNECTIONS).map(|_| {
        let (site, waiting) = (Arc::clone(site), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut moved = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((what, mut cycle)) = next else { return Outcome::Ok(moved) };
                cycle.advance(&site.engine, what).await?;
                moved.push(cycle);
            }
        })
    });
    let mut cycles = Vec::new();
    for moved in moving.collect::<Vec<_>>() {
        cycles.extend(moved.await??);
    }
    Ok(cycles)
}
