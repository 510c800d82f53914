//! The journal of one run in memory: what is on record is read, what is not is done and put on record.
//!
//! Crash contract of a step. Before its end is on record: it was done or not, and a redo does it again; so a step is
//! either harmless to repeat, or begun on record and looked for before it is repeated, or a paid call with an intent of
//! its own (`asking`, `attempt`). After its end is on record: a redo reads it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::probe::Probe;
use super::record::{Recorded, RunFailure};
use super::select::{Consequence, for_run};
use super::service::ServiceError;
use crate::runtime::Engine;
use crate::store::StoreError;
use crate::store::pipeline::steps::{self, StepRow};
use crate::store::pipeline::{ClaimedJob, jobs};

/// Why a run does not go on now.
#[derive(Debug)]
pub enum Halt {
    /// It waits for something, and is tried again.
    Wait(Wait),
    /// It ends with an error.
    Fail(RunFailure),
    /// The task is not, or no longer, to be worked on.
    NotWanted(String),
    /// This process is stopping; the job is handed back.
    Stopped,
    /// A test let the process die here.
    Died,
    /// The database failed, or another worker holds the job now.
    Store(StoreError),
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub words: String,
    /// How long the service asked to wait.
    pub after: Option<Duration>,
    /// True when a person has to mend something first.
    pub for_operator: bool,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Halt {
    /// What a failed call of the run itself does to it.
    #[must_use]
    pub fn of_run(error: &ServiceError) -> Self {
        match for_run(error.next) {
            Consequence::Waits { after, for_operator } => {
                Self::Wait(Wait::of(error, after, for_operator))
            }
            Consequence::Fails { .. } => Self::fail(error.code, error.words.clone()),
        }
    }

    /// The run ends with this error.
    #[must_use]
    pub fn fail(code: &str, words: impl Into<String>) -> Self {
        Self::Fail(RunFailure { code: code.to_owned(), words: words.into() })
    }
}

impl Wait {
    /// What a failed call makes a run wait for.
    #[must_use]
    pub fn of(error: &ServiceError, after: Option<Duration>, for_operator: bool) -> Self {
        Self { code: error.code.to_owned(), words: error.to_string(), after, for_operator }
    }
}

/// The journal of one claimed job.
pub struct Journal<'r> {
    pub(super) engine: &'r Engine,
    pub(super) job: &'r ClaimedJob,
    stop: &'r CancellationToken,
    probe: &'r Probe,
    steps: Mutex<HashMap<String, StepRow>>,
    progressed: AtomicBool,
}

impl<'r> Journal<'r> {
    /// Reads what is on record of a job.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn load(
        engine: &'r Engine,
        job: &'r ClaimedJob,
        stop: &'r CancellationToken,
        probe: &'r Probe,
    ) -> Result<Self, StoreError> {
        let rows = steps::all(engine.store.pool(), job.workflow_id, job.job_id).await?;
        let steps = rows.into_iter().map(|row| (row.step.clone(), row)).collect();
        let progressed = AtomicBool::new(false);
        Ok(Self { engine, job, stop, probe, steps: Mutex::new(steps), progressed })
    }

    /// Now, as exact as the database keeps it, so that a time is the same before and after it was stored.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.engine.now().trunc_subsecs(6)
    }

    /// True once a step of this claim has been put on record: whatever it waited for before is over.
    #[must_use]
    pub fn has_progressed(&self) -> bool {
        self.progressed.load(Ordering::Relaxed)
    }

    fn row(&self, step: &str) -> Option<StepRow> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(step).cloned()
    }

    fn put(&self, row: StepRow) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.insert(row.step.clone(), row);
    }

    /// A step that is on record with its end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when this version cannot read it; it is left as it is.
    pub fn ended<T: DeserializeOwned>(
        &self,
        step: &str,
    ) -> Result<Option<Recorded<T>>, StoreError> {
        let Some(StepRow { begun_at, end: Some((ended_at, outcome)), .. }) = self.row(step) else {
            return Ok(None);
        };
        self.read(step, begun_at, ended_at, outcome).map(Some)
    }

    fn read<T: DeserializeOwned>(
        &self,
        step: &str,
        begun_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        outcome: Value,
    ) -> Result<Recorded<T>, StoreError> {
        let value = serde_path_to_error::deserialize(outcome).map_err(|cause| {
            let row = format!("job {} step {step}", self.job.job_id);
            StoreError::corrupt("pipeline_steps", "outcome", row, cause)
        })?;
        Ok(Recorded { begun_at, ended_at, value })
    }

    /// Stops here when this process is stopping, or when a test lets it die at this point.
    ///
    /// # Errors
    /// [`Halt::Stopped`], [`Halt::Died`].
    pub fn checkpoint(&self, when: &str, step: &str) -> Result<(), Halt> {
        if self.probe.dies_at(when, step) {
            return Err(Halt::Died);
        }
        if when == "before" && self.stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        Ok(())
    }

    /// Waits for work that may be broken off at any moment without a trace.
    ///
    /// # Errors
    /// [`Halt::Stopped`] when this process is stopping.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(Halt::Stopped),
        }
    }

    /// Reads a step that is on record, or does it and puts it on record. It may be done again after a crash, so it
    /// must be harmless to repeat or guard itself.
    ///
    /// # Errors
    /// Those of `work`; [`Halt`] when the journal fails.
    pub async fn once<T, E>(
        &self,
        step: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Recorded<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Halt>,
    {
        let halted = |error: StoreError| E::from(Halt::Store(error));
        if let Some(recorded) = self.ended(step).map_err(halted)? {
            return Ok(recorded);
        }
        self.checkpoint("before", step)?;
        let begun_at = self.now();
        let value = work.await?;
        self.checkpoint("after", step)?;
        Ok(self.end(step, begun_at, &value).await?)
    }

    /// Reads a step that is on record, or puts on record that it is begun and does it. `work` is told whether it was
    /// begun before, and then looks for what it may have done.
    ///
    /// # Errors
    /// Those of `work`; [`Halt`] when the journal fails.
    pub async fn looked_for<T, F>(
        &self,
        step: &str,
        work: impl FnOnce(bool) -> F,
    ) -> Result<Recorded<T>, Halt>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, Halt>>,
    {
        if let Some(recorded) = self.ended(step)? {
            return Ok(recorded);
        }
        self.checkpoint("before", step)?;
        let (begun_at, again) = match self.row(step) {
            Some(row) => (row.begun_at, true),
            None => {
                let begun_at = self.now();
                steps::begin(self.engine.store.pool(), self.job, step, begun_at).await?;
                self.put(StepRow { step: step.to_owned(), begun_at, end: None });
                (begun_at, false)
            }
        };
        self.checkpoint("begun", step)?;
        let value = work(again).await?;
        self.checkpoint("after", step)?;
        self.end(step, begun_at, &value).await
    }

    /// Puts the end of a step on record. What comes back went through the record's own form, so that a first pass
    /// and a redo see the very same.
    ///
    /// # Errors
    /// [`Halt::Store`] when the database fails or another worker holds the job.
    pub async fn end<T: Serialize + DeserializeOwned>(
        &self,
        step: &str,
        begun_at: DateTime<Utc>,
        value: &T,
    ) -> Result<Recorded<T>, Halt> {
        let mut outcome = serde_json::to_value(value).map_err(|cause| {
            let row = format!("job {} step {step}", self.job.job_id);
            StoreError::corrupt("pipeline_steps", "outcome", row, cause)
        })?;
        without_nul(&mut outcome);
        let ended_at = self.now();
        let pool = self.engine.store.pool();
        steps::end(pool, self.job, step, begun_at, ended_at, &outcome).await?;
        // Only deaths without any progress between them say that the run itself kills.
        let first = !self.progressed.swap(true, Ordering::Relaxed);
        if first && self.job.deaths > 0 {
            jobs::survived(pool, self.job).await?;
        }
        let end = Some((ended_at, outcome.clone()));
        self.put(StepRow { step: step.to_owned(), begun_at, end });
        self.checkpoint("recorded", step)?;
        Ok(self.read(step, begun_at, ended_at, outcome)?)
    }

    /// True while this worker holds the job.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn stands(&self) -> Result<bool, StoreError> {
        jobs::stands(self.engine.store.pool(), self.job).await
    }
}

/// PostgreSQL's text cannot hold the character NUL; what stands for a character that cannot be shown takes its place.
fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(map) => map.values_mut().for_each(without_nul),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::service::{Next, Service};

    fn error(next: Next) -> ServiceError {
        ServiceError { service: Service::ClickUp, code: "c", words: "w".to_owned(), next }
    }

    #[test]
    fn what_is_asked_of_a_person_is_told_apart_from_what_passes_by_itself() {
        let halt = |next| match Halt::of_run(&error(next)) {
            Halt::Wait(wait) => Some(wait.for_operator),
            _ => None,
        };
        assert_eq!(halt(Next::Operator), Some(true));
        assert_eq!(halt(Next::Later { after: None }), Some(false));
        assert_eq!(halt(Next::Unknown), Some(false));
        let fault = crate::task_log::Fault::Infrastructure;
        assert_eq!(halt(Next::Never { fault }), None);
    }

    #[test]
    fn a_nul_is_replaced_wherever_it_stands() {
        let mut value = serde_json::json!({"a": ["x\u{0}y", {"b": "\u{0}"}], "c": 1});
        without_nul(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["x\u{fffd}y", {"b": "\u{fffd}"}], "c": 1}));
    }
}
