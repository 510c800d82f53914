//! The pipeline as the campaign plays it: a client that goes on until each of its calls is acknowledged, whatever
//! happens to the server meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use mathesis::research::marker::MARKER_NAME;
use reqwest::Method;
use serde_json::{Value, json};

use super::documents::{NANO, WAN};
use super::events::TaskRun;
use super::plant::{Plant, Scenario, words};

const SLOTS: usize = 20;
/// Calls of the pipeline at once.
const AT_ONCE: usize = 4;
/// Tasks whose events are sent together.
const TASKS_A_BATCH: usize = 5;
const AGAIN: Duration = Duration::from_millis(15);

/// What the pipeline was told, and what it was promised: all of it must stand at the end.
#[derive(Default)]
pub struct Acknowledged {
    /// Every event that was acknowledged.
    pub events: Vec<Value>,
    /// Every slot that was dealt.
    pub told: Vec<Told>,
}

/// A slot that a task was dealt.
#[derive(Debug, Clone)]
pub struct Told {
    pub task: String,
    pub model: &'static str,
    pub version: i64,
    pub arm: String,
}

/// A client of a plant.
pub struct Client<'p> {
    plant: &'p Plant,
    calls: AtomicUsize,
    tasks: AtomicUsize,
}

impl<'p> Client<'p> {
    pub fn new(plant: &'p Plant) -> Self {
        Self { plant, calls: AtomicUsize::new(0), tasks: AtomicUsize::new(1) }
    }

    /// How often anything was called, tries in vain included.
    pub fn called(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Walks cycle 1 to its end.
    pub async fn walk(&self) -> Result<Acknowledged, String> {
        let mut done = Acknowledged::default();
        // A backup holds the marker of before; where PostgreSQL dies at the start, it is written at a later try.
        self.plant.until("the files are marked", async || self.is_marked()).await?;
        for n in 1..=3 {
            let run = TaskRun::new(format!("task-{n}"), &[(WAN, 0, 7), (NANO, 0, 7)]);
            self.log(run.events(), &mut done).await?;
        }
        self.until("the test opens", async || self.stands_in("testing").await).await?;
        let decided = "SELECT count(*) FROM experiments WHERE status <> 'testing'";
        self.play((9, 7), decided, &mut done).await?;
        if self.plant.setup.scenario == Scenario::PutBack {
            self.until("the probation opens", async || self.stands_in("probation").await).await?;
            let decided = "SELECT count(*) FROM probations WHERE status <> 'open'";
            self.play((5, 8), decided, &mut done).await?;
        }
        self.until("the cycle ends", async || false).await?;
        // A cancel may meet a call that is under way: its answer comes later, and is put on record.
        self.plant
            .until("every call of Claude has an outcome", async || self.is_answered().await)
            .await?;
        Ok(done)
    }

    /// Fills both models' decks, one after the other, so that their looks come in this order in every run. The scores
    /// are the candidate's and the control's.
    async fn play(
        &self,
        scores: (i64, i64),
        decided: &str,
        done: &mut Acknowledged,
    ) -> Result<(), String> {
        for (ordinal, model) in (1..).zip([WAN, NANO]) {
            let dealt = self.draw(model).await?;
            for some in dealt.chunks(TASKS_A_BATCH) {
                let mut batch = Vec::new();
                for told in some {
                    let score = if told.arm == "candidate" { scores.0 } else { scores.1 };
                    let version = i32::try_from(told.version).map_err(words)?;
                    let run = TaskRun::new(told.task.clone(), &[(model, version, score)]);
                    batch.extend(run.events().into_iter().filter(|event| {
                        // They are under way until the end, but for one, which waits for the next window.
                        told.task == "test-1"
                            || (event["type"] != "winner" && event["type"] != "completed")
                    }));
                }
                self.log(batch, done).await?;
            }
            done.told.extend(dealt);
            let plant = self.plant;
            self.until("a look is taken", async || {
                plant.count(decided).await.is_ok_and(|looks| looks >= ordinal)
            })
            .await?;
        }
        Ok(())
    }

    /// Asks for one task after the other, several at once, until a whole deck is dealt. A task that asks before the
    /// process has heard of the test, or while the cycle is held, gets no slot, as it should.
    async fn draw(&self, model: &'static str) -> Result<Vec<Told>, String> {
        let until = Instant::now() + self.plant.setup.patience;
        let mut dealt: Vec<Told> = Vec::new();
        while dealt.len() < SLOTS && !self.has_ended().await {
            if Instant::now() > until {
                return Err(format!(
                    "{} of {SLOTS} slots of {model} were dealt, and no more",
                    dealt.len()
                ));
            }
            let asking = (0..AT_ONCE.min(SLOTS - dealt.len())).map(|_| self.assign(model));
            let told = try_join_all(asking).await?;
            let before = dealt.len();
            dealt.extend(told.into_iter().flatten());
            if dealt.len() == before {
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(dealt)
    }

    async fn assign(&self, model: &'static str) -> Result<Option<Told>, String> {
        let task = format!("test-{}", self.tasks.fetch_add(1, Ordering::Relaxed));
        let told =
            self.call(Method::PUT, &format!("/tasks/{task}/assignments/{model}"), None).await?;
        let version = told["version"].as_i64().ok_or_else(|| format!("no version: {told}"))?;
        Ok(told["arm"].as_str().map(|arm| Told { task, model, version, arm: arm.to_owned() }))
    }

    async fn log(&self, events: Vec<Value>, done: &mut Acknowledged) -> Result<(), String> {
        let report = self.call(Method::POST, "/events", Some(json!(events))).await?;
        if report["rejected"].as_array().is_none_or(|rejected| !rejected.is_empty()) {
            return Err(format!("events were rejected: {report}"));
        }
        done.events.extend(events);
        Ok(())
    }

    /// Sends everything once more; how many were new, which none may be.
    pub async fn lost_of(&self, events: &[Value]) -> Result<i64, String> {
        let mut lost = 0;
        for some in events.chunks(100) {
            let report = self.call(Method::POST, "/events", Some(json!(some))).await?;
            let again = report["duplicate"].as_i64().unwrap_or(0);
            lost += i64::try_from(some.len()).map_err(words)? - again;
        }
        Ok(lost)
    }

    /// Calls until a replica answers. Every call may be repeated, as the manual promises.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let until = Instant::now() + self.plant.setup.patience;
        let mut last = "nobody answered".to_owned();
        while Instant::now() < until {
            let number = self.calls.fetch_add(1, Ordering::Relaxed);
            let url = format!("{}/v1/workflows/image-editing{path}", self.plant.address(number));
            let mut request = self.plant.http.request(method.clone(), url);
            if let Some(body) = &body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => match answer.json().await {
                    Ok(answer) => return Ok(answer),
                    Err(broken) => last = broken.to_string(),
                },
                Ok(answer) if answer.status().is_client_error() => {
                    let status = answer.status();
                    return Err(format!(
                        "{path}: {status} {}",
                        answer.text().await.unwrap_or_default()
                    ));
                }
                Ok(answer) => last = format!("{}", answer.status()),
                Err(error) => last = error.to_string(),
            }
            self.plant.revive()?;
            tokio::time::sleep(AGAIN).await;
        }
        Err(format!("{path} was called in vain: {last}"))
    }

    async fn stands_in(&self, state: &str) -> bool {
        self.plant.state().await.is_some_and(|found| found == state)
    }

    async fn has_ended(&self) -> bool {
        let ended = "SELECT count(*) FROM cycles WHERE number = 1 AND ended_at IS NOT NULL";
        self.plant.count(ended).await.is_ok_and(|ended| ended == 1)
    }

    fn is_marked(&self) -> bool {
        let root = self.plant.config_root();
        [WAN, NANO].iter().all(|model| root.join(model).join(MARKER_NAME).exists())
    }

    async fn is_answered(&self) -> bool {
        let under_way = "SELECT count(*) FROM claude_calls c WHERE cycle = 1 AND NOT EXISTS (
            SELECT FROM claude_call_outcomes o WHERE o.call_id = c.call_id)";
        self.plant.count(under_way).await.is_ok_and(|calls| calls == 0)
    }

    /// Awaits a condition, or the cycle's end, after which none comes about.
    async fn until(&self, what: &str, seen: impl AsyncFn() -> bool) -> Result<(), String> {
        self.plant.until(what, async || seen().await || self.has_ended().await).await
    }
}
