//! Why an event, or a whole body of them, is refused.

/// An event that was refused. Nothing of it was stored; the events beside it were not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct EventError {
    /// Stable, for programs.
    pub code: &'static str,
    /// For people: what is wrong, and what would be right.
    pub detail: String,
    /// The field at fault, cut to 80 characters; empty where the event as a whole is.
    pub field: String,
}

impl EventError {
    /// An error about one field.
    pub(super) fn new(code: &'static str, field: &str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: shown(field) }
    }
}

/// A body that could not be divided into events. Nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct BodyError {
    /// Stable, for programs: `invalid_json` or `too_many_events`.
    pub code: &'static str,
    /// For people: what is wrong, and what would be right.
    pub detail: String,
}

/// A name or value as it may be quoted in an error: a hostile one may be megabytes long.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut cut: String = text.chars().take(SHOWN_CHARS).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
