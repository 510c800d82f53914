//! Exact permutation tests: how often would chance alone deal scores this good to the candidate?
//!
//! If the prompts do not differ, every way of dealing a block's scores to its two arms was equally likely. The
//! distribution of the candidate's sum over all these ways is computed exactly, by dynamic programming instead of
//! enumeration: ten against ten has 184,756 ways.

use crate::experiment::arm::ByArm;

/// The most steps of the dynamic programme before a test is called too large, about a third of a second.
/// A hundred scores of 0 to 1000 stay within it.
const STEPS_MAX: u128 = 300_000_000;
/// The largest sum, in steps of the scale, that gets a table: 32 MB of it.
const SUM_MAX: usize = 4_000_000;

/// Where the observed sum lies among all sums that chance could have dealt. Each is 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tails {
    /// One-sided p: the chance of a sum at least as large. Small speaks for the candidate.
    pub greater: f64,
    /// The chance of a larger sum.
    pub strict: f64,
    /// Half-way between the two, which is fair on average where sums tie often.
    pub mid: f64,
    /// The chance of a sum at most as large. Small speaks against the candidate.
    pub harm: f64,
}

/// The test of one sample, as though all scores had been dealt from a single block.
///
/// `None` where the scores are too many and too spread to be computed in a moment.
#[must_use]
pub fn unstratified(scores: &ByArm<Vec<u16>>) -> Option<Tails> {
    stratified(std::slice::from_ref(scores))
}

/// The test within the blocks that the arms were dealt in: a block's hard tasks are hard for both arms.
///
/// `None` where the scores are too many and too spread to be computed in a moment. Blocks with one arm empty
/// have only one way to be dealt, and say nothing; where all are so, every p is 1 but `strict`, which is 0.
#[must_use]
pub fn stratified(blocks: &[ByArm<Vec<u16>>]) -> Option<Tails> {
    let unit = blocks.iter().fold(0, |unit, block| common_step(block, unit));
    let mut steps_left = STEPS_MAX;
    let mut null = Null::certain();
    for block in blocks {
        let stratum = Null::of_block(&Offsets::new(block, unit.max(1)), &mut steps_left)?;
        null = null.plus(&stratum, &mut steps_left)?;
    }
    Some(null.tails())
}

/// The paired test: each task was done under both prompts, and `differences` are candidate minus control.
///
/// Under no effect each difference could as well have had the other sign. Zeros say nothing and are skipped.
/// `None` where the differences are too many and too large to be computed in a moment.
#[must_use]
pub fn sign_flip(differences: &[i32]) -> Option<Tails> {
    let unit =
        differences.iter().fold(0, |unit, difference| gcd(unit, difference.unsigned_abs())).max(1);
    let mut steps_left = STEPS_MAX;
    let mut null = Null::certain();
    for &difference in differences.iter().filter(|&&difference| difference != 0) {
        // The sum of the positive ones rises and falls with the sum of all.
        let size = usize::try_from(difference.unsigned_abs() / unit).ok()?;
        null = null.plus(&Null::flip(size, difference > 0), &mut steps_left)?;
    }
    Some(null.tails())
}

/// A distribution of the candidate's sum under no effect, and the sum that was observed.
struct Null {
    /// The possible sums, ascending, each with its probability.
    sums: Vec<(usize, f64)>,
    observed: usize,
}

impl Null {
    /// Nothing dealt yet: the sum is 0.
    fn certain() -> Self {
        Self { sums: vec![(0, 1.0)], observed: 0 }
    }

    /// One difference, whose positive part is `size` or nothing.
    fn flip(size: usize, positive: bool) -> Self {
        Self { sums: vec![(0, 0.5), (size, 0.5)], observed: if positive { size } else { 0 } }
    }

    /// All ways of dealing one block.
    ///
    /// Draws the scores one by one: `rows[k][s]` is the probability that `k` of those seen so far went to the drawn
    /// arm and sum to `s`. Score i goes there with probability (n - k) / (N - i), so all terms stay in 0 to 1.
    fn of_block(block: &Offsets, steps_left: &mut u128) -> Option<Self> {
        let drawn = block.drawn;
        let width = block.width()?;
        spend(steps_left, block.values.len().checked_mul(drawn)?, width)?;
        let mut rows = vec![vec![0.0_f64; width]; drawn + 1];
        if let Some(start) = rows.first_mut().and_then(|row| row.first_mut()) {
            *start = 1.0;
        }
        let mut reach = 0;
        for (seen, &value) in block.values.iter().enumerate() {
            let remaining = block.values.len() - seen;
            // Fewer than this, and the remaining scores could not fill the arm.
            let fewest = drawn.saturating_sub(remaining);
            for k in (fewest..drawn.min(seen + 1)).rev() {
                let share = (drawn - k) as f64 / remaining as f64;
                let (before, after) = rows.split_at_mut(k + 1);
                if let (Some(stay), Some(go)) = (before.last_mut(), after.first_mut()) {
                    let sources = stay.iter_mut().take(reach + 1);
                    for (source, target) in sources.zip(go.iter_mut().skip(value)) {
                        *target += *source * share;
                        *source *= 1.0 - share;
                    }
                }
            }
            reach = (reach + value).min(width - 1);
        }
        let last = rows.pop()?;
        Some(block.in_candidates_terms(last))
    }

    /// The sum of two independent ones.
    fn plus(&self, other: &Self, steps_left: &mut u128) -> Option<Self> {
        let highest = |null: &Self| null.sums.last().map_or(0, |&(sum, _)| sum);
        let width = highest(self).checked_add(highest(other))?.checked_add(1)?;
        spend(steps_left, self.sums.len(), other.sums.len())?;
        if width > SUM_MAX {
            return None;
        }
        spend(steps_left, width, 1)?;
        let mut dense = vec![0.0; width];
        for &(shift, weight) in &other.sums {
            for &(sum, probability) in &self.sums {
                if let Some(place) = dense.get_mut(sum + shift) {
                    *place += probability * weight;
                }
            }
        }
        Some(Self {
            sums: sparse(dense.into_iter().enumerate()),
            observed: self.observed + other.observed,
        })
    }

    fn tails(&self) -> Tails {
        let chance = |of: &dyn Fn(usize) -> bool| -> f64 {
            let sums = self.sums.iter().filter(|&&(sum, _)| of(sum));
            sums.map(|&(_, probability)| probability).sum::<f64>().clamp(0.0, 1.0)
        };
        let strict = chance(&|sum| sum > self.observed);
        let tie = chance(&|sum| sum == self.observed);
        let less = chance(&|sum| sum < self.observed);
        Tails {
            greater: (strict + tie).min(1.0),
            strict,
            mid: (strict + tie / 2.0).min(1.0),
            harm: (less + tie).min(1.0),
        }
    }
}

/// Drops what cannot happen.
fn sparse(sums: impl Iterator<Item = (usize, f64)>) -> Vec<(usize, f64)> {
    sums.filter(|&(_, probability)| probability > 0.0).collect()
}

/// A block's scores as steps above its lowest one, which keeps the tables small and changes no p.
struct Offsets {
    /// Control's and candidate's together; the order does not matter.
    values: Vec<usize>,
    /// How many are drawn: the size of the smaller arm.
    drawn: usize,
    candidate_is_drawn: bool,
    candidate_sum: usize,
}

impl Offsets {
    fn new(block: &ByArm<Vec<u16>>, unit: u32) -> Self {
        let lowest = u32::from(lowest(block));
        let steps = |scores: &[u16]| -> Vec<usize> {
            let above = scores.iter().map(|&score| (u32::from(score) - lowest) / unit);
            above.map(|steps| steps as usize).collect()
        };
        let control = steps(&block.control);
        let candidate = steps(&block.candidate);
        let (drawn, candidate_is_drawn) = if candidate.len() <= control.len() {
            (candidate.len(), true)
        } else {
            (control.len(), false)
        };
        Self {
            candidate_sum: candidate.iter().sum(),
            values: [control, candidate].concat(),
            drawn,
            candidate_is_drawn,
        }
    }

    /// One more than the largest sum that can be drawn.
    fn width(&self) -> Option<usize> {
        let mut descending = self.values.clone();
        descending.sort_unstable_by(|a, b| b.cmp(a));
        descending.iter().take(self.drawn).sum::<usize>().checked_add(1)
    }

    /// The candidate has what the control did not draw.
    fn in_candidates_terms(&self, drawn: Vec<f64>) -> Null {
        let total: usize = self.values.iter().sum();
        let sums = if self.candidate_is_drawn {
            sparse(drawn.into_iter().enumerate())
        } else {
            let drawn = drawn.into_iter().enumerate().rev();
            sparse(drawn.map(|(sum, probability)| (total.saturating_sub(sum), probability)))
        };
        Null { sums, observed: self.candidate_sum }
    }
}

fn lowest(block: &ByArm<Vec<u16>>) -> u16 {
    let scores = block.control.iter().chain(&block.candidate);
    scores.copied().min().unwrap_or(0)
}

/// The greatest step that `unit` and all distances within the block are multiples of; 0 if there are none.
fn common_step(block: &ByArm<Vec<u16>>, unit: u32) -> u32 {
    let lowest = u32::from(lowest(block));
    let scores = block.control.iter().chain(&block.candidate);
    scores.fold(unit, |unit, &score| gcd(unit, u32::from(score) - lowest))
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Takes `rows * columns` steps from what is left, or `None` where they do not suffice.
fn spend(steps_left: &mut u128, rows: usize, columns: usize) -> Option<()> {
    let steps = (rows as u128).checked_mul(columns as u128)?;
    *steps_left = steps_left.checked_sub(steps)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(control: &[u16], candidate: &[u16]) -> ByArm<Vec<u16>> {
        ByArm { control: control.to_vec(), candidate: candidate.to_vec() }
    }

    /// All candidate sums that the blocks could have been dealt, one for each way.
    fn every_deal(blocks: &[ByArm<Vec<u16>>]) -> Vec<u64> {
        blocks.iter().fold(vec![0], |sums, block| {
            let scores = [block.control.clone(), block.candidate.clone()].concat();
            let ways = (0_u32..1 << scores.len())
                .filter(|way| way.count_ones() as usize == block.candidate.len())
                .map(|way| {
                    let dealt = scores.iter().enumerate().filter(|(i, _)| way >> i & 1 == 1);
                    dealt.map(|(_, &score)| u64::from(score)).sum::<u64>()
                });
            let ways: Vec<u64> = ways.collect();
            let both = sums.iter().flat_map(|sum| ways.iter().map(move |way| sum + way));
            both.collect()
        })
    }

    fn any_block() -> impl Strategy<Value = ByArm<Vec<u16>>> {
        let scores = || proptest::collection::vec(0..=10_u16, 0..4);
        (scores(), scores()).prop_map(|(control, candidate)| ByArm { control, candidate })
    }

    proptest! {
        #[test]
        fn the_programme_agrees_with_dealing_every_way(
            blocks in proptest::collection::vec(any_block(), 0..4),
        ) {
            let deals = every_deal(&blocks);
            let observed: u64 =
                blocks.iter().flat_map(|b| &b.candidate).map(|&score| u64::from(score)).sum();
            let share = |of: &dyn Fn(u64) -> bool| {
                deals.iter().filter(|&&sum| of(sum)).count() as f64 / deals.len() as f64
            };
            let tails = stratified(&blocks).unwrap();
            let (greater, strict) = (share(&|sum| sum >= observed), share(&|sum| sum > observed));
            prop_assert!((tails.greater - greater).abs() < 1e-12);
            prop_assert!((tails.strict - strict).abs() < 1e-12);
            prop_assert!((tails.mid - f64::midpoint(greater, strict)).abs() < 1e-12);
            prop_assert!((tails.harm - share(&|sum| sum <= observed)).abs() < 1e-12);
        }

        #[test]
        fn every_tail_is_a_probability(
            control in proptest::collection::vec(any::<u16>(), 0..6),
            candidate in proptest::collection::vec(any::<u16>(), 0..6),
            differences in proptest::collection::vec(any::<i32>(), 0..4),
        ) {
            let all = [unstratified(&ByArm { control, candidate }), sign_flip(&differences)];
            for tails in all.into_iter().flatten() {
                for p in [tails.greater, tails.strict, tails.mid, tails.harm] {
                    prop_assert!((0.0..=1.0).contains(&p), "{tails:?}");
                }
            }
        }
    }

    #[test]
    fn scale_and_level_of_the_scores_change_nothing() {
        let plain = stratified(&[block(&[3, 5], &[4, 6]), block(&[1, 1], &[2, 0])]);
        let moved = stratified(&[block(&[30, 50], &[40, 60]), block(&[110, 110], &[120, 100])]);
        assert_eq!(plain, moved);
    }

    #[test]
    fn an_empty_arm_says_nothing() {
        for blocks in [vec![], vec![block(&[], &[7])], vec![block(&[7, 1], &[])]] {
            let tails = stratified(&blocks).unwrap();
            assert_eq!((tails.greater, tails.strict, tails.harm), (1.0, 0.0, 1.0));
        }
    }

    #[test]
    fn a_hundred_scores_up_to_a_thousand_are_not_too_many() {
        let control: Vec<u16> = (0..50).map(|i| i * 389 % 1001).collect();
        let candidate: Vec<u16> = (0..50).map(|i| (i * 617 + 100) % 1001).collect();
        assert!(unstratified(&ByArm { control, candidate }).is_some());
    }

    #[test]
    fn what_would_take_too_long_is_refused_at_once() {
        let scores: Vec<u16> = (0..3000).collect();
        assert_eq!(unstratified(&block(&scores, &scores)), None);
        assert_eq!(sign_flip(&[i32::MAX, i32::MIN, 7]), None);
    }
}
