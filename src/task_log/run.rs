//! One run's log, by the names that the pipeline's own logger has.

use super::event::{
    Completed, Enhancement, EventBody, Failure, Feedback, Generation, TaskEvent, TaskStarted,
    Validation, Winner,
};
use super::logger::{LogError, LogReport, Rejection, TaskLogger};

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// It was new, and is committed.
    Accepted,
    /// It was committed before.
    Duplicate,
    /// It was refused, and nothing of it was stored; sending it again changes nothing.
    Rejected(Rejection),
}

/// The steps of one run. Each call returns once its event is committed.
#[derive(Debug, Clone)]
pub struct RunLog {
    logger: TaskLogger,
    workflow: String,
    task_id: String,
    run_id: String,
}

impl RunLog {
    pub(super) const fn new(
        logger: TaskLogger,
        workflow: String,
        task_id: String,
        run_id: String,
    ) -> Self {
        Self { logger, workflow, task_id, run_id }
    }

    /// The run begins.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_task_start(&self, body: TaskStarted) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::TaskStarted(body))).await
    }

    /// A model's prompt was enhanced, with the version that was assigned, if any.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_enhancement(
        &self,
        model: &str,
        iteration: i32,
        version: Option<i32>,
        body: Enhancement,
    ) -> Result<Logged, LogError> {
        let mut event = self.event(EventBody::Enhancement(body)).of_attempt(model, iteration);
        event.version = version;
        self.log(event).await
    }

    /// A model made an image.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_generation(
        &self,
        model: &str,
        iteration: i32,
        body: Generation,
    ) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Generation(body)).of_attempt(model, iteration)).await
    }

    /// An image was judged.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_validation(
        &self,
        model: &str,
        iteration: i32,
        body: Validation,
    ) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Validation(body)).of_attempt(model, iteration)).await
    }

    /// The winner was chosen, or nobody won.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_winner(&self, body: Winner) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Winner(body))).await
    }

    /// The run was finished.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_complete(&self, body: Completed) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Completed(body))).await
    }

    /// The run failed, and is over.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_error(&self, body: Failure) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Error(body))).await
    }

    /// One attempt failed; the run goes on.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_attempt_error(
        &self,
        model: &str,
        iteration: i32,
        body: Failure,
    ) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Error(body)).of_attempt(model, iteration)).await
    }

    /// A person said something about the result.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log_feedback(&self, body: Feedback) -> Result<Logged, LogError> {
        self.log(self.event(EventBody::Feedback(body))).await
    }

    /// An event of this run, for what the calls above leave out: times, an id, metadata.
    #[must_use]
    pub fn event(&self, body: EventBody) -> TaskEvent {
        TaskEvent::new(self.task_id.as_str(), self.run_id.as_str(), body)
    }

    /// Logs one event.
    ///
    /// # Errors
    /// [`LogError`] when the event is not known to be stored; repeating the call is safe.
    pub async fn log(&self, event: TaskEvent) -> Result<Logged, LogError> {
        let LogReport { accepted, mut rejected, .. } =
            self.logger.log(&self.workflow, vec![event]).await?;
        Ok(match rejected.pop() {
            Some(rejection) => Logged::Rejected(rejection),
            None if accepted > 0 => Logged::Accepted,
            None => Logged::Duplicate,
        })
    }
}
