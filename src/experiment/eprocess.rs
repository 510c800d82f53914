//! The e-process: evidence that may be looked at after every pair of scores.
//!
//! A gambler bets a fixed share of the stake on each difference between candidate and control. If the candidate
//! is no better, the expected stake never grows, so a large stake is evidence however often one looked
//! (Ville's inequality: it reaches 20 with a probability of at most 5%). Nine gamblers with nine shares are
//! averaged. After Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*,
//! arXiv 2010.09686.

use crate::experiment::arm::ByArm;

/// The shares of the stake that are bet.
const BETS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// A stake of this many times the first one raises the harm alarm.
const ALARM: f64 = 20.0;

/// The stakes of the nine gamblers, in natural logarithms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EProcess {
    log_stakes: [f64; BETS.len()],
}

impl EProcess {
    /// One more pair: `difference` is candidate minus control over the largest score, so -1 to 1.
    ///
    /// Whatever lies outside is cut to that range; what is no number is no news.
    pub fn observe(&mut self, difference: f64) {
        let difference = if difference.is_nan() { 0.0 } else { difference.clamp(-1.0, 1.0) };
        for (log_stake, bet) in self.log_stakes.iter_mut().zip(BETS) {
            *log_stake += (bet * difference).ln_1p();
        }
    }

    /// The stakes, in natural logarithms, to be stored.
    #[must_use]
    pub fn log_stakes(&self) -> &[f64] {
        &self.log_stakes
    }

    /// A process that goes on from stored stakes; `None` where they are not nine finite numbers.
    #[must_use]
    pub fn from_log_stakes(stored: &[f64]) -> Option<Self> {
        let log_stakes: [f64; BETS.len()] = stored.try_into().ok()?;
        log_stakes.iter().all(|stake| stake.is_finite()).then_some(Self { log_stakes })
    }

    /// Natural logarithm of the mean stake: the evidence so far, 0 at the start.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        let highest = self.log_stakes.iter().copied().fold(f64::MIN, f64::max);
        let shares: f64 = self.log_stakes.iter().map(|log| (log - highest).exp()).sum();
        highest + (shares / BETS.len() as f64).ln()
    }
}

/// Evidence that the candidate is better: the log of the e-value after all pairs, block by block.
///
/// The k-th control and the k-th candidate of a block are a pair; who is left over has none. `None` without a pair.
#[must_use]
pub fn log_e_benefit(blocks: &[ByArm<Vec<u16>>], score_max: u16) -> Option<f64> {
    log_e(blocks, score_max, 1.0)
}

/// Evidence that the candidate is worse, by the same bets on the opposite outcome.
#[must_use]
pub fn log_e_harm(blocks: &[ByArm<Vec<u16>>], score_max: u16) -> Option<f64> {
    log_e(blocks, score_max, -1.0)
}

/// Whether evidence of harm is strong enough to tell a person before the test is over.
#[must_use]
pub fn is_alarm(log_e_harm: f64) -> bool {
    log_e_harm >= ALARM.ln()
}

fn log_e(blocks: &[ByArm<Vec<u16>>], score_max: u16, sign: f64) -> Option<f64> {
    if score_max == 0 {
        return None;
    }
    let mut process = EProcess::default();
    let mut pairs =
        blocks.iter().flat_map(|block| block.control.iter().zip(&block.candidate)).peekable();
    pairs.peek()?;
    for (&control, &candidate) in pairs {
        let points = f64::from(candidate) - f64::from(control);
        process.observe(sign * points / f64::from(score_max));
    }
    Some(process.log_e())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(pairs: &[(u16, u16)]) -> Vec<ByArm<Vec<u16>>> {
        pairs
            .iter()
            .map(|&(control, candidate)| ByArm {
                control: vec![control],
                candidate: vec![candidate],
            })
            .collect()
    }

    #[test]
    fn a_candidate_that_is_far_worse_raises_the_alarm_and_shows_no_benefit() {
        let worse = blocks(&[(9, 2); 10]);
        assert!(is_alarm(log_e_harm(&worse, 10).unwrap()));
        assert!(log_e_benefit(&worse, 10).unwrap() < 0.0);
        let even = blocks(&[(7, 7), (6, 8), (8, 6)]);
        assert!(!is_alarm(log_e_harm(&even, 10).unwrap()));
    }

    #[test]
    fn the_alarm_rings_at_twenty_to_one() {
        assert!(is_alarm(20.0_f64.ln()));
        assert!(!is_alarm(19.999_f64.ln()));
    }

    #[test]
    fn a_score_without_a_partner_is_no_bet() {
        let lone = [ByArm { control: vec![], candidate: vec![9] }];
        assert_eq!(log_e_benefit(&lone, 10), None);
        assert_eq!(log_e_benefit(&blocks(&[(1, 2)]), 0), None);
    }

    #[test]
    fn scores_beyond_the_scale_give_a_number() {
        let beyond = blocks(&[(u16::MAX, 0); 2000]);
        assert!(log_e_benefit(&beyond, 10).unwrap().is_finite());
        assert!(log_e_harm(&beyond, 10).unwrap().is_finite());
        let mut process = EProcess::default();
        process.observe(f64::NAN);
        assert_eq!(process.log_e(), 0.0);
    }
}
