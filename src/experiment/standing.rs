//! How a probation ended, in one plain sentence.

use crate::experiment::arm::ByArm;
use crate::experiment::evidence::{improvement, points};
use crate::experiment::gate::Sum;

/// What ended a probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its scores: the adoption stands.
    Kept,
    /// Its scores: the old version comes back.
    Regressed,
    /// A person's word, since it could not decide itself: the adoption stands.
    KeptByHand,
    /// A person's word: the old version comes back.
    PutBackByHand,
    /// An operator's rollback of the model.
    Superseded,
    /// The model left the workflow.
    Retired,
    /// An operator's cancel: the old version comes back.
    Cancelled,
}

impl Ending {
    /// The name under which it is stored, in `probations.status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept | Self::KeptByHand => "kept",
            Self::Regressed | Self::PutBackByHand => "regressed",
            Self::Superseded => "superseded",
            Self::Retired => "retired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The sentence: what became of the adoption, and on which scores of test and probation together.
    #[must_use]
    pub fn sentence(
        self,
        model: &str,
        versions: ByArm<i32>,
        pooled: ByArm<Sum>,
        retain_basis_points: u32,
    ) -> String {
        let ByArm { control: old, candidate: new } = versions;
        let scored = scored(pooled);
        let asked = f64::from(retain_basis_points) / 100.0;
        match self {
            Self::Kept => format!(
                "{model} v{new} stays: with its probation it {scored}, and staying asks for more than +{asked}%."
            ),
            Self::Regressed => format!(
                "{model} goes back to v{old}: with its probation v{new} {scored}, and staying asks for more than +{asked}%."
            ),
            Self::KeptByHand => {
                format!("{model} v{new} stays by a person's word: with its probation it {scored}.")
            }
            Self::PutBackByHand => format!(
                "{model} goes back to v{old} by a person's word: with its probation v{new} {scored}."
            ),
            Self::Superseded => format!(
                "The probation of {model} v{new} ended undecided, because a person put another version back."
            ),
            Self::Retired => format!(
                "The probation of {model} v{new} ended undecided, because the model was removed from the workflow."
            ),
            Self::Cancelled => format!(
                "{model} goes back to v{old}, because a person cancelled the cycle before the probation of v{new} ended."
            ),
        }
    }
}

fn scored(pooled: ByArm<Sum>) -> String {
    let mean = |sum: Sum| sum.mean().map_or_else(|| "nothing".to_owned(), points);
    let gain = improvement(pooled.control, pooled.candidate)
        .map(|gain| format!(" ({:+.1}%)", gain * 100.0))
        .unwrap_or_default();
    let (old, new) = (pooled.control.count, pooled.candidate.count);
    let tasks = if old == new {
        format!("on {new} tasks each")
    } else {
        format!("on {new} tasks against {old}")
    };
    format!("scored {} against {} {tasks}{gain}", mean(pooled.candidate), mean(pooled.control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probations_end_reads_as_one_sentence() {
        let sum = |total, count| Sum { total, count };
        let pooled = ByArm { control: sum(175, 25), candidate: sum(197, 25) };
        let uneven = ByArm { control: sum(175, 25), candidate: sum(170, 24) };
        let versions = ByArm { control: 3, candidate: 4 };
        let said = |ending: Ending, pooled| ending.sentence("nano-banana", versions, pooled, 500);
        insta::assert_snapshot!(said(Ending::Kept, pooled), @"nano-banana v4 stays: with its probation it scored 7.88 against 7.0 on 25 tasks each (+12.6%), and staying asks for more than +5%.");
        insta::assert_snapshot!(said(Ending::Regressed, uneven), @"nano-banana goes back to v3: with its probation v4 scored 7.08 against 7.0 on 24 tasks against 25 (+1.2%), and staying asks for more than +5%.");
        insta::assert_snapshot!(said(Ending::KeptByHand, pooled), @"nano-banana v4 stays by a person's word: with its probation it scored 7.88 against 7.0 on 25 tasks each (+12.6%).");
        insta::assert_snapshot!(said(Ending::PutBackByHand, uneven), @"nano-banana goes back to v3 by a person's word: with its probation v4 scored 7.08 against 7.0 on 24 tasks against 25 (+1.2%).");
        insta::assert_snapshot!(said(Ending::Superseded, pooled), @"The probation of nano-banana v4 ended undecided, because a person put another version back.");
        insta::assert_snapshot!(said(Ending::Retired, pooled), @"The probation of nano-banana v4 ended undecided, because the model was removed from the workflow.");
        insta::assert_snapshot!(said(Ending::Cancelled, pooled), @"nano-banana goes back to v3, because a person cancelled the cycle before the probation of v4 ended.");
    }
}
