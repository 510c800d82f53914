//! One simulated test, and many of them.

use std::f64::consts::{SQRT_2, TAU};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::shape::Shape;
use super::{Plan, Tally};
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::{self, Look, Status};
use crate::experiment::probation::{self, Ruling};
use crate::experiment::strict::{self, Step};
use crate::experiment::{ByArm, Guard, paired};

/// Where both arms' scores come from, under one true effect.
#[derive(Clone, Debug)]
pub struct Arms {
    effect_basis_points: i32,
    /// The chances of each arm's scores, added up.
    upto: ByArm<Vec<f64>>,
}

impl Arms {
    /// The control scores by `shape`, the candidate by the same with its mean changed by so much.
    ///
    /// `None` where the scale leaves no room for the effect.
    #[must_use]
    pub fn new(shape: &Shape, effect_basis_points: i32) -> Option<Self> {
        let candidate = shape.changed_by(effect_basis_points)?;
        let upto = ByArm { control: shape.cumulated(), candidate: candidate.cumulated() };
        Some(Self { effect_basis_points, upto })
    }

    /// The true effect, in hundredths of a percent of the control's mean.
    #[must_use]
    pub const fn effect_basis_points(&self) -> i32 {
        self.effect_basis_points
    }

    /// So many scores of the candidate alone, for tests of what watches one version.
    #[cfg(test)]
    pub(crate) fn candidate_scores(&self, seed: u64, number: usize) -> Vec<u16> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..number).map(|_| score_at(&self.upto.candidate, rng.random())).collect()
    }

    fn draw(&self, share: &ByArm<f64>) -> ByArm<u16> {
        ByArm {
            control: score_at(&self.upto.control, share.control),
            candidate: score_at(&self.upto.candidate, share.candidate),
        }
    }

    fn block(&self, half: u32, rng: &mut StdRng) -> ByArm<Vec<u16>> {
        let mut block = ByArm::<Vec<u16>>::default();
        for _ in 0..half {
            let share = ByArm { control: rng.random(), candidate: rng.random() };
            let scores = self.draw(&share);
            block.control.push(scores.control);
            block.candidate.push(scores.candidate);
        }
        block
    }

    fn deck(&self, rules: &DeckRules, rng: &mut StdRng) -> Vec<ByArm<Vec<u16>>> {
        let half = (rules.block / 2).max(1);
        let mut blocks = Vec::new();
        let mut remaining = rules.per_arm;
        while remaining > 0 {
            let size = half.min(remaining);
            blocks.push(self.block(size, rng));
            remaining -= size;
        }
        blocks
    }

    /// One task's two scores: normal variables of this correlation, each put where its arm's chances have it.
    fn pair(&self, correlation: f64, rng: &mut StdRng) -> ByArm<Option<u16>> {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sine, cosine) = (TAU * rng.random::<f64>()).sin_cos();
        let (own, other) = (radius * cosine, radius * sine);
        let partner = correlation * own + (1.0 - correlation * correlation).max(0.0).sqrt() * other;
        let share = |normal: f64| 0.5 * libm::erfc(-normal / SQRT_2);
        let scores = self.draw(&ByArm { control: share(own), candidate: share(partner) });
        ByArm { control: Some(scores.control), candidate: Some(scores.candidate) }
    }
}

/// The score whose stretch of 0 to 1 holds `share`.
fn score_at(upto: &[f64], share: f64) -> u16 {
    let index = upto.partition_point(|&end| end <= share).min(upto.len().saturating_sub(1));
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The seed of one chunk: another for each guard, effect and number (splitmix64's finaliser).
pub(super) fn stream(seed: u64, guard: Guard, arms: &Arms, number: u32) -> u64 {
    let effect = u64::from(arms.effect_basis_points.cast_unsigned());
    [guard as u64, effect, u64::from(number)].into_iter().fold(seed, |state, part| {
        let mut mixed = state.wrapping_add(part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// Plays so many tests.
pub(super) fn play(plan: &Plan, guard: Guard, arms: &Arms, trials: u32, seed: u64) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let trial = |_| match guard {
        Guard::Off => off(plan, arms, &mut rng).1,
        Guard::Probation => on_probation(plan, arms, &mut rng),
        Guard::Strict => in_looks(plan, arms, &mut rng),
        Guard::Paired => in_pairs(plan, arms, &mut rng),
    };
    (0..trials).map(trial).fold(Tally::default(), Tally::and)
}

fn tally(adopted: bool, tasks: u64) -> Tally {
    Tally { trials: 1, adopted: u64::from(adopted), tasks, generations: tasks }
}

fn off(plan: &Plan, arms: &Arms, rng: &mut StdRng) -> (Look, Tally) {
    let look = Look { blocks: arms.deck(&plan.deck, rng), missed: ByArm::default() };
    let adopted = gate::decide(&plan.gate, &look).status == Status::Adopted;
    (look, tally(adopted, 2 * u64::from(plan.deck.per_arm)))
}

fn on_probation(plan: &Plan, arms: &Arms, rng: &mut StdRng) -> Tally {
    let (test, provisional) = off(plan, arms, rng);
    if provisional.adopted == 0 {
        return provisional;
    }
    let watch = Look { blocks: arms.deck(&plan.probation_deck, rng), missed: ByArm::default() };
    let ruling = probation::ruling(&plan.probation, test.sums(), watch.sums());
    let tasks = provisional.tasks + 2 * u64::from(plan.probation_deck.per_arm);
    tally(ruling == Ruling::Keeps, tasks)
}

fn in_looks(plan: &Plan, arms: &Arms, rng: &mut StdRng) -> Tally {
    let mut look = Look::default();
    for number in 1..=plan.strict_looks_max {
        look.blocks.extend(arms.deck(&plan.deck, rng));
        if let Step::Decided(decision) = strict::step(&plan.gate, number, &look) {
            let tasks = 2 * u64::from(plan.deck.per_arm) * u64::from(number);
            return tally(decision.status == Status::Adopted, tasks);
        }
    }
    // What is not proven by the last look that is allowed is not adopted.
    tally(false, 2 * u64::from(plan.deck.per_arm) * u64::from(plan.strict_looks_max))
}

fn in_pairs(plan: &Plan, arms: &Arms, rng: &mut StdRng) -> Tally {
    let tasks = 2 * u64::from(plan.deck.per_arm);
    let pairs: Vec<_> = (0..tasks).map(|_| arms.pair(plan.correlation, rng)).collect();
    let decision = paired::decide(&plan.gate, &paired::look(pairs, ByArm::default()));
    Tally { generations: 2 * tasks, ..tally(decision.status == Status::Adopted, tasks) }
}
