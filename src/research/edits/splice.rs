//! Puts edits into one document: resolves them against the parent, builds the text, and checks that
//! every section no edit names came through.

mod parts;

use std::ops::Range;

use super::super::document::{Document, Lookup, Section};
use super::check;
use super::line_ends::{ends_with_blank_line, line_end_of, starts_with_heading, tidy};
use super::lineage::{self, Origin, Piece};
use super::{Edit, EditRefusal, Operation, Which};
pub(super) use parts::{Content, Fate, Insertion};

/// Sorts text without a heading before every heading at the same place, deeper headings first.
const PLAIN: u8 = u8::MAX;

pub(super) struct Plan<'a> {
    pub(super) which: Which,
    pub(super) parent: Document,
    frozen: &'a [String],
    line_end: &'static str,
    pub(super) fates: Vec<Fate>,
    pub(super) insertions: Vec<Insertion>,
}

/// The new text, as far as it is built.
struct Built {
    out: String,
    /// Where each section of the parent begins; none while, or if, it is not there.
    starts: Vec<Option<usize>>,
    pieces: Vec<Piece>,
}

/// Applies the edits of one document. They are numbered from 1 over all documents.
pub(super) fn rewrite(
    which: Which,
    old: &str,
    edits: &[(usize, &Edit)],
    frozen: &[String],
) -> Result<(String, Vec<Origin>), EditRefusal> {
    let parent = Document::parse(old);
    let whole = edits
        .iter()
        .find(|(_, edit)| edit.operation == Operation::Replace && edit.section.trim().is_empty());
    if let Some(&(number, edit)) = whole {
        return replace_whole(which, &parent, edits, (number, edit), frozen);
    }
    let mut plan = Plan {
        which,
        line_end: line_end_of(old),
        fates: parent.sections().iter().map(|_| Fate::default()).collect(),
        parent,
        frozen,
        insertions: Vec::new(),
    };
    for (number, edit) in edits {
        plan.add(*number, edit)?;
    }
    plan.refuse_entangled()?;
    plan.refuse_orphans()?;
    plan.build()
}

fn replace_whole(
    which: Which,
    parent: &Document,
    edits: &[(usize, &Edit)],
    (number, edit): (usize, &Edit),
    frozen: &[String],
) -> Result<(String, Vec<Origin>), EditRefusal> {
    if which == Which::Research {
        return Err(EditRefusal::SectionRequired { edit: number, document: which });
    }
    if let Some((other, _)) = edits.iter().find(|(other, _)| *other != number) {
        return Err(EditRefusal::ConflictingEdits {
            first: number.min(*other),
            second: number.max(*other),
            document: which,
            section: String::new(),
        });
    }
    let is_frozen = |section: &&Section| frozen.iter().any(|name| section.is_called(name));
    if let Some(section) = parent.sections().iter().find(is_frozen) {
        return Err(EditRefusal::FrozenSection {
            edit: Some(number),
            document: which,
            section: section.id.clone(),
        });
    }
    Ok((edit.text.clone(), lineage::of_whole(which, parent, &edit.text, number)))
}

impl Plan<'_> {
    fn add(&mut self, number: usize, edit: &Edit) -> Result<(), EditRefusal> {
        let text = tidy(&edit.text, self.line_end);
        let needs_text = !matches!(edit.operation, Operation::Remove | Operation::Move);
        if needs_text && text.is_empty() {
            return Err(EditRefusal::EmptyText { edit: number });
        }
        if edit.section.trim().is_empty() {
            if edit.operation != Operation::Append {
                return Err(EditRefusal::SectionRequired { edit: number, document: self.which });
            }
            let last = self.parent.sections().len().saturating_sub(1);
            return self.insert(number, last, true, text);
        }
        let at = self.resolve(number, &edit.section)?;
        match edit.operation {
            Operation::Replace => self.replace(number, at, &text),
            Operation::Remove => self.remove(number, at),
            Operation::Move => self.move_section(number, edit),
            Operation::AddAfter | Operation::Append => self.insert(number, at, false, text),
        }
    }

    pub(super) fn resolve(&self, number: usize, name: &str) -> Result<usize, EditRefusal> {
        let ids = |keep: &dyn Fn(&Section) -> bool| {
            let sections = self.parent.sections().iter();
            sections.filter(|section| keep(section)).map(|section| section.id.clone()).collect()
        };
        let section = name.to_owned();
        self.parent.find(name).map_err(|lookup| match lookup {
            Lookup::Unknown => EditRefusal::UnknownSection {
                edit: number,
                document: self.which,
                section,
                known: ids(&|_| true),
            },
            Lookup::Ambiguous => EditRefusal::AmbiguousSection {
                edit: number,
                document: self.which,
                section,
                known: ids(&|section| section.is_called(name)),
            },
        })
    }

    pub(super) fn section(&self, at: usize) -> Option<&Section> {
        self.parent.sections().get(at)
    }

    pub(super) fn id(&self, at: usize) -> String {
        self.section(at).map(|section| section.id.clone()).unwrap_or_default()
    }

    /// The frozen section that `at` is or belongs to.
    fn frozen_root(&self, at: usize) -> Option<usize> {
        self.frozen_roots().find(|root| (*root..self.parent.subtree_end(*root)).contains(&at))
    }

    pub(super) fn frozen_roots(&self) -> impl Iterator<Item = usize> {
        let sections = self.parent.sections().iter().enumerate();
        sections
            .filter(|(_, section)| self.frozen.iter().any(|name| section.is_called(name)))
            .map(|(at, _)| at)
    }

    pub(super) fn refuse_frozen(&self, number: usize, at: usize) -> Result<(), EditRefusal> {
        match self.frozen_root(at) {
            None => Ok(()),
            Some(root) => Err(EditRefusal::FrozenSection {
                edit: Some(number),
                document: self.which,
                section: self.id(root),
            }),
        }
    }

    fn refuse_conflict(&self, second: usize, at: usize, adds: bool) -> Result<(), EditRefusal> {
        let Some(fate) = self.fates.get(at) else {
            return Ok(());
        };
        let replaced = fate.replaced_by.as_ref().map(|(number, _)| *number);
        let appended = fate.appended.first().map(|(number, _)| *number);
        let others = replaced.or(appended).filter(|_| !adds);
        match fate.removed_by.or(others) {
            None => Ok(()),
            Some(first) => Err(EditRefusal::ConflictingEdits {
                first,
                second,
                document: self.which,
                section: self.id(at),
            }),
        }
    }

    fn replace(&mut self, number: usize, at: usize, text: &str) -> Result<(), EditRefusal> {
        self.refuse_frozen(number, at)?;
        self.refuse_conflict(number, at, false)?;
        let Some(section) = self.section(at) else {
            return Ok(());
        };
        let inner = Document::parse(text);
        let leads = starts_with_heading(&inner);
        for (index, heading) in inner.sections().iter().skip(1).enumerate() {
            let is_own = index == 0 && leads && section.level > 0;
            if (is_own && heading.level != section.level)
                || (!is_own && heading.level <= section.level)
                || section.level == 0
            {
                return Err(EditRefusal::HeadingLevel {
                    edit: number,
                    section: section.id.clone(),
                    level: section.level,
                    found: heading.level,
                });
            }
        }
        let new = self.section_with(at, section, text, leads);
        if let Some(fate) = self.fates.get_mut(at) {
            fate.replaced_by = Some((number, new));
        }
        Ok(())
    }

    /// The section's new bytes: its heading unless the text brings one, and the blank lines around
    /// the old body, so that the document keeps its look.
    fn section_with(&self, at: usize, section: &Section, text: &str, leads: bool) -> String {
        let newline = ['\n', '\r'];
        let old = self.parent.text_of(section);
        let body = self.parent.slice(section.body_start..section.range.end);
        let mut new = String::with_capacity(old.len() + text.len());
        if section.level == 0 && old.starts_with('\u{feff}') {
            new.push('\u{feff}');
        }
        if section.level > 0 && !leads {
            new.push_str(self.parent.slice(section.range.start..section.body_start));
            if !new.ends_with(newline) {
                new.push_str(self.line_end);
            }
            let blank = body.len() - body.trim_start_matches(newline).len();
            if blank < body.len() {
                new.push_str(body.get(..blank).unwrap_or_default());
            }
        }
        new.push_str(text);
        let kept = old.trim_end_matches(newline).len();
        new.push_str(old.get(kept..).unwrap_or_default());
        self.close(&mut new, at + 1);
        new
    }

    /// Ends `text` so that the section at `next` is still read as a heading.
    fn close(&self, text: &mut String, next: usize) {
        let Some(next) = self.section(next) else {
            return;
        };
        let is_marked = self.parent.text_of(next).trim_start_matches(' ').starts_with('#');
        if !text.ends_with(['\n', '\r']) {
            text.push_str(self.line_end);
        }
        if !is_marked && !ends_with_blank_line(text) {
            text.push_str(self.line_end);
        }
    }

    pub(super) fn refuse_removed(&self, number: usize, at: usize) -> Result<(), EditRefusal> {
        self.refuse_conflict(number, at, true)
    }

    fn remove(&mut self, number: usize, at: usize) -> Result<(), EditRefusal> {
        self.refuse_frozen(number, at)?;
        self.refuse_conflict(number, at, false)?;
        if let Some(fate) = self.fates.get_mut(at) {
            fate.removed_by = Some(number);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        number: usize,
        at: usize,
        at_end: bool,
        text: String,
    ) -> Result<(), EditRefusal> {
        let inner = Document::parse(&text);
        let first = inner.sections().get(1).map(|heading| heading.level);
        let (Some(level), true) = (first, starts_with_heading(&inner)) else {
            self.refuse_frozen(number, at)?;
            self.refuse_conflict(number, at, true)?;
            let level = self.section(at).map_or(0, |section| section.level);
            if !at_end {
                self.refuse_shallow(number, at, &inner, level + 1)?;
            }
            if let Some(fate) = self.fates.get_mut(at) {
                fate.appended.push((number, text));
            }
            return Ok(());
        };
        let before = if at_end {
            self.parent.sections().len()
        } else {
            self.refuse_conflict(number, at, true)?;
            self.refuse_shallow(number, at, &inner, level)?;
            // As late as it can stand under the same heading: what comes before stays in the cache.
            self.first_behind(at, |section| section.level < level)
        };
        self.refuse_inside_frozen(number, before, level)?;
        let content = Content::Text(text);
        self.insertions.push(Insertion { number, anchor: at, before, level, content });
        Ok(())
    }

    /// The first section behind `at` of which this is so; the number of sections if none is.
    pub(super) fn first_behind(&self, at: usize, is_so: impl Fn(&Section) -> bool) -> usize {
        let mut rest = self.parent.sections().iter().enumerate().skip(at + 1);
        rest.find(|(_, section)| is_so(section)).map_or(self.fates.len(), |(next, _)| next)
    }

    /// A heading would be part of a frozen section if that one is open above it.
    pub(super) fn refuse_inside_frozen(
        &self,
        number: usize,
        before: usize,
        level: u8,
    ) -> Result<(), EditRefusal> {
        if let Some(root) = self.frozen_roots().find(|root| {
            *root < before
                && before <= self.parent.subtree_end(*root)
                && self.section(*root).is_some_and(|frozen| (1..level).contains(&frozen.level))
        }) {
            return self.refuse_frozen(number, root);
        }
        Ok(())
    }

    /// A heading in the added text above `level_min` would take over the sections that follow.
    fn refuse_shallow(
        &self,
        number: usize,
        at: usize,
        inner: &Document,
        level_min: u8,
    ) -> Result<(), EditRefusal> {
        let mut headings = inner.sections().iter().skip(1);
        match headings.find(|heading| heading.level < level_min) {
            None => Ok(()),
            Some(heading) => Err(EditRefusal::HeadingLevel {
                edit: number,
                section: self.id(at),
                level: level_min,
                found: heading.level,
            }),
        }
    }

    fn refuse_orphans(&self) -> Result<(), EditRefusal> {
        for (at, fate) in self.fates.iter().enumerate() {
            let Some(number) = fate.removed_by else {
                continue;
            };
            let stays = |child: &usize| {
                self.fates.get(*child).is_some_and(|fate| fate.removed_by.is_none())
                    // Moved away from under it, and so no orphan.
                    && self.move_of(*child).is_none_or(|(_, range)| range.contains(&at))
            };
            if let Some(child) = (at + 1..self.parent.subtree_end(at)).find(stays) {
                return Err(EditRefusal::OrphanedSubsections {
                    edit: number,
                    section: self.id(at),
                    child: self.id(child),
                });
            }
        }
        Ok(())
    }

    fn build(mut self) -> Result<(String, Vec<Origin>), EditRefusal> {
        self.insertions.sort_by_key(|insertion| (insertion.before, PLAIN - insertion.level));
        let mut built = Built {
            out: String::with_capacity(self.parent.text().len() + 1_024),
            starts: vec![None; self.fates.len()],
            pieces: Vec::new(),
        };
        for at in 0..=self.fates.len() {
            self.insert_before(at, &mut built);
            if self.move_of(at).is_none() {
                self.put(at, &mut built);
            }
        }
        let moved = |at| self.move_of(at).is_some();
        let parent = &self.parent;
        let result =
            check::check(self.which, parent, &self.fates, moved, &built.starts, &built.out)?;
        let origins = lineage::origins(self.which, parent, &result, &built.pieces);
        Ok((built.out, origins))
    }

    /// Puts a section of the parent next, as it is or as it was changed; nothing if it was removed.
    fn put(&self, at: usize, built: &mut Built) {
        let (Some(section), Some(fate)) = (self.section(at), self.fates.get(at)) else { return };
        if let Some(number) = fate.removed_by {
            // Every document has a preamble; a removed one is empty.
            if at == 0 {
                built.pieces.push(Piece { start: 0, old: Some(0), edits: vec![number] });
            }
            return;
        }
        let mut text = match &fate.replaced_by {
            Some((_, new)) => new.clone(),
            None => self.parent.text_of(section).to_owned(),
        };
        for (_, more) in &fate.appended {
            text = self.appended(&text, more, at + 1);
        }
        let out = &mut built.out;
        let needs_line = !out.is_empty() && out != "\u{feff}" && !out.ends_with(['\n', '\r']);
        if needs_line && !text.is_empty() {
            out.push_str(self.line_end);
        }
        let moved = self.move_of(at).map(|(number, _)| number);
        let edits = fate.replaced_by.iter().map(|(number, _)| *number);
        let edits = edits.chain(fate.appended.iter().map(|(number, _)| *number)).chain(moved);
        built.pieces.push(Piece { start: out.len(), old: Some(at), edits: edits.collect() });
        if let Some(start) = built.starts.get_mut(at) {
            *start = Some(out.len());
        }
        out.push_str(&text);
    }

    fn insert_before(&self, at: usize, built: &mut Built) {
        for insertion in self.insertions.iter().filter(|found| found.before == at) {
            let text = match &insertion.content {
                Content::Moved(range) => {
                    self.put_moved(range.clone(), at, built);
                    continue;
                }
                Content::Text(text) => text,
            };
            let out = &mut built.out;
            if !out.is_empty() && out != "\u{feff}" && !out.ends_with(['\n', '\r']) {
                out.push_str(self.line_end);
                out.push_str(self.line_end);
            }
            let edits = vec![insertion.number];
            built.pieces.push(Piece { start: out.len(), old: None, edits });
            out.push_str(text);
            out.push_str(self.line_end);
            if self.section(at).is_some() {
                out.push_str(self.line_end);
            }
        }
    }

    /// Sections in another place. The last one of the document gets the blank line that it lacked there.
    fn put_moved(&self, range: Range<usize>, before: usize, built: &mut Built) {
        for at in range {
            self.put(at, built);
        }
        if self.section(before).is_some() && !ends_with_blank_line(&built.out) {
            if !built.out.ends_with(['\n', '\r']) {
                built.out.push_str(self.line_end);
            }
            built.out.push_str(self.line_end);
        }
    }

    /// `more` at the end of `text`, before the blank lines that part it from the next section. A list
    /// or table row follows directly, everything else after a blank line.
    fn appended(&self, text: &str, more: &str, next: usize) -> String {
        let kept = text.trim_end_matches(['\n', '\r']);
        let tail = text.get(kept.len()..).unwrap_or_default();
        let continues = more.starts_with(['-', '*', '+', '|']);
        let mut out = kept.to_owned();
        if !kept.is_empty() && kept != "\u{feff}" {
            out.push_str(self.line_end);
            if !continues {
                out.push_str(self.line_end);
            }
        }
        out.push_str(more);
        out.push_str(tail);
        self.close(&mut out, next);
        out
    }
}
