//! The likely true gain, as against the raw one.
//!
//! An adopted prompt shows +20.7% on average where its true effect is +5.0%: it was adopted because it was
//! lucky as well as good. A normal prior around no effect, whose spread is that of prompts tried in practice,
//! pulls the raw improvement back towards what is likely.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::experiment::arm::ByArm;

/// Standard deviation of the true effects of new prompts, as a ratio: most change the mean by less than 8%.
const PRIOR_SD: f64 = 0.08;
/// The least variance that an arm's scores are credited with, in squared points: ten equal scores are not certainty.
const VARIANCE_MIN: f64 = 0.25;
/// Standard deviations on each side of a central 95% interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// A range of ratios: 0.05 is +5%.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What is believed of the true improvement after the test. All are ratios: 0.05 is +5%.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posterior {
    /// Standard error of the raw improvement (delta method).
    pub standard_error: f64,
    /// Share of the raw improvement that is kept, 0 to 1.
    pub weight: f64,
    /// The likely true improvement.
    pub mean: f64,
    /// Standard deviation around it.
    pub sd: f64,
}

impl Posterior {
    /// The posterior from all scores of both arms.
    ///
    /// `None` where an arm has fewer than two scores, so no variance, or the control's mean is 0, so no ratio.
    #[must_use]
    pub fn of(scores: &ByArm<Vec<u16>>) -> Option<Self> {
        let control = Moments::of(&scores.control)?;
        let candidate = Moments::of(&scores.candidate)?;
        if control.mean <= 0.0 {
            return None;
        }
        let ratio = candidate.mean / control.mean;
        let squared_error = (candidate.squared_error + ratio * ratio * control.squared_error)
            / (control.mean * control.mean);
        let prior = PRIOR_SD * PRIOR_SD;
        let weight = prior / (prior + squared_error);
        Some(Self {
            standard_error: squared_error.sqrt(),
            weight,
            mean: weight * (ratio - 1.0),
            sd: (weight * squared_error).sqrt(),
        })
    }

    /// The central 95% interval.
    #[must_use]
    pub fn interval_95(&self) -> Interval {
        Interval { low: self.mean - Z_95 * self.sd, high: self.mean + Z_95 * self.sd }
    }

    /// The probability that the true improvement is above `improvement`, 0 to 1; above 0 means simply better.
    #[must_use]
    pub fn p_above(&self, improvement: f64) -> f64 {
        normal_cdf((self.mean - improvement) / self.sd)
    }
}

struct Moments {
    mean: f64,
    /// Squared standard error of the mean.
    squared_error: f64,
}

impl Moments {
    fn of(scores: &[u16]) -> Option<Self> {
        if scores.len() < 2 {
            return None;
        }
        let count = scores.len() as f64;
        let mean = scores.iter().copied().map(f64::from).sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|&score| (f64::from(score) - mean).powi(2)).sum();
        let variance = (squares / (count - 1.0)).max(VARIANCE_MIN);
        Some(Self { mean, squared_error: variance / count })
    }
}

/// The standard normal distribution function, accurate in both tails.
fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tails_are_those_of_the_tables() {
        for (z, expected) in
            [(0.0, 0.5), (Z_95, 0.975), (-Z_95, 0.025), (-5.0, 2.866_515_718_791_946e-7)]
        {
            assert!((normal_cdf(z) - expected).abs() < 1e-12, "{z}");
        }
    }

    #[test]
    fn one_score_or_a_control_of_zeros_has_no_posterior() {
        let posterior = |control: &[u16], candidate: &[u16]| {
            Posterior::of(&ByArm { control: control.to_vec(), candidate: candidate.to_vec() })
        };
        assert_eq!(posterior(&[], &[]), None);
        assert_eq!(posterior(&[7], &[8, 8]), None);
        assert_eq!(posterior(&[0, 0], &[8, 8]), None);
        assert!(posterior(&[7, 7], &[0, 0]).is_some());
    }
}
