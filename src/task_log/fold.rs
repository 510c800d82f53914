//! What a batch of events makes of the rows of `tasks` and `attempts`.
//!
//! Every event becomes a change of one task and, if it names a model, of one attempt. Changes are
//! merged by a rule that does not care for order or grouping, column by column, and the SQL of
//! `store::task_log` merges a change into its row by the same rule. So events land the same in
//! whatever order and in whatever batches they come:
//!
//! - A column that only one type of event writes has one writer, since a key counts once.
//! - The end of a run is the earliest of its ends; how it ended goes by the strongest of them:
//!   completed, then winner, then error.
//! - Of several errors, `prompt` outranks `infrastructure`, which outranks none; then the latest
//!   (by `at`, then by hash) is kept.
//! - Of several feedbacks the latest is kept, of several enhancements the one of the greatest version.
//! - Metadata is merged name by name; the latest event that has the name gives its value.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;

use super::event::{
    Enhancement, EventBody, Failure, Fault, Feedback, Generation, TaskEvent, TaskStarted,
    Validation, Winner,
};
use super::key::{ContentHash, EventKey, stamp_text};
use super::parse::to_microseconds;

/// An event that has arrived, with its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// The event.
    pub event: TaskEvent,
    /// Its key.
    pub key: EventKey,
    /// The hash of its content.
    pub hash: ContentHash,
    /// When it arrived here.
    pub received_at: DateTime<Utc>,
}

impl Arrived {
    /// Gives an event its identity. Times are cut to microseconds, as PostgreSQL keeps them.
    #[must_use]
    pub fn new(workflow_id: i64, mut event: TaskEvent, received_at: DateTime<Utc>) -> Self {
        event.at = event.at.map(to_microseconds);
        let hash = ContentHash::of(&event);
        let key = EventKey::of(workflow_id, &event, &hash);
        Self { event, key, hash, received_at: to_microseconds(received_at) }
    }

    /// When it happened: as the sender says, else when it arrived.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        self.event.at.unwrap_or(self.received_at)
    }

    fn stamp(&self) -> Stamp {
        Stamp { at: self.at(), hash: self.hash }
    }
}

/// Which of two events is the later one: by the time at which they happened, then by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The hash of its content.
    pub hash: ContentHash,
}

impl Stamp {
    /// The stamp as text; texts sort, byte by byte, as the stamps do.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", stamp_text(self.at), self.hash)
    }
}

/// How a run ended, the weakest first. A silent run is `abandoned`, which is never an event and
/// yields to every one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    /// By an error that named no model.
    Error,
    /// By the choice of a winner, or by there being none.
    Winner,
    /// By the pipeline's saying so.
    Completed,
}

impl EndedBy {
    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Winner => "winner",
            Self::Completed => "completed",
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The earliest of its ends.
    pub at: DateTime<Utc>,
    /// The strongest of its ends.
    pub by: EndedBy,
}

/// The names of metadata with their values and where these are from.
pub type Metadata<'a> = BTreeMap<&'a str, (Stamp, &'a Value)>;

/// What a `task_started` says, and when it happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StartFields<'a> {
    /// When the run began.
    pub at: DateTime<Utc>,
    /// The rest.
    pub body: &'a TaskStarted,
}

/// The error that is shown of those of a run or an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorFields<'a> {
    /// When it happened.
    pub stamp: Stamp,
    /// What it says.
    pub body: &'a Failure,
}

impl ErrorFields<'_> {
    fn rank(&self) -> (Option<Fault>, Stamp) {
        (self.body.fault, self.stamp)
    }
}

/// The feedback that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedbackFields<'a> {
    /// When it was given.
    pub stamp: Stamp,
    /// What it says.
    pub body: &'a Feedback,
}

/// The enhancement that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnhancementFields<'a> {
    /// The version that it names.
    pub version: Option<i32>,
    /// What it says.
    pub body: &'a Enhancement,
}

/// What events make of one row of `tasks`.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange<'a> {
    /// The task.
    pub task_id: &'a str,
    /// The run of the task.
    pub run_id: &'a str,
    /// The earliest arrival.
    pub created_at: DateTime<Utc>,
    /// The latest arrival.
    pub last_event_at: DateTime<Utc>,
    /// From `task_started`.
    pub started: Option<StartFields<'a>>,
    /// From `winner`.
    pub winner: Option<&'a Winner>,
    /// From `completed`.
    pub processing_time_reported_ms: Option<i64>,
    /// From `completed`, `winner` and `error`.
    pub end: Option<End>,
    /// From `error` without a model.
    pub error: Option<ErrorFields<'a>>,
    /// From `feedback`.
    pub feedback: Option<FeedbackFields<'a>>,
    /// From events without a model.
    pub metadata: Metadata<'a>,
}

/// What events make of one row of `attempts`: one row however many versions are named for it, or one a
/// leg where the task was assigned a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptChange<'a> {
    /// The task.
    pub task_id: &'a str,
    /// The run of the task.
    pub run_id: &'a str,
    /// The model.
    pub model: &'a str,
    /// The iteration.
    pub iteration: i32,
    /// The row's `version`: the leg's, or 0 where the events name no leg.
    pub leg: i32,
    /// True when the workflow does not know the model.
    pub observed: bool,
    /// The earliest arrival.
    pub created_at: DateTime<Utc>,
    /// From `enhancement`.
    pub enhancement: Option<EnhancementFields<'a>>,
    /// From `generation`.
    pub generation: Option<&'a Generation>,
    /// From `validation`.
    pub validation: Option<&'a Validation>,
    /// From `error` with a model. A score beside it outranks it where learning reads the row.
    pub error: Option<ErrorFields<'a>>,
    /// From events with a model.
    pub metadata: Metadata<'a>,
}

/// The changes of a batch, in the order in which rows are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded<'a> {
    /// By task and run.
    pub tasks: Vec<TaskChange<'a>>,
    /// By task, run, model, iteration and leg.
    pub attempts: Vec<AttemptChange<'a>>,
}

/// Folds events that each have a key of their own.
#[must_use]
pub fn fold<'a>(
    events: impl IntoIterator<Item = &'a Arrived>,
    known_models: &[String],
) -> Folded<'a> {
    let mut tasks: BTreeMap<(&str, &str), TaskChange<'a>> = BTreeMap::new();
    let mut attempts: BTreeMap<(&str, &str, &str, i32, i32), AttemptChange<'a>> = BTreeMap::new();
    for arrived in events {
        let change = TaskChange::of(arrived);
        let key = (change.task_id, change.run_id);
        match tasks.remove(&key) {
            Some(earlier) => tasks.insert(key, earlier.merge(change)),
            None => tasks.insert(key, change),
        };
        if let Some(change) = AttemptChange::of(arrived, known_models) {
            let key = (change.task_id, change.run_id, change.model, change.iteration, change.leg);
            match attempts.remove(&key) {
                Some(earlier) => attempts.insert(key, earlier.merge(change)),
                None => attempts.insert(key, change),
            };
        }
    }
    Folded { tasks: tasks.into_values().collect(), attempts: attempts.into_values().collect() }
}

impl<'a> TaskChange<'a> {
    fn of(arrived: &'a Arrived) -> Self {
        let event = &arrived.event;
        let (at, stamp) = (arrived.at(), arrived.stamp());
        let mut change = Self {
            task_id: &event.task_id,
            run_id: &event.run_id,
            created_at: arrived.received_at,
            last_event_at: arrived.received_at,
            started: None,
            winner: None,
            processing_time_reported_ms: None,
            end: None,
            error: None,
            feedback: None,
            metadata: Metadata::new(),
        };
        if event.is_of_attempt() {
            return change;
        }
        change.metadata = metadata_of(arrived);
        match &event.body {
            EventBody::TaskStarted(body) => change.started = Some(StartFields { at, body }),
            EventBody::Winner(body) => {
                change.winner = Some(body);
                change.end = Some(End { at, by: EndedBy::Winner });
            }
            EventBody::Completed(body) => {
                change.processing_time_reported_ms = body.processing_time_ms;
                change.end = Some(End { at, by: EndedBy::Completed });
            }
            EventBody::Error(body) => {
                change.error = Some(ErrorFields { stamp, body });
                change.end = Some(End { at, by: EndedBy::Error });
            }
            EventBody::Feedback(body) => change.feedback = Some(FeedbackFields { stamp, body }),
            EventBody::Enhancement(_) | EventBody::Generation(_) | EventBody::Validation(_) => {}
        }
        change
    }

    fn merge(self, other: Self) -> Self {
        Self {
            task_id: self.task_id,
            run_id: self.run_id,
            created_at: self.created_at.min(other.created_at),
            last_event_at: self.last_event_at.max(other.last_event_at),
            started: self.started.or(other.started),
            winner: self.winner.or(other.winner),
            processing_time_reported_ms: self
                .processing_time_reported_ms
                .or(other.processing_time_reported_ms),
            end: join(self.end, other.end, |one, two| End {
                at: one.at.min(two.at),
                by: one.by.max(two.by),
            }),
            error: greatest(self.error, other.error, ErrorFields::rank),
            feedback: greatest(self.feedback, other.feedback, |feedback| feedback.stamp),
            metadata: merge_metadata(self.metadata, other.metadata),
        }
    }
}

impl<'a> AttemptChange<'a> {
    fn of(arrived: &'a Arrived, known_models: &[String]) -> Option<Self> {
        let event = &arrived.event;
        let model = event.model.as_deref()?;
        let mut change = Self {
            task_id: &event.task_id,
            run_id: &event.run_id,
            model,
            iteration: event.iteration,
            leg: event.leg.unwrap_or(0),
            observed: !known_models.iter().any(|known| known == model),
            created_at: arrived.received_at,
            enhancement: None,
            generation: None,
            validation: None,
            error: None,
            metadata: metadata_of(arrived),
        };
        match &event.body {
            EventBody::Enhancement(body) => {
                change.enhancement =
                    Some(EnhancementFields { version: event.version.or(event.leg), body });
            }
            EventBody::Generation(body) => change.generation = Some(body),
            EventBody::Validation(body) => change.validation = Some(body),
            EventBody::Error(body) => {
                change.error = Some(ErrorFields { stamp: arrived.stamp(), body });
            }
            EventBody::TaskStarted(_)
            | EventBody::Winner(_)
            | EventBody::Completed(_)
            | EventBody::Feedback(_) => {}
        }
        Some(change)
    }

    fn merge(self, other: Self) -> Self {
        Self {
            task_id: self.task_id,
            run_id: self.run_id,
            model: self.model,
            iteration: self.iteration,
            leg: self.leg,
            observed: self.observed && other.observed,
            created_at: self.created_at.min(other.created_at),
            enhancement: greatest(self.enhancement, other.enhancement, |one| one.version),
            generation: self.generation.or(other.generation),
            validation: self.validation.or(other.validation),
            error: greatest(self.error, other.error, ErrorFields::rank),
            metadata: merge_metadata(self.metadata, other.metadata),
        }
    }

    /// What the attempt cost, as far as is known.
    #[must_use]
    pub fn cost_usd(&self) -> Option<Decimal> {
        self.generation.and_then(|generation| generation.cost_usd)
    }
}

fn metadata_of(arrived: &Arrived) -> Metadata<'_> {
    let stamp = arrived.stamp();
    arrived.event.metadata.iter().map(|(name, value)| (name.as_str(), (stamp, value))).collect()
}

fn merge_metadata<'a>(mut one: Metadata<'a>, two: Metadata<'a>) -> Metadata<'a> {
    for (name, theirs) in two {
        let ours = one.entry(name).or_insert(theirs);
        if theirs.0 > ours.0 {
            *ours = theirs;
        }
    }
    one
}

fn join<T>(one: Option<T>, two: Option<T>, of_both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, two) {
        (Some(one), Some(two)) => Some(of_both(one, two)),
        (one, two) => one.or(two),
    }
}

fn greatest<T, R: Ord>(one: Option<T>, two: Option<T>, rank: impl Fn(&T) -> R) -> Option<T> {
    join(one, two, |one, two| if rank(&two) > rank(&one) { two } else { one })
}

#[cfg(test)]
mod tests;
