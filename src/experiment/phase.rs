//! The two phases of an experiment: the test, and the probation of what it adopted.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::experiment::arm::UnknownName;

/// Which deck of an experiment a slot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The test that decides about the adoption.
    Test,
    /// The probation that decides whether the adoption stands.
    Probation,
}

impl Phase {
    /// Both phases, in their order.
    pub const ALL: [Self; 2] = [Self::Test, Self::Probation];

    /// The name under which the phase is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Probation => "probation",
        }
    }
}

impl FromStr for Phase {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("phase", name, &Self::ALL, Self::as_str)
    }
}
