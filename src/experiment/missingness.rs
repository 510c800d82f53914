//! Two guards against a test that was not the test it seems to be.
//!
//! Scores that go missing from one arm more than from the other make the averages of what is left misleading
//! (Fisher's exact test). An arm that counts far more scores than the other was not dealt half and half
//! (the exact binomial test, known as the sample ratio check).

use crate::experiment::arm::ByArm;

/// Tables whose probability exceeds the observed one by less than this factor count as equally likely,
/// since their floating-point weights may differ in the last digits only. R's `fisher.test` uses the same.
const EQUALLY_LIKELY: f64 = 1.0 + 1e-7;

/// Fisher's exact two-sided p for the 2×2 table of missed against valid scores by arm, 0 to 1.
///
/// The sum of the probabilities of all tables with these margins that are no likelier than this one.
/// It is 1 where a margin is empty, since nothing can then be uneven.
#[must_use]
pub fn fisher_p(missed: ByArm<u32>, valid: ByArm<u32>) -> f64 {
    // In u64 no sum of these can overflow.
    let (missed, valid) = (missed.map(u64::from), valid.map(u64::from));
    let missed_all = missed.control + missed.candidate;
    let control_all = missed.control + valid.control;
    let candidate_all = missed.candidate + valid.candidate;
    let lowest = missed_all.saturating_sub(candidate_all);
    let highest = missed_all.min(control_all);

    // Weights relative to the observed table; x is the number of the control's missed scores.
    let (row, column, rest) =
        (control_all as f64, missed_all as f64, candidate_all as f64 - missed_all as f64);
    let up = |x: f64| (row - x) * (column - x) / ((x + 1.0) * (rest + x + 1.0));
    two_sided(missed.control, lowest, highest, up)
}

/// The exact two-sided p of counts this uneven, if each task had fallen to either arm by a fair coin, 0 to 1.
///
/// Counts are of scores that count. `None` where there are none.
#[must_use]
pub fn sample_ratio_p(counts: ByArm<u32>) -> Option<f64> {
    let counts = counts.map(u64::from);
    let all = counts.control + counts.candidate;
    let up = |x: f64| (all as f64 - x) / (x + 1.0);
    (all > 0).then(|| two_sided(counts.candidate, 0, all, up))
}

/// The weight of all values no likelier than `observed`, over the weight of all values.
///
/// `up(x)` is the weight of x + 1 over that of x, and falls as x grows: the distribution has one peak.
/// Weights are relative to the peak's, so that none overflows, and a walk ends where they vanish.
fn two_sided(observed: u64, lowest: u64, highest: u64, up: impl Fn(f64) -> f64) -> f64 {
    let peak = peak(lowest, highest, &up);
    let rising = walk(highest.saturating_sub(peak), |step| up((peak + step) as f64));
    let falling = walk(peak.saturating_sub(lowest), |step| up((peak - step - 1) as f64).recip());
    let weight_at = |weights: &[f64], distance: u64| match distance.checked_sub(1) {
        None => 1.0,
        Some(index) => {
            usize::try_from(index).ok().and_then(|index| weights.get(index).copied()).unwrap_or(0.0)
        }
    };
    let observed_weight = if observed >= peak {
        weight_at(&rising, observed - peak)
    } else {
        weight_at(&falling, peak - observed)
    };
    let limit = observed_weight * EQUALLY_LIKELY;
    // From the smallest up, so that the tails are not lost in the peak.
    let mut weights: Vec<f64> = rising.into_iter().chain(falling).chain([1.0]).collect();
    weights.sort_by(f64::total_cmp);
    let all: f64 = weights.iter().sum();
    let unlikely: f64 = weights.iter().filter(|&&weight| weight <= limit).sum();
    (unlikely / all).clamp(0.0, 1.0)
}

/// The likeliest value: the first whose successor is no likelier.
fn peak(lowest: u64, highest: u64, up: &impl Fn(f64) -> f64) -> u64 {
    let (mut low, mut high) = (lowest, highest);
    while low < high {
        let middle = low + (high - low) / 2;
        if up(middle as f64) > 1.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Running products of `ratio(0)`, `ratio(1)`, … until `steps` are done or the weight is nothing.
fn walk(steps: u64, ratio: impl Fn(u64) -> f64) -> Vec<f64> {
    let mut weights = Vec::new();
    let mut weight = 1.0;
    for step in 0..steps {
        weight *= ratio(step);
        if weight < f64::MIN_POSITIVE {
            break;
        }
        weights.push(weight);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(control: u32, candidate: u32) -> ByArm<u32> {
        ByArm { control, candidate }
    }

    #[test]
    fn nothing_missed_is_nothing_uneven() {
        assert_eq!(fisher_p(pair(0, 0), pair(10, 10)), 1.0);
        assert_eq!(fisher_p(pair(0, 0), pair(0, 0)), 1.0);
        assert_eq!(fisher_p(pair(3, 0), pair(7, 0)), 1.0);
        assert_eq!(sample_ratio_p(pair(0, 0)), None);
    }

    #[test]
    fn counts_beyond_any_test_are_answered_at_once() {
        let huge = u32::MAX;
        assert_eq!(fisher_p(pair(huge, 0), pair(10, 1000)), 0.0);
        assert_eq!(sample_ratio_p(pair(huge, huge)), Some(1.0));
        assert_eq!(sample_ratio_p(pair(huge, 0)), Some(0.0));
    }

    proptest! {
        #[test]
        fn a_p_is_a_probability_and_knows_no_favourite_arm(
            a in 0..200_u32, b in 0..200_u32, c in 0..200_u32, d in 0..200_u32,
        ) {
            let p = fisher_p(pair(a, b), pair(c, d));
            prop_assert!((0.0..=1.0).contains(&p), "{}", p);
            prop_assert!((p - fisher_p(pair(b, a), pair(d, c))).abs() < 1e-9);
            if let Some(p) = sample_ratio_p(pair(a, b)) {
                prop_assert!((0.0..=1.0).contains(&p), "{}", p);
                let mirrored = sample_ratio_p(pair(b, a)).unwrap();
                prop_assert!((p - mirrored).abs() < 1e-9);
            }
        }
    }
}
