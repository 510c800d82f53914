//! A task that writes: it takes whatever waits for it and commits that at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::fold::Arrived;
use super::logger::{LoggerLimits, Touched, WorkflowInfo};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::task_log::{Recorded, record};

type Answer = Result<Vec<Recorded>, Arc<StoreError>>;

/// What a writer remembers of its last commit.
#[derive(Debug, Clone, Copy, Default)]
struct Commit {
    /// Those whom it answered.
    callers: usize,
    /// Those who came too late for it, and waited when it was done.
    left_waiting: usize,
    took: Duration,
}

impl Commit {
    /// How long those whom it answered are waited for.
    fn patience(self) -> Duration {
        const PART: u32 = 2;
        const MOST: Duration = Duration::from_millis(3);
        (self.took / PART).min(MOST)
    }
}

/// The events of one caller, who waits for the answer.
pub(super) struct Job {
    pub workflow: WorkflowInfo,
    pub events: Vec<Arrived>,
    pub size_bytes: usize,
    pub answer: oneshot::Sender<Answer>,
    /// Given back when the job is done, which lets the next caller in.
    pub _room: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    limits: LoggerLimits,
    touched: Touched,
}

impl Writer {
    pub(super) fn new(
        pool: PgPool,
        clock: Arc<dyn Clock>,
        limits: LoggerLimits,
        touched: Touched,
    ) -> Self {
        Self { pool, clock, limits, touched }
    }

    /// Writes until there is no logger left, or until `stop` is cancelled and the queue is empty.
    pub(super) async fn run(
        self,
        mut waiting: mpsc::UnboundedReceiver<Job>,
        stop: CancellationToken,
    ) {
        let mut last = Commit::default();
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled(), if !waiting.is_closed() => {
                    // Later callers are refused; what waits is still received.
                    waiting.close();
                    continue;
                }
                job = waiting.recv() => job,
            };
            let Some(first) = first else { return };
            let batch = self.gather(first, &mut waiting, last).await;
            let (callers, began) = (batch.len(), Instant::now());
            for jobs in by_workflow(batch) {
                self.write(jobs).await;
            }
            last = Commit { callers, left_waiting: waiting.len(), took: began.elapsed() };
        }
    }

    /// The first job and whatever waits behind it, as far as the limits go.
    ///
    /// Callers whose events were just committed send their next ones in a moment. Without a look back at them a batch
    /// of all would follow one of the few who came too late for it, and half of the commits would be for these few. So
    /// those who were answered last are waited for, for a part of the time that a commit takes: a group commit timer
    /// (Helland et al., "Group Commit Timers and High Volume Transaction Systems", 1987). Whoever sends alone never
    /// waits.
    async fn gather(
        &self,
        first: Job,
        waiting: &mut mpsc::UnboundedReceiver<Job>,
        last: Commit,
    ) -> Vec<Job> {
        let (mut events, mut size_bytes) = (first.events.len(), first.size_bytes);
        let mut batch = vec![first];
        let until = Instant::now() + last.patience();
        while events < self.limits.batch_events_max && size_bytes < self.limits.batch_bytes_max {
            let next = match waiting.try_recv() {
                Err(TryRecvError::Empty) if batch.len() < last.callers + last.left_waiting => {
                    timeout_at(until, waiting.recv()).await.ok().flatten()
                }
                next => next.ok(),
            };
            let Some(job) = next else { break };
            events += job.events.len();
            size_bytes += job.size_bytes;
            batch.push(job);
        }
        batch
    }

    /// Writes jobs of one workflow, together if possible.
    async fn write(&self, mut jobs: Vec<Job>) {
        let Some(workflow) = jobs.last().map(|job| job.workflow.clone()) else {
            return;
        };
        let lengths: Vec<usize> = jobs.iter().map(|job| job.events.len()).collect();
        let events: Vec<Arrived> =
            jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.events)).collect();
        match self.record(&workflow, &events).await {
            Ok(verdicts) => {
                let mut verdicts = verdicts.into_iter();
                for (job, length) in jobs.into_iter().zip(lengths) {
                    reply(job, Ok(verdicts.by_ref().take(length).collect()));
                }
            }
            // Whoever's data it was, the others' events must not be lost with it.
            Err(error) if jobs.len() > 1 && !error.is_transient() => {
                let mut rest = events.as_slice();
                for (job, length) in jobs.into_iter().zip(lengths) {
                    let (own, others) = rest.split_at(length.min(rest.len()));
                    rest = others;
                    let answer = self.record(&workflow, own).await.map_err(Arc::new);
                    reply(job, answer);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for job in jobs {
                    reply(job, Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// Records events, again after each deadlock or serialisation failure, a bounded number of times.
    async fn record(
        &self,
        workflow: &WorkflowInfo,
        events: &[Arrived],
    ) -> Result<Vec<Recorded>, StoreError> {
        let workflow_id = workflow.workflow_id;
        let recorded = repeated(self.clock.as_ref(), self.limits.retries_max, || {
            record(&self.pool, workflow_id, &workflow.models, events)
        });
        match recorded.await {
            Ok(verdicts) => {
                if verdicts.contains(&Recorded::Accepted) {
                    self.touched.add(workflow_id);
                }
                Ok(verdicts)
            }
            Err(error) => {
                tracing::warn!(
                    workflow.id = workflow_id,
                    events.count = events.len(),
                    error = %error,
                    "events were not logged; their senders are told to send them again"
                );
                Err(error)
            }
        }
    }
}

/// Does it, and again after each deadlock or serialisation failure, a bounded number of times.
pub(super) async fn repeated<T, F>(
    clock: &dyn Clock,
    retries_max: u32,
    attempt: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    const FIRST_PAUSE: Duration = Duration::from_millis(5);
    let mut retries = 0;
    loop {
        match attempt().await {
            Err(error) if retries < retries_max && was_rolled_back(&error) => {
                clock.sleep(FIRST_PAUSE * 2_u32.saturating_pow(retries.min(6))).await;
                retries += 1;
            }
            done => return done,
        }
    }
}

/// Jobs by workflow, in the order of arrival within each.
fn by_workflow(batch: Vec<Job>) -> impl Iterator<Item = Vec<Job>> {
    let mut groups: BTreeMap<i64, Vec<Job>> = BTreeMap::new();
    for job in batch {
        groups.entry(job.workflow.workflow_id).or_default().push(job);
    }
    groups.into_values()
}

fn reply(job: Job, answer: Answer) {
    // The caller may have gone away; its events are committed all the same.
    let _ = job.answer.send(answer);
}

/// True when PostgreSQL undid the transaction for another's sake: a deadlock or serialisation failure.
fn was_rolled_back(error: &StoreError) -> bool {
    let StoreError::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    error.code().is_some_and(|code| code.starts_with("40"))
}
