//! What Claude gives back: the JSON schemas that hold its answers in shape, and the types that they are read into.
//!
//! The schemas use only what structured output supports: no ranges, no maps, `additionalProperties: false` on every
//! object. Ranges stand in the descriptions; whoever uses an answer checks them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::workflow::names::ModelName;

/// The name that stands for every model in an insight; no model may bear it.
pub const ALL_MODELS: &str = "all";

/// The answer of an analysis. Every list may be empty: nothing found is a valid answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisAnswer {
    /// A few sentences for a person.
    pub summary: String,
    /// What was found; each becomes a row of `insights`.
    pub patterns: Vec<Pattern>,
    /// The five questions, answered per model.
    pub model_insights: Vec<ModelInsight>,
    /// What to change.
    pub recommendations: Vec<Recommendation>,
    /// What became of earlier insights. Answers from before insights were judged have none.
    #[serde(default)]
    pub earlier: Vec<Judgement>,
}

/// What the window says of an earlier insight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The insight's id as it was shown, such as `4.2`; not held by the schema to be one that was.
    pub insight: String,
    /// What becomes of it.
    pub verdict: InsightVerdict,
    /// Ids of tasks that show it; not held by the schema to be real ones.
    pub evidence_task_ids: Vec<String>,
    /// Why, in a sentence.
    pub reason: String,
}

/// What becomes of an earlier insight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InsightVerdict {
    /// Tasks show it again.
    Confirmed,
    /// Tasks speak against it.
    Weakened,
    /// It does not hold any more, or never did.
    Retired,
}

impl InsightVerdict {
    /// The verdict as the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Weakened => "weakened",
            Self::Retired => "retired",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// What kind of finding it is.
    pub insight_type: InsightType,
    /// The model that it is about, or [`ALL_MODELS`].
    pub model: String,
    /// What was found.
    pub description: String,
    /// 0 to 1; not held by the schema.
    pub confidence: f64,
    /// Ids of tasks that show it; not held by the schema to be real ones.
    pub evidence_task_ids: Vec<String>,
    /// What to change in the model's documents; empty if nothing follows.
    pub suggested_change: String,
}

/// What kind of finding an insight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InsightType {
    /// A way of writing prompts, and what comes of it.
    PromptPattern,
    /// Something that a model does well.
    ModelStrength,
    /// Something that goes wrong again and again.
    FailureMode,
}

impl InsightType {
    /// The type as the database and the templates write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PromptPattern => "prompt_pattern",
            Self::ModelStrength => "model_strength",
            Self::FailureMode => "failure_mode",
        }
    }
}

/// The five questions, answered for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInsight {
    /// The model.
    pub model: String,
    /// What it does well.
    pub strengths: Vec<String>,
    /// What it does badly.
    pub weaknesses: Vec<String>,
    /// The length of prompts that score best, if the window shows one.
    pub best_prompt_length: Option<LengthRange>,
    /// How Greek text is best handled for this model.
    pub greek_text: String,
    /// Which prompts score high.
    pub what_scores_high: String,
    /// What causes failures.
    pub what_fails: String,
}

/// A range of lengths in characters, both ends included; not held by the schema to be in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthRange {
    /// The shortest.
    pub from: i64,
    /// The longest.
    pub to: i64,
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The model that it is about, or [`ALL_MODELS`].
    pub model: String,
    /// What to change, and why.
    pub text: String,
}

/// The answer of a generation. No edits means: no improvement to propose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationAnswer {
    /// What changes and why, in a few sentences for a person.
    pub summary: String,
    /// The changes, in the order in which they are made.
    pub edits: Vec<ProposedEdit>,
}

/// One proposed change of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedEdit {
    /// The document.
    pub document: EditedDocument,
    /// What is done.
    pub operation: EditOperation,
    /// The section's id; empty for `append`, and for the whole of `activation` or `template`.
    pub section: String,
    /// The new text; empty for `remove` and `move`.
    pub text: String,
    /// `move`: the section behind which it goes; empty for the others. Answers from before sections were moved
    /// have none.
    #[serde(default)]
    pub after: String,
    /// Names of the insights that ask for the change.
    pub because: Vec<String>,
}

/// The answer of a generation in which the whole template is written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateAnswer {
    /// What changes and why, in a few sentences for a person.
    pub summary: String,
    /// The whole new template; empty means: no improvement to propose.
    pub prompt_template: String,
    /// Names of the insights that ask for the change.
    pub because: Vec<String>,
}

/// The document that an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditedDocument {
    /// `activation.txt`.
    Activation,
    /// `research.md`.
    Research,
    /// The prompt template.
    Template,
}

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditOperation {
    /// A section (or a whole short document) gets a new text.
    Replace,
    /// A new section comes after one.
    AddAfter,
    /// A text comes at the end of the document.
    Append,
    /// A section goes.
    Remove,
    /// A section comes after another one, with all below it.
    Move,
}

/// The schema of an [`AnalysisAnswer`] about these models.
#[must_use]
pub fn analysis_schema(models: &[ModelName]) -> Value {
    let names: Vec<&str> = models.iter().map(ModelName::as_str).collect();
    let names_or_all: Vec<&str> = names.iter().copied().chain([ALL_MODELS]).collect();
    let model_or_all = json!({
        "type": "string", "enum": names_or_all,
        "description": "The model that this is about; \"all\" only if it holds for every model.",
    });
    let pattern = object(json!({
        "insight_type": {"type": "string", "enum": ["prompt_pattern", "model_strength", "failure_mode"]},
        "model": model_or_all,
        "description": text("What was found, with its scope and its size, in one to three sentences."),
        "confidence": {"type": "number", "description": "From 0 to 1: how likely the same will hold in the next window."},
        "evidence_task_ids": list(text("The id of a task shown, exactly as shown.")),
        "suggested_change": text("What to change in the model's documents; empty if nothing follows."),
    }));
    let length = object(json!({
        "from": {"type": "integer", "description": "Characters, above 0."},
        "to": {"type": "integer", "description": "Characters, not below `from`."},
    }));
    let model_insight = object(json!({
        "model": {"type": "string", "enum": names},
        "strengths": list(text("One strength.")),
        "weaknesses": list(text("One weakness.")),
        "best_prompt_length": {"anyOf": [length, {"type": "null"}],
            "description": "The length of enhanced prompts that scores best; null if the window does not show one."},
        "greek_text": text("How Greek text is best handled for this model; empty if the window does not show it."),
        "what_scores_high": text("Which prompts score high; empty if the window does not show it."),
        "what_fails": text("What causes failures; empty if the window does not show it."),
    }));
    let recommendation = object(json!({
        "model": model_or_all,
        "text": text("One change worth testing, and why."),
    }));
    let judgement = object(json!({
        "insight": text("The id of an earlier insight, exactly as shown."),
        "verdict": {"type": "string", "enum": ["confirmed", "weakened", "retired"]},
        "evidence_task_ids": list(text("The id of a task shown, exactly as shown.")),
        "reason": text("Why, in one sentence."),
    }));
    object(json!({
        "summary": text("What the window shows, in two to five sentences for a person."),
        "patterns": list(pattern),
        "model_insights": list(model_insight),
        "recommendations": list(recommendation),
        "earlier": list(judgement),
    }))
}

/// The schema of a [`GenerationAnswer`].
#[must_use]
pub fn generation_schema() -> Value {
    let edit = object(json!({
        "document": {"type": "string", "enum": ["activation", "research", "template"]},
        "operation": {"type": "string", "enum": ["replace", "add_after", "append", "remove", "move"]},
        "section": text("The section's id exactly as listed; empty for append, and to replace the whole of activation or template."),
        "text": text("The new text; empty for remove and move."),
        "after": text("move: the id of the section behind which it goes; empty for every other operation."),
        "because": list(text("The id of an insight that asks for this change, exactly as shown.")),
    }));
    object(json!({
        "summary": text("What changes and why, in one to four sentences for a person; why nothing does, if edits is empty."),
        "edits": list(edit),
    }))
}

/// The schema of a [`TemplateAnswer`].
#[must_use]
pub fn template_schema() -> Value {
    object(json!({
        "summary": text("What changes and why, in one to four sentences for a person; why nothing does, if prompt_template is empty."),
        "prompt_template": text("The whole new template, every placeholder in it; empty if no change is worth testing."),
        "because": list(text("The id of an insight that asks for this change, exactly as shown.")),
    }))
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object whose properties are all required and that has no others.
fn object(properties: Value) -> Value {
    let required: Vec<String> =
        properties.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Vec<ModelName> {
        ["wan-2.5-edit", "nano-banana"]
            .into_iter()
            .map(|name| ModelName::new(name).unwrap())
            .collect()
    }

    /// Structured output refuses, with 400, a schema that uses more than this.
    fn check_supported(schema: &Value) {
        const KEYWORDS: [&str; 8] = [
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "enum",
            "anyOf",
            "description",
        ];
        let map = schema.as_object().unwrap();
        for (keyword, value) in map {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword}");
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(check_supported),
                "items" => check_supported(value),
                "anyOf" => value.as_array().unwrap().iter().for_each(check_supported),
                _ => {}
            }
        }
        if schema["type"] == "object" {
            assert_eq!(schema["additionalProperties"], json!(false));
            assert_eq!(
                map["required"].as_array().unwrap().len(),
                map["properties"].as_object().unwrap().len()
            );
        }
    }

    /// The keys of a value must be those of its schema, so that type and schema cannot drift apart.
    fn check_shape(schema: &Value, value: &Value) {
        let schema = schema["anyOf"].get(0).unwrap_or(schema);
        match value {
            Value::Object(map) => {
                let properties = schema["properties"].as_object().unwrap();
                assert_eq!(map.keys().collect::<Vec<_>>(), properties.keys().collect::<Vec<_>>());
                map.iter().for_each(|(key, value)| check_shape(&properties[key], value));
            }
            Value::Array(items) => {
                items.iter().for_each(|item| check_shape(&schema["items"], item))
            }
            Value::String(text) => {
                assert_eq!(schema["type"], "string");
                if let Some(allowed) = schema["enum"].as_array() {
                    assert!(allowed.contains(&json!(text)), "{text}");
                }
            }
            other => assert!(
                other.is_number() && matches!(schema["type"].as_str(), Some("number" | "integer"))
            ),
        }
    }

    #[test]
    fn the_schemas_use_only_what_structured_output_supports() {
        check_supported(&analysis_schema(&models()));
        check_supported(&generation_schema());
        check_supported(&template_schema());
    }

    #[test]
    fn an_analysis_answer_has_the_shape_of_its_schema() {
        for insight_type in
            [InsightType::PromptPattern, InsightType::ModelStrength, InsightType::FailureMode]
        {
            let answer = AnalysisAnswer {
                summary: String::new(),
                patterns: vec![Pattern {
                    insight_type,
                    model: ALL_MODELS.to_owned(),
                    description: String::new(),
                    confidence: 0.5,
                    evidence_task_ids: vec!["86a1".to_owned()],
                    suggested_change: String::new(),
                }],
                model_insights: vec![ModelInsight {
                    model: "nano-banana".to_owned(),
                    strengths: vec![String::new()],
                    weaknesses: vec![],
                    best_prompt_length: Some(LengthRange { from: 200, to: 400 }),
                    greek_text: String::new(),
                    what_scores_high: String::new(),
                    what_fails: String::new(),
                }],
                recommendations: vec![Recommendation {
                    model: "wan-2.5-edit".to_owned(),
                    text: String::new(),
                }],
                earlier: vec![Judgement {
                    insight: "4.2".to_owned(),
                    verdict: InsightVerdict::Weakened,
                    evidence_task_ids: vec![],
                    reason: String::new(),
                }],
            };
            let json = serde_json::to_value(&answer).unwrap();
            check_shape(&analysis_schema(&models()), &json);
            assert_eq!(json["patterns"][0]["insight_type"], insight_type.as_str());
            assert_eq!(serde_json::from_value::<AnalysisAnswer>(json).unwrap(), answer);
        }
    }

    #[test]
    fn a_generation_answer_has_the_shape_of_its_schema() {
        use {EditOperation as Operation, EditedDocument as Document};
        let documents = [Document::Activation, Document::Research, Document::Template];
        let operations = [
            Operation::Replace,
            Operation::AddAfter,
            Operation::Append,
            Operation::Remove,
            Operation::Move,
        ];
        for (document, operation) in documents.into_iter().flat_map(|d| operations.map(|o| (d, o)))
        {
            let edit = ProposedEdit {
                document,
                operation,
                section: String::new(),
                text: String::new(),
                after: String::new(),
                because: vec!["17".to_owned()],
            };
            let answer = GenerationAnswer { summary: String::new(), edits: vec![edit] };
            let json = serde_json::to_value(&answer).unwrap();
            check_shape(&generation_schema(), &json);
            assert_eq!(serde_json::from_value::<GenerationAnswer>(json).unwrap(), answer);
        }
    }

    #[test]
    fn a_template_answer_has_the_shape_of_its_schema() {
        let answer = TemplateAnswer {
            summary: String::new(),
            prompt_template: String::new(),
            because: vec!["4.2".to_owned()],
        };
        let json = serde_json::to_value(&answer).unwrap();
        check_shape(&template_schema(), &json);
        assert_eq!(serde_json::from_value::<TemplateAnswer>(json).unwrap(), answer);
    }

    #[test]
    fn nothing_found_is_a_valid_answer() {
        let text = r#"{"summary": "No pattern.", "patterns": [], "model_insights": [], "recommendations": []}"#;
        assert!(serde_json::from_str::<AnalysisAnswer>(text).unwrap().patterns.is_empty());
        let text = r#"{"summary": "No improvement.", "edits": []}"#;
        assert!(serde_json::from_str::<GenerationAnswer>(text).unwrap().edits.is_empty());
    }
}
