//! Where each section of an edited document comes from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::document::{Document, Section};
use super::super::hash::Texts;
use super::{Edit, Operation, Which};

/// What edits made of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The new texts.
    pub texts: Texts,
    /// The sections that an edit touched or made, and those that only got another id. Every other
    /// section has the id that it has in the parent, and its bytes.
    pub lineage: Vec<Origin>,
}

/// Where one section of a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The text that it stands in.
    pub document: Which,
    /// Its id in the version.
    pub section: String,
    /// Its heading in the version; empty for the preamble.
    pub heading: String,
    /// Its id in the parent; none for a new section.
    pub from: Option<String>,
    /// The edits that made, changed or moved it, numbered from 1; none where only its id changed.
    pub edits: Vec<usize>,
}

/// An edit as it is kept with a version: what it did and why, without its text, which the diff has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditNote {
    /// The text that it changed.
    pub document: Which,
    /// What it did.
    pub operation: Operation,
    /// The section's id in the parent, as the edit named it; empty for a whole document.
    pub section: String,
    /// The section's heading in the parent; empty for a whole document and for the preamble.
    pub heading: String,
    /// `move`: the section behind which it went; else empty.
    pub after: String,
    /// The insights that it rests on, by their handles, such as `4.2`.
    pub because: Vec<String>,
}

impl EditNote {
    /// The note of an edit of `parent`, with the insights by the handles given.
    #[must_use]
    pub fn of(edit: &Edit, parent: &Texts, because: Vec<String>) -> Self {
        let document = Document::parse(edit.document.of(parent));
        let section = document.find(&edit.section).ok().and_then(|at| document.sections().get(at));
        Self {
            document: edit.document,
            operation: edit.operation,
            section: section.map_or_else(|| edit.section.clone(), |section| section.id.clone()),
            heading: section.map(|section| section.heading.clone()).unwrap_or_default(),
            after: if edit.operation == Operation::Move {
                edit.after.clone()
            } else {
                String::new()
            },
            because,
        }
    }

    /// The edit in one line, such as `replace research, patterns/light`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = format!("{} {}", self.operation.as_str(), self.document.as_str());
        if !self.section.is_empty() {
            words.push_str(&format!(", {}", self.section));
        }
        if !self.after.is_empty() {
            words.push_str(&format!(", after {}", self.after));
        }
        words
    }
}

/// A part of the new text, by where it begins.
pub(super) struct Piece {
    pub(super) start: usize,
    /// The parent's section that it is; none for an added one.
    pub(super) old: Option<usize>,
    pub(super) edits: Vec<usize>,
}

/// The origins of the result's sections, as far as they are not the parent's as they were. The pieces
/// stand in the order of the text.
pub(super) fn origins(
    which: Which,
    parent: &Document,
    result: &Document,
    pieces: &[Piece],
) -> Vec<Origin> {
    let origin = |section: &Section| {
        let next = pieces.partition_point(|piece| piece.start <= section.range.start);
        // The preamble may be empty, and then it begins where the first section does.
        let at = if section.level == 0 { Some(0) } else { next.checked_sub(1) };
        let piece = at.and_then(|at| pieces.get(at));
        let old = piece.and_then(|piece| piece.old).and_then(|at| parent.sections().get(at));
        // A heading inside a replaced section's new text is a section of its own.
        let is_itself = piece.is_some_and(|piece| piece.start == section.range.start)
            && old.is_some_and(|old| (old.level == 0) == (section.level == 0));
        Origin {
            document: which,
            section: section.id.clone(),
            heading: section.heading.clone(),
            from: old.filter(|_| is_itself).map(|old| old.id.clone()),
            edits: piece.map(|piece| piece.edits.clone()).unwrap_or_default(),
        }
    };
    changed(result.sections().iter().map(origin))
}

/// The origins of a text that was replaced whole: a section that stands there as it did is the old one.
pub(super) fn of_whole(which: Which, parent: &Document, new: &str, edit: usize) -> Vec<Origin> {
    let result = Document::parse(new);
    let origin = |section: &Section| {
        let old = parent.sections().iter().find(|old| old.id == section.id);
        let is_same = old.is_some_and(|old| parent.text_of(old) == result.text_of(section));
        Origin {
            document: which,
            section: section.id.clone(),
            heading: section.heading.clone(),
            from: old.map(|old| old.id.clone()),
            edits: if is_same { Vec::new() } else { vec![edit] },
        }
    };
    changed(result.sections().iter().map(origin))
}

fn changed(origins: impl Iterator<Item = Origin>) -> Vec<Origin> {
    origins
        .filter(|origin| {
            !origin.edits.is_empty() || origin.from.as_deref() != Some(origin.section.as_str())
        })
        .collect()
}
