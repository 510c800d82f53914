//! Reads an edited document again, to be sure that what no edit names came through.

use std::collections::HashMap;

use super::super::document::{Document, Section};
use super::splice::Fate;
use super::{EditRefusal, Which};

/// Reads the result again. Each section that no edit names must stand where it was put, with the
/// same bytes, and be read as the same heading; no heading path may have been doubled.
pub(super) fn check(
    which: Which,
    parent: &Document,
    fates: &[Fate],
    is_moved: impl Fn(usize) -> bool,
    starts: &[Option<usize>],
    out: &str,
) -> Result<Document, EditRefusal> {
    let result = Document::parse(out);
    let at_start: HashMap<usize, &Section> =
        result.sections().iter().map(|section| (section.range.start, section)).collect();
    for (at, (section, fate)) in parent.sections().iter().zip(fates).enumerate() {
        if fate.removed_by.is_some() {
            continue;
        }
        let touched = fate.replaced_by.is_some() || !fate.appended.is_empty();
        let found = match section.level {
            0 => result.sections().first(),
            _ => starts.get(at).copied().flatten().and_then(|start| at_start.get(&start).copied()),
        };
        let holds = found.is_some_and(|found| {
            found.level == section.level
                && (touched
                    || (found.heading == section.heading
                        && same_bytes(
                            parent.text_of(section),
                            result.text_of(found),
                            is_moved(at),
                        )))
        });
        if !holds {
            return Err(EditRefusal::StructureBroken {
                document: which,
                section: section.id.clone(),
            });
        }
    }
    refuse_duplicates(which, parent, &result)?;
    Ok(result)
}

fn refuse_duplicates(
    which: Which,
    parent: &Document,
    result: &Document,
) -> Result<(), EditRefusal> {
    let mut allowed: HashMap<&str, usize> = HashMap::new();
    for section in parent.sections() {
        *allowed.entry(&section.path).or_default() += 1;
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for section in result.sections() {
        let count = seen.entry(&section.path).or_default();
        *count += 1;
        if *count > 1 && *count > allowed.get(section.path.as_str()).copied().unwrap_or(0) {
            return Err(EditRefusal::DuplicateHeading {
                document: which,
                section: section.id.clone(),
            });
        }
    }
    Ok(())
}

/// The same, but for the line end that a last line without one gets when something follows, and the
/// blank line that a document's last section lacked until it was moved.
fn same_bytes(old: &str, new: &str, is_moved: bool) -> bool {
    match new.strip_prefix(old) {
        None => false,
        Some("") => true,
        Some(rest) => {
            (is_moved || !old.ends_with(['\n', '\r'])) && rest.trim_matches(['\n', '\r']).is_empty()
        }
    }
}
