//! What the pipeline tells: one typed event for each step of a run.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

/// One step of one run of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The task's name in the pipeline, 1 to 200 characters.
    pub task_id: String,
    /// Which run of the task; the empty string is the only run of a task that is run once.
    pub run_id: String,
    /// The model, for `enhancement`, `generation`, `validation`, and an `error` of one attempt.
    pub model: Option<String>,
    /// Which round of the run, from 1; it means nothing without a model.
    pub iteration: i32,
    /// The prompt version in use; only an `enhancement` names one.
    pub version: Option<i32>,
    /// For a task that was assigned a pair of versions: the one whose attempt this is. Every event of
    /// such an attempt names it, so that the two are told apart. Which one won, [`Winner::leg`] says.
    pub leg: Option<i32>,
    /// When it happened, by the sender's clock; its arrival counts where this is missing.
    pub at: Option<DateTime<Utc>>,
    /// The sender's own identity for the event; without one the natural key counts it once.
    pub event_id: Option<Uuid>,
    /// Whatever else the sender wants kept.
    pub metadata: Map<String, Value>,
    /// What happened.
    pub body: EventBody,
}

impl TaskEvent {
    /// An event with everything optional left out.
    #[must_use]
    pub fn new(task_id: impl Into<String>, run_id: impl Into<String>, body: EventBody) -> Self {
        Self {
            task_id: task_id.into(),
            run_id: run_id.into(),
            model: None,
            iteration: 1,
            version: None,
            leg: None,
            at: None,
            event_id: None,
            metadata: Map::new(),
            body,
        }
    }

    /// The same event of one attempt: a model in an iteration.
    #[must_use]
    pub fn of_attempt(mut self, model: impl Into<String>, iteration: i32) -> Self {
        self.model = Some(model.into());
        self.iteration = iteration;
        self
    }

    /// The same event with the prompt version that was in use.
    #[must_use]
    pub const fn with_version(mut self, version: i32) -> Self {
        self.version = Some(version);
        self
    }

    /// The same event as one leg of a paired task: of the attempt under that version.
    #[must_use]
    pub const fn with_leg(mut self, version: i32) -> Self {
        self.leg = Some(version);
        self
    }

    /// The same event with the time at which it happened.
    #[must_use]
    pub const fn happened_at(mut self, at: DateTime<Utc>) -> Self {
        self.at = Some(at);
        self
    }

    /// True when the event is about one attempt, not about the run as a whole.
    #[must_use]
    pub const fn is_of_attempt(&self) -> bool {
        self.model.is_some()
    }

    /// The event's type.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match &self.body {
            EventBody::TaskStarted(_) => EventType::TaskStarted,
            EventBody::Enhancement(_) => EventType::Enhancement,
            EventBody::Generation(_) => EventType::Generation,
            EventBody::Validation(_) => EventType::Validation,
            EventBody::Winner(_) => EventType::Winner,
            EventBody::Completed(_) => EventType::Completed,
            EventBody::Error(_) => EventType::Error,
            EventBody::Feedback(_) => EventType::Feedback,
        }
    }

    /// About how many bytes the event's texts take, for bounding queues and batches.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 256;
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = match &self.body {
            EventBody::TaskStarted(body) => {
                body.original_prompt.len()
                    + length(&body.task_name)
                    + length(&body.task_type)
                    + length(&body.category)
            }
            EventBody::Enhancement(body) => body.original_prompt.len() + body.enhanced_prompt.len(),
            EventBody::Generation(body) => body.image_url.len(),
            EventBody::Validation(body) => {
                body.issues.iter().map(String::len).sum::<usize>() + length(&body.reasoning)
            }
            EventBody::Error(body) => body.error.len(),
            EventBody::Feedback(body) => length(&body.comment),
            EventBody::Winner(_) | EventBody::Completed(_) => 0,
        };
        FIXED_BYTES + texts + value_bytes_of_map(&self.metadata)
    }
}

/// About how many bytes a map of JSON takes.
pub(super) fn value_bytes_of_map(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    const SCALAR_BYTES: usize = 8;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => SCALAR_BYTES,
        Value::String(text) => SCALAR_BYTES + text.len(),
        Value::Array(items) => SCALAR_BYTES + items.iter().map(value_bytes).sum::<usize>(),
        Value::Object(map) => SCALAR_BYTES + value_bytes_of_map(map),
    }
}

/// The types of event, by the names that they have in JSON and in `task_events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// `task_started`
    TaskStarted,
    /// `enhancement`
    Enhancement,
    /// `generation`
    Generation,
    /// `validation`
    Validation,
    /// `winner`
    Winner,
    /// `completed`
    Completed,
    /// `error`
    Error,
    /// `feedback`
    Feedback,
}

impl EventType {
    /// Every type, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::TaskStarted,
        Self::Enhancement,
        Self::Generation,
        Self::Validation,
        Self::Winner,
        Self::Completed,
        Self::Error,
        Self::Feedback,
    ];

    /// The type's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskStarted => "task_started",
            Self::Enhancement => "enhancement",
            Self::Generation => "generation",
            Self::Validation => "validation",
            Self::Winner => "winner",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Feedback => "feedback",
        }
    }

    /// True for the types that must name a model: they are about one attempt and nothing else.
    #[must_use]
    pub const fn needs_model(self) -> bool {
        matches!(self, Self::Enhancement | Self::Generation | Self::Validation)
    }

    /// True for the types that may occur more than once under one key, told apart by content.
    #[must_use]
    pub const fn may_repeat(self) -> bool {
        matches!(self, Self::Error | Self::Feedback)
    }
}

/// What happened, with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// A run began.
    TaskStarted(TaskStarted),
    /// A model's prompt was enhanced.
    Enhancement(Enhancement),
    /// A model made an image.
    Generation(Generation),
    /// An image was judged.
    Validation(Validation),
    /// The run's winner was chosen, or that there is none; ends the run.
    Winner(Winner),
    /// The run was finished; ends the run.
    Completed(Completed),
    /// Something failed: an attempt where a model is named, else the run, which ends by it.
    Error(Failure),
    /// What a person thought of the result, often days later.
    Feedback(Feedback),
}

/// A run began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskStarted {
    /// The prompt as the person wrote it, byte for byte.
    pub original_prompt: String,
    /// The task's title.
    pub task_name: Option<String>,
    /// For instance `SIMPLE_EDIT` or `BRANDED_CREATIVE`.
    pub task_type: Option<String>,
    /// Whatever the pipeline groups its tasks by.
    pub category: Option<String>,
}

/// A model's prompt was enhanced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enhancement {
    /// What was enhanced, byte for byte; from the second iteration on it may carry feedback.
    pub original_prompt: String,
    /// What came out, byte for byte.
    pub enhanced_prompt: String,
    /// How long it took.
    pub latency_ms: Option<i64>,
}

/// A model made an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// Where the image is.
    pub image_url: String,
    /// How long it took.
    pub generation_time_ms: Option<i64>,
    /// What it cost, in US dollars, to a millionth.
    pub cost_usd: Option<Decimal>,
}

/// An image was judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validation {
    /// From 0 to the workflow's `score_max`.
    pub score: u16,
    /// Whether the judge let it pass.
    pub passed: bool,
    /// What the judge found wrong.
    pub issues: Vec<String>,
    /// Why the judge scored so.
    pub reasoning: Option<String>,
    /// Who judged; scores of different judges are never pooled.
    pub judge: Option<Judge>,
}

/// The validator that gave a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// The validator's model.
    pub model: String,
    /// The version of the validator's prompt.
    pub prompt_version: String,
}

/// The run's winner was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Winner {
    /// The model that won; `None` when no attempt was good enough.
    pub winner: Option<String>,
    /// The winner's score.
    pub score: Option<u16>,
    /// For a winner whose task was done under a pair of versions: the one whose attempt won. Without it
    /// neither leg counts as selected.
    pub leg: Option<i32>,
    /// How many iterations the run took, from 1; the last one's attempt is the selected one.
    pub total_iterations: i32,
}

/// The run was finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Completed {
    /// How long the run took; computed from its times where it is left out.
    pub processing_time_ms: Option<i64>,
}

/// Something failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, in the pipeline's words.
    pub error: String,
    /// In which step.
    pub stage: Option<String>,
    /// Whose fault it was, where the pipeline knows.
    pub fault: Option<Fault>,
}

/// Whose fault an error was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An outage, a time-out, a quota: no verdict on the prompt.
    Infrastructure,
    /// The prompt itself: it counts as a score of 0.
    Prompt,
}

impl Fault {
    /// The name on the wire and in the tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Prompt => "prompt",
        }
    }
}

/// What a person thought of the result; at least one of the two is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Whether the result was kept; false means that it was deleted.
    pub kept: Option<bool>,
    /// In the person's words.
    pub comment: Option<String>,
}
