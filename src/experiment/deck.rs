//! The deck: which arm the first, second, … task of a test gets.
//!
//! Arms are dealt in permuted blocks, so that both arms meet the same stretch of time: under a step of three
//! points in task difficulty, a no-better prompt passes 28% of the time with coin flips and 24% with blocks of 4.
//! A deck is stored whole when it is dealt and read back from there ever after. So a later release of `rand`
//! may shuffle a seed differently without changing any running test.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::experiment::arm::Arm;

/// The most tasks that an arm may have.
pub const PER_ARM_MAX: u32 = 1000;

/// How many tasks a test takes, and how finely its arms are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeckRules {
    /// Tasks for each arm, 1 to [`PER_ARM_MAX`].
    pub per_arm: u32,
    /// Tasks in a block, half of them for each arm: even, 2 to `2 * per_arm`.
    pub block: u32,
}

impl DeckRules {
    /// Whether a deck can be dealt by these rules.
    ///
    /// # Errors
    /// The first rule that is broken, with its value and what would be right.
    pub fn check(&self) -> Result<(), DeckError> {
        let &Self { per_arm, block } = self;
        if !(1..=PER_ARM_MAX).contains(&per_arm) {
            return Err(DeckError::PerArm { per_arm });
        }
        if !block.is_multiple_of(2) {
            return Err(DeckError::OddBlock { block });
        }
        let block_max = 2 * per_arm;
        if !(2..=block_max).contains(&block) {
            return Err(DeckError::Block { block, block_max });
        }
        Ok(())
    }
}

/// Rules that no deck can be dealt by. Nothing has been dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeckError {
    /// Too few or too many tasks for each arm.
    #[error("per_arm = {per_arm}: a test needs 1 to {PER_ARM_MAX} tasks for each arm")]
    PerArm {
        /// The value that was refused.
        per_arm: u32,
    },
    /// A block that cannot be halved.
    #[error(
        "block = {block}: a block is half control and half candidate, so its size must be even"
    )]
    OddBlock {
        /// The value that was refused.
        block: u32,
    },
    /// A block that is empty or larger than the deck.
    #[error("block = {block}: a block has 2 to {block_max} tasks, which is twice per_arm")]
    Block {
        /// The value that was refused.
        block: u32,
        /// The largest block that would fit.
        block_max: u32,
    },
}

/// One place in a deck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Position in the deck, from 1.
    pub number: u32,
    /// The block that it belongs to, from 1.
    pub block: u32,
    /// The arm that the holder of this slot gets.
    pub arm: Arm,
}

/// A shuffled deck: every block exactly half control and half candidate.
///
/// Where the deck is no multiple of the block, the last block is smaller: 30 tasks are 7 blocks of 4 and one of 2.
/// The same rules and seed give the same deck within one release of `rand`; store it, do not deal it again.
/// Rules that [`DeckRules::check`] refuses give an empty deck.
#[must_use]
pub fn shuffle(rules: &DeckRules, seed: u64) -> Vec<Slot> {
    if rules.check().is_err() {
        return Vec::new();
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut slots = Vec::new();
    let mut remaining = 2 * rules.per_arm;
    let mut number = 0;
    let mut block = 0;
    while remaining > 0 {
        let size = rules.block.min(remaining);
        let mut arms: Vec<Arm> = (0..size / 2).flat_map(|_| Arm::ALL).collect();
        arms.shuffle(&mut rng);
        block += 1;
        for arm in arms {
            number += 1;
            slots.push(Slot { number, block, arm });
        }
        remaining -= size;
    }
    slots
}

/// Further slots for a deck that ends with `last`, numbered on from it, in blocks of their own.
///
/// `seed` must differ from the earlier parts', or the same orders come again. As [`shuffle`] otherwise.
#[must_use]
pub fn lengthen(last: Slot, rules: &DeckRules, seed: u64) -> Vec<Slot> {
    let mut slots = shuffle(rules, seed);
    for slot in &mut slots {
        slot.number = slot.number.saturating_add(last.number);
        slot.block = slot.block.saturating_add(last.block);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn rules(per_arm: u32, block: u32) -> DeckRules {
        DeckRules { per_arm, block }
    }

    fn any_rules() -> impl Strategy<Value = DeckRules> {
        (1..=PER_ARM_MAX)
            .prop_flat_map(|per_arm| (1..=per_arm).prop_map(move |half| rules(per_arm, 2 * half)))
    }

    proptest! {
        #[test]
        fn every_block_is_exactly_half_and_half(rules in any_rules(), seed: u64) {
            let deck = shuffle(&rules, seed);
            prop_assert_eq!(deck.len(), 2 * rules.per_arm as usize);
            for (block, slots) in (1..).zip(deck.chunks(rules.block as usize)) {
                let candidates = slots.iter().filter(|slot| slot.arm == Arm::Candidate).count();
                prop_assert_eq!(candidates * 2, slots.len());
                prop_assert!(slots.iter().all(|slot| slot.block == block));
            }
            prop_assert!((1..).zip(&deck).all(|(number, slot)| slot.number == number));
            prop_assert_eq!(shuffle(&rules, seed), deck);
        }

        #[test]
        fn any_rules_at_all_are_dealt_or_refused(per_arm: u32, block: u32, seed: u64) {
            let rules = rules(per_arm, block);
            prop_assert_eq!(shuffle(&rules, seed).is_empty(), rules.check().is_err());
        }
    }

    #[test]
    fn thirty_tasks_are_seven_blocks_of_four_and_one_of_two() {
        let deck = shuffle(&rules(15, 4), 1);
        let sizes: Vec<usize> =
            (1..=8).map(|block| deck.iter().filter(|slot| slot.block == block).count()).collect();
        assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 4, 2]);
    }

    #[test]
    fn a_lengthened_deck_counts_on_in_new_blocks() {
        let test = rules(10, 4);
        let first = shuffle(&test, 1);
        let more = lengthen(*first.last().unwrap(), &test, 2);
        let ends = |slots: &[Slot]| {
            let (first, last) = (slots.first().unwrap(), slots.last().unwrap());
            [(first.number, first.block), (last.number, last.block)]
        };
        assert_eq!(ends(&first), [(1, 1), (20, 5)]);
        assert_eq!(ends(&more), [(21, 6), (40, 10)]);
    }

    #[test]
    fn each_of_the_six_orders_of_a_block_comes_up_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let arms: Vec<Arm> = shuffle(&rules(2, 4), seed).iter().map(|s| s.arm).collect();
            *counts.entry(arms).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_blocks_of_one_deck_differ_from_each_other() {
        let deck = shuffle(&rules(100, 4), 7);
        let orders: BTreeSet<Vec<Arm>> =
            deck.chunks(4).map(|block| block.iter().map(|slot| slot.arm).collect()).collect();
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn impossible_rules_say_what_would_be_right() {
        let said = |per_arm, block| rules(per_arm, block).check().unwrap_err().to_string();
        insta::assert_snapshot!(said(0, 2), @"per_arm = 0: a test needs 1 to 1000 tasks for each arm");
        insta::assert_snapshot!(said(1001, 4), @"per_arm = 1001: a test needs 1 to 1000 tasks for each arm");
        insta::assert_snapshot!(said(10, 3), @"block = 3: a block is half control and half candidate, so its size must be even");
        insta::assert_snapshot!(said(10, 22), @"block = 22: a block has 2 to 20 tasks, which is twice per_arm");
        insta::assert_snapshot!(said(10, 0), @"block = 0: a block has 2 to 20 tasks, which is twice per_arm");
        assert_eq!(rules(10, 4).check(), Ok(()));
        assert_eq!(rules(1, 2).check(), Ok(()));
    }
}
