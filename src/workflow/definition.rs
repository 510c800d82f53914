//! The definition of a workflow: every key of `workflow.toml`, its default, and the prompt texts beside it.
//!
//! The types here hold a definition that is known to be good; [`crate::workflow::load`] is the way from a folder to
//! one. The JSON of a definition is what a running cycle stores, so it must come back without loss, and a key that a
//! later version adds must have a default (each section says `serde(default)`).

mod analysis;
mod documents;
mod notify;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::workflow::error::StoredDefinitionError;
use crate::workflow::names::{ModelName, WorkflowName};
use crate::workflow::schedule::CronExpression;

pub use analysis::Analysis;
pub use documents::{CandidateMode, Documents};
pub use notify::{Notify, NotifyKind};

/// Everything that a workflow is: its keys and its prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The workflow's name; equals its folder's.
    pub name: WorkflowName,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The time zone in which schedules are read and times are shown.
    #[serde(default = "default_timezone")]
    pub timezone: Tz,
    /// The best score that the validator gives; scores are 0 to this. 1 to 1000.
    #[serde(default = "default_score_max")]
    pub score_max: u32,
    /// The score from which an image counts as passed. 0 to `score_max`.
    #[serde(default = "default_pass_score")]
    pub pass_score: u32,
    /// Where the models' folders are, relative to the program's working folder.
    #[serde(default = "default_config_folder")]
    pub config_folder: String,
    /// The models that learn; at least one, each name once.
    pub models: Vec<Model>,
    /// When an analysis begins.
    #[serde(default)]
    pub trigger: Trigger,
    /// How a test deals its tasks.
    #[serde(default)]
    pub split: Split,
    /// What a candidate must show to be adopted.
    #[serde(default)]
    pub gate: Gate,
    /// What watches an adopted version.
    #[serde(default)]
    pub guard: Guard,
    /// What keeps an eye on an adopted version for as long as it serves.
    #[serde(default)]
    pub watch: Watch,
    /// Where a person is asked.
    #[serde(default)]
    pub approval: Approval,
    /// Whom the workflow tells what.
    #[serde(default)]
    pub notify: Notify,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How a failed effect is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// How long tasks are kept.
    #[serde(default)]
    pub retention: Retention,
    /// Which Claude models are asked, and for how much money.
    #[serde(default)]
    pub claude: Claude,
    /// What an analysis is shown.
    #[serde(default)]
    pub analysis: Analysis,
    /// What a candidate may do to the documents.
    #[serde(default)]
    pub documents: Documents,
    /// The texts of the prompt files.
    pub prompts: Prompts,
}

/// One model that learns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The model's name; equals its folder's under `config_folder`.
    pub name: ModelName,
    /// How its candidates are written; as `documents.mode` says where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<CandidateMode>,
}

/// When an analysis begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    /// Completed tasks, not yet analysed, that begin an analysis.
    pub tasks: u32,
    /// When the sweep runs that looks for runs gone silent and triggers missed.
    pub sweep: CronExpression,
}

/// How a test deals its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Split {
    /// Scores that each arm needs: the old version's and the new one's.
    pub per_arm: u32,
    /// Size of a permuted block: half of it old, half new. Even.
    pub block: u32,
}

/// What a candidate must show to be adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// A candidate is adopted only if it is better by more than this; 1000 is 10%.
    pub improvement_basis_points: u32,
    /// With fewer scores in an arm than this, a test is inconclusive and the old version stays.
    pub scores_per_arm_min: u32,
    /// No candidate for a model whose average is so high that the gate could not be passed.
    pub skip_at_ceiling: bool,
}

/// What catches the errors of a rule that decides on twenty scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// The guard's mode.
    pub mode: GuardMode,
    /// `probation`: tasks that an adopted version is watched for, half of them under its predecessor.
    pub probation_tasks: u32,
    /// `probation`: the adoption stands only if the new version is better by more than this over test
    /// and probation together; 500 is 5%.
    pub retain_basis_points: u32,
    /// `probation`: with fewer scores in an arm than this, a probation does not decide itself.
    pub probation_scores_per_arm_min: u32,
    /// `probation`: it ends after so long; a stopped clock does not count. Once extended, after as long
    /// again.
    pub probation_days: u32,
    /// `strict`: the look that decides at the latest, 1 to 5; each takes as many tasks as the first.
    pub strict_looks_max: u32,
}

/// The guard's mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardMode {
    /// The verdict stands as it is given.
    Off,
    /// An adoption is provisional, until more tasks have confirmed it.
    #[default]
    Probation,
    /// An adoption must be more than chance; a test that cannot tell goes on.
    Strict,
    /// Each task of a test is done under both versions.
    Paired,
}

/// What keeps an eye on an adopted version for as long as it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// How far below its predecessor's mean score, in hundredths of a percent, a version may stay; 500 is 5%.
    pub tolerance_basis_points: u32,
    /// What follows when it is twenty to one that it does worse than that.
    pub on_alarm: OnAlarm,
}

/// What follows the alarm of the standing watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAlarm {
    /// It is told, in the log and on the pages.
    #[default]
    Tell,
    /// The open cycle is held, too, until a person resumes it.
    Hold,
    /// The predecessor is put back, files included.
    RollBack,
}

/// Where a person is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approval {
    /// At which point the cycle waits for `approve` or `refuse`.
    pub ask: ApprovalAsk,
}

/// At which point the cycle waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalAsk {
    /// Nowhere.
    #[default]
    None,
    /// Before a candidate is shown to any task.
    BeforeTest,
    /// Before a winner becomes the active version.
    BeforeApply,
}

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// A run without an event for so long has ended `abandoned`.
    pub run_silent_hours: u32,
    /// A slot of a test without its score for so long is dealt again.
    pub slot_score_hours: u32,
    /// A test ends after so long; a stopped clock does not count.
    pub test_days: u32,
    /// How long a claim outlives the last sign of life of its worker's machine.
    pub lease_seconds: u32,
    /// How often a model's slots are dealt again within one test.
    pub deals_again_max: u32,
    /// How long one Claude call may take.
    pub claude_call_seconds: u32,
}

/// How a failed effect is tried again, over and above the retries within one Claude request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts before the cycle is held for a person.
    pub attempts_max: u32,
    /// Wait before the second attempt; each later wait doubles.
    pub first_delay_seconds: u32,
    /// The longest wait.
    pub delay_max_seconds: u32,
}

/// How long tasks are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Tasks older than this are removed; totals, trends, versions and backups stay.
    pub days: u32,
    /// When the removal runs.
    pub cleanup: CronExpression,
}

/// Which Claude models are asked, and for how much money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Claude {
    /// The model that analyses a window.
    pub analysis_model: String,
    /// Tokens that an analysis may use, thinking included.
    pub analysis_max_tokens: u32,
    /// The model that writes candidates.
    pub generation_model: String,
    /// Tokens that a generation may use, thinking included.
    pub generation_max_tokens: u32,
    /// Whether calls go into batches: half the price, and up to a day each.
    pub batch: bool,
    /// Retries within one request: connection errors, 408, 409, 429 and 5xx.
    pub request_retries_max: u32,
    /// US dollars a calendar month; when they are spent, learning waits for the month's turn.
    pub budget_usd_per_month: Decimal,
    /// How many tasks of a window Claude is shown; a larger window is sampled.
    pub analysis_tasks_max: u32,
    /// How often an answer that cannot be used is asked for again.
    pub answers_refused_max: u32,
}

/// The texts of the prompt files, line ends normalised to LF.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// `prompts/analysis.system.md`
    pub analysis_system: String,
    /// `prompts/analysis.user.md`
    pub analysis_user: String,
    /// `prompts/generation.system.md`
    pub generation_system: String,
    /// `prompts/generation.user.md`
    pub generation_user: String,
    /// `prompts/enhancement.md`: the prompt template of every model's version 1. Orchestrators fill in its
    /// placeholders; Mathesis never renders it.
    pub enhancement: String,
}

impl Definition {
    /// The definition as JSON, as a cycle stores it.
    ///
    /// # Errors
    /// Never in practice: every part has a JSON form. The signature leaves the handling to the caller.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    /// Reads a definition that [`Definition::to_json`] wrote, by this version or an older one.
    ///
    /// # Errors
    /// [`StoredDefinitionError`] with the path of the key that cannot be read.
    pub fn from_json(json: &Value) -> Result<Self, StoredDefinitionError> {
        serde_path_to_error::deserialize(json).map_err(|error| StoredDefinitionError {
            key: error.path().to_string(),
            problem: error.into_inner().to_string(),
        })
    }

    /// SHA-256, in hex, of the definition's canonical JSON (keys sorted, no spaces): equal exactly if the definitions are.
    #[must_use]
    pub fn content_hash(&self) -> String {
        self.to_json().map(|json| Self::hash_of(&json)).unwrap_or_default()
    }

    /// The same of a definition as it is stored, which another version of the program may have written: one that has
    /// its own hash is what that version meant, whether this one can read it or not.
    #[must_use]
    pub fn hash_of(json: &Value) -> String {
        let mut canonical = String::new();
        write_canonical(json, &mut canonical);
        hex::encode(Sha256::digest(canonical.as_bytes()))
    }

    /// How a model's candidates are written.
    #[must_use]
    pub fn mode_of(&self, model: &str) -> CandidateMode {
        let own = self.models.iter().find(|known| known.name.as_str() == model);
        own.and_then(|model| model.mode).unwrap_or(self.documents.mode)
    }

    /// Whether `model` is one of the models that learn.
    #[must_use]
    pub fn has_model(&self, model: &ModelName) -> bool {
        self.models.iter().any(|known| known.name == *model)
    }
}

/// Sorts keys itself, because whether `serde_json` keeps them sorted depends on a feature that any crate may switch on.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| key.as_str());
            write_sequence(('{', '}'), keys.into_iter(), out, |(key, item), out| {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, out);
            });
        }
        Value::Array(items) => write_sequence(('[', ']'), items.iter(), out, write_canonical),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_sequence<T>(
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

fn default_timezone() -> Tz {
    Tz::UTC
}

fn default_score_max() -> u32 {
    10
}

fn default_pass_score() -> u32 {
    8
}

fn default_config_folder() -> String {
    "config/deep_research".to_owned()
}

fn cron(text: &'static str) -> CronExpression {
    CronExpression::new(text).expect("a constant of this file, read by the tests of the defaults")
}

impl Default for Trigger {
    fn default() -> Self {
        Self { tasks: 50, sweep: cron("0 * * * *") }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self { per_arm: 10, block: 4 }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { improvement_basis_points: 1000, scores_per_arm_min: 8, skip_at_ceiling: true }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { tolerance_basis_points: 500, on_alarm: OnAlarm::default() }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: GuardMode::default(),
            probation_tasks: 30,
            retain_basis_points: 500,
            probation_scores_per_arm_min: 8,
            probation_days: 14,
            strict_looks_max: 5,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            run_silent_hours: 24,
            slot_score_hours: 6,
            test_days: 14,
            lease_seconds: 60,
            deals_again_max: 6,
            claude_call_seconds: 600,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts_max: 5, first_delay_seconds: 30, delay_max_seconds: 3600 }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 90, cleanup: cron("0 3 * * *") }
    }
}

impl Default for Claude {
    fn default() -> Self {
        Self {
            analysis_model: "claude-opus-5-5".to_owned(),
            analysis_max_tokens: 16_000,
            generation_model: "claude-sonnet-5-5".to_owned(),
            generation_max_tokens: 20_000,
            batch: false,
            request_retries_max: 2,
            budget_usd_per_month: Decimal::new(15_00, 2),
            analysis_tasks_max: 200,
            answers_refused_max: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_json_is_sorted_at_every_depth_and_has_no_spaces() {
        let mut text = String::new();
        write_canonical(&json!({"b": [1, {"d": null, "c": "ή\""}, {}, []], "a": true}), &mut text);
        assert_eq!(text, r#"{"a":true,"b":[1,{"c":"ή\"","d":null},{},[]]}"#);
    }
}
