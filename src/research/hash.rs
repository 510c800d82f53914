//! The texts of a prompt version, and the hashes that name them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The three texts of a prompt version. Only `activation` and `research` have a file in the config
/// folder; the template lives in the database alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// The message sent for each task, with `{{placeholders}}`.
    pub template: String,
    /// Who the enhancer is and how it works (`activation.txt`).
    pub activation: String,
    /// What is known about the model, in Markdown (`research.md`).
    pub research: String,
}

/// SHA-256 of a version's texts, 64 lower-case hex digits.
///
/// Template, activation and research follow each other in this order, each as its length in bytes
/// (8 bytes, big-endian) and then its UTF-8 bytes, so that no two different versions share a framing.
pub fn content_hash(texts: &Texts) -> String {
    let mut hasher = Sha256::new();
    for text in [&texts.template, &texts.activation, &texts.research] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// SHA-256 of a file's bytes, 64 lower-case hex digits, as `sha256sum` prints it.
pub fn file_hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(template: &str, activation: &str, research: &str) -> Texts {
        Texts {
            template: template.into(),
            activation: activation.into(),
            research: research.into(),
        }
    }

    #[test]
    fn moving_a_byte_from_one_text_to_the_next_changes_the_hash() {
        assert_ne!(content_hash(&texts("ab", "c", "d")), content_hash(&texts("a", "bc", "d")));
        assert_ne!(content_hash(&texts("", "x", "")), content_hash(&texts("x", "", "")));
    }

    /// Other programs recompute this hash, so the framing may never change.
    #[test]
    fn the_framing_is_fixed() {
        let mut framed = vec![0, 0, 0, 0, 0, 0, 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 2];
        framed.extend("λ".bytes());
        framed.extend([0; 8]);
        assert_eq!(content_hash(&texts("t", "λ", "")), file_hash(&framed));
    }

    #[test]
    fn a_file_hash_is_what_sha256sum_prints() {
        assert_eq!(
            file_hash(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
