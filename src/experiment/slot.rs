//! What a task's reports do to the slot that it holds.

/// Whose fault a failed attempt was, as far as learning cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The prompt's: counts as a score of 0, since leaving it out would favour a prompt that fails.
    Prompt,
    /// Infrastructure's, or nobody said: no verdict on the prompt.
    Elsewhere,
}

/// What a slot's holder has reported so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// The version of the slot's arm.
    pub slot_version: i32,
    /// The version that the holder's first enhancement named.
    pub named_version: Option<i32>,
    /// The score of the holder's first iteration.
    pub score: Option<u16>,
    /// An error of the holder's first iteration that names the model.
    pub error: Option<Fault>,
    /// True when the run ended by an error that names no model.
    pub run_failed: bool,
    /// True when the slot was dealt too long ago.
    pub timed_out: bool,
}

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its holder may still report.
    Waits,
    /// This score counts.
    Scores(u16),
    /// No score will come from this holder: the slot is dealt again, if the test still may.
    Missing(Loss),
}

/// Why a holder loses its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It did not report in time, or reported under another version.
    TimedOut,
    /// Its attempt failed through no fault of the prompt.
    Infrastructure,
    /// Its whole run failed.
    RunFailed,
}

impl Loss {
    /// The name as stored in `assignments.lost_because`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Infrastructure => "infrastructure",
            Self::RunFailed => "run_failed",
        }
    }
}

/// Judges a dealt slot.
///
/// A score counts only under the version of its slot, and outranks any error of the same attempt.
/// Only an error that names the model, at its first iteration, through the prompt's fault scores 0.
#[must_use]
pub fn judge(facts: &SlotFacts) -> Fate {
    let under_slot_version = facts.named_version == Some(facts.slot_version);
    if let Some(score) = facts.score
        && under_slot_version
    {
        return Fate::Scores(score);
    }
    let other_version_named = facts.named_version.is_some() && !under_slot_version;
    match facts.error {
        Some(Fault::Prompt) if facts.score.is_none() && !other_version_named => {
            return Fate::Scores(0);
        }
        Some(Fault::Elsewhere) if facts.score.is_none() => {
            return Fate::Missing(Loss::Infrastructure);
        }
        _ => {}
    }
    if facts.run_failed {
        return Fate::Missing(Loss::RunFailed);
    }
    if facts.timed_out { Fate::Missing(Loss::TimedOut) } else { Fate::Waits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> SlotFacts {
        SlotFacts {
            slot_version: 2,
            named_version: None,
            score: None,
            error: None,
            run_failed: false,
            timed_out: false,
        }
    }

    fn named(version: i32) -> SlotFacts {
        SlotFacts { named_version: Some(version), ..holder() }
    }

    #[test]
    fn each_row_of_the_table_of_rulings() {
        let rows = [
            ("nothing yet", holder(), Fate::Waits),
            ("enhanced only", named(2), Fate::Waits),
            ("scored", SlotFacts { score: Some(8), ..named(2) }, Fate::Scores(8)),
            (
                "scored after the time-out",
                SlotFacts { score: Some(8), timed_out: true, ..named(2) },
                Fate::Scores(8),
            ),
            (
                "scored, version not named yet",
                SlotFacts { score: Some(8), ..holder() },
                Fate::Waits,
            ),
            ("scored under another version", SlotFacts { score: Some(8), ..named(1) }, Fate::Waits),
            (
                "scored under another version, too long ago",
                SlotFacts { score: Some(8), timed_out: true, ..named(1) },
                Fate::Missing(Loss::TimedOut),
            ),
            (
                "the prompt's fault",
                SlotFacts { error: Some(Fault::Prompt), ..named(2) },
                Fate::Scores(0),
            ),
            (
                "the prompt's fault before any enhancement",
                SlotFacts { error: Some(Fault::Prompt), ..holder() },
                Fate::Scores(0),
            ),
            (
                "the prompt's fault under another version",
                SlotFacts { error: Some(Fault::Prompt), ..named(1) },
                Fate::Waits,
            ),
            (
                "infrastructure's fault",
                SlotFacts { error: Some(Fault::Elsewhere), ..named(2) },
                Fate::Missing(Loss::Infrastructure),
            ),
            (
                "a score outranks the prompt's fault",
                SlotFacts { score: Some(7), error: Some(Fault::Prompt), ..named(2) },
                Fate::Scores(7),
            ),
            (
                "a score outranks infrastructure's fault",
                SlotFacts { score: Some(7), error: Some(Fault::Elsewhere), ..named(2) },
                Fate::Scores(7),
            ),
            (
                "the whole run failed",
                SlotFacts { run_failed: true, ..named(2) },
                Fate::Missing(Loss::RunFailed),
            ),
            (
                "the prompt's fault, then the run failed",
                SlotFacts { error: Some(Fault::Prompt), run_failed: true, ..named(2) },
                Fate::Scores(0),
            ),
            (
                "scored, then the run failed",
                SlotFacts { score: Some(9), run_failed: true, ..named(2) },
                Fate::Scores(9),
            ),
            (
                "silent too long",
                SlotFacts { timed_out: true, ..named(2) },
                Fate::Missing(Loss::TimedOut),
            ),
        ];
        for (what, facts, fate) in rows {
            assert_eq!(judge(&facts), fate, "{what}");
        }
    }
}
