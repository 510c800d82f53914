//! Failure tags: what a validator's issues are about, by the words that a workflow names.

/// The failure tags of a workflow, each with the words that show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    name: String,
    words: Vec<String>,
}

/// Why a tag cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a name, a colon, and words with commas between them, such as \"logo: logo, brand\""
)]
pub struct BadTag;

impl Tags {
    /// Reads tags that are written `name: word, word`.
    ///
    /// # Errors
    /// [`BadTag`] when one of them has no name or no word.
    pub fn parse<T: AsRef<str>>(written: impl IntoIterator<Item = T>) -> Result<Self, BadTag> {
        written
            .into_iter()
            .map(|text| Tag::parse(text.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The name of each tag, in the workflow's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|tag| tag.name.as_str())
    }

    /// For each tag, in order, whether any of the issues shows it. Upper and lower case are alike, and a word is
    /// found at the beginning of longer ones, too.
    #[must_use]
    pub fn shown_by<T: AsRef<str>>(&self, issues: &[T]) -> Vec<bool> {
        let lower: Vec<String> = issues.iter().map(|issue| issue.as_ref().to_lowercase()).collect();
        self.0.iter().map(|tag| lower.iter().any(|issue| tag.is_in(issue))).collect()
    }
}

impl Tag {
    fn parse(text: &str) -> Result<Self, BadTag> {
        let (name, words) = text.split_once(':').ok_or(BadTag)?;
        let name = name.trim().to_owned();
        let words: Vec<String> = words.split(',').map(|word| word.trim().to_lowercase()).collect();
        if name.is_empty() || words.iter().any(String::is_empty) {
            return Err(BadTag);
        }
        Ok(Self { name, words })
    }

    fn is_in(&self, issue: &str) -> bool {
        self.words.iter().any(|word| {
            issue.match_indices(word.as_str()).any(|(at, _)| {
                issue
                    .get(..at)
                    .and_then(|before| before.chars().next_back())
                    .is_none_or(|before| !before.is_alphanumeric())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_a_word_begins_in_any_case() {
        let tags = Tags::parse(["logo: logo, brand", "accents: τόν, accent", "art: art"]).unwrap();
        assert_eq!(tags.names().collect::<Vec<_>>(), ["logo", "accents", "art"]);
        assert_eq!(tags.shown_by(&["The LOGOS changed"]), [true, false, false]);
        assert_eq!(tags.shown_by(&["Χάθηκαν οι Τόνοι"]), [false, true, false]);
        assert_eq!(tags.shown_by(&["a rebranded part"]), [false, false, false]);
        assert_eq!(tags.shown_by::<&str>(&[]), [false, false, false]);
    }

    #[test]
    fn a_tag_without_name_or_words_is_refused() {
        for wrong in ["logo", ": a", "logo:", "logo: a,,b", ""] {
            assert_eq!(Tags::parse([wrong]), Err(BadTag), "{wrong}");
        }
    }
}
