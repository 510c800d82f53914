//! What each step of a run leaves in the journal. A redo reads these and nothing else, so everything that a later step
//! or a log event needs is in them, times and costs included.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::task_log::Fault;

/// A finished step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<T> {
    /// When it was begun.
    pub begun_at: DateTime<Utc>,
    /// When it was put on record.
    pub ended_at: DateTime<Utc>,
    /// What came of it.
    pub value: T,
}

/// The task as it was when its run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadTask {
    /// Its title.
    pub name: String,
    /// What it asks for.
    pub text: String,
    /// The attachment that is edited, by ClickUp's id: its address may end, so it is asked for anew.
    pub attachment: String,
    /// The task's type, where a field says it.
    pub task_type: Option<String>,
    /// The task's category, where a field says it.
    pub category: Option<String>,
}

/// The original picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// As it was sniffed.
    pub media_type: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// In bytes.
    pub size_bytes: u64,
    /// Where WaveSpeed keeps it.
    pub media_url: String,
}

/// The version that a model was assigned for this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its number.
    pub version: i32,
    /// SHA-256 over its texts.
    pub content_hash: String,
    /// `control` or `candidate`, in a test.
    pub arm: Option<String>,
    /// The second version of a paired task, which is done under both.
    #[serde(default)]
    pub pair: Option<i32>,
}

/// What Claude was asked and paid in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaudeFacts {
    /// The model that answered.
    pub model: String,
    /// Claude's name for the request that brought the answer.
    pub request_id: Option<String>,
    /// Tokens read at the full price.
    pub input_tokens: Option<i64>,
    /// Tokens written to the cache.
    pub cache_creation_tokens: Option<i64>,
    /// Tokens read from the cache.
    pub cache_read_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// How many attempts are on record for the step, the answered one among them.
    pub calls: u32,
    /// What all of them cost, in US dollars.
    pub cost_usd: Decimal,
    /// Whether a part of the cost is a guess.
    pub cost_estimated: bool,
    /// How long the answered one took.
    pub latency_ms: Option<i64>,
}

/// An enhanced prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnhancedPrompt {
    /// The prompt for the image model.
    pub prompt: String,
    /// Why it is so.
    pub rationale: String,
    /// The paid call.
    pub claude: ClaudeFacts,
}

/// A picture that WaveSpeed was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// WaveSpeed's name for it.
    pub prediction: String,
    /// The record of the paid call.
    pub call_id: uuid::Uuid,
}

/// A picture that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Where it is.
    pub url: String,
    /// WaveSpeed's name for it.
    pub prediction: String,
    /// How long it took: WaveSpeed's own measure, else from asking to having.
    pub generation_time_ms: i64,
    /// What it cost, in US dollars.
    pub cost_usd: Decimal,
}

/// A picture that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedPicture {
    /// From 0 to the workflow's `score_max`.
    pub score: u16,
    /// Whether the judge let it pass.
    pub passed: bool,
    /// What the judge found wrong.
    pub issues: Vec<String>,
    /// Why the judge scored so.
    pub reasoning: String,
    /// The version of the judge's prompt, by its hash.
    pub prompt_version: String,
    /// The paid call.
    pub claude: ClaudeFacts,
}

/// Why an attempt ended without a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// `enhancement`, `generation` or `validation`.
    pub stage: Stage,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub words: String,
    /// True when the prompt is to blame, false when the infrastructure is.
    pub by_prompt: bool,
}

impl AttemptFailure {
    /// Whose fault it was.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        if self.by_prompt { Fault::Prompt } else { Fault::Infrastructure }
    }
}

/// A part of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Claude rewrites the prompt.
    Enhancement,
    /// WaveSpeed makes the picture.
    Generation,
    /// Claude judges the picture.
    Validation,
}

impl Stage {
    /// The name in logs and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enhancement => "enhancement",
            Self::Generation => "generation",
            Self::Validation => "validation",
        }
    }
}

/// Why a run ends with an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailure {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub words: String,
}

/// The winner's picture, on the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// The attachment's title.
    pub title: String,
}
