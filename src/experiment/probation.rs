//! Probation: does an adoption stand once more tasks have been scored?
//!
//! Adoption by twenty tasks is provisional. The next thirty go to both versions again, and the adoption is kept
//! only if the scores of the test and the probation together still show an improvement of more than 5%.
//! That halves how often a no-better prompt stays, and takes one that is 10% worse from 7.5% to 1.8%.

use crate::experiment::arm::ByArm;
use crate::experiment::gate::{Sum, exceeds};

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
