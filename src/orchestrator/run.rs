//! A run: the walk of one task from its webhook to its picture, as a function over journaled steps.
//!
//! Everything that decides anything is in the journal, so that a redo after a crash walks the same way and does only
//! what is not on record. What the run tells the task log it tells again on a redo, word for word, and that counts once.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::asking::AttemptHalt;
use super::attempt::{SharedPicture, Trial, small};
use super::enhance::Earlier;
use super::journal::{Halt, Journal, Wait};
use super::pictures::{self, Picture};
use super::pipeline::Pipeline;
use super::record::{Assigned, AttemptFailure, Original, ReadTask, Recorded, RunFailure};
use super::select::{
    After, Attempt, AttemptEnd, Leg, after_round, best_failure, earlier_prompt, legs_to_try,
};
use super::service::ServiceError;
use super::{events, reading};
use crate::runtime::AssignError;
use crate::store::StoreError;
use crate::store::pipeline::ClaimedJob;
use crate::store::pipeline::jobs::Ended;
use crate::store::versions::Version;
use crate::task_log::{LogError, TaskEvent};

/// A worker that died with a job so often is killed by it.
const DEATHS_MAX: i32 = 5;
/// How often a log call is repeated while the database is away, before the run waits.
const LOG_TRIES_MAX: u32 = 5;
/// How long to wait between two tries.
const LOG_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The end.
    pub ended: Ended,
    /// For people.
    pub words: String,
}

/// One run of one task.
pub(super) struct Run<'r> {
    pub pipeline: &'r Pipeline,
    pub job: &'r ClaimedJob,
    pub journal: Journal<'r>,
    original: OnceCell<SharedPicture>,
    original_small: OnceCell<SharedPicture>,
}

/// What a run works on.
pub(super) struct Subject {
    pub task: Recorded<ReadTask>,
    pub original: Original,
    pub assigned: Vec<Assigned>,
}

impl<'r> Run<'r> {
    /// Reads what is on record of the run.
    pub async fn load(
        pipeline: &'r Pipeline,
        job: &'r ClaimedJob,
        stop: &'r CancellationToken,
    ) -> Result<Self, StoreError> {
        let journal = Journal::load(&pipeline.engine, job, stop, &pipeline.probe).await?;
        let (original, original_small) = (OnceCell::new(), OnceCell::new());
        Ok(Self { pipeline, job, journal, original, original_small })
    }

    /// The run as comments name it.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.job.task_id, self.job.run)
    }

    /// Walks on from where the journal ends.
    ///
    /// # Errors
    /// [`Halt`] when it does not end now.
    pub async fn go(&self) -> Result<Finish, Halt> {
        if let Some(failed) = self.journal.ended::<RunFailure>("failure")? {
            return self.fail(failed).await;
        }
        match self.walk().await {
            Err(Halt::Fail(failure)) => {
                let failed = self.note_failure(&failure).await?;
                self.fail(failed).await
            }
            other => other,
        }
    }

    /// Puts on record that the run fails, and why; from then on a redo only tells it.
    pub async fn note_failure(&self, failure: &RunFailure) -> Result<Recorded<RunFailure>, Halt> {
        self.journal.end("failure", self.journal.now(), failure).await
    }

    async fn walk(&self) -> Result<Finish, Halt> {
        if self.job.deaths >= DEATHS_MAX {
            let words = format!(
                "it was begun again {} times, and each time the process died; read the log of the last one",
                self.job.deaths
            );
            return Err(Halt::fail("kills_its_workers", words));
        }
        let task = self.journal.once("task", reading::task(self)).await?;
        self.journal.once("working", reading::put_to_work(self)).await?;
        let original = self.journal.once("picture", reading::picture(self)).await?.value;
        let assigned = self.assign().await?;
        self.log(events::started(self.job, &task)).await?;
        let subject = Subject { task, original, assigned };
        let keys = &self.pipeline.definition.keys;
        let mut attempts = Vec::new();
        let mut iteration = 1;
        loop {
            attempts.extend(self.round(&subject, &attempts, iteration).await?);
            match after_round(&attempts, iteration, keys.run.iterations_max) {
                After::Again => iteration += 1,
                After::Winner(won) => {
                    return self.give_back(&subject, &attempts, won).await;
                }
                After::NoWinner => return self.nobody_won(&subject, &attempts, iteration).await,
                After::NothingJudged => return Err(nothing_judged(&attempts)),
            }
        }
    }

    /// Asks for each model's version before anything is enhanced, so that nobody enhances twice.
    async fn assign(&self) -> Result<Vec<Assigned>, Halt> {
        let mut assigned = Vec::new();
        for model in self.pipeline.workflow.models() {
            let step = format!("assign/{model}");
            assigned.push(self.journal.once(&step, self.ask_version(model)).await?.value);
        }
        Ok(assigned)
    }

    async fn ask_version(&self, model: &str) -> Result<Assigned, Halt> {
        let (pipeline, run) = (self.pipeline, self.job.run_id());
        let asked = pipeline.assigner.assign(&pipeline.workflow, &self.job.task_id, &run, model);
        match asked.await {
            Ok(told) => Ok(Assigned {
                version: told.version,
                content_hash: told.content_hash,
                arm: told.arm.map(|arm| arm.as_str().to_owned()),
                pair: told.pair,
            }),
            Err(AssignError::Store(error)) => Err(error.into()),
            Err(error) => Err(Halt::fail("no_version", error.to_string())),
        }
    }

    /// A version's texts.
    pub async fn texts(&self, model: &str, version: i32) -> Result<Arc<Version>, Halt> {
        let found = self.pipeline.assigner.version(self.job.workflow_id, model, version).await?;
        found.ok_or_else(|| {
            Halt::fail(
                "no_version",
                format!("{model} has no version {version}, though it was assigned"),
            )
        })
    }

    async fn round(
        &self,
        subject: &Subject,
        before: &[Attempt],
        iteration: i32,
    ) -> Result<Vec<Attempt>, Halt> {
        let keys = &self.pipeline.definition.keys;
        let issues = best_failure(before).map(|picture| picture.judged.issues.clone());
        let mut trials = Vec::new();
        for (place, name) in self.pipeline.workflow.models().enumerate() {
            let (Some(model), Some(assigned)) = (keys.model(name), subject.assigned.get(place))
            else {
                // The load refuses a definition in which this could be.
                return Err(Halt::fail("no_such_model", format!("{name} has no [[models]] block")));
            };
            for Leg { version, leg } in legs_to_try(before, place, assigned) {
                let prompt = earlier_prompt(before, place, leg).map(str::to_owned);
                let earlier =
                    issues.clone().zip(prompt).map(|(issues, prompt)| Earlier { prompt, issues });
                trials.push(Trial {
                    run: self,
                    place,
                    model,
                    version,
                    leg,
                    original: &subject.original,
                    request: &subject.task.value.text,
                    iteration,
                    earlier,
                });
            }
        }
        // One that fails or waits never stops another: each is followed to its own end.
        let ends = join_all(trials.iter().map(Trial::go)).await;
        self.gather(&trials, ends).await
    }

    async fn gather(
        &self,
        trials: &[Trial<'_>],
        ends: Vec<Result<Attempt, Halt>>,
    ) -> Result<Vec<Attempt>, Halt> {
        let mut attempts = Vec::new();
        let mut waiting = Vec::new();
        for (trial, end) in trials.iter().zip(ends) {
            match end {
                Ok(attempt) => attempts.push(attempt),
                Err(Halt::Wait(wait)) => waiting.push((trial, wait)),
                Err(halt) => return Err(halt),
            }
        }
        let judged = attempts.iter().any(|attempt| matches!(attempt.end, AttemptEnd::Judged(_)));
        let (left_out, mut waits): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, wait)| judged && self.is_straggler(wait));
        for (trial, wait) in left_out {
            let stage = trial.stage()?;
            let words = format!("left out of this round, since it waits: {}", wait.words);
            let (code, by_prompt) = (wait.code, false);
            let failure = AttemptFailure { stage, code, words, by_prompt };
            attempts.push(trial.leave_out(failure).await?);
        }
        // What passes by itself is waited for first.
        waits.sort_by_key(|(_, wait)| wait.for_operator);
        match waits.into_iter().next() {
            Some((_, wait)) => Err(Halt::Wait(wait)),
            None => Ok(attempts),
        }
    }

    /// Whether a model has waited long enough while another one's picture is there.
    fn is_straggler(&self, wait: &Wait) -> bool {
        let since = if self.journal.has_progressed() { None } else { self.job.waiting_since };
        let minutes = self.pipeline.definition.keys.waiting.straggler_minutes;
        let patience = chrono::Duration::minutes(minutes.into());
        wait.for_operator || since.is_some_and(|since| self.journal.now() - since >= patience)
    }

    /// The original, whole. Its address may end, so the task is asked for it anew in each process.
    pub async fn original(&self) -> Result<SharedPicture, Halt> {
        let fetch = || async { reading::fetch_original(self).await.map(Arc::new) };
        self.original.get_or_try_init(fetch).await.cloned()
    }

    /// The original, small enough for Claude.
    pub async fn original_for_claude(&self) -> Result<SharedPicture, AttemptHalt> {
        let shrink = || async {
            let original = self.original().await?;
            let shrunk = small(Picture::clone(&original)).await;
            shrunk.map(Arc::new).map_err(|error| Halt::of_run(&error))
        };
        Ok(self.original_small.get_or_try_init(shrink).await.cloned()?)
    }

    /// Fetches a picture that WaveSpeed made.
    pub async fn fetch_made(&self, url: &str) -> Result<Picture, ServiceError> {
        let bytes_max = self.pipeline.definition.keys.picture_bytes_max();
        pictures::fetch(&self.pipeline.services.wavespeed_pictures, url, bytes_max).await
    }

    /// Tells the task log, and goes on once it is committed. While the database is away the run waits.
    ///
    /// # Errors
    /// [`Halt`]; telling it again is always safe.
    pub async fn log(&self, event: TaskEvent) -> Result<(), Halt> {
        let (logger, name) = (&self.pipeline.logger, self.pipeline.workflow.name());
        let mut tries = 0;
        let report = loop {
            tries += 1;
            match logger.log(name, vec![event.clone()]).await {
                Ok(report) => break report,
                Err(LogError::Stopped) => return Err(Halt::Stopped),
                Err(error @ LogError::UnknownWorkflow(_)) => {
                    return Err(Halt::fail("unknown_workflow", error.to_string()));
                }
                Err(error @ LogError::Store(_)) if tries >= LOG_TRIES_MAX => {
                    return Err(Halt::Wait(Wait {
                        code: "log_unavailable".to_owned(),
                        words: error.to_string(),
                        after: None,
                        for_operator: false,
                    }));
                }
                Err(LogError::Store(_)) => {
                    let pause = self.pipeline.engine.clock.sleep(LOG_PAUSE);
                    self.journal.unless_stopped(pause).await?;
                }
            }
        };
        match report.rejected.first() {
            None => Ok(()),
            Some(rejection) if rejection.code == "task_removed" => Err(Halt::NotWanted(
                "its run was removed, by the cleanup or because an operator had its task forgotten"
                    .to_owned(),
            )),
            Some(rejection) => {
                // The learning layer never breaks production: the run goes on without this line.
                tracing::error!(
                    task.id = self.job.task_id,
                    task.run = self.job.run,
                    event.kind = event.event_type().name(),
                    code = rejection.code,
                    detail = rejection.detail,
                    "the task log refused a step of a run; please report this"
                );
                Ok(())
            }
        }
    }
}

fn nothing_judged(attempts: &[Attempt]) -> Halt {
    let last = attempts.iter().rev().find_map(|attempt| match &attempt.end {
        AttemptEnd::Failed(failure) => Some(failure),
        AttemptEnd::Judged(_) => None,
    });
    let last = last.map_or_else(String::new, |failure| {
        format!("; the last failed in its {}: {}", failure.stage.name(), failure.words)
    });
    Halt::fail(
        "nothing_judged",
        format!("none of {} attempts brought a picture that could be judged{last}", attempts.len()),
    )
}
