//! What goes wrong at a point.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures::future::join;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::cluster::Cluster;
use super::disk::Disk;
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
    /// SIGTERM, and the process is started again once it has ended.
    Terminate,
    /// The connection breaks, and nobody learns whether what was sent was done.
    Break,
    /// SIGSTOP until the lease is over and another replica has gone on, then SIGCONT.
    Freeze,
    /// PostgreSQL is killed with all its sessions, and started again.
    Postgres,
    /// An operator pauses the cycle, and resumes it.
    Pause,
    /// An operator pauses the cycle and resumes it at once, both while what stands at the point is under way.
    Resume,
    /// An operator cancels the cycle.
    Cancel,
    /// The disk of the config folder is full from here until a change of the files has failed by it.
    DiskFull,
    /// The same, where nobody may write to the disk.
    ReadOnly,
    /// Everybody's clock jumps by an hour or by a day, and on to another hour while the cycle goes on.
    Clock,
}

/// What a fault leaves to be held against the end.
#[derive(Debug, Default)]
pub struct Disturbed {
    pub kills: u32,
    /// False where the fault changed nothing: nobody's claim was taken over, the act was refused, no change failed.
    pub took_hold: bool,
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
            Self::Kill | Self::Terminate | Self::Freeze => true,
            Self::Break => point.side != Side::Before,
            Self::Postgres => point.side != Side::During,
            Self::Pause
            | Self::Resume
            | Self::Cancel
            | Self::DiskFull
            | Self::ReadOnly
            | Self::Clock => point.side == Side::Before,
        }
    }

    /// Replicas that it needs at least.
    pub fn replicas(self, asked: usize) -> usize {
        if self == Self::Freeze { asked.max(2) } else { asked }
    }

    /// True where a server may end in its first statements, with words, as it does where there is no database.
    pub fn may_end_a_start(self) -> bool {
        matches!(self, Self::Postgres | Self::Break)
    }

    /// True where the config folder must be a disk that can be spoilt.
    pub fn needs_own_disk(self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly)
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
            Self::Terminate => terminate(plant, reached).await?,
            Self::Break => {
                reached.let_it(Verdict::Break);
                Disturbed { took_hold: true, ..Disturbed::default() }
            }
            Self::Freeze => freeze(plant, reached).await?,
            Self::Postgres => {
                cluster.crash_and_restart().await?;
                reached.let_it(Verdict::Break);
                everybody_answers(plant).await?;
                Disturbed { kills: 1, took_hold: true, ..Disturbed::default() }
            }
            Self::Pause => {
                let paused = meanwhile(reached, client.operate("pause")).await?;
                tokio::time::sleep(PAUSED_FOR).await;
                let took_hold = client.operate("resume").await? && paused;
                Disturbed { took_hold, ..Disturbed::default() }
            }
            Self::Resume => {
                let acts =
                    async { Ok(client.operate("pause").await? && client.operate("resume").await?) };
                let took_hold = meanwhile(reached, acts).await?;
                Disturbed { took_hold, ..Disturbed::default() }
            }
            Self::Cancel => {
                let took_hold = meanwhile(reached, client.operate("cancel")).await?;
                Disturbed { took_hold, ..Disturbed::default() }
            }
            Self::DiskFull => spoilt(plant, reached, (Disk::fill, Disk::empty)).await?,
            Self::ReadOnly => spoilt(plant, reached, (Disk::lock, Disk::unlock)).await?,
            Self::Clock => jumps(plant, reached).await?,
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
    let open_calls = alone.then_some(open_calls);
    Ok(Disturbed { kills: 1, took_hold: true, open_calls, ..Disturbed::default() })
}

/// It ends what it is at, so no call of Claude is made twice and none is lost.
async fn terminate(plant: &Plant, reached: Reached) -> Result<Disturbed, String> {
    let replica = reached.replica;
    let ending = plant.terminate(replica)?;
    reached.let_it(Verdict::GoOn);
    ending.await?;
    plant.start(replica)?;
    everybody_answers(plant).await?;
    Ok(Disturbed { took_hold: true, open_calls: Some(0), ..Disturbed::default() })
}

/// A process that is stopped in the middle of a transaction keeps its locks, and nobody can go on; so the others are
/// given the lease and a little more, and no longer. Where nothing is claimed the process sleeps as long.
async fn freeze(plant: &Plant, reached: Reached) -> Result<Disturbed, String> {
    plant.signal(reached.replica, Signal::STOP);
    let claims = plant.claims().await?;
    let patience = Duration::from_secs(u64::from(SHORT_LEASE_SECONDS) + 3);
    let took_hold = if claims.is_empty() {
        tokio::time::sleep(patience).await;
        false
    } else {
        tokio::time::timeout(patience, plant.taken_over(&claims))
            .await
            .is_ok_and(|over| over.is_ok())
    };
    plant.signal(reached.replica, Signal::CONT);
    reached.let_it(Verdict::GoOn);
    Ok(Disturbed { took_hold, ..Disturbed::default() })
}

/// What is done to a disk.
type Deed = fn(&Disk);

/// The disk is spoilt until a change of the files was tried in vain and said what helps, or until none will come any
/// more. Meanwhile every file is wholly one version or wholly another.
async fn spoilt(
    plant: &Plant,
    reached: Reached,
    (spoil, mend): (Deed, Deed),
) -> Result<Disturbed, String> {
    let disk = plant.disk.as_ref().ok_or("the config folder has no disk of its own")?;
    spoil(disk);
    reached.let_it(Verdict::GoOn);
    let in_vain =
        "SELECT count(*) FROM effects WHERE kind IN ('apply', 'revert') AND last_error IS NOT NULL";
    let ended = "SELECT count(*) FROM cycles WHERE ended_at IS NOT NULL";
    let failed = plant
        .until("a change of the files fails", async || {
            let seen = async |query| plant.count(query).await.is_ok_and(|count| count > 0);
            seen(in_vain).await || seen(ended).await
        })
        .await;
    let whole = super::check::files_are_whole(plant).await;
    let said: Vec<String> = sqlx::query_scalar(
        "SELECT last_error FROM effects WHERE kind IN ('apply', 'revert') AND last_error IS NOT NULL",
    )
    .fetch_all(&plant.pool)
    .await
    .map_err(words)?;
    mend(disk);
    failed?;
    whole?;
    if let Some(mute) = said
        .iter()
        .find(|said| !said.contains("Nothing was changed.") && !said.contains("already holds"))
    {
        return Err(format!("the failure says nothing of the data: {mute}"));
    }
    Ok(Disturbed { took_hold: !said.is_empty(), ..Disturbed::default() })
}

/// Forth or back, by an hour or by a day, by the point's place; later by another hour, to where it stays. Forth by a day
/// would rightly end slots that wait for their scores, so that is only gone back from.
async fn jumps(plant: &Plant, reached: Reached) -> Result<Disturbed, String> {
    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;
    let first = [HOUR, -HOUR, -DAY, 2 * HOUR][reached.ordinal % 4];
    plant.set_clock_wrong_by(first)?;
    reached.let_it(Verdict::GoOn);
    tokio::time::sleep(PAUSED_FOR).await;
    plant.set_clock_wrong_by(first - HOUR)?;
    Ok(Disturbed { took_hold: true, ..Disturbed::default() })
}

/// An operator's acts may wait for the very lock that is held at the point. False where one was refused.
async fn meanwhile(
    reached: Reached,
    acts: impl Future<Output = Result<bool, String>>,
) -> Result<bool, String> {
    let (operated, ()) = join(acts, async {
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
    /// Asks for an operator's act on cycle 1. That it is refused is well, and false: its moment may have passed.
    async fn operate(&self, operation: &str) -> Result<bool, String> {
        let path = format!("/cycles/1/{operation}");
        let reason = json!({ "reason": "for the campaign" });
        match self.call(Method::POST, &path, Some(reason)).await {
            Ok(_) => Ok(true),
            Err(error) if error.contains("was called in vain") => Err(error),
            Err(_) => Ok(false),
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
