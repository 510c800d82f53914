//! The pipeline of the demo: works through tasks as an orchestrator does, over the real interface.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{Api, ApiError};
use super::tasks::{Task, task};
use super::world::{Guidance, Judged, Model, enhance, judge};

const ITERATIONS_MAX: u32 = 3;
/// Tasks in flight while the cycle waits for tasks.
const IN_FLIGHT: usize = 8;

/// What stands in the validator's place, as the events name it.
const JUDGE: (&str, &str) = ("demo-validator", "1");

/// How many tasks to work on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As many as an orchestrator would.
    Full,
    /// One at a time: while Claude is asked, so that the windows stay small enough to read.
    Trickle,
    /// None; the tasks in flight are finished.
    Stop,
}

/// What a task was told in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) task: String,
    pub(super) model: &'static str,
    pub(super) version: i64,
    pub(super) arm: String,
}

/// First-iteration scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sum: u64,
    pub(super) count: u64,
}

impl Tally {
    /// The mean score; none without scores.
    pub(super) fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }
}

/// What the pipeline itself has seen and sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    finished: AtomicU32,
    next: AtomicU64,
    scores: Mutex<BTreeMap<(Model, i64), Tally>>,
    held: Mutex<BTreeMap<i64, Vec<Held>>>,
    failure: Mutex<Option<String>>,
}

impl Ledger {
    /// Tasks that are done.
    pub(super) fn finished(&self) -> u32 {
        self.finished.load(Ordering::Relaxed)
    }

    /// First-iteration scores of a model's version.
    pub(super) fn tally(&self, model: Model, version: i64) -> Tally {
        lock(&self.scores).get(&(model, version)).copied().unwrap_or_default()
    }

    /// What tasks were told in a cycle's test, so far.
    pub(super) fn held(&self, cycle: i64) -> Vec<Held> {
        lock(&self.held).get(&cycle).cloned().unwrap_or_default()
    }

    /// Why the pipeline stopped, if it had to.
    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works through tasks until it is told to stop and the last is finished; a refused call ends it, too, and the ledger
/// says why.
pub(super) async fn run(api: Api, seed: u64, ledger: Arc<Ledger>, mut pace: watch::Receiver<Pace>) {
    let mut in_flight: JoinSet<Result<(), ApiError>> = JoinSet::new();
    loop {
        let limit = match *pace.borrow_and_update() {
            Pace::Full => IN_FLIGHT,
            Pace::Trickle => 1,
            Pace::Stop if in_flight.is_empty() => return,
            Pace::Stop => 0,
        };
        while in_flight.len() < limit {
            let number = ledger.next.fetch_add(1, Ordering::Relaxed);
            in_flight.spawn(one_task(api.clone(), seed, number, Arc::clone(&ledger)));
        }
        tokio::select! {
            // Nobody is left to say stop: the show is over, and so is this.
            changed = pace.changed() => if changed.is_err() { return },
            Some(ended) = in_flight.join_next() => {
                let failure = match ended {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                *lock(&ledger.failure) = Some(failure);
                return;
            }
        }
    }
}

/// A model's part in one task.
struct Player {
    model: Model,
    version: i64,
    guidance: Guidance,
    issues: Vec<String>,
    prompt: String,
    judged: Option<Judged>,
}

async fn one_task(api: Api, seed: u64, number: u64, ledger: Arc<Ledger>) -> Result<(), ApiError> {
    let asked = task(seed, number);
    let [first, second] = Model::ALL;
    let mut players: Vec<Player> = <[Player; 2]>::from(tokio::try_join!(
        player(&api, &asked, first, &ledger),
        player(&api, &asked, second, &ledger)
    )?)
    .into();
    send(
        &api,
        &[json!({
            "type": "task_started", "task_id": asked.id, "original_prompt": asked.prompt,
            "task_name": format!("{}: {}", asked.kind.category(), asked.product),
            "task_type": asked.kind.task_type(), "category": asked.kind.category(),
        })],
    )
    .await?;
    let mut rounds = 0;
    let mut spent = Duration::ZERO;
    while rounds < ITERATIONS_MAX && best(&players).is_none() {
        rounds += 1;
        for player in &mut players {
            player.prompt = enhance(&asked, &player.guidance, &player.issues);
            player.judged =
                Some(judge(seed, number, &asked, player.model, rounds, &player.guidance));
        }
        for events in
            [enhancements(&asked, &players, rounds), generations(&asked, &players, rounds)]
        {
            send(&api, &events).await?;
        }
        send(&api, &validations(&asked, &players, rounds)).await?;
        let slowest = players.iter().filter_map(|player| player.judged.as_ref());
        let slowest = slowest.map(|judged| judged.generation_time_ms).max().unwrap_or(0);
        spent += Duration::from_millis(u64::from(slowest) + 9_000);
        for player in &mut players {
            note(player, rounds, &ledger);
        }
    }
    let won = best(&players);
    send(
        &api,
        &[
            json!({
                "type": "winner", "task_id": asked.id, "winner": won.map(|(model, _)| model.name()),
                "score": won.map(|(_, score)| score), "total_iterations": rounds,
            }),
            json!({
                "type": "completed", "task_id": asked.id,
                "processing_time_ms": u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
            }),
        ],
    )
    .await?;
    ledger.finished.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Asks which version a model's part gets, and reads its documents.
async fn player(
    api: &Api,
    asked: &Task,
    model: Model,
    ledger: &Ledger,
) -> Result<Player, ApiError> {
    let answer = api.assign(&asked.id, model.name()).await?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let version = answer["version"].as_i64().unwrap_or_default();
    if let (Some(arm), Some(cycle)) = (answer["arm"].as_str(), answer["cycle"].as_i64()) {
        let held =
            Held { task: asked.id.clone(), model: model.name(), version, arm: arm.to_owned() };
        lock(&ledger.held).entry(cycle).or_default().push(held);
    }
    Ok(Player {
        model,
        version,
        guidance: Guidance::read(&text("activation"), &text("research")),
        issues: Vec::new(),
        prompt: String::new(),
        judged: None,
    })
}

fn note(player: &mut Player, round: u32, ledger: &Ledger) {
    let Some(judged) = &player.judged else { return };
    if round == 1 {
        let mut scores = lock(&ledger.scores);
        let tally = scores.entry((player.model, player.version)).or_default();
        tally.sum += u64::from(judged.score);
        tally.count += 1;
    }
    player.issues.clone_from(&judged.issues);
}

/// The best result that passed.
fn best(players: &[Player]) -> Option<(Model, u8)> {
    players
        .iter()
        .filter_map(|player| player.judged.as_ref().map(|judged| (player.model, judged)))
        .filter(|(_, judged)| judged.passed)
        .map(|(model, judged)| (model, judged.score))
        .max_by_key(|(_, score)| *score)
}

async fn send(api: &Api, events: &[Value]) -> Result<(), ApiError> {
    let answer = api.log(events).await?;
    match answer["rejected"].as_array() {
        Some(rejected) if !rejected.is_empty() => Err(ApiError::Refused {
            method: "POST".to_owned(),
            path: "events".to_owned(),
            status: 200,
            body: answer["rejected"].to_string(),
        }),
        _ => Ok(()),
    }
}

fn enhancements(asked: &Task, players: &[Player], round: u32) -> Vec<Value> {
    players
        .iter()
        .map(|player| {
            json!({
                "type": "enhancement", "task_id": asked.id, "model": player.model.name(), "iteration": round,
                "version": player.version, "original_prompt": asked.prompt,
                "enhanced_prompt": player.prompt, "latency_ms": 2_300,
            })
        })
        .collect()
}

fn generations(asked: &Task, players: &[Player], round: u32) -> Vec<Value> {
    each_judged(players, |player, judged| {
        let model = player.model.name();
        json!({
            "type": "generation", "task_id": asked.id, "model": model, "iteration": round,
            "image_url": format!("https://pictures.example/{}/{model}/{round}.png", asked.id),
            "generation_time_ms": judged.generation_time_ms, "cost_usd": judged.cost_usd,
        })
    })
}

fn validations(asked: &Task, players: &[Player], round: u32) -> Vec<Value> {
    each_judged(players, |player, judged| {
        json!({
            "type": "validation", "task_id": asked.id, "model": player.model.name(), "iteration": round,
            "score": judged.score, "passed": judged.passed, "issues": judged.issues,
            "reasoning": judged.reasoning, "judge": {"model": JUDGE.0, "prompt_version": JUDGE.1},
        })
    })
}

fn each_judged(players: &[Player], event: impl Fn(&Player, &Judged) -> Value) -> Vec<Value> {
    players
        .iter()
        .filter_map(|player| player.judged.as_ref().map(|judged| event(player, judged)))
        .collect()
}
