//! Moving a section, with all below it, to another place of its document.

use std::ops::Range;

use super::splice::{Content, Insertion, Plan};
use super::{Edit, EditRefusal};

impl Plan<'_> {
    pub(super) fn move_section(&mut self, number: usize, edit: &Edit) -> Result<(), EditRefusal> {
        let at = self.resolve(number, &edit.section)?;
        if edit.after.trim().is_empty() {
            return Err(EditRefusal::SectionRequired { edit: number, document: self.which });
        }
        let after = self.resolve(number, &edit.after)?;
        let level = self.section(at).map_or(0, |section| section.level);
        let range = at..self.parent.subtree_end(at);
        let impossible = |problem| EditRefusal::ImpossibleMove {
            edit: number,
            document: self.which,
            section: self.id(at),
            after: self.id(after),
            problem,
        };
        if level == 0 {
            return Err(impossible("what stands before the first heading stays there"));
        }
        if range.contains(&after) {
            return Err(impossible("it would stand inside itself; name a section outside it"));
        }
        self.refuse_frozen(number, at)?;
        if let Some(root) = self.frozen_roots().find(|root| range.contains(root)) {
            self.refuse_frozen(number, root)?;
        }
        self.refuse_removed(number, at)?;
        let before = self.first_behind(after, |section| section.level <= level);
        if before == range.start || before == range.end {
            return Err(impossible("it stands there already"));
        }
        self.refuse_inside_frozen(number, before, level)?;
        self.insertions.push(Insertion {
            number,
            anchor: after,
            before,
            level,
            content: Content::Moved(range),
        });
        Ok(())
    }

    /// The move that takes the section at `at` elsewhere.
    pub(super) fn move_of(&self, at: usize) -> Option<(usize, Range<usize>)> {
        self.insertions.iter().find_map(|insertion| match &insertion.content {
            Content::Moved(range) if range.contains(&at) => Some((insertion.number, range.clone())),
            _ => None,
        })
    }

    /// Two edits of which one needs the place that the other takes away cannot both be done.
    pub(super) fn refuse_entangled(&self) -> Result<(), EditRefusal> {
        for insertion in &self.insertions {
            let Content::Moved(range) = &insertion.content else { continue };
            let conflict = |other: usize, at: usize| {
                Err(EditRefusal::ConflictingEdits {
                    first: insertion.number.min(other),
                    second: insertion.number.max(other),
                    document: self.which,
                    section: self.id(at),
                })
            };
            for at in [insertion.anchor, range.start] {
                if let Some(other) = self.fates.get(at).and_then(|fate| fate.removed_by) {
                    return conflict(other, at);
                }
            }
            for other in self.insertions.iter().filter(|other| other.number != insertion.number) {
                let overlaps = match &other.content {
                    Content::Moved(moved) => moved.start < range.end && range.start < moved.end,
                    Content::Text(_) => false,
                };
                if overlaps || range.contains(&other.anchor) {
                    return conflict(other.number, range.start);
                }
            }
        }
        Ok(())
    }
}
