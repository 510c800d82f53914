//! The adoption gate: is the new version more than 10% better than the old one on the scores that count?
//!
//! The rule is `improvement = (new_avg - old_avg) / old_avg`, adopt only if `improvement > 0.10`, in integers:
//! floating point wrongly adopts most pairs whose improvement is exactly 10% (70 → 77, for one). The guards before
//! it keep a broken test from deciding anything. Everything else that is known goes beside the verdict, as
//! [`evidence`](crate::experiment::evidence), and decides nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::experiment::arm::{ByArm, UnknownName};
use crate::experiment::missingness::fisher_p;

/// A p up to this is taken for more than chance.
const ALPHA: f64 = 0.05;
/// What rounding may add to or take from a p. A p is a ratio of integers; one that is exactly 0.05 counts as 0.05.
pub(super) const ROUNDING: f64 = 1e-12;
const BASIS_POINTS_IN_ONE: u64 = 10_000;

/// What a candidate must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GateRules {
    /// The improvement that must be exceeded, in hundredths of a percent: 1000 is 10%.
    pub threshold_basis_points: u32,
    /// Fewer scores than this in an arm, or none, decide nothing.
    pub scores_per_arm_min: u32,
    /// The best score that the validator gives. Only evidence needs it; the verdict does not.
    pub score_max: u16,
}

/// The frozen scores of a test: what the gate looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ScoresLookedAt)]
pub struct Look {
    /// The scores that count, by the blocks that they were dealt in.
    pub blocks: Vec<ByArm<Vec<u16>>>,
    /// How often a slot of the arm went without its score, through the validator's or infrastructure's fault.
    pub missed: ByArm<u32>,
}

impl Look {
    /// All scores of each arm, block after block.
    #[must_use]
    pub fn pooled(&self) -> ByArm<Vec<u16>> {
        let mut pooled = ByArm::<Vec<u16>>::default();
        for block in &self.blocks {
            pooled.control.extend(&block.control);
            pooled.candidate.extend(&block.candidate);
        }
        pooled
    }

    /// Sum and number of each arm's scores.
    #[must_use]
    pub fn sums(&self) -> ByArm<Sum> {
        self.pooled().map(|scores| Sum::of(&scores))
    }

    /// Fisher's exact p for scores missed by one arm rather than the other, 0 to 1.
    #[must_use]
    pub fn missingness_p(&self) -> f64 {
        fisher_p(self.missed, self.sums().map(Sum::count_u32))
    }
}

/// Scores added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = ScoreSum)]
pub struct Sum {
    /// The sum of the scores.
    pub total: u64,
    /// How many there are.
    pub count: u64,
}

impl Sum {
    /// Adds up.
    #[must_use]
    pub fn of(scores: &[u16]) -> Self {
        Self { total: scores.iter().copied().map(u64::from).sum(), count: scores.len() as u64 }
    }

    /// Both together; a sum too large for its type stays at the largest that fits.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            count: self.count.saturating_add(other.count),
        }
    }

    /// The average score, for display only; `None` of no scores.
    #[must_use]
    pub fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.total as f64 / self.count as f64)
    }

    /// The number of scores, for the counting tests.
    pub(super) fn count_u32(self) -> u32 {
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// What the gate says, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = VerdictDecision)]
pub struct Decision {
    /// The verdict.
    pub status: Status,
    /// What it rests on.
    pub reason: Reason,
}

/// A verdict. Once committed it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Verdict)]
pub enum Status {
    /// The candidate becomes the active version.
    Adopted,
    /// The candidate was tested, and the old version stays.
    Rejected,
    /// Nothing was learnt about the candidate, and the old version stays.
    Inconclusive,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Adopted, Self::Rejected, Self::Inconclusive];

    /// The name under which the status is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Rejected => "rejected",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Why a verdict is what it is. [`decide`] gives the first eight, the strict guard's last look the ninth; the others
/// end a test from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = VerdictReason)]
pub enum Reason {
    /// The improvement exceeds the threshold.
    Improved,
    /// The improvement does not exceed the threshold.
    NotImproved,
    /// The control scored nothing, and the candidate's scores are more than chance.
    ZeroControlImproved,
    /// The control scored nothing, and the candidate's scores may be chance.
    ZeroControlNotProven,
    /// Every score of both arms is 0.
    AllZero,
    /// Every score of both arms is the same, and not 0.
    AllEqual,
    /// An arm has fewer scores than the rules ask for.
    TooFewScores,
    /// One arm missed significantly more scores than the other.
    UnevenMissingness,
    /// The improvement exceeds the threshold, and may be chance after the last look all the same.
    NotProven,
    /// The test's time ran out before its scores were in.
    TimedOut,
    /// A rollback or another change to the model came first.
    Superseded,
    /// The model was taken out of the workflow.
    ModelRetired,
    /// A person refused the candidate.
    Refused,
    /// The validator's model or prompt changed, and scores of two judges are never pooled.
    JudgeChanged,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Improved,
        Self::NotImproved,
        Self::ZeroControlImproved,
        Self::ZeroControlNotProven,
        Self::AllZero,
        Self::AllEqual,
        Self::TooFewScores,
        Self::UnevenMissingness,
        Self::NotProven,
        Self::TimedOut,
        Self::Superseded,
        Self::ModelRetired,
        Self::Refused,
        Self::JudgeChanged,
    ];

    /// The name under which the reason is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::NotImproved => "not_improved",
            Self::ZeroControlImproved => "zero_control_improved",
            Self::ZeroControlNotProven => "zero_control_not_proven",
            Self::AllZero => "all_zero",
            Self::AllEqual => "all_equal",
            Self::TooFewScores => "too_few_scores",
            Self::UnevenMissingness => "uneven_missingness",
            Self::NotProven => "not_proven",
            Self::TimedOut => "timed_out",
            Self::Superseded => "superseded",
            Self::ModelRetired => "model_retired",
            Self::Refused => "refused",
            Self::JudgeChanged => "judge_changed",
        }
    }

    /// True for the reasons that a look gives; the state machine gives the others.
    #[must_use]
    pub fn comes_from_a_look(self) -> bool {
        match self {
            Self::Improved
            | Self::NotImproved
            | Self::ZeroControlImproved
            | Self::ZeroControlNotProven
            | Self::AllZero
            | Self::AllEqual
            | Self::TooFewScores
            | Self::UnevenMissingness
            | Self::NotProven => true,
            Self::TimedOut
            | Self::Superseded
            | Self::ModelRetired
            | Self::Refused
            | Self::JudgeChanged => false,
        }
    }

    /// The reason as a clause that follows "because".
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Improved => "the improvement is above the threshold",
            Self::NotImproved => "the improvement is not above the threshold",
            Self::ZeroControlImproved => {
                "the old version scored only zeros and chance alone hardly explains the new one's scores"
            }
            Self::ZeroControlNotProven => {
                "the old version scored only zeros but chance alone could explain the new one's scores"
            }
            Self::AllZero => "every score of both versions is zero",
            Self::AllEqual => "every score of both versions is the same",
            Self::TooFewScores => "too few scores came in",
            Self::UnevenMissingness => {
                "one version went without its scores far more often than the other"
            }
            Self::NotProven => {
                "the improvement is above the threshold but chance alone could still explain it"
            }
            Self::TimedOut => "the test ran out of time",
            Self::Superseded => "another change to the model came first",
            Self::ModelRetired => "the model was removed from the workflow",
            Self::Refused => "a person refused the new version",
            Self::JudgeChanged => "the validator changed during the test",
        }
    }
}

/// Whether the candidate's mean exceeds the control's by more than `basis_points`, exactly.
///
/// `Sn * no * 10000 > So * nn * (10000 + g)`. No input overflows. A control of zeros is exceeded by any score
/// above 0, and [`decide`] asks for more there; an arm without scores exceeds nothing and is not exceeded.
#[must_use]
pub fn exceeds(control: Sum, candidate: Sum, basis_points: u32) -> bool {
    let factor = BASIS_POINTS_IN_ONE + u64::from(basis_points);
    product(candidate.total, control.count, BASIS_POINTS_IN_ONE)
        > product(control.total, candidate.count, factor)
}

/// The verdict on a test's frozen scores. It depends on nothing but its arguments, and every input has one.
#[must_use]
pub fn decide(rules: &GateRules, look: &Look) -> Decision {
    let sums = look.sums();
    let fewest = sums.control.count.min(sums.candidate.count);
    let (status, reason) = if fewest < u64::from(rules.scores_per_arm_min).max(1) {
        (Status::Inconclusive, Reason::TooFewScores)
    } else if look.missingness_p() < ALPHA - ROUNDING {
        (Status::Inconclusive, Reason::UnevenMissingness)
    } else if let Some(score) = only_score(look) {
        let zero = score == 0;
        let reason = if zero { Reason::AllZero } else { Reason::AllEqual };
        (Status::Rejected, reason)
    } else if sums.control.total == 0 {
        if zero_control_p(look) <= ALPHA + ROUNDING {
            (Status::Adopted, Reason::ZeroControlImproved)
        } else {
            (Status::Rejected, Reason::ZeroControlNotProven)
        }
    } else if exceeds(sums.control, sums.candidate, rules.threshold_basis_points) {
        (Status::Adopted, Reason::Improved)
    } else {
        (Status::Rejected, Reason::NotImproved)
    };
    Decision { status, reason }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("status", name, &Self::ALL, Self::as_str)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("reason", name, &Self::ALL, Self::as_str)
    }
}

/// `a * b * c` in 192 bits, the upper 128 first, so that products compare as they are written.
fn product(a: u64, b: u64, c: u64) -> (u128, u64) {
    let ab = u128::from(a) * u128::from(b);
    let low = u128::from(ab as u64) * u128::from(c);
    let high = (ab >> 64) * u128::from(c) + (low >> 64);
    (high, low as u64)
}

/// The score that all tasks of both arms got, if it is but one.
fn only_score(look: &Look) -> Option<u16> {
    let mut scores =
        look.blocks.iter().flat_map(|block| block.control.iter().chain(&block.candidate));
    let first = *scores.next()?;
    scores.all(|&score| score == first).then_some(first)
}

/// The exact stratified p where the control has only zeros.
///
/// No deal can give the candidate more than everything, so p is the chance that every score above 0 fell to it:
/// for m of them in a block of N with n candidates, n/N · (n-1)/(N-1) · … over m factors. This agrees with
/// [`permutation::stratified`](crate::experiment::permutation::stratified), and no test is too large for it.
fn zero_control_p(look: &Look) -> f64 {
    let mut p = 1.0;
    for block in &look.blocks {
        let candidates = block.candidate.len();
        let all = candidates + block.control.len();
        let scoring = block.candidate.iter().filter(|&&score| score > 0).count();
        for drawn in 0..scoring {
            p *= (candidates - drawn) as f64 / (all - drawn) as f64;
        }
    }
    p
}
