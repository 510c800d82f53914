//! A Markdown text as a row of sections, split at its headings, without losing a byte.
//!
//! Headings are found with a `CommonMark` parser, so a `#` inside a code fence is no heading. Only
//! headings at the top level count; one inside a quotation or a list belongs to the text around it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The id of the part before the first heading. No heading gets it.
pub const PREAMBLE_ID: &str = "preamble";

/// One section: a heading and the text up to the next heading of any level. A subsection is a section
/// of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Slug of the heading path, such as `patterns/lighting`; unique within the document.
    pub id: String,
    /// 1 to 6; 0 for the preamble.
    pub level: u8,
    /// The heading's text without its marks; empty for the preamble.
    pub heading: String,
    /// The whole section, in bytes of the document.
    pub range: Range<usize>,
    /// Where the text after the heading's line begins; the start of the range for the preamble.
    pub body_start: usize,
    /// The slugs of the path before de-duplication, so that equal paths can be told.
    pub(super) path: String,
}

/// A text and its sections. The sections cover the text from the first byte to the last, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    text: String,
    sections: Vec<Section>,
}

/// Why a name given by Claude or a person is no section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No id and no heading is called this.
    Unknown,
    /// Several headings are called this, and it is nobody's id.
    Ambiguous,
}

impl Document {
    /// Splits `text` at its headings. Never fails: a text without headings is one preamble.
    ///
    /// A byte order mark belongs to the preamble, and does not hide a heading behind it.
    pub fn parse(text: &str) -> Self {
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let marked = text.get(offset..).unwrap_or_default();
        let headings = top_headings(marked);
        let mut names = Names::default();
        let first = headings.first().map_or(text.len(), |found| found.start + offset);
        let mut sections = vec![Section {
            id: PREAMBLE_ID.to_owned(),
            level: 0,
            heading: String::new(),
            range: 0..first,
            body_start: 0,
            path: String::new(),
        }];
        for (at, found) in headings.iter().enumerate() {
            let end = headings.get(at + 1).map_or(text.len(), |next| next.start + offset);
            let (id, path) = names.next(found.level, &found.text);
            sections.push(Section {
                id,
                level: found.level,
                heading: found.text.clone(),
                range: found.start + offset..end,
                body_start: (found.end + offset).min(end),
                path,
            });
        }
        Self { text: text.to_owned(), sections }
    }

    /// The whole text, as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The preamble (possibly empty), then one section a heading.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The bytes of one section of this document.
    pub fn text_of(&self, section: &Section) -> &str {
        self.slice(section.range.clone())
    }

    /// Bytes of the text; empty if the range is none of this document's.
    pub(super) fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// Finds a section by its id or, where only one has it, by its heading text (with or without `#`).
    ///
    /// # Errors
    /// [`Lookup`], if nothing or more than one thing is called `name`.
    pub fn find(&self, name: &str) -> Result<usize, Lookup> {
        if let Some(at) = self.sections.iter().position(|section| section.id == name) {
            return Ok(at);
        }
        let mut found = self
            .sections
            .iter()
            .enumerate()
            .filter(|(_, section)| section.is_called(name))
            .map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (None, _) => Err(Lookup::Unknown),
            (Some(_), Some(_)) => Err(Lookup::Ambiguous),
        }
    }

    /// The index after the section's last subsection: the section at `at` and everything below it.
    pub(super) fn subtree_end(&self, at: usize) -> usize {
        let Some(root) = self.sections.get(at) else {
            return at;
        };
        if root.level == 0 {
            return at + 1;
        }
        self.sections
            .iter()
            .enumerate()
            .skip(at + 1)
            .find(|(_, section)| section.level <= root.level)
            .map_or(self.sections.len(), |(next, _)| next)
    }
}

impl Section {
    /// Whether `name` is this section's id or its heading, whatever its case and its `#` marks.
    pub fn is_called(&self, name: &str) -> bool {
        if self.id == name {
            return true;
        }
        let wanted = name.trim().trim_start_matches('#').trim();
        self.level > 0 && !wanted.is_empty() && self.heading.to_lowercase() == wanted.to_lowercase()
    }
}

struct FoundHeading {
    level: u8,
    text: String,
    start: usize,
    end: usize,
}

fn top_headings(text: &str) -> Vec<FoundHeading> {
    let mut headings = Vec::new();
    let mut depth = 0_usize;
    let mut open: Option<FoundHeading> = None;
    for (event, range) in Parser::new_ext(text, Options::empty()).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                open = Some(FoundHeading {
                    level: level as u8,
                    text: String::new(),
                    start: line_start(text, range.start),
                    end: line_end(text, range.end),
                });
                depth += 1;
            }
            Event::End(TagEnd::Heading(_)) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    headings.extend(open.take());
                }
            }
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = open.as_mut() {
                    heading.text.push_str(&part);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = open.as_mut() {
                    heading.text.push(' ');
                }
            }
            _ => {}
        }
    }
    for heading in &mut headings {
        heading.text = heading.text.trim().to_owned();
    }
    headings
}

/// The parser's range may begin after the indent; the section begins with its line.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind(['\n', '\r'])).map_or(0, |newline| newline + 1)
}

/// The parser's range may or may not include the newline; the heading ends with its line.
fn line_end(text: &str, at: usize) -> usize {
    let inside = text.get(..at).unwrap_or_default();
    if inside.ends_with('\n') {
        return at;
    }
    let rest = text.get(at..).unwrap_or_default();
    if inside.ends_with('\r') {
        return at + usize::from(rest.starts_with('\n'));
    }
    match rest.find(['\n', '\r']) {
        None => text.len(),
        Some(found) => {
            let crlf = rest.get(found..).is_some_and(|end| end.starts_with("\r\n"));
            at + found + 1 + usize::from(crlf)
        }
    }
}

/// Gives each heading its id.
#[derive(Default)]
struct Names {
    /// The open headings above: level, id, path.
    above: Vec<(u8, String, String)>,
    taken: HashSet<String>,
    counts: HashMap<String, usize>,
}

impl Names {
    fn next(&mut self, level: u8, heading: &str) -> (String, String) {
        while self.above.last().is_some_and(|(open, _, _)| *open >= level) {
            self.above.pop();
        }
        let slug = slug(heading);
        let (wanted, path) = match self.above.last() {
            Some((_, id, path)) => (format!("{id}/{slug}"), format!("{path}/{slug}")),
            None => (slug.clone(), slug),
        };
        let id = self.unique(wanted);
        self.above.push((level, id.clone(), path.clone()));
        (id, path)
    }

    fn unique(&mut self, wanted: String) -> String {
        if wanted != PREAMBLE_ID && self.taken.insert(wanted.clone()) {
            return wanted;
        }
        let count = self.counts.entry(wanted.clone()).or_insert(1);
        loop {
            *count += 1;
            let id = format!("{wanted}-{count}");
            if self.taken.insert(id.clone()) {
                return id;
            }
        }
    }
}

/// Letters and digits of any script in lower case, with single dashes between; accents written as
/// combining marks stay with their letter.
fn slug(heading: &str) -> String {
    let mut slug = String::with_capacity(heading.len());
    let mut gap = false;
    for letter in heading.to_lowercase().chars() {
        let is_accent = ('\u{300}'..='\u{36f}').contains(&letter);
        if letter.is_alphanumeric() || (is_accent && !gap && !slug.is_empty()) {
            if gap && !slug.is_empty() {
                slug.push('-');
            }
            gap = false;
            slug.push(letter);
        } else if !is_accent {
            gap = true;
        }
    }
    if slug.is_empty() {
        slug.push_str("section");
    }
    slug
}

#[cfg(test)]
pub(super) mod tests;
