//! The work that a transition asks for, as data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::state::{Adoption, UnknownName, names};
use crate::experiment::Phase;
use crate::experiment::deck::DeckRules;

/// One piece of work that a transition wants done.
///
/// Most effects become rows of `effects`, claimed and performed by a worker outside any
/// transaction. [`Effect::Deal`], [`Effect::AwaitApproval`] and [`Effect::OpenNextCycle`] are carried
/// out inside the transition's own transaction, so they cannot be lost or done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Ask Claude for the patterns of the window. Paid.
    Analyze,
    /// Ask Claude for one candidate a model. Paid.
    Generate,
    /// Check the verdicts against the frozen scores.
    Decide,
    /// Write the adopted versions to the files, then make them active.
    Apply {
        /// What is adopted.
        adoptions: Vec<Adoption>,
    },
    /// Put earlier versions back, files included, and end the cycle.
    Revert {
        /// What is put back: `from` the adopted version, `to` its predecessor.
        reverts: Vec<Adoption>,
    },
    /// Put one model back to a version that an operator named.
    RollBack {
        /// The change.
        change: Adoption,
    },
    /// Deal a deck to a model, before the first task draws from it.
    Deal {
        /// The image model.
        model: String,
        /// Which deck.
        phase: Phase,
        /// How many tasks, and how finely mixed.
        deck: DeckRules,
    },
    /// Give a probation whose time is out without enough scores the same time once more.
    Extend {
        /// The image model.
        model: String,
    },
    /// Place a hold that waits for a person's word.
    AwaitApproval {
        /// What is being asked.
        stage: ApprovalStage,
    },
    /// Open the workflow's next cycle in Collecting.
    OpenNextCycle,
}

names! {
    /// What an approval is asked for.
    ApprovalStage {
        BeforeTest => "before_test",
        BeforeApply => "before_apply",
        ProbationUndecided => "probation_undecided",
    }
}

names! {
    /// An effect's name without its data, as stored in `effects.kind`.
    EffectKind {
        Analyze => "analyze",
        Generate => "generate",
        Decide => "decide",
        Apply => "apply",
        Revert => "revert",
        RollBack => "roll_back",
        Deal => "deal",
        Extend => "extend",
        AwaitApproval => "await_approval",
        OpenNextCycle => "open_next_cycle",
    }
}

impl Effect {
    /// The effect's name, without its data.
    #[must_use]
    pub const fn kind(&self) -> EffectKind {
        match self {
            Self::Analyze => EffectKind::Analyze,
            Self::Generate => EffectKind::Generate,
            Self::Decide => EffectKind::Decide,
            Self::Apply { .. } => EffectKind::Apply,
            Self::Revert { .. } => EffectKind::Revert,
            Self::RollBack { .. } => EffectKind::RollBack,
            Self::Deal { .. } => EffectKind::Deal,
            Self::Extend { .. } => EffectKind::Extend,
            Self::AwaitApproval { .. } => EffectKind::AwaitApproval,
            Self::OpenNextCycle => EffectKind::OpenNextCycle,
        }
    }
}

impl EffectKind {
    /// True for effects that become rows and are performed by a worker.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        !matches!(self, Self::Deal | Self::Extend | Self::AwaitApproval | Self::OpenNextCycle)
    }

    /// True for effects that run even while the cycle is held: they put a safe state back.
    #[must_use]
    pub const fn runs_during_hold(self) -> bool {
        matches!(self, Self::Revert | Self::RollBack)
    }

    /// True for effects that change a config folder: they are done one after another.
    #[must_use]
    pub const fn changes_files(self) -> bool {
        matches!(self, Self::Apply | Self::Revert | Self::RollBack)
    }

    /// True for effects that belong to the state that asked for them, and are dropped when the
    /// cycle leaves it by another way. Changes of files are never dropped half done.
    #[must_use]
    pub const fn ends_with_its_state(self) -> bool {
        matches!(self, Self::Analyze | Self::Generate | Self::Decide)
    }
}
