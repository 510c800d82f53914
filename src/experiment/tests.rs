//! What the gate does at its edges, and what must hold of every test whatever its scores.

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;

use crate::experiment::evidence::Evidence;
use crate::experiment::gate::{Decision, GateRules, Look, Reason, Status, Sum, decide, exceeds};
use crate::experiment::{ByArm, permutation};

const RULES: GateRules =
    GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };

fn one_block(block: ByArm<Vec<u16>>) -> Look {
    Look { blocks: vec![block], missed: ByArm::default() }
}

fn decided(look: &Look) -> (Status, Reason) {
    let Decision { status, reason } = decide(&RULES, look);
    (status, reason)
}

fn ten_each(control: &[u16], candidate: &[u16]) -> Look {
    one_block(ByArm { control: control.to_vec(), candidate: candidate.to_vec() })
}

#[test]
fn guards_come_before_the_rule_in_their_order() {
    let good = [9; 10];
    let short = ten_each(&[5; 7], &good);
    assert_eq!(decided(&short), (Status::Inconclusive, Reason::TooFewScores));

    let mut uneven = ten_each(&[5; 10], &good);
    uneven.missed.control = 6;
    assert_eq!(decided(&uneven), (Status::Adopted, Reason::Improved), "p is .055");
    uneven.missed.control = 7;
    assert_eq!(decided(&uneven), (Status::Inconclusive, Reason::UnevenMissingness));
    uneven.missed.candidate = 7;
    assert_eq!(decided(&uneven), (Status::Adopted, Reason::Improved));

    let same = ten_each(&[9; 10], &good);
    assert_eq!(decided(&same), (Status::Rejected, Reason::AllEqual));
    let nothing = ten_each(&[0; 10], &[0; 10]);
    assert_eq!(decided(&nothing), (Status::Rejected, Reason::AllZero));
}

#[test]
fn no_scores_are_too_few_even_where_none_are_asked_for() {
    let rules = GateRules { scores_per_arm_min: 0, ..RULES };
    let reason = decide(&rules, &Look::default()).reason;
    assert_eq!(reason, Reason::TooFewScores);
}

#[test]
fn a_control_of_zeros_is_beaten_only_beyond_chance() {
    let rules = GateRules { scores_per_arm_min: 3, ..RULES };
    // Three against three: all three scoring is one deal in twenty, which is exactly .05.
    let proven = ten_each(&[0; 3], &[1, 1, 1]);
    assert_eq!(decide(&rules, &proven).reason, Reason::ZeroControlImproved);
    let unproven = ten_each(&[0; 3], &[1, 1, 0]);
    assert_eq!(decide(&rules, &unproven).reason, Reason::ZeroControlNotProven);
    // In one block of ten and ten, four scores are p = .043; one to a block of four, four are p = 1/16.
    let pooled = ten_each(&[0; 10], &[5, 0, 5, 0, 5, 0, 5, 0, 0, 0]);
    assert_eq!(decided(&pooled).1, Reason::ZeroControlImproved);
    let block = |score| ByArm { control: vec![0, 0], candidate: vec![score, 0] };
    let blocked = Look { blocks: [5, 5, 5, 5, 0].map(block).to_vec(), missed: ByArm::default() };
    assert_eq!(decided(&blocked).1, Reason::ZeroControlNotProven);
}

#[test]
fn sums_as_large_as_their_type_are_compared_exactly() {
    let sum = |total, count| Sum { total, count };
    let most = sum(u64::MAX, u64::MAX);
    assert!(!exceeds(most, most, 0));
    assert!(exceeds(sum(u64::MAX - 1, u64::MAX), most, 0));
    assert!(!exceeds(most, most, u32::MAX));
}

#[test]
fn every_status_and_reason_is_stored_and_sent_under_one_name() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    assert!("adopt".parse::<Status>().is_err());
}

fn any_look(scores_in_block_max: usize, score_max: u16) -> impl Strategy<Value = Look> {
    let scores = move || vec_of(0..=score_max, 0..=scores_in_block_max);
    let block = (scores(), scores()).prop_map(|(control, candidate)| ByArm { control, candidate });
    let missed = prop_oneof![
        Just((0, 0)).boxed(),
        (0..10_u32, 0..10_u32).boxed(),
        any::<(u32, u32)>().boxed()
    ];
    (vec_of(block, 0..5), missed).prop_map(|(blocks, (control, candidate))| Look {
        blocks,
        missed: ByArm { control, candidate },
    })
}

/// A test that only the rule decides: ten and ten, and the control scores something.
fn plain_look() -> impl Strategy<Value = Look> {
    let scores = || vec_of(0..=10_u16, 10);
    (scores(), scores()).prop_map(|(control, candidate)| ten_each(&control, &candidate))
}

/// The rule by whole and remainder of the two means, in lowest terms, without one common product.
fn exceeds_by_division(control: Sum, candidate: Sum, basis_points: u32) -> bool {
    let mut left = (u128::from(candidate.total) * 10_000, u128::from(candidate.count));
    let mut right = (
        u128::from(control.total) * u128::from(10_000 + u64::from(basis_points)),
        u128::from(control.count),
    );
    loop {
        let (whole_left, whole_right) = (left.0 / left.1, right.0 / right.1);
        if whole_left != whole_right {
            return whole_left > whole_right;
        }
        let (rest_left, rest_right) = (left.0 % left.1, right.0 % right.1);
        if rest_left == 0 || rest_right == 0 {
            return rest_left > rest_right;
        }
        // a/b > c/d where both are below 1 is d/c > b/a.
        (left, right) = ((right.1, rest_right), (left.1, rest_left));
    }
}

fn any_sum() -> impl Strategy<Value = Sum> {
    let small = (0..=100_u64, 1..=10_u64);
    let large = (any::<u64>(), 1..=u64::MAX);
    prop_oneof![small.boxed(), large.boxed()].prop_map(|(total, count)| Sum { total, count })
}

/// The literal rule as it is written, on whole numbers of any size: (new - old) / old > 10%, both being averages.
fn literal_rule(control: &[u16], candidate: &[u16], basis_points: u32) -> bool {
    let average = |scores: &[u16]| {
        let sum = scores.iter().fold(BigInt::from(0), |sum, &score| sum + BigInt::from(score));
        BigRational::new(sum, BigInt::from(scores.len()))
    };
    let (old, new) = (average(control), average(candidate));
    let threshold = BigRational::new(BigInt::from(basis_points), BigInt::from(10_000));
    (new - &old) / old > threshold
}

/// n over k.
fn choose(n: usize, k: usize) -> BigInt {
    if k > n {
        return BigInt::from(0);
    }
    (0..k).fold(BigInt::from(1), |product, step| product * (n - step) / (step + 1))
}

fn one_in_twenty() -> BigRational {
    BigRational::new(BigInt::from(1), BigInt::from(20))
}

/// Fisher's exact two-sided p, as a fraction: of all tables with these margins, those no likelier than this one.
fn fisher(missed: ByArm<usize>, valid: ByArm<usize>) -> BigRational {
    let all = missed.control + missed.candidate;
    let (control, candidate) = (missed.control + valid.control, missed.candidate + valid.candidate);
    let weight = |in_control: usize| {
        let in_candidate = all.checked_sub(in_control);
        in_candidate.map(|rest| choose(control, in_control) * choose(candidate, rest))
    };
    let weights: Vec<BigInt> = (0..=all).filter_map(weight).collect();
    let observed = weight(missed.control).unwrap();
    let unlikely: BigInt = weights.iter().filter(|weight| **weight <= observed).sum();
    BigRational::new(unlikely, weights.iter().sum())
}

/// What `off` has to decide, in whole numbers of any size throughout.
fn decided_by_rationals(
    control: &[u16],
    candidate: &[u16],
    missed: ByArm<usize>,
    basis_points: u32,
) -> Status {
    let sizes = ByArm { control: control.len(), candidate: candidate.len() };
    if sizes.control < 8 || sizes.candidate < 8 || fisher(missed, sizes) < one_in_twenty() {
        return Status::Inconclusive;
    }
    let all_equal = control.iter().chain(candidate).all(|score| *score == control[0]);
    let adopts = if control.iter().all(|&score| score == 0) {
        // Chance alone deals the candidate this sum or more only where it deals it every score above zero.
        let above = candidate.iter().filter(|&&score| score > 0).count();
        let (all, dealt) = (sizes.control + sizes.candidate, sizes.candidate);
        let p = BigRational::new(choose(all - above, dealt - above), choose(all, dealt));
        p <= one_in_twenty()
    } else {
        literal_rule(control, candidate, basis_points)
    };
    if adopts && !all_equal { Status::Adopted } else { Status::Rejected }
}

/// Up to twenty scores, at times nothing but zeros, or so few that a deal is undecided.
fn an_arm() -> impl Strategy<Value = Vec<u16>> {
    let scores = vec_of(0..=10_u16, 0..=20);
    let mostly_zeros = vec_of(prop_oneof![4 => Just(0_u16), 1 => 1..=10_u16], 6..=16);
    let zeros = (6..=16_usize).prop_map(|number| vec![0; number]);
    prop_oneof![6 => scores.boxed(), 2 => mostly_zeros.boxed(), 1 => zeros.boxed()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn off_decides_by_rationals_whatever_the_scores_the_sizes_and_what_is_missing(
        control in an_arm(), candidate in an_arm(),
        missed in (0..=12_usize, 0..=12_usize),
        basis_points in prop_oneof![Just(1000_u32), 0..3000_u32],
    ) {
        let missed = ByArm { control: missed.0, candidate: missed.1 };
        let rules = GateRules { threshold_basis_points: basis_points, ..RULES };
        let look = Look {
            missed: missed.map(|number| u32::try_from(number).unwrap()),
            ..ten_each(&control, &candidate)
        };
        let expected = decided_by_rationals(&control, &candidate, missed, basis_points);
        prop_assert_eq!(decide(&rules, &look).status, expected);
    }
}

proptest! {
    #[test]
    fn off_decides_by_the_rational_rule(
        control in vec_of(0..=1000_u16, 8..30), candidate in vec_of(0..=1000_u16, 8..30),
        coarse: bool, basis_points in prop_oneof![Just(1000_u32), 0..3000_u32],
    ) {
        // On the scale from 0 to 10, exact ties with the threshold are common.
        let scaled = |scores: Vec<u16>| -> Vec<u16> {
            scores.into_iter().map(|score| if coarse { score % 11 } else { score }).collect()
        };
        let (control, candidate) = (scaled(control), scaled(candidate));
        prop_assume!(control.iter().any(|&score| score > 0));
        let all_equal = control.iter().chain(&candidate).all(|score| *score == control[0]);
        let rules = GateRules { threshold_basis_points: basis_points, ..RULES };
        let adopted = decide(&rules, &ten_each(&control, &candidate)).status == Status::Adopted;
        prop_assert_eq!(adopted, !all_equal && literal_rule(&control, &candidate, basis_points));
    }

    #[test]
    fn the_integer_rule_is_the_rule_on_fractions(
        control in any_sum(), candidate in any_sum(), basis_points in prop_oneof![0..3000_u32, any::<u32>()],
    ) {
        prop_assert_eq!(
            exceeds(control, candidate, basis_points),
            exceeds_by_division(control, candidate, basis_points)
        );
    }

    #[test]
    fn a_better_score_never_costs_the_candidate_its_adoption(
        look in plain_look(), place in 0..10_usize,
    ) {
        let before = decide(&RULES, &look).status;
        let mut raised = look.clone();
        raised.blocks[0].candidate[place] += 1;
        if before == Status::Adopted {
            prop_assert_eq!(decide(&RULES, &raised).status, Status::Adopted);
        }
    }

    #[test]
    fn every_look_has_a_verdict_and_its_evidence(
        look in prop_oneof![any_look(4, 10).boxed(), any_look(2, u16::MAX).boxed()],
        threshold_basis_points: u32, scores_per_arm_min in prop_oneof![0..12_u32, any::<u32>()],
        score_max in prop_oneof![Just(0_u16), Just(10), Just(1000)],
    ) {
        let rules = GateRules { threshold_basis_points, scores_per_arm_min, score_max };
        let decision = decide(&rules, &look);
        let evidence = Evidence::of(&rules, &look);
        let sentence = evidence.sentence("flux", 2, &decision, Some(30));
        prop_assert!(sentence.ends_with('.') && !sentence.contains("NaN"), "{}", sentence);
        let ps = [
            evidence.p_exact, evidence.p_mid, evidence.p_exact_unstratified, evidence.p_better,
            evidence.sample_ratio_p, evidence.missingness_p,
        ];
        prop_assert!(ps.iter().flatten().all(|p| (0.0..=1.0).contains(p)), "{:?}", ps);
        let sizes = [
            evidence.improvement, evidence.posterior_mean, evidence.posterior_sd,
            evidence.e_value, evidence.log_e,
        ];
        prop_assert!(sizes.iter().flatten().all(|size| size.is_finite()), "{:?}", sizes);
    }

    #[test]
    fn a_control_of_zeros_is_judged_by_the_exact_p(
        blocks in vec_of((0..4_usize, vec_of(0..=2_u16, 0..4)), 1..5),
    ) {
        let blocks = blocks.into_iter().map(|(zeros, candidate)| ByArm {
            control: vec![0; zeros],
            candidate,
        });
        let look = Look { blocks: blocks.collect(), missed: ByArm::default() };
        let rules = GateRules { scores_per_arm_min: 1, ..RULES };
        let exact = permutation::stratified(&look.blocks).unwrap().greater;
        match decide(&rules, &look).reason {
            Reason::ZeroControlImproved => prop_assert!(exact <= 0.05 + 1e-9),
            Reason::ZeroControlNotProven => prop_assert!(exact > 0.05 - 1e-9),
            other => prop_assert!(matches!(other, Reason::AllZero | Reason::AllEqual | Reason::TooFewScores)),
        }
    }
}
