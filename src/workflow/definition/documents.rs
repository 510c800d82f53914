//! What a candidate may do to the documents.

use serde::{Deserialize, Serialize};

/// What a candidate may do to the documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Documents {
    /// How candidates are written, for the models that do not say so themselves.
    pub mode: CandidateMode,
    /// Placeholders, without braces, that must stay in the prompt template.
    pub required_placeholders: Vec<String>,
    /// By how much a candidate may lengthen or shorten a document, in percent of the old one.
    pub size_change_percent_max: u32,
    /// The largest size of the prompt template, in bytes; one that is larger already may only shrink.
    pub template_bytes_max: u32,
    /// The largest size of `activation.txt`, in bytes, likewise.
    pub activation_bytes_max: u32,
    /// The largest size of `research.md`, in bytes, likewise.
    pub research_bytes_max: u32,
    /// Headings of sections that a candidate must leave as they are.
    pub frozen_sections: Vec<String>,
    /// The longest passage of a task that a candidate may quote, in letters, digits and single spaces.
    pub quotation_characters_max: u32,
}

/// How a candidate is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateMode {
    /// Edits of some sections; the rest of the documents stays byte for byte.
    #[default]
    Sections,
    /// The prompt template anew, whole; activation and research stay as they are.
    Template,
}

impl CandidateMode {
    /// The mode as `workflow.toml` and the templates write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sections => "sections",
            Self::Template => "template",
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            mode: CandidateMode::default(),
            required_placeholders: vec!["original_prompt".to_owned()],
            size_change_percent_max: 15,
            template_bytes_max: 20_000,
            activation_bytes_max: 40_000,
            research_bytes_max: 150_000,
            frozen_sections: Vec::new(),
            quotation_characters_max: 60,
        }
    }
}
