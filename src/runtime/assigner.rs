//! Which version does this task get? Asked on the hot path of every task.
//!
//! While no test runs, the answer comes from memory and costs no statement: the active version, pinned
//! for the run by a write that happens behind the answer. While a test runs, the answer is one committed
//! transaction. A process knows every slot holder by a hash, so a holder keeps its answer for good
//! without everybody else paying for the question.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::engine::Engine;
use super::registry::Workflow;
use super::status::{CycleStatus, cycle_status};
use crate::effects::deal_together::Dealing;
use crate::experiment::Arm;
use crate::store::assignments::{self, AssignmentRow, Pin, RunKey};
use crate::store::versions::{self, Version};
use crate::store::{StoreError, changes, experiments};

/// How often the memory is compared with the database without being told.
const REFRESH: Duration = Duration::from_secs(1);
/// How long pins may wait for each other before they are written together.
const PIN_DELAY: Duration = Duration::from_millis(50);
/// Pins that may wait; beyond it a caller waits for them to be written.
const PINS_WAITING_MAX: usize = 50_000;
/// A run older than this is over, so its pin can no longer matter.
const PIN_HORIZON_DAYS: i64 = 14;
/// No deal's transaction lasts as long.
const HOLDERS_READ_AGAIN_MINUTES: i64 = 10;
/// Versions whose texts are kept in memory.
const TEXTS_KEPT: usize = 32;
/// The longest external id of a task or a run, in bytes.
const ID_BYTES_MAX: usize = 200;

/// The answer to "which version for this task?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Assignment {
    /// The version's number within its model.
    pub version: i32,
    /// The arm, for a task that is part of a test.
    pub arm: Option<Arm>,
    /// The cycle of that test.
    pub cycle: Option<i64>,
    /// SHA-256 over the version's texts; the texts never change under it.
    pub content_hash: String,
    /// The second version of a paired task: it is to be done under both.
    pub pair: Option<i32>,
}

/// How a model stands, for a client that keeps a copy of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelStanding {
    /// The model.
    pub model: String,
    /// The version that serves whoever is not part of a test.
    pub active_version: i32,
    /// SHA-256 over that version's texts.
    pub content_hash: String,
    /// True while a test of it runs: each run has to ask which version it gets.
    pub testing: bool,
    /// The cycle of that test.
    pub cycle: Option<i64>,
}

/// Why there is no answer. Nothing was dealt.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The workflow does not know the model.
    #[error(
        "workflow {workflow} has no model {model:?}; it is logged as observed, and there is no version to ask for"
    )]
    UnknownModel {
        /// The workflow.
        workflow: String,
        /// The model that was asked for.
        model: String,
    },
    /// The task's or run's id cannot be one.
    #[error("the {field} is {problem}")]
    InvalidId {
        /// Which id.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

#[derive(Debug, Default)]
struct View {
    active: HashMap<(i64, String), (i32, String)>,
    /// The models under test, with the cycle of the test.
    testing: HashMap<(i64, String), i64>,
    changed: HashSet<(i64, String)>,
}

#[derive(Debug, Default)]
struct Holders {
    hashes: HashSet<u64>,
    last_id: i64,
}

type PinKey = (i64, String, String, String);

/// Answers which version a run gets. Cheap to clone; shared.
#[derive(Clone)]
pub struct VersionAssigner {
    engine: Engine,
    desk: Arc<Desk>,
}

struct Desk {
    view: RwLock<Arc<View>>,
    holders: RwLock<Holders>,
    hasher: RandomState,
    waiting: Mutex<HashMap<PinKey, Pin>>,
    making_room: tokio::sync::Mutex<()>,
    pins_wait: Notify,
    refresh: Notify,
    texts: Mutex<Vec<(i64, Arc<Version>)>>,
    dealing: Dealing,
}

impl VersionAssigner {
    /// An assigner with an empty memory; [`VersionAssigner::refresh`] fills it.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let desk = Desk {
            view: RwLock::default(),
            holders: RwLock::default(),
            hasher: RandomState::new(),
            waiting: Mutex::default(),
            making_room: tokio::sync::Mutex::default(),
            pins_wait: Notify::new(),
            refresh: Notify::new(),
            texts: Mutex::default(),
            dealing: Dealing::default(),
        };
        Self { engine, desk: Arc::new(desk) }
    }

    /// Tells a run its version of a model; the same answer however often it asks.
    ///
    /// # Errors
    /// [`AssignError`]; nothing was dealt then, and the call can be made again.
    pub async fn assign(
        &self,
        workflow: &Workflow,
        task: &str,
        run: &str,
        model: &str,
    ) -> Result<Assignment, AssignError> {
        let key = checked_key(workflow, task, run, model)?;
        if let Some(answer) = self.answer_from_memory(key) {
            self.wait_for_room().await?;
            return Ok(answer);
        }
        self.flush_if_waiting(key).await?;
        let told = self.desk.dealing.deal(&self.engine, key).await?;
        self.remember_holder(key, told.as_ref());
        told.map(assignment).ok_or_else(|| unknown(workflow, model))
    }

    /// What a run was told, or would be told without being dealt a slot. Deals nothing, pins nothing.
    ///
    /// # Errors
    /// [`AssignError`] when the database fails or a name is wrong.
    pub async fn look_up(
        &self,
        workflow: &Workflow,
        task: &str,
        run: &str,
        model: &str,
    ) -> Result<Assignment, AssignError> {
        let key = checked_key(workflow, task, run, model)?;
        self.flush_if_waiting(key).await?;
        let mut conn = self.engine.store.pool().acquire().await.map_err(StoreError::from)?;
        if let Some(told) = assignments::find(&mut conn, key).await? {
            return Ok(assignment(told));
        }
        let active = versions::active_head(&mut conn, key.workflow_id, model).await?;
        let (version, content_hash) = active.ok_or_else(|| unknown(workflow, model))?;
        Ok(Assignment { version, arm: None, cycle: None, content_hash, pair: None })
    }

    /// How a model stands: which version is active, and whether runs have to ask one by one. From
    /// memory, at most a second old; only a model that the memory does not hold yet costs a reading.
    ///
    /// # Errors
    /// [`AssignError::UnknownModel`], or the database's failure for a model that is not in memory.
    pub async fn standing(
        &self,
        workflow: &Workflow,
        model: &str,
    ) -> Result<ModelStanding, AssignError> {
        let key = (workflow.workflow_id, model.to_owned());
        if let Some(standing) = self.standing_in_memory(&key) {
            return Ok(standing);
        }
        self.refresh().await?;
        self.standing_in_memory(&key).ok_or_else(|| unknown(workflow, model))
    }

    fn standing_in_memory(&self, key: &(i64, String)) -> Option<ModelStanding> {
        let view = self.desk.view.read().unwrap_or_else(PoisonError::into_inner);
        let (version, content_hash) = view.active.get(key)?;
        let cycle = view.testing.get(key).copied();
        Some(ModelStanding {
            model: key.1.clone(),
            active_version: *version,
            content_hash: content_hash.clone(),
            testing: cycle.is_some(),
            cycle,
        })
    }

    /// Where the workflow's open cycle stands: what is being tested, what holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn current_cycle(
        &self,
        workflow: &Workflow,
    ) -> Result<Option<CycleStatus>, StoreError> {
        cycle_status(&self.engine, workflow, None).await
    }

    /// A version with its texts, from memory where they are there. Texts never change.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn version(
        &self,
        workflow_id: i64,
        model: &str,
        version: i32,
    ) -> Result<Option<Arc<Version>>, StoreError> {
        let kept = {
            let texts = self.desk.texts.lock().unwrap_or_else(PoisonError::into_inner);
            texts
                .iter()
                .find(|(id, kept)| {
                    *id == workflow_id && kept.model_name == model && kept.version == version
                })
                .map(|(_, kept)| Arc::clone(kept))
        };
        if kept.is_some() {
            return Ok(kept);
        }
        let found = versions::find(self.engine.store.pool(), workflow_id, model, version).await?;
        Ok(found.map(|found| {
            let found = Arc::new(found);
            let mut texts = self.desk.texts.lock().unwrap_or_else(PoisonError::into_inner);
            if texts.len() >= TEXTS_KEPT {
                texts.remove(0);
            }
            texts.push((workflow_id, Arc::clone(&found)));
            found
        }))
    }

    fn answer_from_memory(&self, key: RunKey<'_>) -> Option<Assignment> {
        let model_key = (key.workflow_id, key.model.to_owned());
        let view = {
            let view = self.desk.view.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&view)
        };
        let (version, content_hash) = view.active.get(&model_key)?;
        // A version that changed lately may not be the one that an older run is pinned to.
        if view.testing.contains_key(&model_key)
            || view.changed.contains(&model_key)
            || self.holds_a_slot(key)
        {
            return None;
        }
        self.pin_behind(key, *version);
        Some(Assignment {
            version: *version,
            arm: None,
            cycle: None,
            content_hash: content_hash.clone(),
            pair: None,
        })
    }

    fn pin_behind(&self, key: RunKey<'_>, version: i32) {
        let pin = Pin {
            workflow_id: key.workflow_id,
            task: key.task.to_owned(),
            run: key.run.to_owned(),
            model: key.model.to_owned(),
            version,
            at: self.engine.now(),
        };
        let mut waiting = self.waiting();
        waiting.entry(pin_key(&pin)).or_insert(pin);
        drop(waiting);
        self.desk.pins_wait.notify_one();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<PinKey, Pin>> {
        self.desk.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Callers that find no room take turns, so that none of them writes what another one writes.
    async fn wait_for_room(&self) -> Result<(), StoreError> {
        while self.waiting().len() > PINS_WAITING_MAX {
            let _turn = self.desk.making_room.lock().await;
            if self.waiting().len() > PINS_WAITING_MAX {
                self.write_pins().await?;
            }
        }
        Ok(())
    }

    /// Writes the pin of a run that is about to be looked up. This one, since others may be very many.
    async fn flush_if_waiting(&self, key: RunKey<'_>) -> Result<(), StoreError> {
        let key = (key.workflow_id, key.task.to_owned(), key.run.to_owned(), key.model.to_owned());
        let waits = self.waiting().get(&key).cloned();
        match waits {
            Some(pin) => self.write(std::slice::from_ref(&pin)).await,
            None => Ok(()),
        }
    }

    /// Writes the pins that wait. They stay in memory until they are committed, so a failure loses
    /// none; a crash loses those of the last moment, whose runs are then pinned by their next call.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn write_pins(&self) -> Result<(), StoreError> {
        let batch: Vec<Pin> = self.waiting().values().take(5_000).cloned().collect();
        if batch.is_empty() { Ok(()) } else { self.write(&batch).await }
    }

    async fn write(&self, batch: &[Pin]) -> Result<(), StoreError> {
        let mut conn = self.engine.store.pool().acquire().await?;
        assignments::insert_pins(&mut conn, batch).await?;
        let mut waiting = self.waiting();
        for pin in batch {
            waiting.remove(&pin_key(pin));
        }
        Ok(())
    }

    fn hash(&self, workflow_id: i64, task: &str, run: &str, model: &str) -> u64 {
        self.desk.hasher.hash_one((workflow_id, task, run, model))
    }

    fn holds_a_slot(&self, key: RunKey<'_>) -> bool {
        let hash = self.hash(key.workflow_id, key.task, key.run, key.model);
        self.desk.holders.read().unwrap_or_else(PoisonError::into_inner).hashes.contains(&hash)
    }

    fn remember_holder(&self, key: RunKey<'_>, told: Option<&AssignmentRow>) {
        if told.is_some_and(|told| told.arm.is_some()) {
            let hash = self.hash(key.workflow_id, key.task, key.run, key.model);
            self.desk.holders.write().unwrap_or_else(PoisonError::into_inner).hashes.insert(hash);
        }
    }

    /// Brings the memory up to date: holders first, so that a test that has ended is forgotten only
    /// once everybody whom it dealt to is known.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; the memory stays as it was.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let pool = self.engine.store.pool();
        let testing = experiments::all_dealing(pool).await?;
        let active = versions::all_active(pool).await?;
        let since = self.engine.now() - chrono::Duration::days(PIN_HORIZON_DAYS);
        let changed = changes::last_activations(pool, since).await?;
        self.learn_holders().await?;
        let view = View {
            active: active
                .into_iter()
                .map(|(workflow, model, version, hash)| ((workflow, model), (version, hash)))
                .collect(),
            testing: testing
                .into_iter()
                .map(|(workflow, cycle, model)| ((workflow, model), cycle))
                .collect(),
            changed: changed.into_iter().collect(),
        };
        *self.desk.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    async fn learn_holders(&self) -> Result<(), StoreError> {
        loop {
            let last_id = self.desk.holders.read().unwrap_or_else(PoisonError::into_inner).last_id;
            // Ids are handed out before their rows commit, so what was dealt lately is read again.
            let since = self.engine.now() - chrono::Duration::minutes(HOLDERS_READ_AGAIN_MINUTES);
            let rows = assignments::holders_after(self.engine.store.pool(), last_id, since).await?;
            let mut holders = self.desk.holders.write().unwrap_or_else(PoisonError::into_inner);
            for (id, workflow, task, run, model) in &rows {
                let hash = self.hash(*workflow, task, run, model);
                holders.hashes.insert(hash);
                holders.last_id = holders.last_id.max(*id);
            }
            if rows.len() < assignments::HOLDERS_A_STEP || holders.last_id == last_id {
                return Ok(());
            }
        }
    }

    /// Says that something changed: the memory is refreshed at once.
    pub fn hint(&self) {
        self.desk.refresh.notify_one();
    }

    /// Keeps the memory fresh and writes pins until the token is cancelled; then writes the last pins.
    pub(super) async fn run(self, stop: CancellationToken) {
        let refresher = async {
            while !stop.is_cancelled() {
                if let Err(error) = self.refresh().await {
                    tracing::warn!(error = %error, "the active versions could not be read; answering from memory");
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.desk.refresh.notified() => {}
                    () = self.engine.clock.sleep(REFRESH) => {}
                }
            }
        };
        let writer = async {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.desk.pins_wait.notified() => {
                        self.engine.clock.sleep(PIN_DELAY).await;
                    }
                }
                if let Err(error) = self.write_pins().await {
                    tracing::warn!(error = %error, "pins could not be written; they wait");
                    self.engine.clock.sleep(REFRESH).await;
                    self.desk.pins_wait.notify_one();
                }
                if !self.waiting().is_empty() {
                    self.desk.pins_wait.notify_one();
                }
            }
        };
        futures::future::join(refresher, writer).await;
    }
}

fn pin_key(pin: &Pin) -> PinKey {
    (pin.workflow_id, pin.task.clone(), pin.run.clone(), pin.model.clone())
}

fn assignment(row: AssignmentRow) -> Assignment {
    Assignment {
        version: row.version,
        arm: row.arm,
        cycle: row.cycle,
        content_hash: row.content_hash,
        pair: row.pair,
    }
}

fn unknown(workflow: &Workflow, model: &str) -> AssignError {
    AssignError::UnknownModel { workflow: workflow.name().to_owned(), model: model.to_owned() }
}

fn checked_key<'k>(
    workflow: &Workflow,
    task: &'k str,
    run: &'k str,
    model: &'k str,
) -> Result<RunKey<'k>, AssignError> {
    let invalid = |field, problem| AssignError::InvalidId { field, problem };
    if task.is_empty() {
        return Err(invalid("task id", "empty"));
    }
    for (field, id) in [("task id", task), ("run id", run)] {
        if id.len() > ID_BYTES_MAX {
            return Err(invalid(field, "longer than 200 bytes"));
        }
        if id.contains('\0') {
            return Err(invalid(field, "holding a NUL character"));
        }
    }
    if !workflow.knows(model) {
        return Err(unknown(workflow, model));
    }
    Ok(RunKey { workflow_id: workflow.workflow_id, task, run, model })
}
