//! Ninety days of tasks, kept for years: each night the oldest day goes while tasks come in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use mathesis::store::retention::{self, Cleanup};
use tokio::runtime::Runtime;

use crate::cycles::Site;
use crate::options::Row;
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome, history, tables};

const ROW: Row = Row::Retention;
const DAYS_KEPT: i64 = 90;
/// Nights after which the tables are weighed: twice everything has been replaced by then.
const NIGHTS: i64 = 2 * DAYS_KEPT;
/// Tasks of a transaction, as the pruner has it.
const BATCH: i64 = 500;
/// What comes in while a night's cleanup runs, in tasks a statement.
const MORSEL: i32 = 20;

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    runtime.block_on(measure(bench))
}

/// What the nights showed.
#[derive(Default)]
struct Nights {
    removed: i64,
    vacuumed: usize,
    longest_step_ms: f64,
    inserts_alone_ms: Vec<f64>,
    inserts_beside_ms: Vec<f64>,
}

async fn measure(bench: &Bench) -> Outcome<Vec<Line>> {
    let url = bench.cluster.database().await?;
    let site = Site::with(&url, 1, 4).await?;
    let (pool, workflow) = (site.engine.store.pool(), site.ids().first().copied().unwrap_or(1));
    let a_day = i32::try_from(bench.options.tasks_a_day)?;
    for day in 1..=DAYS_KEPT {
        history::a_day_of_tasks(pool, workflow, day, (0, a_day)).await?;
    }
    tables::analyze(pool).await?;
    let full = history::database_bytes(pool).await?;
    let mut nights = Nights::default();
    let mut halfway = full;
    for night in 1..=NIGHTS {
        pass(&site, workflow, (DAYS_KEPT + night, a_day), &mut nights).await?;
        nights.vacuumed += history::vacuum_what_is_due(pool).await?;
        if night == DAYS_KEPT {
            halfway = history::database_bytes(pool).await?;
        }
    }
    let end = history::database_bytes(pool).await?;
    let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
    let size = |what: &str, bytes: f64, against: &str, before: f64| {
        Line::once(ROW, what, "MiB", mib(bytes)).against(against, Rounds(vec![mib(before)]))
    };
    let at = |mut taken: Vec<f64>| {
        taken.sort_by(f64::total_cmp);
        taken.get(taken.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    };
    let first = format!("size after {DAYS_KEPT} nights of {a_day} tasks out and in");
    let second = format!("size after {NIGHTS} nights");
    Ok(vec![
        size(&first, halfway, "when it was first full", full),
        size(&second, end, &format!("after {DAYS_KEPT}"), halfway)
            .reaching(Reach::RatioBelow(1.1))
            .noting(format!(
                "tombstones and the archive grow, tables do not; a table was vacuumed {} times",
                nights.vacuumed
            )),
        Line::once(ROW, "longest transaction of a cleanup", "ms", nights.longest_step_ms)
            .noting(format!("{} tasks removed, {BATCH} a transaction", nights.removed)),
        Line::once(ROW, "tasks coming in beside it, 99 of 100", "ms", at(nights.inserts_beside_ms))
            .against("before and after it", Rounds(vec![at(nights.inserts_alone_ms)]))
            .noting(format!("{MORSEL} tasks with attempts and keys a statement")),
    ])
}

/// One day comes in, a part of it while the oldest is removed.
async fn pass(
    site: &Site,
    workflow: i64,
    (day, a_day): (i64, i32),
    nights: &mut Nights,
) -> Outcome<()> {
    let pool = site.engine.store.pool();
    let done = AtomicBool::new(false);
    let cleaning = async {
        let cleaned = clean(site, workflow, day - DAYS_KEPT).await;
        done.store(true, Ordering::Relaxed);
        cleaned
    };
    let coming = async {
        let (mut next, mut beside, mut alone) = (0, Vec::new(), Vec::new());
        while next < a_day {
            let until = (next + MORSEL).min(a_day);
            let (began, was_done) = (Instant::now(), done.load(Ordering::Relaxed));
            history::a_day_of_tasks(pool, workflow, day, (next, until)).await?;
            let taken = began.elapsed().as_secs_f64() * 1e3;
            if was_done {
                alone.push(taken)
            } else {
                beside.push(taken)
            }
            next = until;
        }
        Outcome::Ok((beside, alone))
    };
    let (cleaned, came) = tokio::join!(cleaning, coming);
    let ((removed, longest), (beside, alone)) = (cleaned?, came?);
    nights.removed += removed;
    nights.longest_step_ms = nights.longest_step_ms.max(longest.as_secs_f64() * 1e3);
    nights.inserts_beside_ms.extend(beside);
    nights.inserts_alone_ms.extend(alone);
    Ok(())
}

/// Removes what came on that day or before, as the pruner does; how much that was, and its longest transaction.
async fn clean(site: &Site, workflow: i64, day: i64) -> Outcome<(i64, Duration)> {
    let rules = Cleanup {
        created_before: history::day_zero() + TimeDelta::days(day + 1),
        now: site.engine.now(),
        time_zone: site.workflows.first().map_or(chrono_tz::UTC, |it| it.definition.timezone),
        batch: BATCH,
    };
    let (mut removed, mut longest) = (0, Duration::ZERO);
    loop {
        let began = Instant::now();
        let step = retention::cleanup(site.engine.store.pool(), workflow, &rules).await?;
        longest = longest.max(began.elapsed());
        removed += step.removed;
        if !step.more {
            return Ok((removed, longest));
        }
    }
}
