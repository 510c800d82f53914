//! Events under load: clients send without a pause while processes, PostgreSQL and connections are killed at random.
//! Every event that was acknowledged must be there once, and none twice, acknowledged or not.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use mathesis::postgres::Purpose;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Arguments;
use super::cluster::Cluster;
use super::documents::{NANO, WAN};
use super::drive::Client;
use super::events::TaskRun;
use super::plant::{Plant, Scenario, Setup, words};

/// Clients that send at once.
const CLIENTS: u64 = 8;
/// Tasks whose events are sent together.
const TASKS_A_BATCH: u64 = 10;
/// What a run of a task with both models has: its start, three events a model, its end.
const EVENTS_A_TASK: u64 = 8;
/// Batches that are sent again at the end, of a run too large to send all of it again.
const SENT_AGAIN_MAX: u64 = 250;
/// Between two faults, in milliseconds.
const PEACE: Range<u64> = 300..1_200;

/// Sends that many events under kills; true when all of them are there once.
pub async fn under_kills(
    events: u64,
    arguments: &Arguments,
    mathesis: &Path,
) -> Result<bool, String> {
    // A crash of PostgreSQL must find on the disk what was committed.
    let shim = mathesis.to_owned();
    let start = move || Cluster::start(Purpose::ThrowawayDurable, shim);
    let cluster = tokio::task::spawn_blocking(start).await.map_err(words)?;
    let well = on(&cluster, events, arguments, mathesis).await;
    tokio::task::spawn_blocking(move || drop(cluster)).await.map_err(words)?;
    well
}

async fn on(
    cluster: &Cluster,
    events: u64,
    arguments: &Arguments,
    mathesis: &Path,
) -> Result<bool, String> {
    let setup = Setup {
        mathesis: mathesis.to_owned(),
        scenario: Scenario::Adopted,
        replicas: arguments.replicas.max(2),
        lease_seconds: 60,
        patience: Duration::from_secs(arguments.patience_seconds),
        broken: arguments.broken.clone(),
        own_disk: false,
    };
    let plant = Plant::new(cluster, setup).await?;
    plant.start_all()?;
    let batches = events.div_ceil(TASKS_A_BATCH * EVENTS_A_TASK);
    let load = Load::new(batches);
    let began = Instant::now();
    let over = CancellationToken::new();
    let client = Client::new(&plant);
    let (sent, faults) = futures::future::join(
        async {
            let sent = try_join_all((0..CLIENTS).map(|_| load.send(&client))).await;
            over.cancel();
            sent
        },
        faults((&plant, cluster), StdRng::seed_from_u64(arguments.seed), &over),
    )
    .await;
    let took = began.elapsed();
    let (_, faults) = (sent?, faults?);
    plant.start_all()?;
    let checked = check(&plant, &client, batches).await?;
    load.print(took, &faults, &client, &checked);
    plant.kill_all();
    Ok(checked.lost == 0 && checked.twice == 0 && faults.all() > 0)
}

/// What the clients share.
struct Load {
    batches: u64,
    next: AtomicU64,
    acknowledged: AtomicU64,
    /// Acknowledged only when they were sent again, since they had been committed before.
    known_already: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Load {
    const fn new(batches: u64) -> Self {
        Self {
            batches,
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            known_already: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
        }
    }

    /// Sends one batch after the other, each until it is acknowledged.
    async fn send(&self, client: &Client<'_>) -> Result<(), String> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.batches {
                return Ok(());
            }
            let began = Instant::now();
            let report = client.call(reqwest::Method::POST, "/events", Some(batch(number))).await?;
            let waited = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.slowest_ms.fetch_max(waited, Ordering::Relaxed);
            let known = report["duplicate"].as_u64().unwrap_or(0);
            let told = report["accepted"].as_u64().unwrap_or(0) + known;
            if told != TASKS_A_BATCH * EVENTS_A_TASK {
                return Err(format!("a batch was not taken whole: {report}"));
            }
            self.acknowledged.fetch_add(told, Ordering::Relaxed);
            self.known_already.fetch_add(known, Ordering::Relaxed);
        }
    }

    fn print(&self, took: Duration, faults: &Faults, client: &Client<'_>, checked: &Checked) {
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        println!(
            "Load: events {acknowledged} acknowledged, {} s, {:.0} a second, kills of a process {}, crashes of PostgreSQL {}, \
             times all connections were broken {}, calls {} for {} batches, events committed before their acknowledgement got \
             lost {}, longest wait for one {:.1} s, sent again at the end {}, lost {}, double {}",
            took.as_secs(),
            acknowledged as f64 / took.as_secs_f64(),
            faults.killed,
            faults.crashed,
            faults.broken,
            client.called(),
            self.batches,
            self.known_already.load(Ordering::Relaxed),
            self.slowest_ms.load(Ordering::Relaxed) as f64 / 1000.0,
            checked.sent_again,
            checked.lost,
            checked.twice
        );
    }
}

/// The events of ten tasks, the same however often they are made.
fn batch(number: u64) -> Value {
    let tasks = (0..TASKS_A_BATCH).map(|task| number * TASKS_A_BATCH + task);
    let events: Vec<Value> = tasks
        .flat_map(|task| {
            TaskRun::new(format!("load-{task}"), &[(WAN, 0, 7), (NANO, 0, 6)]).events()
        })
        .collect();
    json!(events)
}

/// What went wrong, and how often.
#[derive(Debug, Default)]
struct Faults {
    killed: u64,
    crashed: u64,
    broken: u64,
}

impl Faults {
    const fn all(&self) -> u64 {
        self.killed + self.crashed + self.broken
    }
}

/// Has something go wrong every now and then until all is sent.
async fn faults(
    (plant, cluster): (&Plant, &Cluster),
    mut chance: StdRng,
    over: &CancellationToken,
) -> Result<Faults, String> {
    let mut faults = Faults::default();
    loop {
        let peace = Duration::from_millis(chance.random_range(PEACE));
        tokio::select! {
            () = over.cancelled() => return Ok(faults),
            () = tokio::time::sleep(peace) => {}
        }
        match chance.random_range(0..10) {
            0 => {
                cluster.crash_and_restart().await?;
                faults.crashed += 1;
            }
            1..4 => {
                plant.break_connections();
                faults.broken += 1;
            }
            _ => {
                let replica = chance.random_range(0..plant.setup.replicas);
                plant.kill(replica);
                plant.start(replica)?;
                faults.killed += 1;
            }
        }
        plant.revive()?;
    }
}

/// What was found at the end.
struct Checked {
    sent_again: u64,
    lost: i64,
    twice: i64,
}

/// Counts on the store itself, and sends again what the server then has to know.
async fn check(plant: &Plant, client: &Client<'_>, batches: u64) -> Result<Checked, String> {
    let tasks = i64::try_from(batches * TASKS_A_BATCH).map_err(words)?;
    let expected = i64::try_from(batches * TASKS_A_BATCH * EVENTS_A_TASK).map_err(words)?;
    let distinct = plant
        .count(
            "SELECT count(*) FROM (SELECT DISTINCT clickup_task_id, run_id, event_type, model_name, iteration, version
               FROM task_events) AS known",
        )
        .await?;
    let whole = plant
        .count(&format!(
            "SELECT count(*) FROM (SELECT clickup_task_id FROM task_events GROUP BY 1 HAVING count(*) = {EVENTS_A_TASK}) AS whole"
        ))
        .await?;
    let all = plant.count("SELECT count(*) FROM task_events").await?;
    let runs = plant.count("SELECT count(*) FROM tasks").await?;
    let attempts = plant.count("SELECT count(*) FROM attempts").await?;
    let every = batches.div_ceil(SENT_AGAIN_MAX).max(1);
    let (mut sent_again, mut unknown) = (0, 0);
    for number in (0..batches).step_by(usize::try_from(every).map_err(words)?) {
        let report = client.call(reqwest::Method::POST, "/events", Some(batch(number))).await?;
        let known = report["duplicate"].as_u64().unwrap_or(0);
        sent_again += TASKS_A_BATCH * EVENTS_A_TASK;
        unknown += i64::try_from(TASKS_A_BATCH * EVENTS_A_TASK - known).map_err(words)?;
    }
    let missing = (expected - distinct) + (tasks - whole) + (tasks - runs).max(0);
    let twice = (all - distinct) + (runs - tasks).max(0) + (attempts - 2 * tasks).abs();
    Ok(Checked { sent_again, lost: missing + unknown, twice })
}
