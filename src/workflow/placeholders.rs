//! Placeholders of a prompt template, `{{original_prompt}}`: found, never filled in here.

use std::collections::BTreeSet;

/// The placeholders that every orchestrator fills in.
pub(super) const KNOWN: [&str; 3] = ["original_prompt", "activation", "research"];

/// The names of the placeholders in a prompt template: what stands between `{{` and `}}`, blanks around it ignored.
///
/// Only texts that could be a name (a-z, 0-9, underscore, not beginning with a digit) count; other braces are prose.
#[must_use]
pub fn placeholders_in(template: &str) -> BTreeSet<String> {
    template
        .match_indices('{')
        .filter_map(|(at, _)| template.get(at..)?.strip_prefix("{{")?.split_once("}}"))
        .map(|(name, _)| name.trim())
        .filter(|name| is_placeholder_name(name))
        .map(str::to_owned)
        .collect()
}

/// Whether a text could be the name of a placeholder.
pub(super) fn is_placeholder_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_between_braces_are_placeholders_and_prose_is_not() {
        let found = placeholders_in(
            "{{activation}} {{ research }} {single} {{Not One}} {{}} {{{original_prompt}}} {{open",
        );
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["activation", "original_prompt", "research"]
        );
    }
}
