//! Names that become folders, URL segments and keys: checked once, at the door, and carried as types from there on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How long a name may be, in bytes (names are ASCII).
pub const NAME_LENGTH_MAX: usize = 64;

/// What a name must be, in words.
pub(super) const NAME_RULE: &str = "a name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore, begins with a letter or a digit, does not end with a dot, has no two dots in a row, and is no device of Windows (con, nul, com1)";

/// A name that cannot be used as a workflow's or a model's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be {kind}: {problem}; {NAME_RULE}")]
pub struct InvalidName {
    kind: &'static str,
    name: String,
    problem: &'static str,
}

impl InvalidName {
    /// The stable code under which clients see this error.
    pub const CODE: &'static str = "invalid_name";

    /// The stable code under which clients see this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODE
    }

    /// The name as it was given, cut to 80 characters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with the name, without the name.
    #[must_use]
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a name and takes it.
            ///
            /// # Errors
            /// [`InvalidName`] if it does not match `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, holds `..`, ends with a dot, or is
            /// a device of Windows.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                match problem_with(&name) {
                    None => Ok(Self(name)),
                    Some(problem) => Err(InvalidName {
                        kind: $kind,
                        // A hostile name may be megabytes; the error quotes only its beginning.
                        name: name.chars().take(80).collect(),
                        problem,
                    }),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// The name of a workflow: also its folder under `workflows/` and its segment in URLs.
    WorkflowName,
    "a workflow's name"
);

name_type!(
    /// The name of a model: also its folder under the workflow's `config_folder`.
    ModelName,
    "a model's name"
);

fn problem_with(name: &str) -> Option<&'static str> {
    let Some(first) = name.chars().next() else {
        return Some("it is empty");
    };
    if name.len() > NAME_LENGTH_MAX {
        return Some("it is longer than 64 characters");
    }
    if !first.is_ascii_alphanumeric() {
        return Some("it does not begin with a letter or a digit");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Some("it holds a character that is not allowed");
    }
    if name.contains("..") {
        return Some("it holds two dots in a row");
    }
    if name.ends_with('.') {
        return Some("it ends with a dot, which some file systems drop");
    }
    if is_device(name) {
        return Some("it is a device's name on Windows, whatever follows its dot");
    }
    None
}

/// Whether a text is a name, without taking it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    problem_with(text).is_none()
}

/// A folder of such a name cannot be made on Windows, and a workflow is to move between machines.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let numbered = |kind: &str| {
        stem.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(kind))
            && stem.len() == 4
            && stem.ends_with(|last: char| last.is_ascii_digit())
    };
    ["con", "prn", "aux", "nul"].iter().any(|device| stem.eq_ignore_ascii_case(device))
        || numbered("com")
        || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_models_of_today_are_names() {
        for name in [
            "wan-2.5-edit",
            "nano-banana",
            "nano-banana-pro-edit",
            "qwen-edit-plus",
            "seedream-v4",
            "a",
            "7",
        ] {
            assert_eq!(ModelName::new(name).unwrap().as_str(), name);
        }
        assert!(ModelName::new("a".repeat(64)).is_ok());
    }

    #[test]
    fn what_could_leave_its_folder_or_its_url_is_refused_with_the_reason() {
        let refused = |name: &str| WorkflowName::new(name).unwrap_err().problem();
        assert_eq!(refused(""), "it is empty");
        assert_eq!(refused("."), "it does not begin with a letter or a digit");
        assert_eq!(refused("../etc"), "it does not begin with a letter or a digit");
        assert_eq!(refused("-rf"), "it does not begin with a letter or a digit");
        assert_eq!(refused("a..b"), "it holds two dots in a row");
        assert_eq!(refused("a."), "it ends with a dot, which some file systems drop");
        for device in ["con", "NUL", "Aux", "prn", "COM1", "lpt9", "nul.txt", "com1.v2"] {
            let problem = "it is a device's name on Windows, whatever follows its dot";
            assert_eq!(refused(device), problem, "{device}");
        }
        for name in ["console", "com", "com12", "comX", "lpt", "null", "a.con"] {
            assert!(is_name(name), "{name}");
        }
        let hidden = "it holds a character that is not allowed";
        for tricky in
            ["nan\u{43e}", "a\u{202e}b", "a\u{300}", "a\u{200b}", "a\u{ff0e}\u{ff0e}", "a:b"]
        {
            assert_eq!(refused(tricky), hidden, "{tricky:?}");
        }
        assert_eq!(refused("a/b"), "it holds a character that is not allowed");
        assert_eq!(refused("a\0"), "it holds a character that is not allowed");
        assert_eq!(refused("μάθησις"), "it does not begin with a letter or a digit");
        assert_eq!(refused(&"a".repeat(65)), "it is longer than 64 characters");
        assert_eq!(WorkflowName::new("").unwrap_err().code(), "invalid_name");
    }

    #[test]
    fn a_bad_name_in_json_is_refused_in_words() {
        let error = serde_json::from_str::<ModelName>("\"a/b\"").unwrap_err();
        insta::assert_snapshot!(error, @r#""a/b" cannot be a model's name: it holds a character that is not allowed; a name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore, begins with a letter or a digit, does not end with a dot, has no two dots in a row, and is no device of Windows (con, nul, com1)"#);
    }

    proptest! {
        #[test]
        fn any_text_is_either_a_safe_name_or_an_error(text in "\\PC{0,80}|[a-z.]{0,70}|\\.*|(?s).{0,70}") {
            if let Ok(name) = ModelName::new(text.clone()) {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(text.len() <= NAME_LENGTH_MAX && !text.contains("..") && !text.contains(['/', '\\', '\0']) && !text.ends_with('.'));
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<ModelName>(&json).unwrap(), name);
            }
        }
    }
}
