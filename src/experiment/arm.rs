//! The two arms of an experiment, and a pair of things that there is one of for each arm.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One side of an experiment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The version that was active when the test began.
    Control,
    /// The version that wants to replace it.
    Candidate,
}

impl Arm {
    /// Both arms, the control first.
    pub const ALL: [Self; 2] = [Self::Control, Self::Candidate];

    /// The name under which the arm is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Candidate => "candidate",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Arm {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("arm", name, &Self::ALL, Self::as_str)
    }
}

/// One value for each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ByArm<T> {
    /// The control's.
    pub control: T,
    /// The candidate's.
    pub candidate: T,
}

impl<T> ByArm<T> {
    /// The value of one arm.
    pub fn get(&self, arm: Arm) -> &T {
        match arm {
            Arm::Control => &self.control,
            Arm::Candidate => &self.candidate,
        }
    }

    /// The value of one arm, to be changed.
    pub fn get_mut(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::Control => &mut self.control,
            Arm::Candidate => &mut self.candidate,
        }
    }

    /// The pair of what `f` makes of each value, the control's first.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> ByArm<U> {
        ByArm { control: f(self.control), candidate: f(self.candidate) }
    }

    /// The pair by reference, so that [`ByArm::map`] does not consume it.
    pub fn as_ref(&self) -> ByArm<&T> {
        ByArm { control: &self.control, candidate: &self.candidate }
    }
}

/// A stored or sent word that names no arm, status or reason.
///
/// From the database it means that a newer Mathesis wrote the row, or that somebody edited it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a known {kind}; one of these was expected: {expected}")]
pub struct UnknownName {
    /// What was looked for: arm, status or reason.
    pub kind: &'static str,
    /// The word as it was found.
    pub name: String,
    /// The words that would have been right, comma-separated.
    pub expected: String,
}

impl UnknownName {
    /// The one of `all` whose word is `name`.
    pub(super) fn look_up<T: Copy>(
        kind: &'static str,
        name: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<T, Self> {
        let found = all.iter().copied().find(|&item| word(item) == name);
        found.ok_or_else(|| Self {
            kind,
            name: name.to_owned(),
            expected: all.iter().map(|&item| word(item)).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_is_stored_and_sent_under_one_name() {
        for arm in Arm::ALL {
            assert_eq!(arm.as_str().parse(), Ok(arm));
            assert_eq!(serde_json::to_string(&arm).unwrap(), format!("\"{arm}\""));
        }
    }

    #[test]
    fn an_unknown_arm_is_named_with_what_would_be_right() {
        let error = "Candidate".parse::<Arm>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Candidate` is not a known arm; one of these was expected: control, candidate"
        );
    }

    #[test]
    fn a_pair_keeps_its_arms_apart() {
        let mut pair = ByArm { control: 1, candidate: 2 };
        *pair.get_mut(Arm::Candidate) += 5;
        assert_eq!((*pair.get(Arm::Control), *pair.get(Arm::Candidate)), (1, 7));
        assert_eq!(pair.map(|n| n * 10), ByArm { control: 10, candidate: 70 });
    }
}
