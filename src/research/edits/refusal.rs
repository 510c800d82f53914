//! Why edits make no version, in words that Claude or a person can act on.

use super::{SMALL_DOCUMENT_BYTES, Which};

/// Why a list of edits was refused. Nothing was changed. Edits are counted from 1, as given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditRefusal {
    /// The section named is not in the parent.
    #[error(
        "edit {edit}: {} has no section {section:?}. Use one of its ids: {}", document.as_str(), listed(known)
    )]
    UnknownSection {
        /// Which edit, from 1.
        edit: usize,
        /// The document it is about.
        document: Which,
        /// What it named.
        section: String,
        /// The ids that exist.
        known: Vec<String>,
    },
    /// Several sections have that heading.
    #[error(
        "edit {edit}: {section:?} is the heading of several sections of {}. Use one of their ids: {}", document.as_str(), listed(known)
    )]
    AmbiguousSection {
        /// Which edit, from 1.
        edit: usize,
        /// The document it is about.
        document: Which,
        /// What it named.
        section: String,
        /// The ids that it could mean.
        known: Vec<String>,
    },
    /// The operation needs a section, and none was named.
    #[error(
        "edit {edit}: name a section of {}. Only activation and template may be replaced as a whole, and only `append` works on a whole document", document.as_str()
    )]
    SectionRequired {
        /// Which edit, from 1.
        edit: usize,
        /// The document it is about.
        document: Which,
    },
    /// A section that the workflow protects would change.
    #[error(
        "{}the section {section:?} of {} is frozen by this workflow, with all below it. Leave it as it is", numbered(*edit), document.as_str()
    )]
    FrozenSection {
        /// Which edit, from 1; none where only their sum touches it.
        edit: Option<usize>,
        /// The document it is about.
        document: Which,
        /// The frozen section's id.
        section: String,
    },
    /// A placeholder is not in the template any more.
    #[error("the template must contain {{{{{name}}}}}, which the pipeline fills in. Put it back")]
    MissingPlaceholder {
        /// The placeholder's name.
        name: String,
    },
    /// The document would grow or shrink too much.
    #[error(
        "{} would go from {bytes_before} to {bytes_after} bytes; at most {bytes_allowed} bytes of change are allowed. Make fewer or smaller edits", document.as_str()
    )]
    SizeChange {
        /// The document it is about.
        document: Which,
        /// The parent's size.
        bytes_before: usize,
        /// The size it would have.
        bytes_after: usize,
        /// The largest difference allowed.
        bytes_allowed: u128,
    },
    /// The document would be larger than the workflow allows.
    #[error(
        "{} would have {bytes_after} bytes, and this workflow allows {bytes_max}. Shorten or remove what no longer helps", document.as_str()
    )]
    TooLarge {
        /// The document it is about.
        document: Which,
        /// The size it would have.
        bytes_after: usize,
        /// The largest size allowed.
        bytes_max: usize,
    },
    /// A placeholder that nobody fills in.
    #[error(
        "the template has a new placeholder {{{{{name}}}}}, which nothing fills in. Leave it out"
    )]
    NewPlaceholder {
        /// The placeholder's name.
        name: String,
    },
    /// An edit names an insight that Claude was not shown.
    #[error(
        "edit {edit}: there is no insight {name:?}. Name in `because` what the edit rests on, by these ids: {}",
        listed(known)
    )]
    UnknownInsight {
        /// Which edit, from 1.
        edit: usize,
        /// What it named.
        name: String,
        /// The names that were shown.
        known: Vec<String>,
    },
    /// An edit names no insight.
    #[error(
        "edit {edit}: `because` is empty. Name the insights that the edit rests on, by these ids: {}",
        listed(known)
    )]
    NoInsight {
        /// Which edit, from 1.
        edit: usize,
        /// The names that were shown.
        known: Vec<String>,
    },
    /// A task's text was copied into a document.
    #[error(
        "{} would hold a passage of {characters} characters that stands word for word in a task: {excerpt:?}. Quote at most {characters_max} characters of any task; write a rule that holds for other requests too", document.as_str()
    )]
    CopiedTaskText {
        /// The document it is about.
        document: Which,
        /// The passage's beginning, in small letters and without punctuation.
        excerpt: String,
        /// The passage's length in characters.
        characters: usize,
        /// The longest passage allowed.
        characters_max: usize,
    },
    /// A section cannot be moved there.
    #[error("edit {edit}: {section:?} of {} cannot be moved after {after:?}: {problem}", document.as_str())]
    ImpossibleMove {
        /// Which edit, from 1.
        edit: usize,
        /// The document it is about.
        document: Which,
        /// The section to move.
        section: String,
        /// The section behind which it was to go.
        after: String,
        /// Why not, and what would do.
        problem: &'static str,
    },
    /// The result is the parent.
    #[error("the edits change nothing. Propose a change, or say that none is worth testing")]
    NothingChanged,
    /// Nothing would be left of the document.
    #[error("nothing would be left of {}. Keep what works and change a part", document.as_str())]
    EmptyDocument {
        /// The document it is about.
        document: Which,
    },
    /// The edit carries no text.
    #[error("edit {edit}: the text is empty. Use `remove` to take a section out")]
    EmptyText {
        /// Which edit, from 1.
        edit: usize,
    },
    /// The database cannot hold a NUL, and no prompt needs one.
    #[error("edit {edit}: the text contains a NUL character. Leave it out")]
    NulByte {
        /// Which edit, from 1.
        edit: usize,
    },
    /// Two edits cannot both be done.
    #[error("edits {first} and {second} contradict each other on {section:?} of {}. Keep one", document.as_str())]
    ConflictingEdits {
        /// The earlier edit, from 1.
        first: usize,
        /// The later edit, from 1.
        second: usize,
        /// The document they are about.
        document: Which,
        /// The section's id, empty for the whole text.
        section: String,
    },
    /// A heading in the text would put sections under another parent.
    #[error(
        "edit {edit}: the text for {section:?} {}. It has a heading of level {found}. Use `add_after` for a new section", wanted(*level)
    )]
    HeadingLevel {
        /// Which edit, from 1.
        edit: usize,
        /// The section's id.
        section: String,
        /// The section's level, 0 for the preamble.
        level: u8,
        /// The level of the offending heading.
        found: u8,
    },
    /// Removing the section would hang its subsections under another one.
    #[error(
        "edit {edit}: {section:?} has the subsection {child:?}. Remove that as well, or keep both"
    )]
    OrphanedSubsections {
        /// Which edit, from 1.
        edit: usize,
        /// The section's id.
        section: String,
        /// The first subsection that would stay.
        child: String,
    },
    /// A heading would stand twice at the same place.
    #[error(
        "{} would have the section {section:?} twice. A section's subsections stay when it is replaced: edit the existing one by its id", document.as_str()
    )]
    DuplicateHeading {
        /// The document it is about.
        document: Which,
        /// The id of the second one.
        section: String,
    },
    /// New text swallows a section that no edit named, such as an unclosed code fence.
    #[error(
        "the edits would change how the section {section:?} of {} is read, though none names it. Close every code fence and HTML comment, and leave a blank line before a heading", document.as_str()
    )]
    StructureBroken {
        /// The document it is about.
        document: Which,
        /// The id of the section that would be lost.
        section: String,
    },
}

impl EditRefusal {
    /// A stable name for programs and for statistics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSection { .. } => "unknown_section",
            Self::AmbiguousSection { .. } => "ambiguous_section",
            Self::SectionRequired { .. } => "section_required",
            Self::FrozenSection { .. } => "frozen_section",
            Self::MissingPlaceholder { .. } => "missing_placeholder",
            Self::SizeChange { .. } => "size_change",
            Self::TooLarge { .. } => "too_large",
            Self::NewPlaceholder { .. } => "new_placeholder",
            Self::UnknownInsight { .. } => "unknown_insight",
            Self::NoInsight { .. } => "no_insight",
            Self::CopiedTaskText { .. } => "copied_task_text",
            Self::ImpossibleMove { .. } => "impossible_move",
            Self::NothingChanged => "nothing_changed",
            Self::EmptyDocument { .. } => "empty_document",
            Self::EmptyText { .. } => "empty_text",
            Self::NulByte { .. } => "nul_byte",
            Self::ConflictingEdits { .. } => "conflicting_edits",
            Self::HeadingLevel { .. } => "heading_level",
            Self::OrphanedSubsections { .. } => "orphaned_subsections",
            Self::DuplicateHeading { .. } => "duplicate_heading",
            Self::StructureBroken { .. } => "structure_broken",
        }
    }
}

pub(super) fn percent_allowed(bytes_before: usize, percent: u32) -> u128 {
    if bytes_before < SMALL_DOCUMENT_BYTES {
        SMALL_DOCUMENT_BYTES as u128
    } else {
        bytes_before as u128 * u128::from(percent) / 100
    }
}

/// More ids than this would bury the message.
const IDS_LISTED_MAX: usize = 60;

fn listed(ids: &[String]) -> String {
    let mut words: Vec<&str> = ids.iter().take(IDS_LISTED_MAX).map(String::as_str).collect();
    if ids.len() > IDS_LISTED_MAX {
        words.push("…");
    }
    words.join(", ")
}

fn numbered(edit: Option<usize>) -> String {
    edit.map(|edit| format!("edit {edit}: ")).unwrap_or_default()
}

fn wanted(level: u8) -> String {
    if level == 0 {
        "must have no heading".to_owned()
    } else {
        format!("may start with a heading of level {level}, and all others must be deeper")
    }
}
