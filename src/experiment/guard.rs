//! The guards: what a workflow does about the errors of a rule that decides on twenty scores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::experiment::arm::UnknownName;

/// What stands between the literal rule and an adoption for good. `mathesis gate power` shows how often each errs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Nothing: the literal rule decides ([`gate::decide`](crate::experiment::gate::decide)).
    Off,
    /// The rule adopts, and the next tasks must confirm it
    /// ([`probation::ruling`](crate::experiment::probation::ruling)).
    Probation,
    /// Up to five looks at a longer and longer test ([`strict::step`](crate::experiment::strict::step)).
    Strict,
    /// Each task is done under both versions ([`paired::decide`](crate::experiment::paired::decide)).
    Paired,
}

impl Guard {
    /// Every guard, from the laxest description to the most demanding.
    pub const ALL: &'static [Self] = &[Self::Off, Self::Probation, Self::Strict, Self::Paired];

    /// The name under which the guard is configured, stored and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Probation => "probation",
            Self::Strict => "strict",
            Self::Paired => "paired",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Guard {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("guard", name, Self::ALL, Self::as_str)
    }
}
