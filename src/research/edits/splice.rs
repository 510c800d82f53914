//! Puts edits into one document: resolves them against the parent, builds the text, and checks that
//! every section no edit names came through.

use super::super::document::{Document, Lookup, Section};
use super::check;
use super::line_ends::{ends_with_blank_line, line_end_of, starts_with_heading, tidy};
use super::{Edit, EditRefusal, Operation, Which};

/// Sorts text without a heading before every heading at the same place, deeper headings first.
const PLAIN: u8 = u8::MAX;

struct Insertion {
    /// Index of the section it stands before; the number of sections means the end.
    before: usize,
    /// Level of its first heading.
    level: u8,
    text: String,
}

/// What happens to one section of the parent.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) replaced_by: Option<(usize, String)>,
    pub(super) removed_by: Option<usize>,
    pub(super) appended: Vec<(usize, String)>,
}

struct Plan<'a> {
    which: Which,
    parent: Document,
    frozen: &'a [String],
    line_end: &'static str,
    fates: Vec<Fate>,
    insertions: Vec<Insertion>,
}

/// Applies the edits of one document. They are numbered from 1 over all documents.
pub(super) fn rewrite(
    which: Which,
    old: &str,
    edits: &[(usize, &Edit)],
    frozen: &[String],
) -> Result<String, EditRefusal> {
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
    plan.refuse_orphans()?;
    plan.build()
}

fn replace_whole(
    which: Which,
    parent: &Document,
    edits: &[(usize, &Edit)],
    (number, edit): (usize, &Edit),
    frozen: &[String],
) -> Result<String, EditRefusal> {
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
    Ok(edit.text.clone())
}

impl Plan<'_> {
    fn add(&mut self, number: usize, edit: &Edit) -> Result<(), EditRefusal> {
        let text = tidy(&edit.text, self.line_end);
        if edit.operation != Operation::Remove && text.is_empty() {
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
            Operation::AddAfter | Operation::Append => self.insert(number, at, false, text),
        }
    }

    fn resolve(&self, number: usize, name: &str) -> Result<usize, EditRefusal> {
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

    fn section(&self, at: usize) -> Option<&Section> {
        self.parent.sections().get(at)
    }

    fn id(&self, at: usize) -> String {
        self.section(at).map(|section| section.id.clone()).unwrap_or_default()
    }

    /// The frozen section that `at` is or belongs to.
    fn frozen_root(&self, at: usize) -> Option<usize> {
        self.frozen_roots().find(|root| (*root..self.parent.subtree_end(*root)).contains(&at))
    }

    fn frozen_roots(&self) -> impl Iterator<Item = usize> {
        let sections = self.parent.sections().iter().enumerate();
        sections
            .filter(|(_, section)| self.frozen.iter().any(|name| section.is_called(name)))
            .map(|(at, _)| at)
    }

    fn refuse_frozen(&self, number: usize, at: usize) -> Result<(), EditRefusal> {
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
            let rest = self.parent.sections().iter().enumerate().skip(at + 1);
            rest.clone()
                .find(|(_, section)| section.level <= level)
                .map_or(self.parent.sections().len(), |(next, _)| next)
        };
        // The new heading would be part of a frozen section if that one is open above it.
        if let Some(root) = self.frozen_roots().find(|root| {
            *root < before
                && before <= self.parent.subtree_end(*root)
                && self.section(*root).is_some_and(|frozen| (1..level).contains(&frozen.level))
        }) {
            return self.refuse_frozen(number, root);
        }
        self.insertions.push(Insertion { before, level, text });
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

    fn build(mut self) -> Result<String, EditRefusal> {
        self.insertions.sort_by_key(|insertion| (insertion.before, PLAIN - insertion.level));
        let mut out = String::with_capacity(self.parent.text().len() + 1_024);
        let mut starts = Vec::with_capacity(self.fates.len());
        for (at, (section, fate)) in self.parent.sections().iter().zip(&self.fates).enumerate() {
            self.insert_before(at, &mut out);
            starts.push(out.len());
            if fate.removed_by.is_some() {
                continue;
            }
            let mut text = match &fate.replaced_by {
                Some((_, new)) => new.clone(),
                None => self.parent.text_of(section).to_owned(),
            };
            for (_, more) in &fate.appended {
                text = self.appended(&text, more, at + 1);
            }
            let needs_line = !out.is_empty() && out != "\u{feff}" && !out.ends_with(['\n', '\r']);
            if needs_line && !text.is_empty() {
                out.push_str(self.line_end);
                if let Some(start) = starts.last_mut() {
                    *start = out.len();
                }
            }
            out.push_str(&text);
        }
        self.insert_before(self.fates.len(), &mut out);
        check::check(self.which, &self.parent, &self.fates, &starts, &out)?;
        Ok(out)
    }

    fn insert_before(&self, at: usize, out: &mut String) {
        for insertion in self.insertions.iter().filter(|found| found.before == at) {
            if !out.is_empty() && out != "\u{feff}" && !out.ends_with(['\n', '\r']) {
                out.push_str(self.line_end);
                out.push_str(self.line_end);
            }
            out.push_str(&insertion.text);
            out.push_str(self.line_end);
            if self.section(at).is_some() {
                out.push_str(self.line_end);
            }
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
