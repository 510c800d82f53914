//! The world: the real engine on the real store, led through a history beside the model, and held against it.

mod compare;
mod pipeline;
mod serve;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use chrono::TimeDelta;
use mathesis::claude::scripted::answered;
use mathesis::claude::wire::StopReason;
use mathesis::runtime::{Assignment, Operation, Worked, check_workflow};
use mathesis::workflow::definition::ApprovalAsk;
use serde_json::Value;

use super::act::{Act, Asking, Fate, Word};
use super::model::{Lie, Met, Model, State, TRIGGER};
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, discard, edit_because, no_edit_answer, until};

/// In the order in which decks are looked at.
const NAMES: [&str; 2] = [NANO, WAN];
/// Turns of watcher and worker after which something goes round in circles.
const TURNS_MAX: usize = 60;

/// A difference between the two, in words.
pub type Differs = String;

pub struct World {
    stage: Stage,
    model: Model,
    /// Tasks that asked and have not reported, with what each model's answer was.
    asked: Vec<(String, Vec<Assignment>)>,
    /// What was sent, by batch: the task and its events.
    sent: Vec<(Vec<String>, Vec<Value>)>,
    /// How many events of each task are on record.
    events: HashMap<String, usize>,
    tasks: usize,
}

/// Leads both through a history: what the gate was asked in it, or what differs between them.
pub async fn play(asking: Asking, acts: &[Act], lie: Option<Lie>) -> Result<Met, Differs> {
    let mut world = World::new(asking, lie).await;
    let url = world.stage.url.clone();
    let mut played = Ok(());
    for (place, act) in acts.iter().enumerate() {
        played = world.turn(act).await.map_err(|differs| {
            format!("after act {} of {}, {act:?}: {differs}", place + 1, acts.len())
        });
        if played.is_err() {
            break;
        }
    }
    if played.is_ok() {
        played = world.comes_to_rest().await.map_err(|differs| format!("at the end: {differs}"));
    }
    world.stage.pool().close().await;
    let met = world.model.met;
    drop(world);
    discard(&url).await;
    played.map(|()| met)
}

impl World {
    async fn new(asking: Asking, lie: Option<Lie>) -> Self {
        let builder = Stage::builder().definition(move |definition| {
            definition.trigger.tasks = u32::try_from(TRIGGER).expect("a few tasks");
            definition.gate.skip_at_ceiling = false;
            definition.retry.attempts_max = 200;
            definition.claude.budget_usd_per_month = "1000000".parse().expect("a price");
            definition.approval.ask = match asking {
                Asking::Never => ApprovalAsk::None,
                Asking::BeforeTest => ApprovalAsk::BeforeTest,
                Asking::BeforeApply => ApprovalAsk::BeforeApply,
            };
        });
        let stage = builder.build().await;
        let asks = AtomicU64::new(0);
        stage.claude.otherwise(move |request| {
            let request_text = serde_json::to_string(request).unwrap_or_default();
            let answer = if request_text.contains("\"patterns\"") {
                analysis_answer(&[])
            } else {
                let number = asks.fetch_add(1, Ordering::Relaxed);
                candidate(&request_text, number)
            };
            answered(request, Some(&answer.to_string()), StopReason::EndTurn, None)
        });
        Self {
            stage,
            model: Model::new(asking, lie),
            asked: Vec::new(),
            sent: Vec::new(),
            events: HashMap::new(),
            tasks: 0,
        }
    }

    async fn turn(&mut self, act: &Act) -> Result<(), Differs> {
        match act {
            Act::Finish { tasks, score, backwards } => {
                self.finish(*tasks, *score, *backwards).await?;
            }
            Act::Ask { tasks } => self.ask(*tasks).await?,
            Act::Report { tasks, how, old, new, ends, sent } => {
                self.report(*tasks, *how, (*old, *new), *ends, *sent).await?;
            }
            Act::Serve { scores, sent, settles } => {
                self.serve(*scores, *sent).await?;
                if *settles {
                    self.settle().await?;
                }
            }
            Act::Repeat { back } => self.repeat(*back).await?,
            Act::Contradict { back } => self.contradict(*back).await?,
            Act::Wait { minutes } => {
                self.stage.clock.advance(TimeDelta::minutes(*minutes));
                self.model.waits(*minutes);
            }
            Act::Look(fate) => self.look(*fate).await?,
            Act::Work(fate) => {
                self.work(*fate).await?;
            }
            Act::Settle => self.settle().await?,
            Act::Crash => self.crash().await?,
            Act::Operate(word) => self.operate(*word).await?,
            Act::Forget { back } => self.forget(*back).await?,
        }
        self.compare().await
    }

    async fn look(&mut self, fate: Fate) -> Result<(), Differs> {
        let (engine, worker, id) = (&self.stage.engine, &self.stage.worker, self.stage.id());
        match fate {
            Fate::Lives => {}
            Fate::CommitFails => {
                self.stage.crash_before_commit().await;
                let looked = check_workflow(engine, worker, id).await;
                self.stage.commit_again().await;
                if looked.is_err() {
                    self.another_process().await;
                }
            }
            Fate::Dies { polls } => {
                if dies_after(polls, check_workflow(engine, worker, id)).await.is_none() {
                    self.another_process().await;
                }
            }
        }
        self.look_whole().await
    }

    async fn look_whole(&mut self) -> Result<(), Differs> {
        for _ in 0..TURNS_MAX {
            if self.stage.watch().await == 0 {
                self.model.look();
                return Ok(());
            }
        }
        Err("the watcher goes round in circles".to_owned())
    }

    /// True when something was done.
    async fn work(&mut self, fate: Fate) -> Result<bool, Differs> {
        let worker = std::sync::Arc::clone(&self.stage.worker);
        let done = match fate {
            Fate::Lives => Some(worker.work_once().await.map_err(|error| error.to_string())?),
            Fate::CommitFails => {
                self.stage.crash_before_commit().await;
                let done = worker.work_once().await;
                self.stage.commit_again().await;
                done.ok()
            }
            Fate::Dies { polls } => {
                dies_after(polls, worker.work_once()).await.and_then(Result::ok)
            }
        };
        match done {
            Some(done) => self.worked(done).await,
            None => {
                self.another_process().await;
                self.reconcile().await?;
                self.look_whole().await?;
                Ok(true)
            }
        }
    }

    async fn worked(&mut self, done: Worked) -> Result<bool, Differs> {
        match done {
            Worked::Done(Some(_)) if self.model.cycle_has_work() => self.model_works().await?,
            Worked::Done(None) => self.model.rolled_back()?,
            // An operator's word has ended it meanwhile.
            Worked::Lost => {}
            Worked::Idle => {
                if self.model.cycle_wants_work() || !self.model.rollbacks.is_empty() {
                    return Err(format!("nobody works in {:?}", self.model.state));
                }
                return Ok(false);
            }
            other => return Err(format!("{other:?} in {:?}", self.model.state)),
        }
        Ok(true)
    }

    async fn model_works(&mut self) -> Result<(), Differs> {
        self.model.worked();
        if self.model.state != State::Testing {
            return Ok(());
        }
        for (model, name) in NAMES.iter().enumerate() {
            let arms: Vec<bool> = sqlx::query_scalar(
                "SELECT arm = 'candidate' FROM deck_slots
                  WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 ORDER BY slot",
            )
            .bind(self.stage.id())
            .bind(self.model.cycle)
            .bind(name)
            .fetch_all(self.stage.pool())
            .await
            .expect("the deck reads");
            if self.model.tests[model].is_some() {
                self.model.deck(model, &arms)?;
            } else if !arms.is_empty() {
                return Err(format!("{name} has a deck and no candidate"));
            }
        }
        Ok(())
    }

    /// After a death in the middle of an effect: whether its commit came before that is read off the store, and must be
    /// one of the two.
    async fn reconcile(&mut self) -> Result<(), Differs> {
        let cycle = self.stage.cycle().await;
        if (cycle.number, cycle.snapshot.seq) != (self.model.cycle, self.model.seq) {
            self.model_works().await?;
        }
        let waiting = self
            .stage
            .number(
                "SELECT count(*) FROM effects WHERE kind = 'roll_back' AND status IN ('pending', 'claimed')",
            )
            .await;
        if usize::try_from(waiting).is_ok_and(|waiting| waiting < self.model.rollbacks.len()) {
            self.model.rolled_back()?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Differs> {
        for _ in 0..TURNS_MAX {
            self.look_whole().await?;
            if !self.work(Fate::Lives).await? {
                return Ok(());
            }
        }
        Err("watcher and worker go round in circles".to_owned())
    }

    async fn crash(&mut self) -> Result<(), Differs> {
        self.another_process().await;
        self.look_whole().await
    }

    /// This process is gone with all its sessions, and another one has taken its work over.
    async fn another_process(&mut self) {
        drop(self.stage.rescuing.lock().await.take());
        self.stage.pool().close().await;
        let mut beside = self.stage.own_connection().await;
        until(async || {
            let others: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .fetch_one(&mut beside)
            .await
            .expect("the sessions are listed");
            others == 0
        })
        .await;
        drop(beside);
        let other = self.stage.another().await;
        self.stage = other;
        let stage = &self.stage;
        until(async || {
            stage.rescue().await;
            stage.number("SELECT count(*) FROM effects WHERE status = 'claimed'").await == 0
        })
        .await;
    }

    async fn operate(&mut self, word: Word) -> Result<(), Differs> {
        // What a cycle takes while it puts back what it had adopted is another matter.
        let reverting = self.model.state == State::Reverting;
        let (operation, expected) = match word {
            Word::Pause => (Operation::Pause, self.model.pause()),
            Word::Resume => (Operation::Resume, self.model.resume()),
            Word::Approve => (Operation::Approve { models: vec![] }, self.model.approve()),
            Word::AutomationOff => {
                (Operation::Automation { enabled: false }, self.model.automation(false))
            }
            Word::AutomationOn => {
                (Operation::Automation { enabled: true }, self.model.automation(true))
            }
            Word::Cancel | Word::Refuse { .. } | Word::Rollback { .. } if reverting => {
                return Ok(());
            }
            Word::Cancel => (Operation::Cancel, self.model.cancel()),
            Word::Refuse { model } => {
                let models = model.map(|model| NAMES[model].to_owned()).into_iter().collect();
                (Operation::Refuse { models }, self.model.refuse(model))
            }
            Word::Rollback { model, to } => {
                let name = NAMES[model].to_owned();
                (Operation::Rollback { model: name, to }, self.model.roll_back(model, to))
            }
        };
        let done = self.stage.operate(operation.clone()).await;
        if done.is_ok() == expected {
            return Ok(());
        }
        Err(format!("{operation:?} in {:?} came to {done:?}", self.model.state))
    }
}

/// Polls what is done so often, and then lets it go in the middle, as the death of its process does.
async fn dies_after<T>(polls: usize, doing: impl Future<Output = T>) -> Option<T> {
    let mut doing = pin!(doing);
    let mut left = polls;
    poll_fn(|context| match doing.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// A candidate that nobody has written before, resting on an insight about its model.
fn candidate(request: &str, number: u64) -> Value {
    let insight = if request.contains("Model: nano-banana.") { "2" } else { "1" };
    if number > 100_000 {
        return no_edit_answer();
    }
    edit_because(&format!("Keep to rule {number}."), insight)
}
