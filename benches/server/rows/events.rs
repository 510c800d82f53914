//! Events of 1 KB over HTTP, acknowledged once committed, in batches of 1, 10 and 100.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Runtime;

use crate::floor::PgBench;
use crate::load::{self, Measured, Pace};
use crate::options::Row;
use crate::process::{Served, shipped_workflows};
use crate::report::{Line, Reach, Rounds};
use crate::requests::Events;
use crate::{Bench, Outcome, tables};

const ROW: Row = Row::Events;
/// Events of a batch, and the connections that send such batches.
const BATCHES: [(u64, usize); 3] = [(1, 64), (10, 32), (100, 16)];
/// Rows of a transaction of the floor, and its connections: 16 are no faster on two cores.
const FLOOR_ROWS: u64 = 100;
const FLOOR_CONNECTIONS: u32 = 4;

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let server = Served::mathesis(&url, &shipped_workflows())?;
    let floor_url = runtime.block_on(bench.cluster.database())?;
    let straight = runtime.block_on(Straight::new(&floor_url))?;
    let transactions = PgBench::ready(&bench.cluster, runtime)?;
    let span = bench.options.span();
    send(&server, &Events::new("warm"), (100, 4), Pace::Count { requests: 40 })?;
    runtime.block_on(straight.insert_for(span / 4, u32::MAX))?;
    // As in production, where autovacuum has looked at the tables within a minute.
    for url in [&url, &floor_url] {
        runtime.block_on(async { tables::analyze(&PgPool::connect(url).await?).await })?;
    }
    let mut ours = BATCHES.map(|_| Rounds::default());
    let mut p99 = BATCHES.map(|_| Rounds::default());
    let (mut inserts, mut commits) = (Rounds::default(), Rounds::default());
    for round in 0..bench.options.rounds {
        inserts.0.push(runtime.block_on(straight.insert_for(span, round))?);
        if let Some(transactions) = &transactions {
            commits.0.push(transactions.transactions(16, span)?);
        }
        let figures = BATCHES.iter().zip(ours.iter_mut().zip(&mut p99));
        for ((batch, connections), (ours, p99)) in figures {
            let events = Events::new(format!("batch-{batch}-{round}"));
            let measured = send(&server, &events, (*batch, *connections), Pace::Closed { span })?;
            ours.0.push(measured.rate() * (*batch as f64));
            p99.0.push(measured.milliseconds(0.99));
        }
    }
    let memory = server.memory_mib()?;
    let mut lines = Vec::new();
    for ((batch, connections), (ours, p99)) in BATCHES.iter().zip(ours.into_iter().zip(p99)) {
        let what = format!("batches of {batch}, {connections} connections");
        let line = Line::new(ROW, what, "events/s", ours.clone())
            .against("multi-row insert", inserts.clone())
            .noting(format!("p99 {:.1} ms", p99.median()));
        lines.push(if *batch == 100 { line.reaching(Reach::RatioAtLeast(0.5)) } else { line });
        if *batch == 1 && !commits.0.is_empty() {
            lines.push(
                Line::new(ROW, "batches of 1, group commit", "events/s", ours)
                    .against("pgbench -N -c16", commits.clone())
                    .reaching(Reach::RatioAtLeast(2.0)),
            );
        }
    }
    lines.push(
        Line::once(ROW, "memory of the server after it", "MiB", memory)
            .reaching(Reach::Below(150.0)),
    );
    Ok(lines)
}

fn send(
    server: &Served,
    events: &Events,
    (batch, connections): (u64, usize),
    pace: Pace,
) -> Outcome<Measured> {
    let mut body = Vec::new();
    let mut write = |number, out: &mut Vec<u8>| events.request(number, batch, &mut body, out);
    load::run(server.address, connections, pace, &mut write)?.checked()
}

/// The floor: the same rows, many a statement, straight into the same tables.
struct Straight {
    pool: PgPool,
    workflow_id: i64,
}

/// The rows of one transaction, as columns.
#[derive(Default)]
struct Columns {
    tasks: Vec<String>,
    attempt_tasks: Vec<String>,
    models: Vec<String>,
    iterations: Vec<i32>,
    original: Vec<String>,
    enhanced: Vec<String>,
    hashes: Vec<Vec<u8>>,
}

impl Columns {
    fn of(events: &Events, from: u64) -> Self {
        let (original, enhanced) = events.prompts();
        let mut columns = Self::default();
        for number in from..from + FLOOR_ROWS {
            let place = events.place(number);
            if columns.tasks.last() != Some(&place.task) {
                columns.tasks.push(place.task.clone());
            }
            columns.hashes.push(format!("{:032x}", u128::from(number)).into_bytes());
            columns.attempt_tasks.push(place.task);
            columns.models.push(place.model.to_owned());
            columns.iterations.push(i32::try_from(place.iteration).unwrap_or(1));
            columns.original.push(original.clone());
            columns.enhanced.push(enhanced.clone());
        }
        columns
    }
}

impl Straight {
    async fn new(url: &str) -> Outcome<Self> {
        let pool = PgPoolOptions::new().max_connections(FLOOR_CONNECTIONS).connect(url).await?;
        let workflow_id = sqlx::query_scalar(
            "INSERT INTO workflows (name, definition_hash, created_at, updated_at)
             VALUES ('floor', '', now(), now()) RETURNING workflow_id",
        )
        .fetch_one(&pool)
        .await?;
        Ok(Self { pool, workflow_id })
    }

    /// Rows a second that its connections insert together.
    async fn insert_for(&self, span: std::time::Duration, round: u32) -> Outcome<f64> {
        let events = Arc::new(Events::new(format!("floor-{round}")));
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let inserting = (0..FLOOR_CONNECTIONS).map(|_| {
            let (events, next) = (Arc::clone(&events), Arc::clone(&next));
            let (pool, workflow_id) = (self.pool.clone(), self.workflow_id);
            tokio::spawn(async move {
                while began.elapsed() < span {
                    let from = next.fetch_add(FLOOR_ROWS, Ordering::Relaxed);
                    insert(&pool, workflow_id, &Columns::of(&events, from)).await?;
                }
                Ok::<_, sqlx::Error>(())
            })
        });
        for inserted in inserting.collect::<Vec<_>>() {
            inserted.await??;
        }
        Ok(next.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
    }
}

async fn insert(pool: &PgPool, workflow_id: i64, columns: &Columns) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "INSERT INTO task_events (workflow_id, clickup_task_id, run_id, event_type, model_name, iteration, version,
                                  discriminator, content_hash, at, received_at)
         SELECT $1, task, '', 'enhancement', model, iteration, 1, '', hash, now(), now()
           FROM unnest($2::text[], $3::text[], $4::int[], $5::bytea[]) AS new (task, model, iteration, hash)",
    )
    .bind(workflow_id)
    .bind(&columns.attempt_tasks)
    .bind(&columns.models)
    .bind(&columns.iterations)
    .bind(&columns.hashes)
    .execute(&mut *tx)
    .await?;
    let tasks: Vec<(i64, String)> = sqlx::query_as(
        "INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at)
         SELECT $1, task, now(), now() FROM unnest($2::text[]) AS task RETURNING id, clickup_task_id",
    )
    .bind(workflow_id)
    .bind(&columns.tasks)
    .fetch_all(&mut *tx)
    .await?;
    let ids: std::collections::HashMap<&str, i64> =
        tasks.iter().map(|(id, task)| (task.as_str(), *id)).collect();
    let owners: Vec<i64> =
        columns.attempt_tasks.iter().filter_map(|task| ids.get(task.as_str()).copied()).collect();
    sqlx::query(
        "INSERT INTO attempts (workflow_id, task_id, model_name, iteration, prompt_version, original_prompt,
                               enhanced_prompt, enhancement_latency_ms, created_at)
         SELECT $1, task, model, iteration, 1, original, enhanced, 2300, now()
           FROM unnest($2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[])
                AS new (task, model, iteration, original, enhanced)",
    )
    .bind(workflow_id)
    .bind(&owners)
    .bind(&columns.models)
    .bind(&columns.iterations)
    .bind(&columns.original)
    .bind(&columns.enhanced)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
