//! First assignments that are asked for at the same time are dealt in one commit.
//!
//! Nobody is waited for: who finds nobody dealing is dealt to at once, and while that commits the next
//! ones gather by themselves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::deal::deal;
use crate::broken::Rule;
use crate::runtime::Engine;
use crate::store::StoreError;
use crate::store::assignments::{AssignmentRow, RunKey};
use crate::store::dealing::deal_together;

/// Deals under way at a time: while one waits for the disk, another one may look for its slots.
const DEALERS_MAX: usize = 2;
/// Runs that one statement deals to at most, each of another workflow.
const TOGETHER_MAX: usize = 64;

/// Deals for a whole process. Cheap to clone; shared.
#[derive(Clone, Default)]
pub struct Dealing {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    dealers: usize,
}

struct Asked {
    workflow_id: i64,
    task: String,
    run: String,
    model: String,
    reply: oneshot::Sender<Reply>,
}

enum Reply {
    Told(Result<Option<AssignmentRow>, StoreError>),
    /// Nothing was dealt together with the others; the run is to be asked for alone.
    AskAlone,
}

impl Asked {
    fn key(&self) -> RunKey<'_> {
        RunKey {
            workflow_id: self.workflow_id,
            task: &self.task,
            run: &self.run,
            model: &self.model,
        }
    }

    /// A caller that has gone is told by its next call.
    fn answer(self, reply: Reply) {
        let _ = self.reply.send(reply);
    }
}

impl Dealing {
    /// As [`deal`], in one commit with whoever else asks meanwhile. A caller that goes away is dealt to all
    /// the same, as if it had gone a moment later; its next call is told what this one was.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; nothing was dealt then.
    pub async fn deal(
        &self,
        engine: &Engine,
        key: RunKey<'_>,
    ) -> Result<Option<AssignmentRow>, StoreError> {
        // Whoever breaks this rule on purpose does it step by step.
        if Rule::SlotLock.is_broken() {
            return deal(engine, key).await;
        }
        match self.ask(engine, key).await {
            Ok(Reply::Told(told)) => told,
            // The sender is gone only where the process ends.
            Ok(Reply::AskAlone) | Err(_) => deal(engine, key).await,
        }
    }

    fn ask(&self, engine: &Engine, key: RunKey<'_>) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = self.queue();
        queue.waiting.push_back(Asked {
            workflow_id: key.workflow_id,
            task: key.task.to_owned(),
            run: key.run.to_owned(),
            model: key.model.to_owned(),
            reply,
        });
        if queue.dealers < DEALERS_MAX {
            queue.dealers += 1;
            tokio::spawn(self.clone().deal_what_waits(engine.clone()));
        }
        receiver
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deal_what_waits(self, engine: Engine) {
        while let Some(batch) = self.next_batch() {
            deal_batch(&engine, batch).await;
        }
    }

    /// Whoever waits, one of each workflow and in the workflows' order; the others stay. Without any the
    /// dealer is done, and is no longer counted.
    fn next_batch(&self) -> Option<Vec<Asked>> {
        let mut queue = self.queue();
        let mut batch: BTreeMap<i64, Asked> = BTreeMap::new();
        let mut later = VecDeque::new();
        for asked in std::mem::take(&mut queue.waiting) {
            if batch.len() < TOGETHER_MAX && !batch.contains_key(&asked.workflow_id) {
                batch.insert(asked.workflow_id, asked);
            } else {
                later.push_back(asked);
            }
        }
        if batch.len() == 1 {
            // All of one workflow: they go side by side instead of one after another.
            later.drain(..).for_each(|asked| asked.answer(Reply::AskAlone));
        }
        queue.waiting = later;
        if batch.is_empty() {
            queue.dealers -= 1;
            return None;
        }
        Some(batch.into_values().collect())
    }
}

async fn deal_batch(engine: &Engine, mut batch: Vec<Asked>) {
    if batch.len() == 1
        && let Some(asked) = batch.pop()
    {
        let told = deal(engine, asked.key()).await;
        asked.answer(Reply::Told(told));
        return;
    }
    let keys: Vec<RunKey<'_>> = batch.iter().map(Asked::key).collect();
    let told = match deal_together(engine.store.pool(), &keys, engine.now()).await {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(
                runs = keys.len(),
                error = %error,
                "runs could not be dealt to together; each is dealt to alone"
            );
            Vec::new()
        }
    };
    let mut told = told.into_iter();
    for asked in batch {
        let told = told.next().flatten();
        asked.answer(told.map_or(Reply::AskAlone, |told| Reply::Told(Ok(Some(told)))));
    }
}
