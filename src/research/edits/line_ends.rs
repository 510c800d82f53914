//! The look of a text's lines: their ends, and the blank ones around it.

use super::super::document::Document;

/// Whether the text's first line is a heading.
pub(super) fn starts_with_heading(inner: &Document) -> bool {
    inner.sections().len() > 1
        && inner.sections().first().is_some_and(|preamble| preamble.range.is_empty())
}

/// Whether the last line is an empty one.
pub(super) fn ends_with_blank_line(text: &str) -> bool {
    let trimmed = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r']));
    trimmed.is_some_and(|rest| rest.ends_with(['\n', '\r']))
}

/// The line end of the document's first line.
pub(super) fn line_end_of(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.get(..at).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The text without blank lines at its ends, with the document's line ends.
pub(super) fn tidy(text: &str, line_end: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let unified = text.replace("\r\n", "\n");
    let mut rest = unified.trim_end();
    while let Some((first, more)) = rest.split_once('\n') {
        if !first.trim().is_empty() {
            break;
        }
        rest = more;
    }
    if rest.trim().is_empty() {
        return String::new();
    }
    rest.replace('\n', line_end)
}
