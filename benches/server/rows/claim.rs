//! Claiming an effect, beside no parked cycle and beside very many.

use std::time::{Duration, Instant};

use mathesis::store::effects;
use tokio::runtime::Runtime;

use crate::cycles::Site;
use crate::options::Row;
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome, tables};

const ROW: Row = Row::Claim;
const CLAIMS_A_ROUND: i32 = 200;
/// A figure that takes longer than this is not waited for any further.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let none = runtime.block_on(parked(bench, 0))?;
    let many = runtime.block_on(parked(bench, i32::try_from(bench.options.parked)?))?;
    let (mut ours, mut floor) = (Rounds::default(), Rounds::default());
    for round in 0..i32::try_from(bench.options.rounds)? {
        floor.0.push(runtime.block_on(claim(&none, round))?);
        ours.0.push(runtime.block_on(claim(&many, round))?);
    }
    let what = format!("claim beside {} parked cycles", bench.options.parked);
    let line = Line::new(ROW, what, "µs", ours)
        .against("beside none", floor)
        .reaching(Reach::RatioBelow(2.0));
    Ok(vec![line.noting("finding who has work, and claiming; half of the parked are paused")])
}

async fn parked(bench: &Bench, number: i32) -> Outcome<Site> {
    let url = bench.cluster.database().await?;
    let site = Site::with(&url, 1, 2).await?;
    let pattern = site.ids().first().copied().unwrap_or(1);
    let pool = site.engine.store.pool();
    tables::park_cycles(pool, pattern, number).await?;
    // The first look meets every paused effect, and parks it.
    let began = Instant::now();
    effects::workflows_with_work(pool, site.engine.now()).await?;
    eprintln!("  the first look at {number} parked cycles: {:.1} s", began.elapsed().as_secs_f64());
    tables::analyze(pool).await?;
    Ok(site)
}

/// The median time of a claim, in microseconds.
async fn claim(site: &Site, round: i32) -> Outcome<f64> {
    let (engine, pool) = (&site.engine, site.engine.store.pool());
    let workflow = site.ids().first().copied().unwrap_or(1);
    tables::ask_for_effects(pool, workflow, round * CLAIMS_A_ROUND, CLAIMS_A_ROUND).await?;
    let (lease, began) = (engine.settings.lease, Instant::now());
    let mut taken = Vec::new();
    for _ in 0..CLAIMS_A_ROUND {
        let started = Instant::now();
        // What a worker does that looks for work.
        let mut claimed = None;
        for workflow in effects::workflows_with_work(pool, engine.now()).await? {
            claimed = effects::claim(pool, workflow, engine.worker_id, lease, engine.now()).await?;
            if claimed.is_some() {
                break;
            }
        }
        taken.push(started.elapsed().as_secs_f64() * 1e6);
        if claimed.is_none() {
            return Err("there was an effect to claim, and it was not found".into());
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(Rounds(taken).median())
}
