//! What edits come to before the text is built: what goes in where, and what happens to each section.

use std::ops::Range;

pub(in crate::research::edits) struct Insertion {
    /// The edit that wants it.
    pub(in crate::research::edits) number: usize,
    /// Index of the section that the edit names.
    pub(in crate::research::edits) anchor: usize,
    /// Index of the section it stands before; the number of sections means the end.
    pub(in crate::research::edits) before: usize,
    /// Level of its first heading.
    pub(in crate::research::edits) level: u8,
    pub(in crate::research::edits) content: Content,
}

pub(in crate::research::edits) enum Content {
    /// New sections.
    Text(String),
    /// Sections that stood elsewhere.
    Moved(Range<usize>),
}

/// What happens to one section of the parent.
#[derive(Default)]
pub(in crate::research::edits) struct Fate {
    pub(in crate::research::edits) replaced_by: Option<(usize, String)>,
    pub(in crate::research::edits) removed_by: Option<usize>,
    pub(in crate::research::edits) appended: Vec<(usize, String)>,
}
