//! How much of a text is Greek.

/// The share of a text's letters that are Greek; none for a text without letters.
///
/// The letters are Unicode's, the Greek ones those of the blocks Greek and Greek Extended.
#[must_use]
pub fn share(text: &str) -> Option<f64> {
    let (mut greek, mut letters) = (0_u32, 0_u32);
    for letter in text.chars().filter(|character| character.is_alphabetic()) {
        letters += 1;
        greek += u32::from(matches!(letter, '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}'));
    }
    (letters > 0).then(|| f64::from(greek) / f64::from(letters))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn letters_count_and_nothing_else_does() {
        assert_eq!(share("Ἑλλάς!"), Some(1.0));
        assert_eq!(share("ab ΑΒ 12 ——"), Some(0.5));
        assert_eq!(share("sunset"), Some(0.0));
        assert_eq!(share("12:30 — ✓"), None);
        assert_eq!(share(""), None);
    }
}
