//! The adoption gate of the model.

use std::fmt;
use std::ops::AddAssign;

use super::{BLOCK, Lie, Slot, Test, Verdict};

/// With fewer scores in an arm, nothing is decided.
const SCORES_MIN: usize = 8;

/// What a gate was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    pub adopted: u32,
    /// The new version scored no better.
    pub no_better: u32,
    /// The new version scored better, and by less than 10%.
    pub short: u32,
    /// It scored better by exactly 10%.
    pub to_a_hair: u32,
    pub inconclusive: u32,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.adopted += other.adopted;
        self.no_better += other.no_better;
        self.short += other.short;
        self.to_a_hair += other.to_a_hair;
        self.inconclusive += other.inconclusive;
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { adopted, no_better, short, to_a_hair, inconclusive } = self;
        let rejected = no_better + short + to_a_hair;
        write!(
            f,
            "looks {}: adopted {adopted}, rejected {rejected} ({short} of them with a gain below 10%, {to_a_hair} of \
             exactly 10%), inconclusive {inconclusive}",
            adopted + rejected + inconclusive
        )
    }
}

/// The adoption gate, from the rule's own words and in integers.
pub fn gate(test: &Test, lie: Option<Lie>, met: &mut Met) -> Verdict {
    let of = |candidate: bool| -> Vec<i64> {
        let slots = test.slots.iter().filter(|slot| slot.is_candidate == candidate);
        slots.filter_map(|slot| slot.counted).collect()
    };
    let (old, new) = (of(false), of(true));
    if old.len().min(new.len()) < SCORES_MIN || unevenly_missed(test.missed, &old, &new) {
        met.inconclusive += 1;
        return Verdict::Inconclusive;
    }
    let (old_sum, new_sum) = (old.iter().sum::<i64>(), new.iter().sum::<i64>());
    let all_equal = old.iter().chain(&new).all(|score| *score == old[0]);
    if all_equal {
        met.no_better += 1;
        return Verdict::Rejected;
    }
    let (old_n, new_n) = (as_i64(old.len()), as_i64(new.len()));
    let (reached, asked) = (new_sum * old_n * 10_000, old_sum * new_n * 11_000);
    let any_gain = reached * 11 > asked * 10;
    let is_adopted = match lie {
        _ if old_sum == 0 => is_beyond_chance(test),
        Some(Lie::AnyGainIsAdopted) => any_gain,
        Some(Lie::TheThresholdIsEnough) => reached >= asked,
        _ => reached > asked,
    };
    let seen = match () {
        () if is_adopted => &mut met.adopted,
        () if reached == asked => &mut met.to_a_hair,
        () if any_gain => &mut met.short,
        () => &mut met.no_better,
    };
    *seen += 1;
    if is_adopted { Verdict::Adopted } else { Verdict::Rejected }
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Fisher's exact test, two-sided: p < 0.05 for scores that one arm went without rather than the other.
fn unevenly_missed(missed: [u64; 2], old: &[i64], new: &[i64]) -> bool {
    let (old_n, new_n) = (old.len() as u64 + missed[0], new.len() as u64 + missed[1]);
    let all_missed = missed[0] + missed[1];
    let ways = |of_old: u64| choose(old_n, of_old) * choose(new_n, all_missed - of_old);
    let seen = ways(missed[0]);
    let total = choose(old_n + new_n, all_missed);
    let as_rare: u128 = (0..=all_missed).map(ways).filter(|ways| *ways <= seen).sum();
    as_rare * 20 < total
}

/// Where the old version scored nothing but zeros: the chance that all of the new one's scores above zero fell to it,
/// block by block, is at most one in twenty.
fn is_beyond_chance(test: &Test) -> bool {
    let (mut favourable, mut all) = (1_u128, 1_u128);
    for block in test.slots.chunks(BLOCK) {
        let scored: Vec<&Slot> = block.iter().filter(|slot| slot.counted.is_some()).collect();
        let new = scored.iter().filter(|slot| slot.is_candidate).count() as u64;
        let above = scored.iter().filter(|slot| slot.counted > Some(0)).count() as u64;
        let scored = scored.len() as u64;
        favourable *= choose(scored - above, new - above);
        all *= choose(scored, new);
    }
    favourable * 20 <= all
}

fn choose(n: u64, k: u64) -> u128 {
    if k > n {
        return 0;
    }
    (0..u128::from(k)).fold(1, |ways, i| ways * (u128::from(n) - i) / (i + 1))
}
