//! Probation: does an adoption stand once more tasks have been scored?
//!
//! Adoption by twenty tasks is provisional. The next thirty go to both versions again, and the adoption is kept
//! only if the scores of the test and the probation together still show an improvement of more than 5%.
//! That halves how often a no-better prompt stays, and takes one that is 10% worse from 7.5% to 1.8%.

use crate::experiment::arm::ByArm;
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::{Sum, exceeds};

/// What a probation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbationRules {
    /// The pooled improvement that must be exceeded, in hundredths of a percent: 500 is 5%.
    pub retain_basis_points: u32,
    /// Fewer scores of the probation than this in an arm decide nothing.
    pub scores_per_arm_min: u32,
}

/// What a probation's scores say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The adoption stands.
    Keeps,
    /// The pooled improvement is gone: the old version comes back.
    RollsBack,
    /// Too few scores came: extended once, then a person's to say.
    Undecided,
}

/// The deck of a probation of so many tasks, half of them for each version: 30 are seven blocks of 4 and one of 2.
///
/// An odd number is rounded up, so that both versions get as many.
#[must_use]
pub fn deck_rules(tasks: u32, block: u32) -> DeckRules {
    DeckRules { per_arm: tasks.div_ceil(2), block }
}

/// What the probation decides, from the sums of the test and its own.
#[must_use]
pub fn ruling(rules: &ProbationRules, test: ByArm<Sum>, probation: ByArm<Sum>) -> Ruling {
    let fewest = probation.control.count.min(probation.candidate.count);
    if fewest < u64::from(rules.scores_per_arm_min) {
        Ruling::Undecided
    } else if keeps(test, probation, rules.retain_basis_points) {
        Ruling::Keeps
    } else {
        Ruling::RollsBack
    }
}

/// Whether the candidate stays: the pooled improvement strictly exceeds `retain_basis_points` (500 is 5%).
///
/// Without scores in the probation it is the test's improvement that is compared; whether there are enough of
/// them to ask at all is the caller's to know.
#[must_use]
pub fn keeps(test: ByArm<Sum>, probation: ByArm<Sum>, retain_basis_points: u32) -> bool {
    let pooled = pooled(test, probation);
    exceeds(pooled.control, pooled.candidate, retain_basis_points)
}

/// The sums of the test and the probation together.
#[must_use]
pub fn pooled(test: ByArm<Sum>, probation: ByArm<Sum>) -> ByArm<Sum> {
    ByArm {
        control: test.control.and(probation.control),
        candidate: test.candidate.and(probation.candidate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(control: (u64, u64), candidate: (u64, u64)) -> ByArm<Sum> {
        let sum = |(total, count)| Sum { total, count };
        ByArm { control: sum(control), candidate: sum(candidate) }
    }

    #[test]
    fn exactly_the_retained_improvement_is_rolled_back() {
        let test = sums((60, 10), (66, 10));
        assert!(!keeps(test, sums((140, 10), (144, 10)), 500));
        assert!(keeps(test, sums((140, 10), (145, 10)), 500));
    }

    #[test]
    fn too_few_scores_of_the_probation_decide_nothing() {
        let rules = ProbationRules { retain_basis_points: 500, scores_per_arm_min: 8 };
        let test = sums((60, 10), (72, 10));
        assert_eq!(ruling(&rules, test, sums((48, 8), (49, 7))), Ruling::Undecided);
        assert_eq!(ruling(&rules, test, sums((48, 8), (56, 8))), Ruling::Keeps);
        assert_eq!(ruling(&rules, test, sums((48, 8), (41, 8))), Ruling::RollsBack);
    }

    #[test]
    fn the_deck_of_thirty_tasks_is_seven_blocks_of_four_and_one_of_two() {
        let sizes = |tasks| {
            let deck = crate::experiment::deck::shuffle(&deck_rules(tasks, 4), 1);
            let blocks = deck.chunk_by(|a, b| a.block == b.block);
            blocks.map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(30), [4, 4, 4, 4, 4, 4, 4, 2]);
        assert_eq!(sizes(29), sizes(30));
    }

    #[test]
    fn a_control_that_scores_after_all_counts_against_the_candidate() {
        let test = sums((0, 10), (30, 10));
        assert!(keeps(test, sums((0, 15), (40, 15)), 500));
        assert!(!keeps(test, sums((120, 15), (40, 15)), 500));
    }

    #[test]
    fn a_candidate_that_scored_nothing_is_never_kept() {
        assert!(!keeps(sums((0, 10), (0, 10)), sums((0, 15), (0, 15)), 500));
        assert!(!keeps(sums((0, 0), (0, 0)), sums((0, 0), (0, 0)), 500));
    }
}
