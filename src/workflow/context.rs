//! What the prompt templates may speak of. The field names are the variables' names in `prompts/*.md`.
//!
//! Fields marked *outside text* hold words of other people or of a model. A template must put them in through the
//! filter `data` (or `fenced`), and [`load`](crate::workflow::load) refuses one that does not.

use serde::{Deserialize, Serialize};

/// The variables of `analysis.system.md` and `analysis.user.md`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnalysisContext {
    /// The workflow's name.
    pub workflow: String,
    /// The best score that the validator gives.
    pub score_max: u32,
    /// The score from which an image counts as passed.
    pub pass_score: u32,
    /// The models that learn.
    pub models: Vec<String>,
    /// How large the window is, and how much of it is shown.
    pub window: WindowFacts,
    /// Figures per model and version, over the whole window.
    pub facts: Vec<ModelFacts>,
    /// What earlier analyses found and still stands, the newest first.
    #[serde(default)]
    pub earlier_insights: Vec<EarlierInsight>,
    /// How many more stand than are shown.
    #[serde(default)]
    pub earlier_not_shown: u32,
    /// The tasks shown, oldest first.
    pub tasks: Vec<TaskForAnalysis>,
    /// Why earlier answers to this same request were refused; empty the first time. Outside text.
    #[serde(default)]
    pub rejected: Vec<String>,
}

/// How large the window is, and how much of it is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowFacts {
    /// Completed tasks in the window.
    pub tasks_total: u32,
    /// Tasks shown to Claude.
    pub tasks_shown: u32,
    /// Whether fewer are shown than there are.
    pub sampled: bool,
    /// The rule by which the shown ones were chosen, in words; empty if all are shown.
    pub sampling_rule: String,
    /// What was left out; none if all are shown.
    #[serde(default)]
    pub left_out: Option<LeftOut>,
    /// Texts of the tasks shown that were too long and are shown by their beginning and end.
    #[serde(default)]
    pub texts_shortened: u32,
}

/// What a sample leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Tasks that are not shown.
    pub tasks: u32,
    /// The lowest of their best scores.
    pub lowest: Option<i32>,
    /// The highest of their best scores.
    pub highest: Option<i32>,
    /// The mean of their best scores, with two decimals.
    pub mean: Option<String>,
    /// How many of them have no score at all.
    pub without_score: u32,
}

/// An insight of an earlier analysis that still stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlierInsight {
    /// The name by which an answer speaks of it, such as `4.2`.
    pub id: String,
    /// `prompt_pattern`, `model_strength` or `failure_mode`.
    pub insight_type: String,
    /// The model that it is about, or `all`.
    pub model_name: String,
    /// What was found. Outside text.
    pub description: String,
    /// What the analysis would change. Outside text.
    pub suggested_change: String,
    /// 0 to 1.
    pub confidence_score: f64,
    /// `new`, `confirmed` or `weakened`.
    pub standing: String,
    /// Later analyses that confirmed it.
    pub confirmed: i32,
    /// Later analyses that weakened it.
    pub weakened: i32,
    /// Candidates that rested on it and were adopted for good.
    pub helpful: i64,
    /// Candidates that rested on it and made things worse.
    pub harmful: i64,
    /// Whether a version that rests on it was adopted, so that the documents follow it by now.
    pub applied: bool,
}

/// Figures of one version of one model, computed by Mathesis over the whole window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The model's name.
    pub model: String,
    /// The prompt version that the attempts used.
    pub version: i32,
    /// Attempts in the window.
    pub attempts: u32,
    /// Attempts with a score.
    pub scored: u32,
    /// Mean score, with two decimals.
    pub mean: Option<String>,
    /// Share of the scored attempts that passed, such as `72%`.
    pub pass_rate: Option<String>,
    /// Tasks that the model won.
    pub wins: u32,
    /// Mean length in characters of the enhanced prompts that passed.
    pub mean_prompt_length_passed: Option<u32>,
    /// Mean length in characters of the enhanced prompts that failed.
    pub mean_prompt_length_failed: Option<u32>,
    /// Share of the original prompts that are mostly Greek, such as `94%`.
    pub greek_share: Option<String>,
    /// The first iterations alone.
    #[serde(default)]
    pub first: FirstIterations,
    /// Attempts of later iterations.
    #[serde(default)]
    pub later_attempts: u32,
    /// Their mean score, with two decimals.
    #[serde(default)]
    pub later_mean: Option<String>,
    /// Attempts that ended in an error through the prompt's fault.
    #[serde(default)]
    pub errors_of_prompt: u32,
    /// Attempts that ended in another error.
    #[serde(default)]
    pub errors_of_infrastructure: u32,
    /// Scores of first iterations by the length of the enhanced prompt; empty with too few of them.
    #[serde(default)]
    pub length_bands: Vec<Band>,
    /// The rank correlation of length and score, such as `-0.31`.
    #[serde(default)]
    pub length_correlation: Option<String>,
    /// Scores of first iterations by the share of Greek in the request.
    #[serde(default)]
    pub greek_request_bands: Vec<Band>,
    /// Scores of first iterations by the share of Greek in the enhanced prompt.
    #[serde(default)]
    pub greek_prompt_bands: Vec<Band>,
    /// Scores of first iterations by what their issues are about, the commonest first.
    #[serde(default)]
    pub tags: Vec<TagFact>,
    /// First iterations that failed with issues that no tag covers.
    #[serde(default)]
    pub untagged: u32,
}

/// Figures of first iterations, which alone can be compared with one another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FirstIterations {
    /// Attempts.
    pub attempts: u32,
    /// Attempts with a score.
    pub scored: u32,
    /// Mean score, with two decimals.
    pub mean: Option<String>,
    /// Standard deviation of the scores, with two decimals.
    pub spread: Option<String>,
    /// Share of the scored attempts that passed.
    pub pass_rate: Option<String>,
}

/// The scores of the attempts that are alike in one respect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// In what, such as `up to 310 characters`.
    pub label: String,
    /// Attempts with a score.
    pub attempts: u32,
    /// Their mean score, with two decimals.
    pub mean: String,
    /// The share of them that passed.
    pub pass_rate: String,
}

/// The scores of the attempts whose issues show a failure tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagFact {
    /// The tag's name, from the workflow.
    pub tag: String,
    /// Attempts with a score that show it.
    pub attempts: u32,
    /// The share of the scored attempts that they are.
    pub share: String,
    /// Their mean score, with two decimals.
    pub mean_with: String,
    /// The mean score of the others.
    pub mean_without: Option<String>,
}

/// One task of the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskForAnalysis {
    /// The task's external id. Outside text.
    pub task_id: String,
    /// The run's id; empty for the default run. Outside text.
    pub run_id: String,
    /// What the person asked for. Outside text.
    pub original_prompt: String,
    /// The task's category. Outside text.
    pub category: Option<String>,
    /// The task's type. Outside text.
    pub task_type: Option<String>,
    /// The model whose result was chosen.
    pub winner_model: Option<String>,
    /// The chosen result's score.
    pub winner_score: Option<i32>,
    /// Iterations that the run took.
    pub total_iterations: Option<i32>,
    /// The run's whole time, in milliseconds.
    pub processing_time_ms: Option<i64>,
    /// How the run ended: `completed`, `winner`, `error` or `abandoned`.
    pub ended: String,
    /// The attempts, by iteration and model.
    pub attempts: Vec<AttemptForAnalysis>,
}

/// One attempt: one model, in one iteration of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptForAnalysis {
    /// The model's name.
    pub model: String,
    /// The iteration, from 1.
    pub iteration: i32,
    /// The prompt version that was used.
    pub version: i32,
    /// What the model was asked. Outside text.
    pub enhanced_prompt: Option<String>,
    /// The length of `enhanced_prompt` in characters.
    pub enhanced_prompt_length: Option<i32>,
    /// The validator's score.
    pub score: Option<i32>,
    /// Whether the validator let it pass.
    pub passed: Option<bool>,
    /// What the validator found wrong. Outside text.
    pub issues: Vec<String>,
    /// Why the validator scored so. Outside text.
    pub reasoning: Option<String>,
    /// Whether this attempt's result was chosen.
    pub was_selected: bool,
    /// How long the generation took, in milliseconds.
    pub generation_time_ms: Option<i64>,
    /// The error that ended the attempt. Outside text.
    pub error: Option<String>,
}

/// The variables of `generation.system.md` and `generation.user.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationContext {
    /// The model whose documents are edited.
    pub model: String,
    /// The version that is active now, and that the candidate is made from.
    pub version_now: i32,
    /// The active prompt template. Outside text.
    pub prompt_template: String,
    /// The active `activation.txt`. Outside text.
    pub activation: String,
    /// The active `research.md`. Outside text.
    pub research: String,
    /// `sections` or `template`: whether edits are asked for, or the template anew.
    #[serde(default = "sections_mode")]
    pub mode: String,
    /// The sections of `research`, in order.
    pub sections: Vec<SectionForGeneration>,
    /// The sections of `activation`, in order.
    #[serde(default)]
    pub activation_sections: Vec<SectionForGeneration>,
    /// What the analysis found, about this model or about all.
    pub insights: Vec<InsightForGeneration>,
    /// What the analysis recommends. Outside text.
    pub recommendations: Vec<String>,
    /// Placeholders, without braces, that must stay in the prompt template.
    pub required_placeholders: Vec<String>,
    /// By how much a document may grow or shrink, in percent.
    pub size_change_percent_max: u32,
    /// The largest size of each document, in bytes.
    #[serde(default)]
    pub bytes_max: BytesMaxForGeneration,
    /// The longest passage of a task that may be quoted, in characters.
    #[serde(default)]
    pub quotation_characters_max: u32,
    /// Headings of sections that must stay as they are.
    pub frozen_sections: Vec<String>,
    /// Candidates of earlier cycles that came to nothing, the newest first.
    #[serde(default)]
    pub earlier_candidates: Vec<EarlierCandidate>,
    /// Why earlier answers to this same request were refused; empty the first time. Outside text.
    pub rejected: Vec<String>,
}

fn sections_mode() -> String {
    "sections".to_owned()
}

/// The largest size of each document, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesMaxForGeneration {
    /// Of the template.
    pub template: u32,
    /// Of `activation`.
    pub activation: u32,
    /// Of `research`.
    pub research: u32,
}

/// A candidate of an earlier cycle that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierCandidate {
    /// The cycle that it was made in.
    pub cycle: i64,
    /// `refused` by a rule, `rejected` by its test, or adopted and `rolled_back`.
    pub ended: String,
    /// What it changed, in its author's words. Outside text.
    pub what: String,
    /// Its edits, one line each. Outside text.
    pub edits: Vec<String>,
    /// Why it came to nothing. Outside text.
    pub why: String,
}

/// One section of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SectionForGeneration {
    /// The id by which an edit names the section. Outside text.
    pub id: String,
    /// The section's heading. Outside text.
    pub heading: String,
    /// The section's size in bytes.
    pub bytes: usize,
}

/// One insight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InsightForGeneration {
    /// The id by which an edit names the insight.
    pub id: String,
    /// `prompt_pattern`, `model_strength` or `failure_mode`.
    pub insight_type: String,
    /// The model that it is about, or `all`.
    pub model_name: String,
    /// What was found. Outside text.
    pub description: String,
    /// 0 to 1.
    pub confidence_score: f64,
    /// What the analysis would change. Outside text.
    pub suggested_change: String,
    /// `new`, `confirmed` or `weakened`.
    pub standing: String,
    /// Later analyses that confirmed it.
    pub confirmed: i32,
    /// Later analyses that weakened it.
    pub weakened: i32,
    /// Candidates that rested on it and were adopted for good.
    pub helpful: i64,
    /// Candidates that rested on it and made things worse.
    pub harmful: i64,
}
