//! The last steps of a run: the picture goes back to its task, people are told, and so is the task log.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::comments::{FailedWords, NoWinnerWords, ScoreWords, WinnerWords, names_run};
use super::events::{self, Won};
use super::journal::{Halt, Wait};
use super::reading::{deleted, ending, own_title, status_refused};
use super::record::{ReadTask, Recorded, RunFailure, Uploaded};
use super::run::{Finish, Run, Subject};
use super::select::{Attempt, AttemptEnd, Picture, best_failure, best_of_each};
use super::service::{Next, ServiceError};
use crate::store::pipeline::calls;
use crate::store::pipeline::jobs::Ended;

/// What the end of a run's work amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// What all its paid calls cost, in US dollars.
    cost_usd: Decimal,
}

impl Run<'_> {
    /// Gives the winner's picture back.
    pub async fn give_back(
        &self,
        subject: &Subject,
        attempts: &[Attempt],
        won: &Attempt,
    ) -> Result<Finish, Halt> {
        let AttemptEnd::Judged(picture) = &won.end else {
            return Err(Halt::fail("no_winner_picture", "the winner has no picture"));
        };
        let model = self.model_name(won.model);
        let title = own_title(&self.job.task_id, self.job.run, &model, won.iteration);
        let uploaded =
            self.journal.looked_for("upload", |_| self.upload(&title, picture)).await?.value;
        let words = WinnerWords {
            reference: self.reference(),
            model: model.clone(),
            score: picture.judged.score,
            score_max: self.score_max(),
            iterations: won.iteration,
            title: uploaded.title.clone(),
            issues: picture.judged.issues.clone(),
            failed_models: self.failed_in(attempts, won.iteration),
        };
        let text = self.pipeline.definition.prompts.comments.winner(&words);
        let text = text.map_err(|error| Halt::fail("comment_template", error.to_string()))?;
        self.tell_people(&text, &self.pipeline.definition.keys.clickup.done_status).await?;
        let score = picture.judged.score;
        let winner = Won { model: &model, score, leg: won.leg };
        self.close(subject, Some(winner), won.iteration).await?;
        let under = won.leg.map_or_else(String::new, |version| format!(" under version {version}"));
        let words = format!("{model} won{under} with {score} in round {}", won.iteration);
        Ok(Finish { ended: Ended::Winner { title: uploaded.title }, words })
    }

    /// Asks a person, since nothing passed.
    pub async fn nobody_won(
        &self,
        subject: &Subject,
        attempts: &[Attempt],
        iterations: i32,
    ) -> Result<Finish, Halt> {
        let scores = best_of_each(attempts)
            .into_iter()
            .map(|(place, picture)| ScoreWords {
                model: self.model_name(place),
                score: picture.judged.score,
                image_url: picture.url.clone(),
            })
            .collect();
        let words = NoWinnerWords {
            reference: self.reference(),
            iterations,
            scores,
            score_max: self.score_max(),
            issues: best_failure(attempts).map_or_else(Vec::new, |p| p.judged.issues.clone()),
        };
        let text = self.pipeline.definition.prompts.comments.no_winner(&words);
        let text = text.map_err(|error| Halt::fail("comment_template", error.to_string()))?;
        self.tell_people(&text, &self.pipeline.definition.keys.clickup.person_status).await?;
        self.close(subject, None, iterations).await?;
        let words = format!("nothing passed in {iterations} rounds; a person was asked");
        Ok(Finish { ended: Ended::NoWinner, words })
    }

    fn model_name(&self, place: usize) -> String {
        self.pipeline.workflow.models().nth(place).unwrap_or_default().to_owned()
    }

    fn score_max(&self) -> u16 {
        u16::try_from(self.pipeline.workflow.definition.score_max).unwrap_or(u16::MAX)
    }

    fn failed_in(&self, attempts: &[Attempt], iteration: i32) -> Vec<String> {
        let of_round = attempts.iter().filter(|attempt| attempt.iteration == iteration);
        // A model of a pair has two attempts, and has failed only with both.
        let mut all_failed: BTreeMap<usize, bool> = BTreeMap::new();
        for attempt in of_round {
            *all_failed.entry(attempt.model).or_insert(true) &=
                matches!(attempt.end, AttemptEnd::Failed(_));
        }
        let failed = all_failed.into_iter().filter(|(_, failed)| *failed);
        failed.map(|(model, _)| self.model_name(model)).collect()
    }

    /// Uploads are not idempotent, so the task is looked at first, always.
    async fn upload(&self, title: &str, picture: &Picture) -> Result<Uploaded, Halt> {
        let (clickup, task_id) = (&self.pipeline.services.clickup, &self.job.task_id);
        let found = clickup.task(task_id).await.map_err(|error| Halt::of_run(&error))?;
        let Some(task) = found else { return Err(deleted()) };
        let stem = format!("{title}.");
        if let Some(there) = task.attachments.iter().find(|file| file.title.starts_with(&stem)) {
            return Ok(Uploaded { title: there.title.clone() });
        }
        let made = self.fetch_made(&picture.url).await.map_err(|error| Halt::of_run(&error))?;
        let title = format!("{stem}{}", ending(&made.media_type));
        let uploaded = clickup.upload(task_id, &title, &made.media_type, made.bytes).await;
        uploaded.map_err(|error| Halt::of_run(&error))?;
        self.journal.checkpoint("sent", "upload")?;
        Ok(Uploaded { title })
    }

    /// Writes the comment and sets the status. The picture is on the task by now, so that what ClickUp refuses for good
    /// is left out rather than letting the run fail.
    async fn tell_people(&self, text: &str, status: &str) -> Result<(), Halt> {
        self.journal
            .looked_for("comment", |again| async move {
                left_out("comment", self.comment(text, again).await)
            })
            .await?;
        let clickup = &self.pipeline.services.clickup;
        let set = async {
            match clickup.set_status(&self.job.task_id, status).await {
                Err(error) if error.code == "clickup_status_refused" => Err(status_refused(&error)),
                set => left_out("status", set),
            }
        };
        self.journal.once("status", set).await?;
        Ok(())
    }

    async fn comment(&self, text: &str, again: bool) -> Result<(), ServiceError> {
        let (clickup, task_id) = (&self.pipeline.services.clickup, &self.job.task_id);
        let reference = self.reference();
        if again && clickup.comments(task_id).await?.iter().any(|c| names_run(&c.text, &reference))
        {
            return Ok(());
        }
        clickup.comment(task_id, text).await?;
        Ok(())
    }

    async fn close(
        &self,
        subject: &Subject,
        won: Option<Won<'_>>,
        iterations: i32,
    ) -> Result<(), Halt> {
        let closed = self.journal.once("closed", self.cost()).await?;
        let (began_at, at) = (subject.task.begun_at, closed.ended_at);
        self.log(events::winner(self.job, won, iterations, at)).await?;
        self.log(events::completed(self.job, began_at, at, closed.value.cost_usd)).await
    }

    async fn cost(&self) -> Result<Closed, Halt> {
        let (pool, job) = (self.journal.engine.store.pool(), self.job);
        let cost_usd = calls::cost(pool, job.workflow_id, job.job_id).await?;
        Ok(Closed { cost_usd: cost_usd.normalize() })
    }

    /// Tells the task log and people that the run failed. Once that has been tried for as long as a run waits at most,
    /// the rest is left out.
    pub async fn fail(&self, failed: Recorded<RunFailure>) -> Result<Finish, Halt> {
        if let Some(task) = self.journal.ended::<ReadTask>("task")? {
            self.log(events::started(self.job, &task)).await?;
            self.log(events::run_failed(self.job, &failed)).await?;
        }
        let RunFailure { code, words } = failed.value;
        tracing::warn!(
            task.id = self.job.task_id,
            task.run = self.job.run,
            run.code = code,
            "a run failed; a person is asked"
        );
        let finish = Finish { ended: Ended::Error, words: format!("{code}: {words}") };
        let reference = self.reference();
        let texts = &self.pipeline.definition.prompts.comments;
        let text = texts.failed(&FailedWords { reference, code, words });
        let text = text.map_err(|error| Halt::fail("comment_template", error.to_string()));
        let told = match text {
            Ok(text) => self.tell_of_failure(&text).await,
            Err(_) => Ok(()),
        };
        let hours = self.pipeline.definition.keys.waiting.give_up_hours;
        let over = self.journal.now() - failed.ended_at >= chrono::Duration::hours(hours.into());
        match told {
            Err(Halt::Wait(Wait { .. })) if over => Ok(finish),
            Err(halt) => Err(halt),
            Ok(()) => Ok(finish),
        }
    }

    async fn tell_of_failure(&self, text: &str) -> Result<(), Halt> {
        let status = &self.pipeline.definition.keys.clickup.person_status;
        self.journal
            .looked_for("failure/comment", |again| async move {
                left_out("comment", self.comment(text, again).await)
            })
            .await?;
        let set = async {
            match self.pipeline.services.clickup.set_status(&self.job.task_id, status).await {
                Err(error) if error.code == "clickup_status_refused" => Err(status_refused(&error)),
                set => left_out("status", set),
            }
        };
        self.journal.once("failure/status", set).await?;
        Ok(())
    }
}

/// What ClickUp refuses for good is left out; everything else is waited for.
fn left_out(what: &'static str, done: Result<(), ServiceError>) -> Result<(), Halt> {
    match done {
        Err(error) if matches!(error.next, Next::Never { .. }) => {
            tracing::warn!(what, code = error.code, "ClickUp refused for good, and it is left out");
            Ok(())
        }
        done => done.map_err(|error| Halt::of_run(&error)),
    }
}
