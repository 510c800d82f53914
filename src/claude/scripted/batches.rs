//! The Message Batches API by script: batches stay in progress until a test ends them.

use super::ScriptedClaude;
use crate::claude::attempt::{AttemptError, AttemptErrorKind};
use crate::claude::batch::{
    Batch, BatchApi, BatchError, BatchLine, BatchPage, BatchResult, RequestCounts,
};
use crate::claude::wire::{ErrorEnvelope, MessageRequest};
use crate::clock::Clock;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

/// The batches of a script, and what is to go wrong with requests about them.
#[derive(Default)]
pub(super) struct Batches {
    clock: Option<Arc<dyn Clock>>,
    made: Vec<Made>,
    faults: VecDeque<BatchFault>,
    looks: usize,
    cancelled: Vec<String>,
}

struct Made {
    batch: Batch,
    custom_id: String,
    request: MessageRequest,
    result: Option<BatchResult>,
}

/// What the next request about batches meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFault {
    /// An error of the API with this status; nothing is done.
    Status(u16),
    /// No connection; nothing is done.
    NoConnection,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// Nothing is done, and no answer comes either.
    RequestLost,
}

/// How a batch ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its day is over.
    Expired,
    /// Somebody cancelled it.
    Canceled,
    /// The API refuses the request, with an error of this type.
    Errored(&'static str),
}

impl ScriptedClaude {
    /// A script whose batches are made by this clock.
    #[must_use]
    pub fn by_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.batches().clock = Some(clock);
        self
    }

    /// The next request about batches meets this.
    pub fn batch_fault(&self, fault: BatchFault) -> &Self {
        self.batches().faults.push_back(fault);
        self
    }

    /// Every batch in progress ends, each answered by the next step of the script.
    pub fn end_batches(&self) -> &Self {
        let open: Vec<(usize, MessageRequest)> = {
            let batches = self.batches();
            let open = batches.made.iter().enumerate().filter(|(_, made)| made.result.is_none());
            open.map(|(at, made)| (at, made.request.clone())).collect()
        };
        for (at, request) in open {
            let result = match self.respond(&request).result {
                Ok(message) => BatchResult::Succeeded { message: Box::new(message) },
                Err(_) => BatchResult::Errored { error: envelope("api_error") },
            };
            self.end(at, result);
        }
        self
    }

    /// Every batch in progress ends like this.
    pub fn end_batches_as(&self, fate: Fate) -> &Self {
        let made = self.batches().made.len();
        for at in 0..made {
            if self.batches().made.get(at).is_some_and(|made| made.result.is_none()) {
                let result = match fate {
                    Fate::Expired => BatchResult::Expired,
                    Fate::Canceled => BatchResult::Canceled,
                    Fate::Errored(error_type) => {
                        BatchResult::Errored { error: envelope(error_type) }
                    }
                };
                self.end(at, result);
            }
        }
        self
    }

    /// Somebody else's batch of the same account, of as many requests, which has ended.
    pub fn foreign_batch(&self, requests: u64) -> &Self {
        let mut batches = self.batches();
        let mut batch = batches.new_batch();
        "ended".clone_into(&mut batch.processing_status);
        batch.request_counts = RequestCounts { succeeded: requests, ..RequestCounts::default() };
        let request = MessageRequest::structured(
            "claude-haiku-5-5",
            1,
            Vec::new(),
            "theirs".to_owned(),
            serde_json::Value::Null,
        );
        let result = Some(BatchResult::Expired);
        batches.made.push(Made { batch, custom_id: "theirs".to_owned(), request, result });
        drop(batches);
        self
    }

    /// How many batches were made.
    #[must_use]
    pub fn batches_made(&self) -> usize {
        self.batches().made.len()
    }

    /// How many requests about batches came, of any kind.
    #[must_use]
    pub fn batch_looks(&self) -> usize {
        self.batches().looks
    }

    /// The batches that were asked to be cancelled.
    #[must_use]
    pub fn batches_cancelled(&self) -> Vec<String> {
        self.batches().cancelled.clone()
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, at: usize, result: BatchResult) {
        if let Some(made) = self.batches().made.get_mut(at) {
            "ended".clone_into(&mut made.batch.processing_status);
            let counts = &mut made.batch.request_counts;
            *counts = RequestCounts::default();
            match result {
                BatchResult::Succeeded { .. } => counts.succeeded = 1,
                BatchResult::Errored { .. } => counts.errored = 1,
                BatchResult::Canceled => counts.canceled = 1,
                BatchResult::Expired => counts.expired = 1,
            }
            made.result = Some(result);
        }
    }

    /// Counts the request and says what it meets; true when the answer to it is to be lost.
    fn meet(&self) -> Result<bool, BatchError> {
        let mut batches = self.batches();
        batches.looks += 1;
        match batches.faults.pop_front() {
            None => Ok(false),
            Some(BatchFault::AnswerLost) => Ok(true),
            Some(BatchFault::RequestLost) => Err(lost()),
            Some(BatchFault::NoConnection) => {
                let error = AttemptError::new(AttemptErrorKind::Connect, "connection refused");
                Err(BatchError { status: None, error })
            }
            Some(BatchFault::Status(status)) => Err(refused(status)),
        }
    }

    fn about<T>(
        &self,
        answer: impl FnOnce(&mut Batches) -> Result<T, BatchError>,
    ) -> Result<T, BatchError> {
        let lose = self.meet()?;
        let answer = answer(&mut self.batches());
        if lose { Err(lost()) } else { answer }
    }
}

impl Batches {
    fn now(&self) -> DateTime<Utc> {
        self.clock.as_ref().map_or(DateTime::UNIX_EPOCH, |clock| clock.now())
    }

    fn new_batch(&self) -> Batch {
        Batch {
            id: format!("msgbatch_scripted_{:03}", self.made.len() + 1),
            processing_status: "in_progress".to_owned(),
            request_counts: RequestCounts { processing: 1, ..RequestCounts::default() },
            created_at: self.now(),
            results_url: None,
        }
    }

    fn of(&mut self, batch_id: &str) -> Result<&mut Made, BatchError> {
        self.made.iter_mut().find(|made| made.batch.id == batch_id).ok_or_else(|| refused(404))
    }
}

fn refused(status: u16) -> BatchError {
    let kind = AttemptErrorKind::Status {
        error_type: Some("scripted_error".to_owned()),
        error_code: None,
    };
    let error = AttemptError::new(kind, format!("scripted status {status}"));
    BatchError { status: Some(status), error }
}

fn lost() -> BatchError {
    let error = AttemptError::new(AttemptErrorKind::TimedOut, "no answer in time");
    BatchError { status: None, error }
}

fn envelope(error_type: &str) -> ErrorEnvelope {
    ErrorEnvelope {
        error: crate::claude::wire::ErrorBody {
            error_type: error_type.to_owned(),
            message: format!("scripted {error_type}"),
            details: None,
        },
        request_id: None,
    }
}

impl BatchApi for ScriptedClaude {
    fn create<'a>(
        &'a self,
        custom_id: &'a str,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move {
            self.arrive(request).await;
            let made = self.about(|batches| {
                let batch = batches.new_batch();
                batches.made.push(Made {
                    batch: batch.clone(),
                    custom_id: custom_id.to_owned(),
                    request: request.clone(),
                    result: None,
                });
                Ok(batch)
            });
            self.leave().await;
            made
        })
    }

    fn find<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move {
            self.about(|batches| batches.of(batch_id).map(|made| made.batch.clone()))
        })
    }

    fn results<'a>(
        &'a self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Vec<BatchLine>, BatchError>> {
        Box::pin(async move {
            self.about(|batches| {
                let made = batches.of(&batch.id)?;
                let custom_id = made.custom_id.clone();
                Ok(made
                    .result
                    .clone()
                    .map(|result| BatchLine { custom_id, result })
                    .into_iter()
                    .collect())
            })
        })
    }

    fn cancel<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move {
            self.about(|batches| {
                batches.cancelled.push(batch_id.to_owned());
                let made = batches.of(batch_id)?;
                if made.result.is_none() {
                    "canceling".clone_into(&mut made.batch.processing_status);
                }
                Ok(made.batch.clone())
            })
        })
    }

    fn page<'a>(
        &'a self,
        after_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<BatchPage, BatchError>> {
        Box::pin(async move {
            self.about(|batches| {
                // A page holds two, so that what is looked for may be on a later one.
                let older: Vec<Batch> =
                    batches.made.iter().rev().map(|made| made.batch.clone()).collect();
                let from = after_id.and_then(|id| older.iter().position(|batch| batch.id == id));
                let rest = older.get(from.map_or(0, |at| at + 1)..).unwrap_or_default();
                let data: Vec<Batch> = rest.iter().take(2).cloned().collect();
                let last_id = data.last().map(|batch| batch.id.clone());
                Ok(BatchPage { has_more: rest.len() > data.len(), data, last_id })
            })
        })
    }
}
