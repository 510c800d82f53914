//! A lower bound of a mean that holds at every moment at once, so that one may look as often as one likes.
//!
//! The predictable plug-in empirical-Bernstein bound of Waudby-Smith and Ramdas, *Estimating means of bounded random
//! variables by betting*, arXiv 2010.09686, theorem 2, as `confseq` computes it: bets cut at one half, one pretended
//! observation of mean 1/2 and variance 1/4.

/// The largest bet.
const BET_MAX: f64 = 0.5;
const PRETENDED_MEAN: f64 = 0.5;
const PRETENDED_VARIANCE: f64 = 0.25;

/// The bound after each observation. Observations are 0 to 1, `alpha` is the chance that the bound ever fails.
///
/// Observations outside are cut to the range; without a sensible `alpha` (between 0 and 1) every bound is 0.
#[must_use]
pub fn lower_bounds(observations: &[f64], alpha: f64) -> Vec<f64> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return vec![0.0; observations.len()];
    }
    let cost = (1.0 / alpha).ln();
    let mut state = State { variance: PRETENDED_VARIANCE, ..State::default() };
    observations.iter().map(|&it| state.observe(it.clamp(0.0, 1.0), cost)).collect()
}

#[derive(Default)]
struct State {
    count: f64,
    sum: f64,
    /// Squared distances from the means of their time.
    squares: f64,
    /// Of everything before the current observation.
    variance: f64,
    bets: f64,
    weighted: f64,
    spread: f64,
}

impl State {
    fn observe(&mut self, x: f64, cost: f64) -> f64 {
        let mean_before = if self.count > 0.0 { self.sum / self.count } else { 0.0 };
        self.count += 1.0;
        let n = self.count;
        let bet = (2.0 * cost / (self.variance * n * n.ln_1p())).sqrt().min(BET_MAX);
        self.spread += (x - mean_before).powi(2) * (-(-bet).ln_1p() - bet);
        self.bets += bet;
        self.weighted += bet * x;
        self.sum += x;
        let mean = (PRETENDED_MEAN + self.sum) / (n + 1.0);
        self.squares += (x - mean).powi(2);
        self.variance = (PRETENDED_VARIANCE + self.squares) / (n + 1.0);
        ((self.weighted - cost - self.spread) / self.bets).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_the_same_brings_the_bound_closer_and_nonsense_brings_none() {
        let bounds = lower_bounds(&[0.8; 200], 0.05);
        assert!(bounds.last().is_some_and(|&last| (0.7..0.8).contains(&last)), "{bounds:?}");
        assert_eq!(lower_bounds(&[0.8, 0.9], 0.0), [0.0, 0.0]);
        assert_eq!(lower_bounds(&[], 0.05), [0.0_f64; 0]);
        assert!(lower_bounds(&[f64::INFINITY; 50], 0.05).iter().all(|bound| *bound <= 1.0));
    }
}
