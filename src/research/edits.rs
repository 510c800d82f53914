//! Changes to some sections of a version's texts, under rules that keep a long text from collapsing.
//!
//! An optimiser that rewrites a grown document whole loses most of it (ACE, arXiv 2510.04618), so a
//! candidate is a list of edits against its parent, and what no edit names stays byte for byte.

use serde::{Deserialize, Serialize};

use super::hash::Texts;
use crate::workflow::placeholders_in;
pub use lineage::{Applied, EditNote, Origin};
pub use refusal::EditRefusal;
use refusal::percent_allowed;
use utoipa::ToSchema;

mod check;
mod line_ends;
mod lineage;
mod moves;
mod refusal;
mod splice;
#[cfg(test)]
mod tests;

/// Documents smaller than this may change by as many bytes, whatever the percentage says.
pub const SMALL_DOCUMENT_BYTES: usize = 2_000;

/// Which of a version's three texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Document)]
pub enum Which {
    /// The enhancer's instructions.
    Activation,
    /// The knowledge about the model.
    Research,
    /// The message with placeholders.
    Template,
}

impl Which {
    /// The name used in JSON and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Research => "research",
            Self::Template => "template",
        }
    }

    fn of(self, texts: &Texts) -> &str {
        match self {
            Self::Activation => &texts.activation,
            Self::Research => &texts.research,
            Self::Template => &texts.template,
        }
    }
}

/// What an edit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EditOperation)]
pub enum Operation {
    /// Puts `text` in the section's place. Without a heading line in `text` the old one stays. An
    /// empty `section` means the whole text, for activation and template only.
    Replace,
    /// Adds a section after this one, as the last of its siblings: behind every section that follows
    /// under the same heading, so that no section changes its parent and the most of the document
    /// keeps its place in the prompt cache. A `text` without a heading is added to the section itself.
    AddAfter,
    /// Adds to the end of the section's own text, or of the document if `section` is empty.
    Append,
    /// Takes the section out. Its subsections are sections of their own and must be removed too.
    Remove,
    /// Puts the section, with all below it, behind the section `after` and what is below that. It keeps
    /// its bytes and its level.
    Move,
}

impl Operation {
    /// The name used in JSON and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::AddAfter => "add_after",
            Self::Append => "append",
            Self::Remove => "remove",
            Self::Move => "move",
        }
    }
}

/// One change, as Claude proposes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Edit {
    /// The text to change.
    pub document: Which,
    /// What to do.
    pub operation: Operation,
    /// A section id of the parent document, or a heading that only one section has.
    #[serde(default)]
    pub section: String,
    /// The new text; ignored by `remove` and `move`.
    #[serde(default)]
    pub text: String,
    /// `move`: the section behind which it goes; ignored by the others.
    #[serde(default)]
    pub after: String,
    /// The names of the insights that this edit rests on.
    #[serde(default)]
    pub because: Vec<String>,
}

/// What a candidate must keep to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRules {
    /// Names that the resulting template must contain as `{{name}}`, spaces inside tolerated.
    pub required_placeholders: Vec<String>,
    /// How far a document may grow or shrink against its parent, in percent of the parent's bytes.
    /// Documents under [`SMALL_DOCUMENT_BYTES`] may change by that many bytes instead.
    pub size_change_percent_max: u32,
    /// Sections, by heading or id, that no edit may touch, with all below them.
    pub frozen_sections: Vec<String>,
    /// How large each document may be.
    pub bytes_max: BytesMax,
    /// The names of the insights that Claude was shown: each edit names one or more of them. None were
    /// shown, and edits that rest on something else are taken, where this is empty.
    pub insights: Vec<String>,
}

/// The largest size of each document, in bytes. One that is larger already may only shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesMax {
    /// Of the prompt template.
    pub template: usize,
    /// Of `activation.txt`.
    pub activation: usize,
    /// Of `research.md`.
    pub research: usize,
}

impl BytesMax {
    fn of(self, which: Which) -> usize {
        match which {
            Which::Template => self.template,
            Which::Activation => self.activation,
            Which::Research => self.research,
        }
    }
}

/// Applies `edits` to `parent`, all or nothing.
///
/// Ids refer to the parent, so an edit cannot name what another one adds. Additions at the same place
/// stand in the order given, deeper headings first. Line ends follow the document's own, except that a
/// whole text is taken as it is.
///
/// # Errors
/// The first [`EditRefusal`] found; `parent` is unchanged and no version comes of it.
pub fn apply(parent: &Texts, edits: &[Edit], rules: &EditRules) -> Result<Applied, EditRefusal> {
    if let Some(at) = edits.iter().position(|edit| edit.text.contains('\0')) {
        return Err(EditRefusal::NulByte { edit: at + 1 });
    }
    check_evidence(edits, &rules.insights)?;
    let mut lineage = Vec::new();
    let mut rewrite = |which: Which| -> Result<String, EditRefusal> {
        let numbered: Vec<(usize, &Edit)> = edits
            .iter()
            .enumerate()
            .filter(|(_, edit)| edit.document == which)
            .map(|(at, edit)| (at + 1, edit))
            .collect();
        let old = which.of(parent);
        if numbered.is_empty() {
            return Ok(old.to_owned());
        }
        let (new, origins) = splice::rewrite(which, old, &numbered, &rules.frozen_sections)?;
        check_size(which, old, &new, rules)?;
        lineage.extend(origins);
        Ok(new)
    };
    let texts = Texts {
        template: rewrite(Which::Template)?,
        activation: rewrite(Which::Activation)?,
        research: rewrite(Which::Research)?,
    };
    if texts == *parent {
        return Err(EditRefusal::NothingChanged);
    }
    check_placeholders(parent, &texts, rules)?;
    Ok(Applied { texts, lineage })
}

/// An edit rests on what was shown, or it rests on nothing.
fn check_evidence(edits: &[Edit], insights: &[String]) -> Result<(), EditRefusal> {
    for (edit, number) in edits.iter().zip(1..) {
        if edit.because.is_empty() && !insights.is_empty() {
            return Err(EditRefusal::NoInsight { edit: number, known: insights.to_vec() });
        }
        if let Some(name) = edit.because.iter().find(|name| !insights.contains(name))
            && !insights.is_empty()
        {
            return Err(EditRefusal::UnknownInsight {
                edit: number,
                name: name.clone(),
                known: insights.to_vec(),
            });
        }
    }
    Ok(())
}

fn check_placeholders(parent: &Texts, new: &Texts, rules: &EditRules) -> Result<(), EditRefusal> {
    for name in &rules.required_placeholders {
        if !has_placeholder(&new.template, name) {
            return Err(EditRefusal::MissingPlaceholder { name: name.clone() });
        }
    }
    let known = placeholders_in(&parent.template);
    let invented = placeholders_in(&new.template)
        .into_iter()
        .find(|name| !known.contains(name) && !rules.required_placeholders.contains(name));
    match invented {
        Some(name) => Err(EditRefusal::NewPlaceholder { name }),
        None => Ok(()),
    }
}

fn check_size(which: Which, old: &str, new: &str, rules: &EditRules) -> Result<(), EditRefusal> {
    if new.trim().is_empty() && !old.trim().is_empty() {
        return Err(EditRefusal::EmptyDocument { document: which });
    }
    let bytes_allowed = percent_allowed(old.len(), rules.size_change_percent_max);
    if old.len().abs_diff(new.len()) as u128 > bytes_allowed {
        return Err(EditRefusal::SizeChange {
            document: which,
            bytes_before: old.len(),
            bytes_after: new.len(),
            bytes_allowed,
        });
    }
    let bytes_max = rules.bytes_max.of(which);
    if new.len() > bytes_max && new.len() > old.len() {
        return Err(EditRefusal::TooLarge { document: which, bytes_after: new.len(), bytes_max });
    }
    Ok(())
}

/// How many bytes at the beginning of `new` are those of `old`: what a prompt cache still has of it.
#[must_use]
pub fn kept_prefix_bytes(old: &str, new: &str) -> usize {
    old.bytes().zip(new.bytes()).take_while(|(before, after)| before == after).count()
}

/// Whether `template` has `{{name}}`, with any white space inside the braces.
pub fn has_placeholder(template: &str, name: &str) -> bool {
    template.match_indices('{').any(|(at, _)| {
        template
            .get(at..)
            .and_then(|rest| rest.strip_prefix("{{"))
            .and_then(|rest| rest.trim_start().strip_prefix(name.trim()))
            .is_some_and(|rest| rest.trim_start().starts_with("}}"))
    })
}
