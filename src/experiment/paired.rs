//! The paired guard: each task is done under both versions, so that hard tasks are hard for both.
//!
//! The rule is the same one. A pair is a block of one control and one candidate, in the gate's terms; dealing such a
//! block anew is flipping the sign of its difference, so the stratified p of these blocks is the sign-flip p.

use crate::experiment::arm::ByArm;
use crate::experiment::gate::{self, Decision, GateRules, Look};

/// The look at pairs: one block each. A task that lacks one of its two scores is no pair and leaves both out.
///
/// `missed` counts scores that the validator or infrastructure cost, as in every look.
#[must_use]
pub fn look(tasks: impl IntoIterator<Item = ByArm<Option<u16>>>, missed: ByArm<u32>) -> Look {
    let pair = |task: ByArm<Option<u16>>| {
        let (control, candidate) = task.control.zip(task.candidate)?;
        Some(ByArm { control: vec![control], candidate: vec![candidate] })
    };
    Look { blocks: tasks.into_iter().filter_map(pair).collect(), missed }
}

/// The verdict on pairs. `look` comes from [`look`]; blocks of another shape are left out.
#[must_use]
pub fn decide(rules: &GateRules, look: &Look) -> Decision {
    let pairs = look.blocks.iter().filter(|b| b.control.len() == 1 && b.candidate.len() == 1);
    gate::decide(rules, &Look { blocks: pairs.cloned().collect(), missed: look.missed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::gate::{Reason, Status};
    use crate::experiment::permutation::{sign_flip, stratified};
    use proptest::prelude::*;

    const RULES: GateRules =
        GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };

    fn pairs(scores: &[(u16, u16)]) -> Look {
        let task = |&(a, b): &(u16, u16)| ByArm { control: Some(a), candidate: Some(b) };
        look(scores.iter().map(task), ByArm::default())
    }

    #[test]
    fn the_rule_on_pairs_is_the_rule() {
        let exactly = pairs(&[[(7, 8); 14].as_slice(), &[(7, 7); 6]].concat());
        assert_eq!(decide(&RULES, &exactly).reason, Reason::NotImproved);
        let above = pairs(&[[(7, 8); 15].as_slice(), &[(7, 7); 5]].concat());
        assert_eq!(decide(&RULES, &above).status, Status::Adopted);
    }

    #[test]
    fn half_a_pair_counts_for_neither_arm() {
        let mut tasks = vec![ByArm { control: Some(7), candidate: Some(7) }; 10];
        tasks.extend([ByArm { control: None, candidate: Some(10) }; 10]);
        let look = look(tasks, ByArm { control: 10, candidate: 0 });
        assert_eq!(look.sums().candidate.count, 10);
        assert_eq!(decide(&RULES, &look).reason, Reason::UnevenMissingness);
    }

    #[test]
    fn a_control_of_zeros_is_beaten_only_beyond_chance() {
        let five = pairs(&[[(0, 3); 5].as_slice(), &[(0, 0); 15]].concat());
        assert_eq!(decide(&RULES, &five).reason, Reason::ZeroControlImproved, "p is 1/32");
        let four = pairs(&[[(0, 3); 4].as_slice(), &[(0, 0); 16]].concat());
        assert_eq!(decide(&RULES, &four).reason, Reason::ZeroControlNotProven, "p is 1/16");
    }

    proptest! {
        #[test]
        fn the_p_of_pairs_is_the_sign_flip_p(scores in proptest::collection::vec((0..=10_u16, 0..=10_u16), 0..20)) {
            let differences: Vec<i32> = scores.iter().map(|&(a, b)| i32::from(b) - i32::from(a)).collect();
            let flipped = sign_flip(&differences).unwrap();
            let dealt = stratified(&pairs(&scores).blocks).unwrap();
            prop_assert!((flipped.greater - dealt.greater).abs() < 1e-12);
            prop_assert!((flipped.mid - dealt.mid).abs() < 1e-12);
        }
    }
}
