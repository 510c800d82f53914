//! Reads the prompts that the workflow's templates render: figures by their words, data as the JSON that it is.

use serde_json::Value;

/// One attempt of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) task_id: String,
    pub(super) model: String,
    pub(super) iteration: u32,
    pub(super) score: Option<i64>,
    pub(super) issues: Vec<String>,
}

/// One insight of a generation's prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Insight {
    pub(super) id: String,
    pub(super) confidence: f64,
    pub(super) suggested_change: String,
}

/// What a generation is asked about.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GenerationPrompt {
    pub(super) model: String,
    pub(super) research: String,
    /// The ids of the sections.
    pub(super) sections: Vec<String>,
    pub(super) insights: Vec<Insight>,
}

/// The models that an analysis is about.
pub(super) fn models(prompt: &str) -> Vec<String> {
    let line = prompt.lines().find_map(|line| line.strip_prefix("Models: "));
    line.map(|line| line.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}

/// The attempts of an analysis, in the order of the prompt.
pub(super) fn attempts(prompt: &str) -> Vec<Attempt> {
    let mut task_id = String::new();
    let mut attempts: Vec<Attempt> = Vec::new();
    for line in prompt.lines() {
        if let Some(data) = line.strip_prefix("id: ") {
            task_id = json_at_start(data).unwrap_or_default();
        } else if let Some(head) = line.strip_prefix("- ") {
            attempts.extend(attempt(&task_id, head));
        } else if let Some(data) = line.strip_prefix("  issues: ")
            && let Some(last) = attempts.last_mut()
        {
            last.issues = json_at_start(data).unwrap_or_default();
        }
    }
    attempts
}

/// `wan-2.5-edit, iteration 1, version 1: score 9, passed, selected`
fn attempt(task_id: &str, head: &str) -> Option<Attempt> {
    let (who, result) = head.split_once(": ").or_else(|| head.split_once(':'))?;
    let (model, rest) = who.split_once(", iteration ")?;
    let (iteration, _version) = rest.split_once(", version ")?;
    let score = result
        .trim()
        .strip_prefix("score ")
        .and_then(|rest| rest.split(',').next())
        .and_then(|score| score.trim().parse().ok());
    Some(Attempt {
        task_id: task_id.to_owned(),
        model: model.to_owned(),
        iteration: iteration.parse().ok()?,
        score,
        issues: Vec::new(),
    })
}

/// An insight of an earlier analysis, as an analysis is shown it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Earlier {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) suggested_change: String,
}

impl Earlier {
    pub(super) fn says(&self, model: &str, change: &str) -> bool {
        self.model == model && self.suggested_change == change
    }
}

/// The earlier insights of an analysis.
pub(super) fn earlier(prompt: &str) -> Vec<Earlier> {
    let (_, rest) = prompt.split_once("<earlier_insights>\n").unwrap_or_default();
    let (shown, _) = rest.split_once("</earlier_insights>").unwrap_or_default();
    let mut found: Vec<Earlier> = Vec::new();
    for line in shown.lines() {
        if let Some(data) = line.strip_prefix("  suggested change: ")
            && let Some(last) = found.last_mut()
        {
            last.suggested_change = json_at_start(data).unwrap_or_default();
        } else {
            found.extend(earlier_head(line));
        }
    }
    found
}

/// `id 4.2, failure_mode, nano-banana, confidence 0.75, confirmed (later analyses: 2 for, 1 against)`
fn earlier_head(line: &str) -> Option<Earlier> {
    let mut parts = line.strip_prefix("id ")?.split(", ");
    let (id, _kind, model) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Earlier { id: id.to_owned(), model: model.to_owned(), suggested_change: String::new() })
}

/// What stands in the prompt of a generation.
pub(super) fn generation(prompt: &str) -> GenerationPrompt {
    let model = prompt
        .strip_prefix("Model: ")
        .and_then(|rest| rest.split_once(". Version now: "))
        .map(|(model, _)| model.to_owned())
        .unwrap_or_default();
    let mut found = GenerationPrompt {
        model,
        research: fenced(prompt, "research"),
        ..GenerationPrompt::default()
    };
    // The documents come before the first of these tags, so nothing in them is taken for it.
    let rest = prompt.rsplit_once("<research_sections>").map(|(_, rest)| rest).unwrap_or_default();
    for line in rest.lines() {
        if let Some(id) = section(line) {
            found.sections.push(id);
        } else if let Some(insight) = insight_head(line) {
            found.insights.push(insight);
        } else if let Some(data) = line.strip_prefix("  suggested change: ")
            && let Some(last) = found.insights.last_mut()
        {
            last.suggested_change = json_at_start(data).unwrap_or_default();
        }
    }
    found
}

/// `id "patterns/light", heading "Light", 36 bytes`
fn section(line: &str) -> Option<String> {
    let rest = line.strip_prefix("id ")?;
    let (_, _heading) = rest.split_once(", heading ")?;
    // An insight's id is a number, and a heading may stand in its line.
    json_at_start::<Value>(rest)?.as_str().map(str::to_owned)
}

/// `id 17, failure_mode, nano-banana, confidence 0.75`
fn insight_head(line: &str) -> Option<Insight> {
    let (id, rest) = line.strip_prefix("id ")?.split_once(", ")?;
    let (_, confidence) = rest.split_once(", confidence ")?;
    let confidence = confidence.split(',').next()?;
    Some(Insight {
        id: id.to_owned(),
        confidence: confidence.trim().parse().ok()?,
        suggested_change: String::new(),
    })
}

/// The text between the tags that are named after their contents, as in `<research-5f3a…>`.
fn fenced(prompt: &str, label: &str) -> String {
    let start = format!("<{label}-");
    prompt
        .match_indices(&start)
        .find_map(|(at, _)| {
            let (tag, after) = prompt.get(at + 1..)?.split_once(">\n")?;
            let (text, _) = after.split_once(&format!("</{tag}>"))?;
            Some(text.to_owned())
        })
        .unwrap_or_default()
}

/// The JSON value with which a text begins; what comes after it is left.
fn json_at_start<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::Deserializer::from_str(text).into_iter::<T>().next()?.ok()
}
