//! What comes round: ready tasks whose webhook never came, and what became of pictures.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::definition::same_status;
use super::events;
use super::pipeline::Pipeline;
use super::service::ServiceError;
use crate::store::StoreError;
use crate::store::pipeline::feedback::{self, Fate, GivenBack};
use crate::store::pipeline::jobs::{self, Source};
use crate::store::pipeline::rounds::{self, Round};
use crate::task_log::LogError;

/// How often to look whether a round is due, and whether a fate waits to be logged.
const POLL: Duration = Duration::from_secs(1);
/// A task that was changed so soon after its run was changed by the run itself.
const SETTLE: Duration = Duration::from_mins(5);
/// Pages of a list that one sweep reads at most; 100 tasks each.
const PAGES_MAX: u32 = 50;
/// Fates that are looked at or logged at once.
const FATES_MAX: i64 = 50;

/// Why a round was broken off. The next one begins anew; nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// ClickUp did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The task log did not take it.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Looks for what is due until the token is cancelled.
pub async fn run(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let looking = async {
            if let Err(error) = pipeline.log_known_fates().await {
                tracing::warn!(error = %error, "feedback could not be logged; trying again");
            }
            if let Err(error) = pipeline.rounds_due().await {
                tracing::warn!(error = %error, "a round was broken off; the next one begins anew");
            }
            pipeline.engine.clock.sleep(POLL).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looking => {}
        }
    }
}

impl Pipeline {
    /// Does the rounds that are due now, each in one process only.
    ///
    /// # Errors
    /// [`RoundError`]; the next round begins anew.
    pub async fn rounds_due(&self) -> Result<(), RoundError> {
        let keys = &self.definition.keys.rounds;
        let minutes = |number: u32| Duration::from_secs(u64::from(number) * 60);
        let (pool, workflow_id) = (self.engine.store.pool(), self.workflow.workflow_id);
        let due = [
            (Round::Sweep, minutes(keys.sweep_minutes)),
            (Round::Feedback, minutes(keys.feedback_minutes)),
        ];
        for (round, every) in due {
            if !rounds::take(pool, workflow_id, round, every, self.engine.now()).await? {
                continue;
            }
            let result = match round {
                Round::Sweep => format!("{} tasks found", self.sweep().await?),
                Round::Feedback => format!("{} pictures looked at", self.find_out_fates().await?),
            };
            rounds::done(pool, workflow_id, round, &result, self.engine.now()).await?;
        }
        Ok(())
    }

    /// Makes jobs for ready tasks whose webhook never came; returns how many.
    ///
    /// # Errors
    /// [`RoundError`]; the jobs made by then stay.
    pub async fn sweep(&self) -> Result<u32, RoundError> {
        let clickup = &self.definition.keys.clickup;
        let mut made = 0;
        for list in &clickup.lists {
            for page in 0..PAGES_MAX {
                let found =
                    self.services.clickup.tasks_in(list, &clickup.ready_status, page).await?;
                let heads = found
                    .tasks
                    .iter()
                    .filter(|head| same_status(&head.status, &clickup.ready_status));
                let (ids, changed_at): (Vec<String>, Vec<DateTime<Utc>>) = heads
                    .map(|head| {
                        (head.id.clone(), head.updated_at.unwrap_or(DateTime::<Utc>::MIN_UTC))
                    })
                    .unzip();
                made += self.want_all(&ids, &changed_at).await?;
                if found.last_page || found.tasks.is_empty() {
                    break;
                }
            }
        }
        Ok(made)
    }

    async fn want_all(
        &self,
        ids: &[String],
        changed_at: &[DateTime<Utc>],
    ) -> Result<u32, StoreError> {
        let (pool, workflow_id) = (self.engine.store.pool(), self.workflow.workflow_id);
        let mut made = 0;
        for task_id in jobs::without_job(pool, workflow_id, ids, changed_at, SETTLE).await? {
            let mut conn = pool.acquire().await?;
            let now = self.engine.now();
            if jobs::want(&mut conn, workflow_id, &task_id, Source::Sweep, now).await?.is_some() {
                tracing::info!(
                    task.id = task_id,
                    "a ready task was found whose webhook never came"
                );
                made += 1;
            }
        }
        if made > 0 {
            self.wake.notify_one();
        }
        Ok(made)
    }

    /// Looks whether pictures that were given back long enough ago are still there; returns how many it looked at.
    /// A look that fails keeps no other from being made: the next round goes on behind it, and begins with the oldest
    /// again once it has come to the end.
    ///
    /// # Errors
    /// [`RoundError`], the first one; what was found out of the others stays, and is told.
    pub async fn find_out_fates(&self) -> Result<usize, RoundError> {
        let (pool, workflow_id) = (self.engine.store.pool(), self.workflow.workflow_id);
        let days = self.definition.keys.rounds.kept_after_days;
        let before = self.engine.now() - chrono::Duration::days(days.into());
        let after = self.fates.begin();
        let due = feedback::due(pool, workflow_id, before, after, FATES_MAX).await?;
        let is_full = i64::try_from(due.len()).is_ok_and(|looked| looked >= FATES_MAX);
        self.fates.go_on(due.last().filter(|_| is_full).map(feedback::GivenBack::place));
        let mut first_failure = None;
        for picture in &due {
            if let Err(error) = self.find_out_fate(picture).await {
                tracing::warn!(
                    task.id = picture.task_id,
                    error = %error,
                    "what became of a picture could not be found out; the next round looks again"
                );
                first_failure.get_or_insert(error);
            }
        }
        self.log_known_fates().await?;
        first_failure.map_or(Ok(due.len()), Err)
    }

    async fn find_out_fate(&self, picture: &GivenBack) -> Result<(), RoundError> {
        let task = self.services.clickup.task(&picture.task_id).await?;
        let (kept, words) = match task {
            None => (false, Some("the task was deleted")),
            Some(task) if task.attachments.iter().any(|file| file.title == picture.title) => {
                (true, None)
            }
            Some(_) => (false, Some("the picture was taken off the task")),
        };
        let (pool, workflow_id) = (self.engine.store.pool(), self.workflow.workflow_id);
        let now = self.engine.now();
        feedback::found_out(pool, workflow_id, picture.job_id, kept, words, now).await?;
        Ok(())
    }

    /// Tells the task log what is known of pictures; returns how many fates were told.
    ///
    /// # Errors
    /// [`RoundError`]; what was not told is told by the next look, and what is told twice counts once.
    pub async fn log_known_fates(&self) -> Result<usize, RoundError> {
        let (pool, workflow_id) = (self.engine.store.pool(), self.workflow.workflow_id);
        let unlogged = feedback::unlogged(pool, workflow_id, FATES_MAX).await?;
        for fate in &unlogged {
            let Fate { job_id, task_id, run, kept, at, words } = fate;
            let event = events::feedback(task_id, *run, *kept, words.as_deref(), *at);
            let report = self.logger.log(self.workflow.name(), vec![event]).await?;
            if let Some(rejection) = report.rejected.first() {
                tracing::info!(
                    task.id = task_id,
                    code = rejection.code,
                    "feedback was refused and is left out"
                );
            }
            feedback::logged(pool, workflow_id, *job_id, *at).await?;
        }
        Ok(unlogged.len())
    }
}
