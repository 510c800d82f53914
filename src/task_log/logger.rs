//! The task logger of this process: many callers, few writers, an answer only after the commit.
//!
//! Each call hands its events to a writer and waits. The writer takes whatever waits and commits it
//! in one transaction (`writer`), so that the number of commits does not grow with the number of
//! callers; those who were answered last are waited for a moment, so that they fall in with each other. While one
//! writer waits for the disk another one works; a task's events go to the same one,
//! so that they seldom wait for each other's rows. What waits is bounded in bytes; a caller that finds no room waits for it.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use super::error::EventError;
use super::event::TaskEvent;
use super::fold::Arrived;
use super::run::RunLog;
use super::writer::{Job, Writer};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::task_log::Recorded;

/// What the logger needs to know of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowInfo {
    /// Its key in the store.
    pub workflow_id: i64,
    /// The models that it learns about; any other is logged as observed.
    pub models: Vec<String>,
    /// The best score of its scale.
    pub score_max: u16,
}

/// Where the logger looks workflows up, for every call. It must answer from memory.
pub trait WorkflowDirectory: Send + Sync + 'static {
    /// The workflow of that name, if there is one.
    fn find(&self, name: &str) -> Option<WorkflowInfo>;
}

/// How much the writer takes at once, and how much may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggerLimits {
    /// A transaction takes no further caller beyond this many events.
    pub batch_events_max: usize,
    /// A transaction takes no further caller beyond about this many bytes.
    pub batch_bytes_max: usize,
    /// About how many bytes of events may wait, in KiB; further callers wait to be let in.
    pub queue_kib_max: u32,
    /// How often a batch is repeated after a deadlock or a serialisation failure.
    pub retries_max: u32,
    /// Transactions under way at a time; 0 counts as 1. Each needs a connection.
    pub writers: usize,
}

impl Default for LoggerLimits {
    fn default() -> Self {
        Self {
            batch_events_max: 2_000,
            batch_bytes_max: 4 << 20,
            queue_kib_max: 64 << 10,
            retries_max: 5,
            writers: 2,
        }
    }
}

/// Why nothing of a call is known to be stored. Repeating the call is always safe.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// There is no such workflow; nothing was stored.
    #[error("there is no workflow {0:?}; nothing was logged")]
    UnknownWorkflow(String),
    /// The process is shutting down and takes no more events; nothing was stored.
    #[error("the logger is shutting down; nothing was logged, send the events again")]
    Stopped,
    /// The database did not take the events. Unless the connection broke while COMMIT was under way
    /// nothing was stored; sent again, they count once either way.
    #[error("the events were not logged, send them again: {0}")]
    Store(#[source] Arc<StoreError>),
}

/// An event that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejection {
    /// Its place in the call, from 0.
    pub index: usize,
    /// Stable, for programs: a code of [`EventError`], `score_out_of_range`, `event_conflict` or
    /// `task_removed`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// What became of the events of one call, once it is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogReport {
    /// New, and stored.
    pub accepted: usize,
    /// Stored before; they count once.
    pub duplicate: usize,
    /// Refused, by their place.
    pub rejected: Vec<Rejection>,
}

/// The logger. Clones share its writers.
#[derive(Clone)]
pub struct TaskLogger {
    queues: Arc<[mpsc::UnboundedSender<Job>]>,
    room: Arc<Semaphore>,
    queue_kib_max: u32,
    clock: Arc<dyn Clock>,
    workflows: Arc<dyn WorkflowDirectory>,
    touched: Touched,
}

impl fmt::Debug for TaskLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLogger").finish_non_exhaustive()
    }
}

impl TaskLogger {
    /// Starts the writers as tasks of `tasks`. When `stop` is cancelled they take no more events,
    /// commit those that wait, answer their callers, and end.
    #[must_use]
    pub fn start(
        pool: PgPool,
        clock: Arc<dyn Clock>,
        workflows: Arc<dyn WorkflowDirectory>,
        limits: LoggerLimits,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let queue_kib_max = limits.queue_kib_max.max(1);
        let touched = Touched::default();
        let queues = (0..limits.writers.max(1)).map(|_| {
            let (queue, waiting) = mpsc::unbounded_channel();
            let writer = Writer::new(pool.clone(), Arc::clone(&clock), limits, touched.clone());
            tasks.spawn(writer.run(waiting, stop.clone()));
            queue
        });
        Self {
            queues: queues.collect(),
            room: Arc::new(Semaphore::new(usize::try_from(queue_kib_max).unwrap_or(usize::MAX))),
            queue_kib_max,
            clock,
            workflows,
            touched,
        }
    }

    /// Logs events of one workflow. They are committed together, perhaps with those of other callers,
    /// when this returns. Dropping the future does not take events back that the writer has.
    ///
    /// # Errors
    /// [`LogError`] when nothing of the call is known to be stored.
    pub async fn log(&self, workflow: &str, events: Vec<TaskEvent>) -> Result<LogReport, LogError> {
        self.log_parsed(workflow, events.into_iter().map(Ok).collect()).await
    }

    /// Logs what [`parse_body`](super::parse_body) made of a body; its refusals go into the report.
    ///
    /// # Errors
    /// [`LogError`] when nothing of the call is known to be stored.
    pub async fn log_parsed(
        &self,
        workflow: &str,
        events: Vec<Result<TaskEvent, EventError>>,
    ) -> Result<LogReport, LogError> {
        let Some(info) = self.workflows.find(workflow) else {
            return Err(LogError::UnknownWorkflow(workflow.to_owned()));
        };
        let mut checked = Checked::of(&info, events, self.clock.now());
        let arrived = std::mem::take(&mut checked.arrived);
        if arrived.is_empty() {
            return Ok(checked.report);
        }
        let verdicts = self.write(info, arrived).await?;
        Ok(checked.reported(verdicts))
    }

    /// The steps of one run, by the names that the pipeline knows.
    #[must_use]
    pub fn run(
        &self,
        workflow: impl Into<String>,
        task_id: impl Into<String>,
        run_id: impl Into<String>,
    ) -> RunLog {
        RunLog::new(self.clone(), workflow.into(), task_id.into(), run_id.into())
    }

    /// Which workflows have had commits, for whoever looks for triggers and full decks.
    #[must_use]
    pub fn touched(&self) -> Touched {
        self.touched.clone()
    }

    async fn write(
        &self,
        workflow: WorkflowInfo,
        events: Vec<Arrived>,
    ) -> Result<Vec<Recorded>, LogError> {
        let size_bytes: usize = events.iter().map(|arrived| arrived.event.size_bytes()).sum();
        // A call that is larger than all the room takes all of it.
        let kib = u32::try_from(size_bytes >> 10).unwrap_or(u32::MAX).clamp(1, self.queue_kib_max);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        let room = room.map_err(|_| LogError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let queue = self.queue_of(&events).ok_or(LogError::Stopped)?;
        let job = Job { workflow, events, size_bytes, answer, _room: room };
        queue.send(job).map_err(|_| LogError::Stopped)?;
        answered.await.map_err(|_| LogError::Stopped)?.map_err(LogError::Store)
    }

    /// The queue of the writer that a call's first task belongs to.
    fn queue_of(&self, events: &[Arrived]) -> Option<&mpsc::UnboundedSender<Job>> {
        let mut hasher = DefaultHasher::new();
        events.first().map(|arrived| arrived.key.task_id.as_str()).hash(&mut hasher);
        let writers = u64::try_from(self.queues.len()).unwrap_or(1).max(1);
        self.queues.get(usize::try_from(hasher.finish() % writers).unwrap_or(0))
    }
}

/// The events of a call that may be written, and what is to be said of the others.
pub(super) struct Checked {
    /// Those that may be written.
    pub(super) arrived: Vec<Arrived>,
    /// The place of each in the call.
    places: Vec<usize>,
    /// The refusals.
    pub(super) report: LogReport,
}

impl Checked {
    pub(super) fn of(
        workflow: &WorkflowInfo,
        events: impl IntoIterator<Item = Result<TaskEvent, EventError>>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut checked =
            Self { arrived: Vec::new(), places: Vec::new(), report: LogReport::default() };
        for (index, event) in events.into_iter().enumerate() {
            let sound = event.and_then(|event| {
                event.check()?;
                event.check_score(workflow.score_max)?;
                Ok(event)
            });
            match sound {
                Ok(event) => {
                    checked.places.push(index);
                    checked.arrived.push(Arrived::new(workflow.workflow_id, event, now));
                }
                Err(EventError { code, detail, .. }) => {
                    checked.report.rejected.push(Rejection { index, code, detail });
                }
            }
        }
        checked
    }

    /// The report, once it is known what became of those that were written.
    pub(super) fn reported(self, verdicts: Vec<Recorded>) -> LogReport {
        let mut report = self.report;
        for (index, verdict) in self.places.into_iter().zip(verdicts) {
            report.take(index, verdict);
        }
        report.rejected.sort_by_key(|rejection| rejection.index);
        report
    }
}

impl LogReport {
    fn take(&mut self, index: usize, verdict: Recorded) {
        match verdict {
            Recorded::Accepted => self.accepted += 1,
            Recorded::Duplicate => self.duplicate += 1,
            Recorded::Conflict { detail } => {
                self.rejected.push(Rejection { index, code: "event_conflict", detail });
            }
            Recorded::TaskRemoved => self.rejected.push(Rejection {
                index,
                code: "task_removed",
                detail: "this run was removed, by the cleanup or because an operator had its task forgotten; a late event does not revive it"
                    .to_owned(),
            }),
        }
    }
}

/// The workflows that had commits since somebody last asked. It never grows beyond the number of
/// workflows and never misses one, however slow the listener. It is for one listener.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    inner: Arc<TouchedInner>,
}

#[derive(Debug, Default)]
struct TouchedInner {
    workflow_ids: Mutex<BTreeSet<i64>>,
    news: Notify,
}

impl Touched {
    /// Waits until a workflow has had a commit, and returns all that had one since the last time.
    /// Nothing is lost by dropping the future.
    pub async fn next(&self) -> BTreeSet<i64> {
        loop {
            let touched = std::mem::take(&mut *self.lock());
            if !touched.is_empty() {
                return touched;
            }
            self.inner.news.notified().await;
        }
    }

    pub(super) fn add(&self, workflow_id: i64) {
        self.lock().insert(workflow_id);
        self.inner.news.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i64>> {
        self.inner.workflow_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_answer_over_http() {
        let mut report = LogReport::default();
        report.take(0, Recorded::Accepted);
        report.take(1, Recorded::Duplicate);
        report.take(2, Recorded::Conflict { detail: "differs".to_owned() });
        insta::assert_json_snapshot!(report, @r#"
        {
          "accepted": 1,
          "duplicate": 1,
          "rejected": [
            {
              "index": 2,
              "code": "event_conflict",
              "detail": "differs"
            }
          ]
        }
        "#);
    }

    #[tokio::test]
    async fn a_listener_hears_of_every_workflow_once_however_late_it_listens() {
        let touched = Touched::default();
        for workflow_id in [7, 3, 7] {
            touched.add(workflow_id);
        }
        assert_eq!(touched.next().await, BTreeSet::from([3, 7]));
        let (heard, ()) = tokio::join!(touched.next(), async { touched.add(9) });
        assert_eq!(heard, BTreeSet::from([9]));
    }
}
