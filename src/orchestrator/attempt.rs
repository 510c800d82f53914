//! One model's attempt in one round: enhance, have a picture made, have it judged; each step told to the task log.

use std::sync::Arc;

use chrono::Duration;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::asking::{AttemptHalt, Question};
use super::definition::ModelKeys;
use super::enhance::{self, Earlier};
use super::journal::Halt;
use super::pictures::{self, Picture};
use super::record::{
    AttemptFailure, EnhancedPrompt, Generated, JudgedPicture, Original, Recorded, Stage, Submitted,
};
use super::run::Run;
use super::select::{Attempt, AttemptEnd, Picture as Judged};
use super::service::{Next, ServiceError};
use super::{events, validate};
use crate::store::pipeline::calls::{self, CallEnd, CallIntent, CallStatus};
use crate::task_log::{Fault, TaskEvent};

/// What one model is to do in one round.
pub(super) struct Trial<'t> {
    /// The run.
    pub run: &'t Run<'t>,
    /// The model's place in the workflow.
    pub place: usize,
    /// How it is reached.
    pub model: &'t ModelKeys,
    /// The version that it is tried under.
    pub version: i32,
    /// The same, where the task is done under two: the attempt's events and steps name it.
    pub leg: Option<i32>,
    /// The original.
    pub original: &'t Original,
    /// What the person asked for.
    pub request: &'t str,
    /// The round, from 1.
    pub iteration: i32,
    /// What the rounds before taught.
    pub earlier: Option<Earlier>,
}

impl Trial<'_> {
    fn step(&self, name: &str) -> String {
        match self.leg {
            None => format!("{}/{}/{name}", self.iteration, self.model.name),
            Some(version) => format!("{}/{}/v{version}/{name}", self.iteration, self.model.name),
        }
    }

    /// Tries, and tells the task log how it ended.
    ///
    /// # Errors
    /// [`Halt`] when the run cannot go on now; an attempt that failed is no error.
    pub async fn go(&self) -> Result<Attempt, Halt> {
        let step = self.step("failed");
        let failed: Option<Recorded<AttemptFailure>> = self.run.journal.ended(&step)?;
        let failed = match failed {
            Some(failed) => {
                // What was logged before the failure is logged by the redo as well.
                self.tell_what_is_on_record().await?;
                failed
            }
            None => match self.try_it().await {
                Ok(judged) => return Ok(self.ended(AttemptEnd::Judged(Box::new(judged)))),
                Err(AttemptHalt::Run(halt)) => return Err(halt),
                Err(AttemptHalt::Failed(failure)) => {
                    self.run.journal.end(&step, self.run.journal.now(), &failure).await?
                }
            },
        };
        self.fail(failed).await
    }

    /// Leaves the model out of this round, since it waits while the others are done.
    ///
    /// # Errors
    /// As [`Trial::go`].
    pub async fn leave_out(&self, failure: AttemptFailure) -> Result<Attempt, Halt> {
        let journal = &self.run.journal;
        let failed = journal.end(&self.step("failed"), journal.now(), &failure).await?;
        self.fail(failed).await
    }

    async fn fail(&self, failed: Recorded<AttemptFailure>) -> Result<Attempt, Halt> {
        let name = &self.model.name;
        tracing::info!(
            task.id = self.run.job.task_id,
            task.run = self.run.job.run,
            model.name = name,
            attempt.iteration = self.iteration,
            attempt.stage = failed.value.stage.name(),
            attempt.code = failed.value.code,
            "an attempt failed; the run goes on"
        );
        let event = events::attempt_failed(self.run.job, name, self.iteration, &failed);
        self.tell(event).await?;
        Ok(self.ended(AttemptEnd::Failed(failed.value)))
    }

    const fn ended(&self, end: AttemptEnd) -> Attempt {
        Attempt { model: self.place, leg: self.leg, iteration: self.iteration, end }
    }

    /// Tells the task log of this attempt, and of this leg where there are two.
    async fn tell(&self, event: TaskEvent) -> Result<(), Halt> {
        let event = match self.leg {
            Some(version) => event.with_leg(version),
            None => event,
        };
        self.run.log(event).await
    }

    /// The stage that the attempt has reached by the journal.
    pub fn stage(&self) -> Result<Stage, Halt> {
        let journal = &self.run.journal;
        if journal.ended::<Generated>(&self.step("picture"))?.is_some() {
            return Ok(Stage::Validation);
        }
        let enhanced = journal.ended::<EnhancedPrompt>(&self.step("enhance"))?.is_some();
        Ok(if enhanced { Stage::Generation } else { Stage::Enhancement })
    }

    async fn tell_what_is_on_record(&self) -> Result<(), Halt> {
        let journal = &self.run.journal;
        if let Some(enhanced) = journal.ended(&self.step("enhance"))? {
            self.tell_enhanced(&enhanced).await?;
        }
        if let Some(generated) = journal.ended(&self.step("picture"))? {
            self.tell_generated(&generated).await?;
        }
        Ok(())
    }

    async fn tell_enhanced(&self, enhanced: &Recorded<EnhancedPrompt>) -> Result<(), Halt> {
        let (job, name) = (self.run.job, &self.model.name);
        let (iteration, request) = (self.iteration, self.request);
        let event = events::enhanced(job, name, iteration, self.version, request, enhanced);
        self.tell(event).await
    }

    async fn tell_generated(&self, generated: &Recorded<Generated>) -> Result<(), Halt> {
        let name = &self.model.name;
        self.tell(events::generated(self.run.job, name, self.iteration, generated)).await
    }

    async fn try_it(&self) -> Result<Judged, AttemptHalt> {
        if let Some(words) = self.model.refuses(self.original.width, self.original.height) {
            let code = "picture_outside_limits";
            return Err(AttemptHalt::failed(Stage::Generation, code, words, Fault::Infrastructure));
        }
        let journal = &self.run.journal;
        let enhanced = journal.once(&self.step("enhance"), self.enhance()).await?;
        self.tell_enhanced(&enhanced).await?;
        let prompt = &enhanced.value.prompt;
        let submitted = journal.once(&self.step("submit"), self.submit(prompt)).await?;
        let generated = journal.once(&self.step("picture"), self.wait_for(&submitted)).await?;
        self.tell_generated(&generated).await?;
        let judged =
            journal.once(&self.step("validate"), self.validate(prompt, &generated.value)).await?;
        let event = events::validated(self.run.job, &self.model.name, self.iteration, &judged);
        self.tell(event).await?;
        Ok(Judged { prompt: prompt.clone(), url: generated.value.url, judged: judged.value })
    }

    async fn enhance(&self) -> Result<EnhancedPrompt, AttemptHalt> {
        let pipeline = self.run.pipeline;
        let keys = &pipeline.definition.keys.claude;
        let texts = self.run.texts(&self.model.name, self.version).await?;
        let picture = self.run.original_for_claude().await?;
        let ask = enhance::Ask {
            model: &self.model.name,
            activation: &texts.activation_text,
            research: &texts.research_text,
            request: self.request,
            picture: &picture,
            earlier: self.earlier.clone(),
            claude_model: &keys.enhancement_model,
            max_tokens: keys.enhancement_max_tokens,
            prompts: &pipeline.definition.prompts.enhance,
        };
        let stage = Stage::Enhancement;
        let request = enhance::request(&ask).map_err(|error| AttemptHalt::of(stage, &error))?;
        let step = self.step("enhance");
        let question = self.question(&step, stage, &request);
        let (enhanced, claude) = question.ask(enhance::read).await?;
        Ok(EnhancedPrompt { prompt: enhanced.prompt, rationale: enhanced.rationale, claude })
    }

    fn question<'q>(
        &'q self,
        step: &'q str,
        stage: Stage,
        request: &'q crate::claude::MessageRequest,
    ) -> Question<'q> {
        let keys = &self.run.pipeline.definition.keys.claude;
        Question {
            journal: &self.run.journal,
            step,
            stage,
            request,
            claude: self.run.pipeline.services.claude.as_ref(),
            request_retries_max: keys.request_retries_max,
            answers_refused_max: keys.answers_refused_max,
        }
    }

    /// Asks for the picture. It is billed, so it is asked for once, whatever becomes of this process.
    ///
    /// Crash contract. Before the intent, and so in the wait for the account's limits: nothing happened. Between the intent and its end: the picture may be in the
    /// making and billed, and nobody knows its name, so the attempt ends as the infrastructure's fault. After its end:
    /// the name is on record, and a redo waits for it.
    async fn submit(&self, prompt: &str) -> Result<Submitted, AttemptHalt> {
        let (journal, step) = (&self.run.journal, self.step("submit"));
        let (pool, job) = (journal.engine.store.pool(), self.run.job);
        calls::write_off(pool, job, &step, journal.now()).await?;
        for row in calls::of_step(pool, job.workflow_id, job.job_id, &step).await? {
            match (row.end.status, row.end.request_id) {
                (CallStatus::Answered, Some(prediction)) => {
                    return Ok(Submitted { prediction, call_id: row.call_id });
                }
                (CallStatus::Lost, _) => return Err(submit_lost()),
                _ => {}
            }
        }
        let body = self.model.request(prompt, &self.original.media_url);
        let wavespeed = &self.run.pipeline.services.wavespeed;
        let permit = journal.unless_stopped(wavespeed.ready()).await?;
        let permit = permit.map_err(|error| AttemptHalt::of(Stage::Generation, &error))?;
        journal.checkpoint("ready", &step)?;
        let call_id = self.begin_submit(&step, &body).await?;
        journal.checkpoint("begun", &step)?;
        let sent = wavespeed.submit(permit, &self.model.endpoint, &body).await;
        journal.checkpoint("sent", &step)?;
        let price = self.model.price_usd;
        let end = match &sent {
            Ok(prediction) => CallEnd {
                request_id: Some(prediction.id.clone()),
                ..CallEnd::new(CallStatus::Answered, price, false)
            },
            Err(error) => submit_failed(error, price),
        };
        calls::end(pool, job.workflow_id, call_id, &end, journal.now()).await?;
        match sent {
            Ok(prediction) => Ok(Submitted { prediction: prediction.id, call_id }),
            Err(error) => Err(AttemptHalt::of(Stage::Generation, &error)),
        }
    }

    async fn begin_submit(
        &self,
        step: &str,
        body: &serde_json::Value,
    ) -> Result<Uuid, AttemptHalt> {
        let journal = &self.run.journal;
        let call_id = Uuid::now_v7();
        let intent = CallIntent {
            call_id,
            step,
            service: "wavespeed",
            purpose: Stage::Generation.name(),
            called_model: &self.model.endpoint,
            request_hash: &crate::research::file_hash(body.to_string().as_bytes()),
            estimated_cost_usd: self.model.price_usd,
        };
        calls::begin(journal.engine.store.pool(), self.run.job, &intent, journal.now()).await?;
        Ok(call_id)
    }

    async fn wait_for(&self, submitted: &Recorded<Submitted>) -> Result<Generated, AttemptHalt> {
        let (journal, pipeline) = (&self.run.journal, self.run.pipeline);
        let seconds = pipeline.definition.keys.timeouts.generation_seconds;
        let deadline = submitted.ended_at + Duration::seconds(seconds.into());
        let prediction = &submitted.value.prediction;
        let waiting = pipeline.services.wavespeed.wait(prediction, deadline);
        let finished = match journal.unless_stopped(waiting).await? {
            Ok(finished) => finished,
            Err(error) => return Err(self.no_picture(&submitted.value, deadline, &error).await?),
        };
        let took_ms = (journal.now() - submitted.begun_at).num_milliseconds().max(0);
        let inference_ms = finished.inference_ms.and_then(|ms| i64::try_from(ms).ok());
        Ok(Generated {
            url: finished.url,
            prediction: prediction.clone(),
            generation_time_ms: inference_ms.unwrap_or(took_ms),
            cost_usd: self.model.price_usd,
        })
    }

    /// A picture that failed is not charged; one that is still in the making when its time is over may be.
    async fn no_picture(
        &self,
        submitted: &Submitted,
        deadline: chrono::DateTime<chrono::Utc>,
        error: &ServiceError,
    ) -> Result<AttemptHalt, AttemptHalt> {
        let journal = &self.run.journal;
        match error.next {
            Next::Never { .. } if NOT_CHARGED.contains(&error.code) => {
                let (pool, workflow_id) = (journal.engine.store.pool(), self.run.job.workflow_id);
                let call_id = submitted.call_id;
                calls::refund(pool, workflow_id, call_id, error.code, &error.words).await?;
            }
            Next::Later { .. } | Next::Unknown if journal.now() >= deadline => {
                let words = format!("{} Its time was over.", error.words);
                let (stage, fault) = (Stage::Generation, Fault::Infrastructure);
                return Ok(AttemptHalt::failed(stage, error.code, words, fault));
            }
            // Where only the look failed, the picture may have been made and charged.
            Next::Never { .. } | Next::Later { .. } | Next::Operator | Next::Unknown => {}
        }
        Ok(AttemptHalt::of(Stage::Generation, error))
    }

    async fn validate(
        &self,
        prompt: &str,
        generated: &Generated,
    ) -> Result<JudgedPicture, AttemptHalt> {
        let (pipeline, stage) = (self.run.pipeline, Stage::Validation);
        let definition = &pipeline.definition;
        let http = &pipeline.services.wavespeed_pictures;
        let fetching = pictures::fetch(http, &generated.url, definition.keys.picture_bytes_max());
        let edited = self.run.journal.unless_stopped(fetching).await?;
        let edited = edited.map_err(|error| AttemptHalt::of(stage, &error))?;
        let edited = small(edited).await.map_err(|error| AttemptHalt::of(stage, &error))?;
        let original = self.run.original_for_claude().await?;
        let workflow = &pipeline.workflow.definition;
        let ask = validate::Ask {
            model: &self.model.name,
            request: self.request,
            enhanced: prompt,
            original: &original,
            edited: &edited,
            score_max: u16::try_from(workflow.score_max).unwrap_or(u16::MAX),
            pass_score: u16::try_from(workflow.pass_score).unwrap_or(u16::MAX),
            claude_model: &definition.keys.claude.validation_model,
            max_tokens: definition.keys.claude.validation_max_tokens,
            prompts: &definition.prompts.validate,
        };
        let score_max = ask.score_max;
        let request = validate::request(&ask).map_err(|error| AttemptHalt::of(stage, &error))?;
        let step = self.step("validate");
        let question = self.question(&step, stage, &request);
        let (judged, claude) = question.ask(|text| validate::read(text, score_max)).await?;
        Ok(JudgedPicture {
            score: judged.score,
            passed: judged.passed,
            issues: judged.issues,
            reasoning: judged.reasoning,
            prompt_version: definition.prompts.judge_version.clone(),
            claude,
        })
    }
}

/// Makes a picture small enough for Claude, away from the threads that answer others.
pub(super) async fn small(picture: Picture) -> Result<Picture, ServiceError> {
    let shrink = tokio::task::spawn_blocking(move || pictures::for_claude(&picture));
    match shrink.await {
        Ok(small) => small,
        Err(panic) => Err(ServiceError::new(
            super::service::Service::Claude,
            "picture_unusable",
            format!("The picture could not be made small: {panic}."),
            Next::Never { fault: Fault::Infrastructure },
        )),
    }
}

/// How WaveSpeed says that a picture failed, which it does not charge.
const NOT_CHARGED: [&str; 3] =
    ["wavespeed_prediction_failed", "wavespeed_content_policy", "wavespeed_no_output"];

/// A shared picture.
pub(super) type SharedPicture = Arc<Picture>;

fn submit_lost() -> AttemptHalt {
    let words = "asking for the picture was cut off; it may have been made and billed, so it is not asked for again";
    AttemptHalt::failed(Stage::Generation, "wavespeed_submit_lost", words, Fault::Infrastructure)
}

fn submit_failed(error: &ServiceError, price: Decimal) -> CallEnd {
    let (status, cost_usd) = match error.next {
        Next::Unknown => (CallStatus::Lost, price),
        Next::Later { .. } | Next::Operator | Next::Never { .. } => {
            (CallStatus::Refused, Decimal::ZERO)
        }
    };
    CallEnd {
        error_code: Some(error.code.to_owned()),
        error_message: Some(error.words.clone()),
        ..CallEnd::new(status, cost_usd, status == CallStatus::Lost)
    }
}
