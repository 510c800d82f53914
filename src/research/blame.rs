//! Blame: which versions made each section of a document what it is.

use serde::Serialize;

use super::document::Document;
use super::edits::{EditNote, Operation, Origin, Which};
use super::hash::Texts;

/// A version on the way from the first one, as it was made from its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i32,
    /// The version that it was made from; none for one that came from the files.
    pub parent: Option<i32>,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// Its edits; none for a version from before they were kept.
    pub edits: Vec<EditNote>,
    /// Where its sections come from, as far as they are not the parent's as they were.
    pub lineage: Vec<Origin>,
}

/// One edit that made, changed or moved a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Touch {
    /// The version that it made.
    pub version: i32,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// What it did.
    pub operation: Operation,
    /// The section's id in that version.
    pub section: String,
    /// The handles of the insights that it rests on.
    pub because: Vec<String>,
}

/// A section, and what made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SectionBlame {
    /// The text that it stands in.
    pub document: Which,
    /// Its id in the version asked about.
    pub section: String,
    /// Its heading; empty for what stands before the first one.
    pub heading: String,
    /// Its size.
    pub bytes: usize,
    /// The version in which it first stood, under whatever name and in whatever place.
    pub since_version: i32,
    /// True where versions from before edits were kept may have changed it, too.
    pub incomplete: bool,
    /// The edits, the newest first; none for a section that is as the first version had it.
    pub touches: Vec<Touch>,
}

/// Follows every section of a version back to where it comes from, through renames and moves.
///
/// `chain` is the version, its parent, and so on to the first one.
#[must_use]
pub fn blame(texts: &Texts, chain: &[Step]) -> Vec<SectionBlame> {
    let documents = [
        (Which::Template, &texts.template),
        (Which::Activation, &texts.activation),
        (Which::Research, &texts.research),
    ];
    let mut sections = Vec::new();
    for (which, text) in documents {
        let document = Document::parse(text);
        let found = document.sections().iter().filter(|section| !section.range.is_empty());
        sections.extend(found.map(|section| {
            let mut blamed = follow(which, &section.id, chain);
            blamed.heading.clone_from(&section.heading);
            blamed.bytes = section.range.len();
            blamed
        }));
    }
    sections
}

fn follow(document: Which, section: &str, chain: &[Step]) -> SectionBlame {
    let mut blamed = SectionBlame {
        document,
        section: section.to_owned(),
        heading: String::new(),
        bytes: 0,
        since_version: chain.last().map_or(1, |step| step.version),
        incomplete: false,
        touches: Vec::new(),
    };
    let mut id = section.to_owned();
    for step in chain {
        if step.parent.is_some() && step.edits.is_empty() {
            blamed.since_version = step.version;
            blamed.incomplete = true;
            break;
        }
        let own = |origin: &&Origin| origin.document == document && origin.section == id;
        let Some(origin) = step.lineage.iter().find(own) else { continue };
        let edits = origin.edits.iter().rev();
        let edits = edits.filter_map(|number| step.edits.get(number.checked_sub(1)?));
        blamed.touches.extend(edits.map(|edit| Touch {
            version: step.version,
            cycle: step.cycle,
            operation: edit.operation,
            section: id.clone(),
            because: edit.because.clone(),
        }));
        match &origin.from {
            Some(from) => id.clone_from(from),
            None => {
                blamed.since_version = step.version;
                break;
            }
        }
    }
    blamed
}

#[cfg(test)]
mod tests {
    use super::super::edits::{BytesMax, Edit, EditRules, apply};
    use super::*;

    fn step(version: i32, parent: &Texts, edits: &[Edit]) -> (Texts, Step) {
        let rules = EditRules {
            required_placeholders: vec![],
            size_change_percent_max: 100,
            frozen_sections: vec![],
            bytes_max: BytesMax { template: 9_000, activation: 9_000, research: 9_000 },
            insights: vec![],
        };
        let applied = apply(parent, edits, &rules).unwrap();
        let notes =
            edits.iter().map(|edit| EditNote::of(edit, parent, vec![format!("{}.1", version - 1)]));
        let step = Step {
            version,
            parent: Some(version - 1),
            cycle: Some(i64::from(version) - 1),
            edits: notes.collect(),
            lineage: applied.lineage,
        };
        (applied.texts, step)
    }

    fn edit(operation: Operation, section: &str, text: &str) -> Edit {
        Edit {
            document: Which::Research,
            operation,
            section: section.into(),
            text: text.into(),
            after: String::new(),
            because: vec![],
        }
    }

    fn told(sections: &[SectionBlame]) -> String {
        let lines = sections.iter().map(|section| {
            let touches: Vec<String> = section
                .touches
                .iter()
                .map(|touch| {
                    format!(
                        "{} in version {} as {} ({})",
                        touch.operation.as_str(),
                        touch.version,
                        touch.section,
                        touch.because.join(", ")
                    )
                })
                .collect();
            let known = if section.incomplete { " or before" } else { "" };
            format!(
                "{}: since version {}{known}; {}",
                section.section,
                section.since_version,
                touches.join("; ")
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn three_versions() -> (Texts, Vec<Step>) {
        let first = Texts {
            research: "# Light\n\nSoft.\n\n# Text\n\nGreek.\n\n## Accents\n\nKeep them.\n\n# Last\n\nEnd.\n".into(),
            ..Texts::default()
        };
        let root = Step { version: 1, parent: None, cycle: None, edits: vec![], lineage: vec![] };
        let (second, two) = step(
            2,
            &first,
            &[
                edit(Operation::Append, "Accents", "Each of them."),
                edit(Operation::AddAfter, "Light", "# Hands\n\nFive."),
            ],
        );
        let moved = Edit { after: "Last".into(), ..edit(Operation::Move, "Text", "") };
        let renamed = edit(Operation::Replace, "Text", "# Words\n\nGreek.");
        let (third, three) = step(3, &second, &[moved, renamed]);
        (third, vec![three, two, root])
    }

    #[test]
    fn a_section_is_followed_through_renames_and_moves() {
        let (texts, chain) = three_versions();
        insta::assert_snapshot!(told(&blame(&texts, &chain)), @r"
        light: since version 1; 
        last: since version 1; 
        words: since version 1; move in version 3 as words (2.1); replace in version 3 as words (2.1)
        words/accents: since version 1; move in version 3 as words/accents (2.1); append in version 2 as text/accents (1.1)
        hands: since version 2; add_after in version 2 as hands (1.1)
        ");
    }

    #[test]
    fn a_version_from_before_edits_were_kept_is_as_far_as_it_goes() {
        let (texts, mut chain) = three_versions();
        chain[1].edits.clear();
        chain[1].lineage.clear();
        insta::assert_snapshot!(told(&blame(&texts, &chain)), @r"
        light: since version 2 or before; 
        last: since version 2 or before; 
        words: since version 2 or before; move in version 3 as words (2.1); replace in version 3 as words (2.1)
        words/accents: since version 2 or before; move in version 3 as words/accents (2.1)
        hands: since version 2 or before;
        ");
    }
}
