//! The queue's worker: claims jobs, has their runs walked, and hands in how they ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::definition::WaitingKeys;
use super::journal::{Halt, Wait};
use super::pipeline::Pipeline;
use super::record::RunFailure;
use super::run::{Finish, Run};
use crate::runtime::{Claimed, KnownClaim};
use crate::store::StoreError;
use crate::store::pipeline::ClaimedJob;
use crate::store::pipeline::jobs::{self, Ended, Waiting};

/// How often a worker looks for jobs without being told: the truth behind every hint.
const POLL: Duration = Duration::from_millis(500);

/// What one step of the worker came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worked {
    /// There was nothing to do.
    Idle,
    /// A run ended.
    Finished(Ended),
    /// A run waits, by this code.
    Waiting(String),
    /// A run gave up waiting; it tells people next.
    GaveUp,
    /// The job was handed back, since this process is stopping.
    HandedBack,
    /// Another worker holds the job now; nothing was written.
    Lost,
    /// A test let the process die; the claim stands, as after a crash.
    Died,
}

impl Pipeline {
    /// Claims one job and walks its run as far as it goes now.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; the job stays claimed and is handed back later.
    pub async fn work_once(&self) -> Result<Worked, StoreError> {
        match self.claim().await? {
            Some((job, _known)) => self.perform(&job, &CancellationToken::new()).await,
            None => Ok(Worked::Idle),
        }
    }

    /// Works until the token is cancelled. Runs then stop at their next step; those that have not by the end of the
    /// grace time are broken off. Either way their jobs are handed back, and the next process goes on.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let running = TaskTracker::new();
        let abandon = CancellationToken::new();
        let at_once = usize::try_from(self.definition.keys.run.at_once).unwrap_or(1);
        while !stop.is_cancelled() {
            let claim = if running.len() < at_once {
                self.claim().await.unwrap_or_else(|error| {
                    tracing::warn!(error = %error, "looking for jobs failed; trying again");
                    None
                })
            } else {
                None
            };
            if let Some((job, known)) = claim {
                let (pipeline, stop) = (Arc::clone(&self), stop.clone());
                let abandon = abandon.clone();
                running.spawn(async move {
                    pipeline.perform_or_hand_back(&job, known, &stop, &abandon).await;
                });
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = self.engine.clock.sleep(POLL) => {}
            }
        }
        running.close();
        let grace = self.engine.settings.shutdown_grace;
        if tokio::time::timeout(grace, running.wait()).await.is_err() {
            abandon.cancel();
            running.wait().await;
        }
    }

    async fn claim(&self) -> Result<Option<(ClaimedJob, KnownClaim)>, StoreError> {
        let engine = &self.engine;
        let (pool, lease) = (engine.store.pool(), engine.settings.lease);
        let workflow_id = self.workflow.workflow_id;
        let job = jobs::claim(pool, workflow_id, engine.worker_id, lease, engine.now()).await?;
        Ok(job.map(|job| {
            let known = engine.claims.note(Claimed::Job(job.job_id));
            (job, known)
        }))
    }

    async fn perform_or_hand_back(
        &self,
        job: &ClaimedJob,
        known: KnownClaim,
        stop: &CancellationToken,
        abandon: &CancellationToken,
    ) {
        let performed = tokio::select! {
            performed = self.perform(job, stop) => Some(performed),
            () = abandon.cancelled() => None,
        };
        if let Some(Ok(_)) = performed {
            self.wake.notify_one();
            return;
        }
        if let Some(Err(error)) = performed {
            tracing::warn!(error = %error, job.id = job.job_id,
                "what a run came to could not be stored; handing its job back");
        }
        // While the database is away nothing can be handed back. Nobody rescues the job meanwhile, since this process
        // lives; once nobody here knows of the claim, the rescuer gives it back.
        if let Err(error) = jobs::hand_back(self.engine.store.pool(), job).await {
            tracing::warn!(error = %error, job.id = job.job_id, "a job could not be handed back yet");
        }
        drop(known);
        self.wake.notify_one();
    }

    async fn perform(
        &self,
        job: &ClaimedJob,
        stop: &CancellationToken,
    ) -> Result<Worked, StoreError> {
        let run = Run::load(self, job, stop).await?;
        let done = match run.go().await {
            Ok(finish) => self.finish(job, finish).await,
            Err(Halt::NotWanted(words)) => {
                self.finish(job, Finish { ended: Ended::NotWanted, words }).await
            }
            Err(Halt::Wait(wait)) => self.wait(&run, wait).await,
            Err(Halt::Fail(RunFailure { code, words })) => {
                // Only telling of a failure fails so; it is tried again like any other call.
                let wait = Wait { code, words, after: None, for_operator: true };
                self.wait(&run, wait).await
            }
            Err(Halt::Stopped) => {
                jobs::hand_back(self.engine.store.pool(), job).await.map(|()| Worked::HandedBack)
            }
            Err(Halt::Died) => Ok(Worked::Died),
            Err(Halt::Store(error @ StoreError::JobLost { .. })) => Err(error),
            Err(Halt::Store(error)) => {
                tracing::warn!(error = %error, job.id = job.job_id, "the database failed a run; it waits");
                let words = error.to_string();
                let (code, after) = ("database".to_owned(), None);
                self.wait(&run, Wait { code, words, after, for_operator: false }).await
            }
        };
        match done {
            Err(StoreError::JobLost { .. }) => {
                tracing::info!(
                    job.id = job.job_id,
                    "another worker holds the job now; nothing was written"
                );
                Ok(Worked::Lost)
            }
            done => done,
        }
    }

    async fn finish(&self, job: &ClaimedJob, finish: Finish) -> Result<Worked, StoreError> {
        let Finish { ended, words } = finish;
        jobs::finish(self.engine.store.pool(), job, &ended, &words, self.engine.now()).await?;
        tracing::info!(
            task.id = job.task_id,
            task.run = job.run,
            job.id = job.job_id,
            words,
            "a run ended"
        );
        Ok(Worked::Finished(ended))
    }

    /// Hands the job back to be tried later; once it has waited too long, its failure is put on record, and it is due at
    /// once to tell people.
    async fn wait(&self, run: &Run<'_>, wait: Wait) -> Result<Worked, StoreError> {
        let (job, pool, now) = (run.job, self.engine.store.pool(), run.journal.now());
        let keys = &self.definition.keys.waiting;
        let fresh = run.journal.has_progressed() || job.waiting_since.is_none();
        let since = if fresh { now } else { job.waiting_since.unwrap_or(now) };
        let waits = if fresh { 1 } else { job.waits.saturating_add(1) };
        let failed_already = run.journal.ended::<RunFailure>("failure")?.is_some();
        if !failed_already && now - since >= chrono::Duration::hours(keys.give_up_hours.into()) {
            let words = format!(
                "given up after {} hours without progress: {}",
                keys.give_up_hours, wait.words
            );
            let failure = RunFailure { code: wait.code.clone(), words };
            match run.note_failure(&failure).await {
                Err(Halt::Store(error)) => return Err(error),
                Err(_) => return Ok(Worked::Died),
                Ok(_) => {}
            }
            let waiting = Waiting {
                code: &wait.code,
                words: &failure.words,
                run_after: now,
                since: now,
                waits: 0,
            };
            jobs::wait(pool, job, waiting).await?;
            return Ok(Worked::GaveUp);
        }
        let delay = delay(keys, &wait, waits);
        let waiting =
            Waiting { code: &wait.code, words: &wait.words, run_after: now + delay, since, waits };
        jobs::wait(pool, job, waiting).await?;
        tracing::info!(
            task.id = job.task_id,
            task.run = job.run,
            wait.code = wait.code,
            wait.seconds = delay.num_seconds(),
            wait.for_operator = wait.for_operator,
            "a run waits"
        );
        Ok(Worked::Waiting(wait.code))
    }
}

/// How long to wait: what the service asked for, else twice as long each time; the longest wait where a person has to
/// mend something.
fn delay(keys: &WaitingKeys, wait: &Wait, waits: i32) -> chrono::Duration {
    let own = keys.delay(u32::try_from(waits.saturating_sub(1)).unwrap_or(0));
    let longest = Duration::from_secs(keys.delay_max_seconds.into());
    let delay = match wait.after {
        Some(asked) => asked.max(Duration::from_secs(1)),
        None if wait.for_operator => longest,
        None => own,
    };
    chrono::Duration::from_std(delay).unwrap_or_else(|_| chrono::Duration::hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(after: Option<u64>, for_operator: bool, waits: i32) -> i64 {
        let keys =
            WaitingKeys { first_seconds: 15, delay_max_seconds: 600, ..WaitingKeys::default() };
        let wait = Wait {
            code: String::new(),
            words: String::new(),
            after: after.map(Duration::from_secs),
            for_operator,
        };
        delay(&keys, &wait, waits).num_seconds()
    }

    #[test]
    fn a_wait_is_what_the_service_asks_for_else_it_doubles_to_its_limit() {
        assert_eq!(
            [1, 2, 3, 6, 7, i32::MAX].map(|waits| seconds(None, false, waits)),
            [15, 30, 60, 480, 600, 600]
        );
        assert_eq!(seconds(Some(7200), false, 1), 7200);
        assert_eq!(seconds(Some(0), false, 9), 1);
        assert_eq!(seconds(None, true, 1), 600);
    }
}
