//! The sweep: which points are run, several at once, and what they came to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use mathesis::postgres::Purpose;

use super::Arguments;
use super::cluster::Cluster;
use super::disk::Disk;
use super::faults::{Fault, SHORT_LEASE_SECONDS};
use super::plant::{Scenario, Setup, words};
use super::points::{Point, worth_a_run};
use super::run::{Ran, Undisturbed, disturbed_at, undisturbed};

/// One fault at every point; true when every run ended as the undisturbed one.
pub async fn every_point(
    fault: Fault,
    arguments: &Arguments,
    mathesis: &Path,
) -> Result<bool, String> {
    if fault.needs_own_disk()
        && let Err(why) = Disk::is_permitted()
    {
        println!("{fault:?}: SKIPPED, no disk can be mounted here, so none was spoilt: {why}");
        return Ok(true);
    }
    // A crash of PostgreSQL must find on the disk what was committed.
    let purpose =
        if fault == Fault::Postgres { Purpose::ThrowawayDurable } else { Purpose::Throwaway };
    let shim = mathesis.to_owned();
    let starting = tokio::task::spawn_blocking(move || Cluster::start(purpose, shim));
    let cluster = starting.await.map_err(words)?;
    let well = on(&cluster, fault, arguments, mathesis).await;
    // Stopping the server blocks.
    tokio::task::spawn_blocking(move || drop(cluster)).await.map_err(words)?;
    well
}

async fn on(
    cluster: &Cluster,
    fault: Fault,
    arguments: &Arguments,
    mathesis: &Path,
) -> Result<bool, String> {
    let began = Instant::now();
    let mut seen = BTreeMap::new();
    let mut runs: Vec<(Scenario, Point)> = Vec::new();
    let mut ends: BTreeMap<Scenario, Undisturbed> = BTreeMap::new();
    let mut chance = StdRng::seed_from_u64(arguments.seed);
    for scenario in Scenario::ALL {
        let alone = Setup { replicas: 1, ..setup(fault, arguments, mathesis, scenario) };
        let end = match undisturbed(cluster, alone).await {
            Ok(end) => end,
            Err(wrong) => {
                println!("FAILED {scenario:?} without any fault: {wrong}");
                return Ok(false);
            }
        };
        // What the other scenario has passed in the same way need not be run again.
        let fresh = end.counts.iter().filter(|(name, _)| !seen.contains_key(*name));
        let fresh: BTreeMap<String, u32> =
            fresh.map(|(name, count)| (name.clone(), *count)).collect();
        let mut points = worth_a_run(&fresh);
        let only = arguments.only.as_deref().unwrap_or_default();
        points.retain(|point| fault.suits(point) && point.name.contains(only));
        let points = chosen(points, arguments, &mut chance);
        println!(
            "{fault:?}, {scenario:?}: {} statements and calls are points, {} of them new here, passed {} times; {} runs",
            end.counts.len(),
            fresh.len(),
            fresh.values().sum::<u32>(),
            points.len()
        );
        seen.extend(fresh);
        runs.extend(points.into_iter().map(|point| (scenario, point)));
        ends.insert(scenario, end);
    }
    let mut figures = Figures::default();
    let mut running = futures::stream::iter(runs.iter().map(|(scenario, point)| {
        let setup = setup(fault, arguments, mathesis, *scenario);
        let end = &ends[scenario];
        async move { (scenario, point, disturbed_at(cluster, setup, (fault, point), end).await) }
    }))
    // All runs share the one PostgreSQL that is killed.
    .buffer_unordered(if fault == Fault::Postgres { 1 } else { arguments.parallel.max(1) });
    while let Some((scenario, point, ran)) = running.next().await {
        figures.note(fault, *scenario, point, ran);
        if arguments.stop_at_first && figures.failed > 0 {
            break;
        }
    }
    drop(running);
    figures.print(fault, began.elapsed());
    // At a few points there may be nobody whose claim could be taken over.
    let hollow = figures.took_hold == 0 && fault != Fault::Freeze;
    if hollow {
        println!("FAILED {fault:?}: it changed nothing at any point");
    }
    Ok(figures.failed == 0 && figures.points > 0 && !hollow)
}

fn setup(fault: Fault, arguments: &Arguments, mathesis: &Path, scenario: Scenario) -> Setup {
    Setup {
        mathesis: mathesis.to_owned(),
        scenario,
        replicas: fault.replicas(arguments.replicas.max(1)),
        lease_seconds: if fault == Fault::Freeze { SHORT_LEASE_SECONDS } else { 60 },
        patience: Duration::from_secs(arguments.patience_seconds),
        broken: arguments.broken.clone(),
        own_disk: fault.needs_own_disk(),
    }
}

fn chosen(all: Vec<Point>, arguments: &Arguments, chance: &mut StdRng) -> Vec<Point> {
    let mut points = all;
    if arguments.bounded {
        let mut by_name: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        for point in points {
            by_name.entry(point.name.clone()).or_default().push(point);
        }
        points = by_name.values().filter_map(|of_name| of_name.choose(chance).cloned()).collect();
    }
    if let Some(most) = arguments.points {
        points.shuffle(chance);
        points.truncate(most);
    }
    points
}

#[derive(Default)]
struct Figures {
    points: u32,
    not_passed: u32,
    took_hold: u32,
    failed: u32,
    kills: u32,
    ended_by_themselves: u32,
    calls_beyond: u64,
    recovery_worst: Duration,
}

impl Figures {
    fn note(&mut self, fault: Fault, scenario: Scenario, point: &Point, ran: Result<Ran, String>) {
        match ran {
            Ok(ran) => {
                self.points += u32::from(ran.reached);
                self.not_passed += u32::from(!ran.reached);
                self.took_hold += u32::from(ran.took_hold);
                self.kills += ran.kills;
                self.ended_by_themselves += ran.ended_by_themselves;
                self.calls_beyond += ran.calls_beyond;
                self.recovery_worst = self.recovery_worst.max(ran.recovery);
                if !ran.wrong.is_empty() {
                    self.failed += 1;
                    println!("FAILED {scenario:?}, {fault:?} {point}\n{}", ran.wrong.join("\n"));
                    println!("--- the server's log\n{}", ran.log);
                }
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED {scenario:?}, {fault:?} {point}: {error}");
            }
        }
    }

    fn print(&self, fault: Fault, took: Duration) {
        println!(
            "{fault:?}: points {} (and {} not passed this time), took hold at {}, kills {}, servers that ended in their start {}, failed {}, {} s, \
             Claude calls beyond the undisturbed {}, worst recovery {:.1} s",
            self.points,
            self.not_passed,
            self.took_hold,
            self.kills,
            self.ended_by_themselves,
            self.failed,
            took.as_secs(),
            self.calls_beyond,
            self.recovery_worst.as_secs_f64()
        );
    }
}
