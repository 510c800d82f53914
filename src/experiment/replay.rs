//! Replay: what each guard would have made of a test that was run under one of them.

use std::fmt;

use crate::experiment::arm::ByArm;
use crate::experiment::gate::{Decision, GateRules, Look, Status, Sum, decide};
use crate::experiment::probation::{self, ProbationRules, Ruling};
use crate::experiment::strict::{self, Step};
use crate::experiment::{Guard, paired};

/// A test as it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The counted scores of all its looks, in the order of their blocks.
    pub look: Look,
    /// The blocks of one look's deck; what is more was dealt for further looks.
    pub blocks_per_look: usize,
    /// True where each task has both versions.
    pub paired: bool,
    /// The scores of its probation, where there was one.
    pub probation: Option<ByArm<Sum>>,
}

/// What a guard would have made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// This verdict, for good.
    Decided(Decision),
    /// Adopted, and kept after its probation.
    Kept,
    /// Adopted, and taken back after its probation.
    RolledBack,
    /// It would have gone on to tasks that were never scored.
    NeedsMore,
    /// It needs another kind of test: pairs, or none.
    OtherTest,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(decision) => write!(f, "{}", decision.status),
            Self::Kept => f.write_str("adopted and kept"),
            Self::RolledBack => f.write_str("adopted, then put back"),
            Self::NeedsMore => f.write_str("wants more tasks"),
            Self::OtherTest => f.write_str("-"),
        }
    }
}

/// What `guard` would have made of the test, by its own rule on the same scores.
#[must_use]
pub fn replay(
    guard: Guard,
    gate: &GateRules,
    watched: &ProbationRules,
    recorded: &Recorded,
) -> Replayed {
    if recorded.paired != (guard == Guard::Paired) {
        return Replayed::OtherTest;
    }
    match guard {
        Guard::Paired => Replayed::Decided(paired::decide(gate, &recorded.look)),
        Guard::Off => Replayed::Decided(decide(gate, &upto(recorded, 1))),
        Guard::Probation => {
            let test = upto(recorded, 1);
            let decision = decide(gate, &test);
            match (decision.status, recorded.probation) {
                (Status::Adopted, None) => Replayed::NeedsMore,
                (Status::Adopted, Some(scores)) => {
                    match probation::ruling(watched, test.sums(), scores) {
                        Ruling::Keeps => Replayed::Kept,
                        Ruling::RollsBack => Replayed::RolledBack,
                        Ruling::Undecided => Replayed::NeedsMore,
                    }
                }
                _ => Replayed::Decided(decision),
            }
        }
        Guard::Strict => in_looks(gate, recorded),
    }
}

fn in_looks(gate: &GateRules, recorded: &Recorded) -> Replayed {
    for number in 1..=strict::LOOKS_MAX {
        if recorded.look.blocks.len() < blocks(recorded, number - 1) + 1 && number > 1 {
            break;
        }
        if let Step::Decided(decision) = strict::step(gate, number, &upto(recorded, number)) {
            return Replayed::Decided(decision);
        }
    }
    Replayed::NeedsMore
}

fn blocks(recorded: &Recorded, looks: u32) -> usize {
    recorded.blocks_per_look.max(1).saturating_mul(looks as usize)
}

/// The test as its first so many looks saw it. What went missing is known of the whole test only.
fn upto(recorded: &Recorded, looks: u32) -> Look {
    let blocks = recorded.look.blocks.iter().take(blocks(recorded, looks)).cloned().collect();
    Look { blocks, missed: recorded.look.missed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::gate::Reason;

    const GATE: GateRules =
        GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };
    const WATCHED: ProbationRules =
        ProbationRules { retain_basis_points: 500, scores_per_arm_min: 8 };

    fn recorded(looks: usize, control: [u16; 2], candidate: [u16; 2]) -> Recorded {
        let block = ByArm { control: control.to_vec(), candidate: candidate.to_vec() };
        let look = Look { blocks: vec![block; 5 * looks], missed: ByArm::default() };
        Recorded { look, blocks_per_look: 5, ..Recorded::default() }
    }

    fn told(recorded: &Recorded) -> [String; 4] {
        [Guard::Off, Guard::Probation, Guard::Strict, Guard::Paired]
            .map(|guard| replay(guard, &GATE, &WATCHED, recorded).to_string())
    }

    #[test]
    fn a_lucky_test_is_adopted_by_the_rule_and_asked_for_more_by_the_others() {
        let lucky = recorded(1, [5, 8], [7, 9]);
        assert_eq!(told(&lucky), ["adopted", "wants more tasks", "wants more tasks", "-"]);
    }

    #[test]
    fn a_probation_on_record_says_what_became_of_it() {
        let sums = |control, candidate| {
            Some(ByArm {
                control: Sum { total: control, count: 15 },
                candidate: Sum { total: candidate, count: 15 },
            })
        };
        let kept = Recorded { probation: sums(98, 120), ..recorded(1, [5, 8], [7, 9]) };
        assert_eq!(told(&kept)[1], "adopted and kept");
        let lost = Recorded { probation: sums(110, 90), ..kept };
        assert_eq!(told(&lost)[..2], ["adopted", "adopted, then put back"]);
    }

    #[test]
    fn a_longer_test_is_cut_to_its_first_look_but_for_the_strict_guard() {
        let mut long = recorded(2, [7, 7], [7, 8]);
        assert_eq!(told(&long), ["rejected", "rejected", "rejected", "-"]);
        for block in long.look.blocks.iter_mut().take(5) {
            block.control = vec![5, 8];
            block.candidate = vec![7, 9];
        }
        assert_eq!(told(&long)[0], "adopted");
        let strict = replay(Guard::Strict, &GATE, &WATCHED, &long);
        assert!(!matches!(
            strict,
            Replayed::Decided(Decision { reason: Reason::TooFewScores, .. })
        ));
    }

    #[test]
    fn pairs_are_judged_as_pairs_alone() {
        let pair = ByArm { control: vec![5], candidate: vec![7] };
        let look = Look { blocks: vec![pair; 20], missed: ByArm::default() };
        let pairs = Recorded { look, blocks_per_look: 5, paired: true, probation: None };
        assert_eq!(told(&pairs), ["-", "-", "-", "adopted"]);
    }
}
