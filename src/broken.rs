//! Rules that the engine can be made to break on purpose, so that the crash campaign is seen to find it out.
//!
//! Only a build with the feature `testing` can: without it, no rule is ever broken, and nothing reads the setting.

/// A rule on which the invariants rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// An effect is done in the very commit that holds the checkpoint it led to.
    OneCheckpoint,
    /// A worker whose claim was taken over writes nothing.
    Fence,
    /// A slot is locked from the moment it is chosen until it is dealt.
    SlotLock,
}

#[cfg(feature = "testing")]
impl Rule {
    /// True when `MATHESIS_BROKEN_ON_PURPOSE` names this rule.
    pub(crate) fn is_broken(self) -> bool {
        static NAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let named =
            NAMED.get_or_init(|| std::env::var("MATHESIS_BROKEN_ON_PURPOSE").unwrap_or_default());
        named
            == match self {
                Self::OneCheckpoint => "one_checkpoint",
                Self::Fence => "fence",
                Self::SlotLock => "slot_lock",
            }
    }
}

#[cfg(not(feature = "testing"))]
impl Rule {
    /// Never.
    pub(crate) const fn is_broken(self) -> bool {
        false
    }
}
