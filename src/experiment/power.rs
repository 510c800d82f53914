//! Power: how often a guard adopts what it should and what it should not, by simulation.
//!
//! Tests are played from start to end with the product's own rules, on scores drawn from a [`Shape`]. The candidate's
//! scores come from the same shape, tilted until its mean differs by the true effect in question. Scores never go
//! missing here; the guards against that are exact tests of their own.
//!
//! Deterministic: one seed gives the same figures, however the chunks are spread over threads.

mod shape;
mod trial;

use serde::Serialize;

use crate::experiment::Guard;
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::GateRules;
use crate::experiment::probation::ProbationRules;

pub use shape::{BuiltIn, Shape, ShapeError};
pub use trial::Arms;

/// Trials that one call of [`chunk`] plays.
pub const CHUNK_TRIALS: u32 = 250;

/// The true effects that a gate is asked about first, as changes of the mean in hundredths of a percent.
pub const EFFECTS_BASIS_POINTS: [i32; 3] = [0, -1000, 2000];

/// What the simulated tests are run by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The rule.
    pub gate: GateRules,
    /// The deck of a test; `strict` deals as many again for each further look, `paired` one pair for each slot.
    pub deck: DeckRules,
    /// The deck of a probation.
    pub probation_deck: DeckRules,
    /// What a probation asks for.
    pub probation: ProbationRules,
    /// Under `strict`, the look that decides at the latest.
    pub strict_looks_max: u32,
    /// Correlation of a task's two scores under `paired`, 0 to 1: how much of a score is the task's and not the prompt's.
    pub correlation: f64,
}

/// What some trials came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests played.
    pub trials: u64,
    /// Of them, those whose candidate was adopted and stayed.
    pub adopted: u64,
    /// Tasks that they took.
    pub tasks: u64,
    /// Pictures that they took: one a task, two under `paired`.
    pub generations: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            trials: self.trials + other.trials,
            adopted: self.adopted + other.adopted,
            tasks: self.tasks + other.tasks,
            generations: self.generations + other.generations,
        }
    }

    /// The figures that a person reads; all 0 where nothing was played.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let per_trial = |number: u64| number as f64 / self.trials.max(1) as f64;
        let adopted = per_trial(self.adopted);
        Figures {
            adopted,
            standard_error: (adopted * (1.0 - adopted) / self.trials.max(1) as f64).sqrt(),
            tasks: per_trial(self.tasks),
            generations: per_trial(self.generations),
        }
    }
}

/// How a guard fares under one true effect.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// How often the candidate is adopted for good, 0 to 1.
    pub adopted: f64,
    /// The Monte Carlo error of that share: its standard error, 0 to 1.
    pub standard_error: f64,
    /// Tasks that a test takes on average, its probation included.
    pub tasks: f64,
    /// Pictures that it takes.
    pub generations: f64,
}

/// Plays the `number`-th [`CHUNK_TRIALS`] tests of a guard. The same arguments give the same tally.
#[must_use]
pub fn chunk(plan: &Plan, guard: Guard, arms: &Arms, seed: u64, number: u32) -> Tally {
    trial::play(plan, guard, arms, CHUNK_TRIALS, trial::stream(seed, guard, arms, number))
}

#[cfg(test)]
mod tests;
