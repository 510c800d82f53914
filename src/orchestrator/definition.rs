//! What the pipeline of a workflow is: every key of `orchestrator.toml`, its default, and the texts beside it.
//!
//! The types here hold a definition that is known to be good; [`load`] is the way from a workflow's folder to one.

mod check;
mod load;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use load::{FILE, load};

use super::comments::CommentTexts;
use super::enhance::EnhancePrompts;
use super::validate::ValidatePrompts;

/// The pipeline of a workflow: its keys and its prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineDefinition {
    /// The keys of [`FILE`].
    pub keys: PipelineKeys,
    /// The texts beside it.
    pub prompts: PipelinePrompts,
}

/// Every key of [`FILE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineKeys {
    /// Where the tasks are, and what their statuses mean.
    pub clickup: ClickUpKeys,
    /// The image models: exactly those of the workflow, whose order settles ties.
    pub models: Vec<ModelKeys>,
    /// How a run goes.
    #[serde(default)]
    pub run: RunKeys,
    /// Which Claude models are asked.
    #[serde(default)]
    pub claude: ClaudeKeys,
    /// What WaveSpeed's account allows.
    #[serde(default)]
    pub wavespeed: WaveSpeedKeys,
    /// How long calls may take.
    #[serde(default)]
    pub timeouts: TimeoutKeys,
    /// How long a run waits for a service.
    #[serde(default)]
    pub waiting: WaitingKeys,
    /// What comes round.
    #[serde(default)]
    pub rounds: RoundKeys,
}

/// Where the tasks are, and what their statuses mean. Statuses are compared without regard to case, as ClickUp does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickUpKeys {
    /// The lists whose tasks are worked on; empty takes every task that a webhook names, and then nothing is swept.
    #[serde(default)]
    pub lists: Vec<String>,
    /// A task in this status is worked on.
    pub ready_status: String,
    /// A task that is being worked on is put into this one.
    pub working_status: String,
    /// A task that has its picture is put into this one.
    pub done_status: String,
    /// A task that a person has to look at is put into this one.
    pub person_status: String,
    /// The custom field that says the task's type; empty where there is none.
    #[serde(default)]
    pub type_field: String,
    /// The custom field that says the task's category; empty where there is none.
    #[serde(default)]
    pub category_field: String,
}

/// How one image model is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelKeys {
    /// The model's name in the workflow.
    pub name: String,
    /// WaveSpeed's path of it, such as `google/nano-banana/edit`.
    pub endpoint: String,
    /// What one picture costs, in US dollars.
    pub price_usd: Decimal,
    /// The shortest side that it takes, in pixels.
    #[serde(default = "side_min_px")]
    pub side_min_px: u32,
    /// The longest side that it takes, in pixels.
    #[serde(default = "side_max_px")]
    pub side_max_px: u32,
    /// Whatever else is sent with each request, beside `prompt` and `images`.
    #[serde(default)]
    pub body: BTreeMap<String, Value>,
}

const fn side_min_px() -> u32 {
    1
}

const fn side_max_px() -> u32 {
    16_384
}

impl ModelKeys {
    /// The body of a request for one picture.
    #[must_use]
    pub fn request(&self, prompt: &str, image_url: &str) -> Value {
        let mut body: serde_json::Map<String, Value> =
            self.body.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        body.insert("prompt".to_owned(), prompt.into());
        body.insert("images".to_owned(), Value::from(vec![image_url]));
        Value::Object(body)
    }

    /// Why the model cannot take a picture of this size, in words; `None` when it can.
    #[must_use]
    pub fn refuses(&self, width: u32, height: u32) -> Option<String> {
        let (short, long) = (width.min(height), width.max(height));
        let fits = short >= self.side_min_px && long <= self.side_max_px;
        (!fits).then(|| {
            format!(
                "the picture has {width} × {height} pixels, and {} takes sides of {} to {}",
                self.name, self.side_min_px, self.side_max_px
            )
        })
    }
}

/// How a run goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunKeys {
    /// Rounds before a person is asked.
    pub iterations_max: u32,
    /// Runs that one process works on at once.
    pub at_once: u32,
    /// The largest picture that is taken, in megabytes of 10^6 bytes.
    pub picture_megabytes_max: u32,
}

/// Which Claude models are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaudeKeys {
    /// The model that rewrites prompts.
    pub enhancement_model: String,
    /// Tokens that an enhancement may use, thinking included.
    pub enhancement_max_tokens: u32,
    /// The model that judges pictures.
    pub validation_model: String,
    /// Tokens that a validation may use, thinking included.
    pub validation_max_tokens: u32,
    /// Retries within one request: connection errors, 408, 409, 429 and 5xx.
    pub request_retries_max: u32,
    /// How often an answer that cannot be used is asked for again.
    pub answers_refused_max: u32,
}

/// What WaveSpeed's account allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaveSpeedKeys {
    /// Pictures that may be asked for in a minute.
    pub submits_per_minute: u32,
    /// Pictures that may be in the making at once.
    pub concurrent_max: u32,
}

/// How long calls may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutKeys {
    /// One call of ClickUp; an upload has four times as long.
    pub clickup_seconds: u32,
    /// One call of WaveSpeed.
    pub wavespeed_seconds: u32,
    /// One attempt of a call of Claude.
    pub claude_seconds: u32,
    /// Fetching a picture.
    pub download_seconds: u32,
    /// Between two looks at a picture in the making.
    pub poll_seconds: u32,
    /// From asking for a picture until it is given up.
    pub generation_seconds: u32,
}

/// How long a run waits for a service that is away, full, or in want of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaitingKeys {
    /// The first wait, where the service does not say; each later one doubles.
    pub first_seconds: u32,
    /// The longest wait.
    pub delay_max_seconds: u32,
    /// Without any progress for so long, a run ends with an error, and a person is told.
    pub give_up_hours: u32,
    /// How long a task without a picture is waited for: it may be attached after the task was made.
    pub picture_minutes: u32,
    /// A model that still waits so long after another one's picture was judged is left out of the round; one that
    /// waits for an operator at once.
    pub straggler_minutes: u32,
}

/// What comes round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoundKeys {
    /// How often to look for ready tasks whose webhook never came.
    pub sweep_minutes: u32,
    /// How often to look at what became of pictures.
    pub feedback_minutes: u32,
    /// A picture that is still there after so long counts as kept.
    pub kept_after_days: u32,
}

/// The prompts and comments of a pipeline, each tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelinePrompts {
    /// `prompts/enhancement.user.md`
    pub enhance: EnhancePrompts,
    /// `prompts/validation.system.md` and `prompts/validation.user.md`
    pub validate: ValidatePrompts,
    /// The version of the judge's prompt, by the hash of its texts: scores of different judges are never pooled.
    pub judge_version: String,
    /// `prompts/comment.*.md`
    pub comments: CommentTexts,
}

impl PipelineKeys {
    /// A model by its name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelKeys> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The largest picture that is taken, in bytes.
    #[must_use]
    pub fn picture_bytes_max(&self) -> usize {
        usize::try_from(self.run.picture_megabytes_max)
            .unwrap_or(usize::MAX)
            .saturating_mul(1_000_000)
    }

    /// True for the status of tasks that are to be worked on.
    #[must_use]
    pub fn is_ready(&self, status: &str) -> bool {
        same_status(status, &self.clickup.ready_status)
    }

    /// True for a list whose tasks are worked on.
    #[must_use]
    pub fn has_list(&self, list_id: &str) -> bool {
        self.clickup.lists.is_empty() || self.clickup.lists.iter().any(|known| known == list_id)
    }
}

/// Whether two statuses are one to ClickUp.
#[must_use]
pub fn same_status(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

impl WaitingKeys {
    /// How long to wait after so many waits without progress, where the service does not say.
    #[must_use]
    pub fn delay(&self, waits_before: u32) -> Duration {
        let doubled = u64::from(self.first_seconds) << waits_before.min(20);
        Duration::from_secs(doubled.min(u64::from(self.delay_max_seconds)))
    }
}

impl Default for RunKeys {
    fn default() -> Self {
        Self { iterations_max: 3, at_once: 8, picture_megabytes_max: 30 }
    }
}

impl Default for ClaudeKeys {
    fn default() -> Self {
        Self {
            enhancement_model: "claude-sonnet-5-5".to_owned(),
            enhancement_max_tokens: 4096,
            validation_model: "claude-opus-5-5".to_owned(),
            validation_max_tokens: 8192,
            request_retries_max: 2,
            answers_refused_max: 1,
        }
    }
}

impl Default for WaveSpeedKeys {
    fn default() -> Self {
        Self { submits_per_minute: 10, concurrent_max: 3 }
    }
}

impl Default for TimeoutKeys {
    fn default() -> Self {
        Self {
            clickup_seconds: 30,
            wavespeed_seconds: 60,
            claude_seconds: 300,
            download_seconds: 60,
            poll_seconds: 1,
            generation_seconds: 600,
        }
    }
}

impl Default for WaitingKeys {
    fn default() -> Self {
        Self {
            first_seconds: 15,
            delay_max_seconds: 600,
            give_up_hours: 12,
            picture_minutes: 10,
            straggler_minutes: 10,
        }
    }
}

impl Default for RoundKeys {
    fn default() -> Self {
        Self { sweep_minutes: 5, feedback_minutes: 5, kept_after_days: 7 }
    }
}
