//! What goes wrong at a point.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures::future::join;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::cluster::Cluster;
use super::drive::Client;
use super::plant::{Plant, words};
use super::points::{Point, Reached, Side, Verdict};

/// How long a claim outlives its worker's last sign of life, where a process is stopped for longer: the least that a
/// workflow may say.
pub const SHORT_LEASE_SECONDS: u32 = 5;
/// How long an operator's act is under way before what stands at the point goes on.
const HEAD_START: Duration = Duration::from_millis(150);
/// How long an operator looks at a held cycle.
const PAUSED_FOR: Duration = Duration::from_millis(400);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// SIGKILL, and the process is started again.
    Kill,
    /// The connection breaks, and nobody learns whether what was sent was done.
    Break,
    /// SIGSTOP until the lease is over and another replica has gone on, then SIGCONT.
    Freeze,
    /// PostgreSQL is killed with all its sessions, and started again.
    Postgres,
    /// An operator pauses the cycle, and resumes it.
    Pause,
    /// An operator cancels the cycle.
    Cancel,
}

/// What a fault leaves to be held against the end.
#[derive(Debug, Default)]
pub struct Disturbed {
    pub kills: u32,
    /// From the fault until everything went on.
    pub recovery: Duration,
    /// Calls of Claude without an outcome when the process was dead: the kill fell inside them. None where the process
    /// lived on.
    pub open_calls: Option<i64>,
}

impl Fault {
    /// True where the fault says something new at that point.
    pub fn suits(self, point: &Point) -> bool {
        match self {
            Self::Kill | Self::Freeze => true,
            Self::Break => point.side != Side::Before,
            Self::Postgres => point.side != Side::During,
            Self::Pause | Self::Cancel => point.side == Side::Before,
        }
    }

    /// Replicas that it needs at least.
    pub fn replicas(self, asked: usize) -> usize {
        if self == Self::Freeze { asked.max(2) } else { asked }
    }

    /// Happens to whoever stands at the point.
    pub async fn happen(
        self,
        (plant, cluster): (&Plant, &Cluster),
        client: &Client<'_>,
        reached: Reached,
    ) -> Result<Disturbed, String> {
        let began = Instant::now();
        let mut disturbed = match self {
            Self::Kill => kill(plant, reached).await?,
            Self::Break => {
                reached.let_it(Verdict::Break);
                Disturbed::default()
            }
            Self::Freeze => freeze(plant, reached).await?,
            Self::Postgres => {
                cluster.crash_and_restart().await?;
                reached.let_it(Verdict::Break);
                everybody_answers(plant).await?;
                Disturbed { kills: 1, ..Disturbed::default() }
            }
            Self::Pause => {
                operate(client, "pause", reached).await?;
                tokio::time::sleep(PAUSED_FOR).await;
                client.operate("resume").await?;
                Disturbed::default()
            }
            Self::Cancel => {
                operate(client, "cancel", reached).await?;
                Disturbed::default()
            }
        };
        disturbed.recovery = began.elapsed();
        Ok(disturbed)
    }
}

async fn kill(plant: &Plant, reached: Reached) -> Result<Disturbed, String> {
    let replica = reached.replica;
    plant.kill(replica);
    reached.let_it(Verdict::Break);
    let alone = plant.setup.replicas == 1;
    if alone {
        plant.sessions_are_gone().await?;
    }
    let open_calls = "SELECT count(*) FROM claude_calls c WHERE NOT EXISTS (
         SELECT FROM claude_call_outcomes o WHERE o.call_id = c.call_id)";
    let open_calls = plant.count(open_calls).await?;
    let claims = plant.claims().await?;
    if alone {
        plant.start(replica)?;
    }
    plant.taken_over(&claims).await?;
    plant.start(replica)?;
    everybody_answers(plant).await?;
    Ok(Disturbed { kills: 1, open_calls: alone.then_some(open_calls), ..Disturbed::default() })
}

/// A process that is stopped in the middle of a transaction keeps its locks, and nobody can go on; so the others are
/// given the lease and a little more, and no longer.
async fn freeze(plant: &Plant, reached: Reached) -> Result<Disturbed, String> {
    plant.signal(reached.replica, Signal::STOP);
    let claims = plant.claims().await?;
    let patience = Duration::from_secs(u64::from(SHORT_LEASE_SECONDS) + 3);
    if !claims.is_empty() {
        let _blocked = tokio::time::timeout(patience, plant.taken_over(&claims)).await;
    }
    plant.signal(reached.replica, Signal::CONT);
    reached.let_it(Verdict::GoOn);
    Ok(Disturbed::default())
}

/// An operator's act may wait for the very lock that is held at the point.
async fn operate(client: &Client<'_>, operation: &str, reached: Reached) -> Result<(), String> {
    let (operated, ()) = join(client.operate(operation), async {
        tokio::time::sleep(HEAD_START).await;
        reached.let_it(Verdict::GoOn);
    })
    .await;
    operated
}

async fn everybody_answers(plant: &Plant) -> Result<(), String> {
    for replica in 0..plant.setup.replicas {
        let ready = format!("{}/readyz", plant.address(replica));
        plant
            .until("the server answers again", async || {
                plant.http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200)
            })
            .await?;
    }
    Ok(())
}

impl Client<'_> {
    /// Asks for an operator's act on cycle 1. That it is refused is well: its moment may have passed.
    async fn operate(&self, operation: &str) -> Result<(), String> {
        let path = format!("/cycles/1/{operation}");
        let reason = json!({ "reason": "for the campaign" });
        match self.call(Method::POST, &path, Some(reason)).await {
            Err(error) if error.contains("was called in vain") => Err(error),
            _ => Ok(()),
        }
    }
}

impl Plant {
    /// The effects that are claimed, with their fences.
    async fn claims(&self) -> Result<Vec<(i64, i64)>, String> {
        sqlx::query_as("SELECT effect_id, fence FROM effects WHERE status = 'claimed'")
            .fetch_all(&self.pool)
            .await
            .map_err(words)
    }

    /// Waits until none of these claims stands any more.
    async fn taken_over(&self, claims: &[(i64, i64)]) -> Result<(), String> {
        let (effects, fences): (Vec<i64>, Vec<i64>) = claims.iter().copied().unzip();
        self.until("the claims are taken over", async || {
            let stand: Result<i64, _> = sqlx::query_scalar(
                "SELECT count(*) FROM effects e JOIN unnest($1::bigint[], $2::bigint[]) AS was (effect_id, fence)
                     ON was.effect_id = e.effect_id AND was.fence = e.fence WHERE e.status = 'claimed'",
            )
            .bind(&effects)
            .bind(&fences)
            .fetch_one(&self.pool)
            .await;
            stand.is_ok_and(|stand| stand == 0)
        })
        .await
    }
}
