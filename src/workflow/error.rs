//! What can be wrong with a definition, in words for the person who wrote it.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// The file (or the folder) that has to be changed.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// The key's path, such as `gate.improvement_basis_points` or `models[1].name`; none if the file as a whole is meant.
    pub key: Option<String>,
    /// The value as it stands, as TOML; none for a key that is missing or unknown.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": ")?;
        match (&self.key, &self.value) {
            (Some(key), Some(value)) => write!(f, "{key} = {value}: ")?,
            (Some(key), None) => write!(f, "{key}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.problem)
    }
}

/// Everything that is wrong with one folder, or with several: nothing of it has been taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionErrors(Vec<DefinitionError>);

impl DefinitionErrors {
    /// `None` if there is nothing wrong.
    #[must_use]
    pub fn from_list(errors: Vec<DefinitionError>) -> Option<Self> {
        if errors.is_empty() { None } else { Some(Self(errors)) }
    }

    /// The errors, in the order of files and lines. Never empty.
    #[must_use]
    pub fn list(&self) -> &[DefinitionError] {
        &self.0
    }
}

impl From<DefinitionError> for DefinitionErrors {
    fn from(error: DefinitionError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for DefinitionErrors {
    type Item = DefinitionError;
    type IntoIter = std::vec::IntoIter<DefinitionError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for DefinitionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "{count} {noun} in the workflow; nothing has been taken over")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for DefinitionErrors {}

/// A stored definition that this version cannot read. The cycle that holds it is untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored definition cannot be read at `{key}`: {problem}")]
pub struct StoredDefinitionError {
    /// The key's path.
    pub key: String,
    /// What the reader said.
    pub problem: String,
}
