//! The strict guard: the rule must hold beyond chance, and a test that cannot tell yet goes on.
//!
//! Looks are taken at 20, 40, 60, 80 and 100 tasks. Looking five times at a fixed p would adopt by chance far more
//! often than one look does, so each look may spend only its part of the whole error (O'Brien and Fleming: little
//! early, most of it at the end). The first look may reject a candidate that fails the rule; after that, one that is
//! ahead at all is given its chance.

use crate::experiment::gate::{
    Decision, GateRules, Look, ROUNDING, Reason, Status, decide, exceeds,
};
use crate::experiment::permutation;

/// The p that each look may adopt at, from the first.
const SPENDING: [f64; 5] = [0.000_71, 0.012, 0.032_67, 0.055_24, 0.076_71];

/// The most looks that a test may take; the last one decides.
pub const LOOKS_MAX: u32 = SPENDING.len() as u32;

/// What a look amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The test is over.
    Decided(Decision),
    /// Neither proven nor refuted: the deck is lengthened by as many tasks as the first look had.
    GoesOn,
}

/// The `number`-th look, from 1, at all scores of the test so far.
///
/// `look` holds the blocks of every look, not only the last one's: the sums are pooled over them, and the p is
/// stratified by them. A number past [`LOOKS_MAX`] decides as the last look does.
#[must_use]
pub fn step(rules: &GateRules, number: u32, look: &Look) -> Step {
    let decision = decide(rules, look);
    let sums = look.sums();
    let ahead = exceeds(sums.control, sums.candidate, 0);
    let rule_holds = decision.status == Status::Adopted;
    let gives_up = match decision.reason {
        // A control of zeros has no ratio to hold against the candidate; its p decides.
        Reason::NotImproved | Reason::ZeroControlNotProven => number <= 1 || !ahead,
        _ => !rule_holds,
    };
    if gives_up {
        return Step::Decided(decision);
    }
    if rule_holds && is_proven(number, look) {
        return Step::Decided(decision);
    }
    if number < LOOKS_MAX {
        return Step::GoesOn;
    }
    let reason = if rule_holds { Reason::NotProven } else { decision.reason };
    Step::Decided(Decision { status: Status::Rejected, reason })
}

/// The p at or below which the `number`-th look, from 1, adopts.
#[must_use]
pub fn p_to_reach(number: u32) -> f64 {
    let index = number.clamp(1, LOOKS_MAX) - 1;
    SPENDING.get(index as usize).copied().unwrap_or(0.0)
}

/// A test too large for its exact p is not proven.
fn is_proven(number: u32, look: &Look) -> bool {
    permutation::stratified(&look.blocks)
        .is_some_and(|tails| tails.greater <= p_to_reach(number) + ROUNDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ByArm;

    const RULES: GateRules =
        GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };

    /// So many looks of five blocks of four, every control and candidate scoring the same.
    fn looks(number: u32, control: [u16; 2], candidate: [u16; 2]) -> Look {
        let block = ByArm { control: control.to_vec(), candidate: candidate.to_vec() };
        Look { blocks: vec![block; 5 * number as usize], missed: ByArm::default() }
    }

    fn reason(number: u32, look: &Look) -> Option<(Status, Reason)> {
        match step(&RULES, number, look) {
            Step::Decided(Decision { status, reason }) => Some((status, reason)),
            Step::GoesOn => None,
        }
    }

    #[test]
    fn the_first_look_rejects_what_fails_the_rule_and_adopts_only_what_is_beyond_doubt() {
        let not_enough = looks(1, [7, 7], [7, 8]);
        assert_eq!(reason(1, &not_enough), Some((Status::Rejected, Reason::NotImproved)));
        // Every candidate above every control: 1/6 a block, 1/7776 over five.
        let beyond_doubt = looks(1, [5, 6], [8, 9]);
        assert_eq!(reason(1, &beyond_doubt), Some((Status::Adopted, Reason::Improved)));
        let ahead = looks(1, [5, 8], [7, 9]);
        assert_eq!(reason(1, &ahead), None);
    }

    #[test]
    fn a_later_look_goes_on_while_the_candidate_is_ahead_and_ends_when_it_is_not() {
        let a_little_ahead = looks(2, [7, 7], [7, 8]);
        assert_eq!(reason(2, &a_little_ahead), None);
        let level = looks(2, [7, 8], [8, 7]);
        assert_eq!(reason(2, &level), Some((Status::Rejected, Reason::NotImproved)));
        let well_ahead = looks(2, [5, 8], [7, 9]);
        assert_eq!(reason(2, &well_ahead), Some((Status::Adopted, Reason::Improved)));
    }

    #[test]
    fn the_last_look_decides() {
        let a_little_ahead = looks(5, [7, 7], [7, 8]);
        assert_eq!(reason(5, &a_little_ahead), Some((Status::Rejected, Reason::NotImproved)));
        assert_eq!(reason(9, &a_little_ahead), Some((Status::Rejected, Reason::NotImproved)));
        // Better by far on average, and yet one lucky block alone bears it.
        let mut lucky = looks(5, [1, 1], [1, 1]);
        lucky.blocks[0].candidate = vec![10, 10];
        assert_eq!(reason(5, &lucky), Some((Status::Rejected, Reason::NotProven)));
    }

    #[test]
    fn the_guards_of_the_gate_stand_at_every_look() {
        let mut few = looks(3, [5, 6], [8, 9]);
        few.blocks.iter_mut().for_each(|block| block.candidate.clear());
        assert_eq!(reason(3, &few), Some((Status::Inconclusive, Reason::TooFewScores)));
        let mut uneven = looks(1, [5, 6], [8, 9]);
        uneven.missed.control = 7;
        assert_eq!(reason(1, &uneven), Some((Status::Inconclusive, Reason::UnevenMissingness)));
        let same = looks(4, [7, 7], [7, 7]);
        assert_eq!(reason(4, &same), Some((Status::Rejected, Reason::AllEqual)));
    }

    #[test]
    fn a_control_of_zeros_is_judged_by_the_look_s_own_p() {
        let one_in_four = looks(3, [0, 0], [1, 0]);
        assert_eq!(reason(3, &one_in_four), Some((Status::Adopted, Reason::ZeroControlImproved)));
        let mut barely = looks(2, [0, 0], [0, 0]);
        barely.blocks[0].candidate[0] = 4;
        assert_eq!(reason(2, &barely), None, "ahead, and not proven");
        assert_eq!(reason(1, &barely), Some((Status::Rejected, Reason::ZeroControlNotProven)));
        assert_eq!(reason(5, &barely), Some((Status::Rejected, Reason::ZeroControlNotProven)));
    }
}
