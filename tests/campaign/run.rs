//! One run: a whole cycle of the real binary, with one thing that goes wrong at one point.

use std::time::Duration;

use futures::future::join;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::check::{Ended, backups_restore, breaches, violations};
use super::cluster::Cluster;
use super::drive::Client;
use super::faults::{Disturbed, Fault};
use super::plant::{Plant, Setup, words};
use super::points::{Counts, Point, Reached};
use super::record::Record;

/// What a run leaves in which nothing goes wrong.
pub struct Undisturbed {
    pub record: Record,
    pub counts: Counts,
    pub calls: u64,
}

/// What a disturbed run came to.
#[derive(Debug, Default, Clone)]
pub struct Ran {
    /// False when the point was not passed this time.
    pub reached: bool,
    /// Whether the fault changed anything.
    pub took_hold: bool,
    pub kills: u32,
    /// Servers that ended in their first statements, since PostgreSQL was gone, and were started again.
    pub ended_by_themselves: u32,
    /// Calls of Claude beyond those of an undisturbed run.
    pub calls_beyond: u64,
    /// From the fault until everybody answered and no claim was left with the dead.
    pub recovery: Duration,
    /// What is wrong; empty where all is well.
    pub wrong: Vec<String>,
    /// The end of the server's log, where something is wrong.
    pub log: String,
}

/// Walks the scenario to its end, undisturbed.
pub async fn undisturbed(cluster: &Cluster, setup: Setup) -> Result<Undisturbed, String> {
    let plant = Plant::new(cluster, setup).await?;
    plant.start_all()?;
    let client = Client::new(&plant);
    let told = |wrong: Vec<String>| format!("{}\n{}", wrong.join("\n"), plant.log());
    let acknowledged = match client.walk().await {
        Ok(acknowledged) => acknowledged,
        Err(error) => {
            let mut wrong = vec![error];
            wrong.extend(breaches(&plant).await?);
            return Err(told(wrong));
        }
    };
    let ended = Ended { plant: &plant, client: &client, acknowledged: &acknowledged, whole: true };
    let mut wrong = violations(&ended).await?;
    let counts = plant.gate.counts();
    let record = Record::of(&plant.pool, &plant.config_root()).await;
    plant.kill_all();
    wrong.extend(backups_restore(&plant).await?);
    if wrong.is_empty() {
        return Ok(Undisturbed { record, counts, calls: plant.claude.asked() });
    }
    Err(told(wrong))
}

/// Walks the scenario to its end, with one fault at that point.
pub async fn disturbed_at(
    cluster: &Cluster,
    setup: Setup,
    (fault, point): (Fault, &Point),
    undisturbed: &Undisturbed,
) -> Result<Ran, String> {
    let plant = Plant::new(cluster, setup).await?;
    let at_point = plant.gate.arm(point.clone());
    plant.start_all()?;
    let client = Client::new(&plant);
    let over = CancellationToken::new();
    let (walked, disturbed) = join(
        async {
            let walked = client.walk().await;
            over.cancel();
            walked
        },
        disturb(fault, (&plant, cluster), &client, at_point, &over),
    )
    .await;
    let mut ran = Ran::default();
    let disturbed = disturbed.unwrap_or_else(|error| {
        ran.wrong.push(error);
        Some(Disturbed::default())
    });
    ran.reached = disturbed.is_some();
    let disturbed = disturbed.unwrap_or_default();
    (ran.kills, ran.recovery) = (disturbed.kills, disturbed.recovery);
    ran.took_hold = disturbed.took_hold;
    if fault == Fault::Cancel && ran.took_hold {
        let left = plant.state().await.unwrap_or_default();
        if !["cancelled", "rolled_back"].contains(&left.as_str()) {
            ran.wrong.push(format!("a cancel was taken, and the cycle ended as {left:?}"));
        }
    }
    ran.ended_by_themselves = plant.ended_by_themselves();
    if ran.ended_by_themselves > 0 && !fault.may_end_a_start() {
        ran.wrong.push(format!("{} times a server ended by itself", ran.ended_by_themselves));
    }
    let whole = fault != Fault::Cancel;
    match walked {
        Ok(acknowledged) => {
            let acknowledged = &acknowledged;
            let ended = Ended { plant: &plant, client: &client, acknowledged, whole };
            ran.wrong.extend(violations(&ended).await?);
        }
        Err(error) => {
            ran.wrong.push(error);
            ran.wrong.extend(breaches(&plant).await?);
        }
    }
    if whole {
        ran.compare(&plant, &disturbed, undisturbed).await?;
    }
    plant.kill_all();
    ran.wrong.extend(backups_restore(&plant).await?);
    if !ran.wrong.is_empty() {
        ran.log = plant.log();
    }
    // A server that was killed looks at every file it has when it starts again, so what is over must not stay.
    plant.pool.close().await;
    cluster.discard(&plant.url).await;
    Ok(ran)
}

impl Ran {
    /// Holds the end against the undisturbed one.
    async fn compare(
        &mut self,
        plant: &Plant,
        disturbed: &Disturbed,
        undisturbed: &Undisturbed,
    ) -> Result<(), String> {
        let record = Record::of(&plant.pool, &plant.config_root()).await;
        // An operator's hold is the fault itself.
        let record = record.without("\"kind\":\"operator\"");
        let differs = shortened(&record.differences(&undisturbed.record));
        if !differs.is_empty() {
            let what = "the record is another one than the undisturbed run's";
            self.wrong.push(format!("{what}\n{differs}"));
        }
        self.calls_beyond = plant.claude.asked().saturating_sub(undisturbed.calls);
        self.wrong.extend(calls(plant, self.calls_beyond, disturbed.open_calls).await?);
        Ok(())
    }
}

/// Waits for whoever reaches the point, and has the fault happen; none when the walk was over before.
async fn disturb(
    fault: Fault,
    place: (&Plant, &Cluster),
    client: &Client<'_>,
    at_point: oneshot::Receiver<Reached>,
    over: &CancellationToken,
) -> Result<Option<Disturbed>, String> {
    let reached = tokio::select! {
        reached = at_point => reached.map_err(words)?,
        () = over.cancelled() => return Ok(None),
    };
    fault.happen(place, client, reached).await.map(Some)
}

/// The beginning of each of the first lines: enough to see what it is about.
fn shortened(differs: &str) -> String {
    let lines = differs.lines().take(24);
    lines.map(|line| line.chars().take(240).collect::<String>() + "\n").collect()
}

/// A call is made once, and once more where the fault fell inside it; then the first one is on record without an answer
/// that was used. Where the process died, exactly those are on record as lost that were open at its death.
async fn calls(plant: &Plant, beyond: u64, open: Option<i64>) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let beyond = i64::try_from(beyond).map_err(words)?;
    let lost = "SELECT count(*) FROM claude_call_outcomes WHERE status = 'lost'";
    let lost = plant.count(lost).await?;
    let in_vain =
        "SELECT count(DISTINCT call_id) FROM claude_call_outcomes WHERE status <> 'answered'";
    let in_vain = plant.count(in_vain).await?;
    if beyond > in_vain || in_vain > 1 {
        wrong.push(format!("Claude was asked {beyond} times more, {in_vain} calls were in vain"));
    }
    if open.is_some_and(|open| open != lost) {
        wrong.push(format!("{lost} calls are on record as lost, and the kill fell into {open:?}"));
    }
    Ok(wrong)
}
