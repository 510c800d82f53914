//! The adoption gate of the model.

use super::{BLOCK, Slot, Test, Verdict};

/// With fewer scores in an arm, nothing is decided.
const SCORES_MIN: usize = 8;

/// The adoption gate, from the rule's own words and in integers.
pub fn gate(test: &Test) -> Verdict {
    let of = |candidate: bool| -> Vec<i64> {
        let slots = test.slots.iter().filter(|slot| slot.is_candidate == candidate);
        slots.filter_map(|slot| slot.counted).collect()
    };
    let (old, new) = (of(false), of(true));
    if old.len().min(new.len()) < SCORES_MIN || unevenly_missed(test.missed, &old, &new) {
        return Verdict::Inconclusive;
    }
    let (old_sum, new_sum) = (old.iter().sum::<i64>(), new.iter().sum::<i64>());
    let all_equal = old.iter().chain(&new).all(|score| *score == old[0]);
    if all_equal {
        return Verdict::Rejected;
    }
    let is_adopted = if old_sum == 0 {
        is_beyond_chance(test)
    } else {
        let (old_n, new_n) = (as_i64(old.len()), as_i64(new.len()));
        new_sum * old_n * 10_000 > old_sum * new_n * 11_000
    };
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
