//! Shapes: how a validator's scores are spread.

use std::fmt;
use std::str::FromStr;

use crate::experiment::arm::UnknownName;

/// Weights of the built-in shapes sum to this.
const PARTS: u32 = 100_000;
/// The largest tilt that is tried; e^64 to one leaves a single score.
const TILT_MAX: f64 = 64.0;
/// Halvings of the tilt's bracket: more change nothing that a double can hold.
const HALVINGS: u32 = 200;

/// How likely each score is.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The chance of each score from 0; they sum to 1.
    chances: Vec<f64>,
}

/// Why no shape can be made of some scores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Nothing to go by.
    #[error("there are no scores to draw from")]
    NoScores,
    /// A score beyond the scale.
    #[error("a score is {score}, and the scale ends at {score_max}")]
    BeyondScale {
        /// The score.
        score: u16,
        /// The end of the scale.
        score_max: u16,
    },
    /// Only zeros: no mean to improve on.
    #[error("every score is 0, so no effect in percent can be simulated")]
    OnlyZeros,
}

/// Shapes that stand for typical validators, on the scale from 0 to 10.
///
/// Normal curves and mixtures of two, cut to the scale and rounded to whole scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// Around the middle: mean 6.5, standard deviation 1.9.
    Mid,
    /// Mostly good with 11% failures: 7.7 and 2.6.
    Ceiling,
    /// Hardly any spread: 7.0 and 1.2.
    Tight,
    /// Mostly bad: 3.6 and 2.1.
    Low,
    /// Good or bad, little between: 5.4 and 3.5.
    Bimodal,
}

impl BuiltIn {
    /// Every built-in shape.
    pub const ALL: [Self; 5] = [Self::Mid, Self::Ceiling, Self::Tight, Self::Low, Self::Bimodal];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mid => "mid",
            Self::Ceiling => "ceiling",
            Self::Tight => "tight",
            Self::Low => "low",
            Self::Bimodal => "bimodal",
        }
    }

    /// The shape itself.
    #[must_use]
    pub fn shape(self) -> Shape {
        let parts: [u32; 11] = match self {
            Self::Mid => [94, 381, 1413, 4032, 8868, 15032, 19638, 19772, 15345, 9178, 6247],
            Self::Ceiling => [4414, 4841, 1611, 132, 3, 38, 1051, 9753, 30743, 33328, 14086],
            Self::Tight => [0, 0, 6, 131, 1482, 8334, 23447, 33110, 23493, 8367, 1630],
            Self::Low => [8019, 9228, 14133, 17592, 17798, 14635, 9781, 5312, 2345, 841, 316],
            Self::Bimodal => {
                [6351, 13681, 13786, 5935, 2346, 3578, 6606, 9798, 11512, 10712, 15695]
            }
        };
        Shape { chances: parts.iter().map(|&part| f64::from(part) / f64::from(PARTS)).collect() }
    }
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuiltIn {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up("shape", name, &Self::ALL, Self::as_str)
    }
}

impl Shape {
    /// The shape of recorded scores: each as likely as it was often.
    ///
    /// # Errors
    /// [`ShapeError`] where the scores are none, beyond the scale or only zeros.
    pub fn of_scores(scores: &[u16], score_max: u16) -> Result<Self, ShapeError> {
        let mut counts = vec![0_u32; usize::from(score_max) + 1];
        for &score in scores {
            let count = counts.get_mut(usize::from(score));
            *count.ok_or(ShapeError::BeyondScale { score, score_max })? += 1;
        }
        if scores.is_empty() {
            return Err(ShapeError::NoScores);
        }
        if scores.iter().all(|&score| score == 0) {
            return Err(ShapeError::OnlyZeros);
        }
        let all = scores.len() as f64;
        Ok(Self { chances: counts.iter().map(|&count| f64::from(count) / all).collect() })
    }

    /// The mean score.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.chances.iter().zip(0_u16..).map(|(chance, score)| chance * f64::from(score)).sum()
    }

    /// The standard deviation, in points.
    #[must_use]
    pub fn sd(&self) -> f64 {
        let mean = self.mean();
        let squares = |(chance, score): (&f64, u16)| chance * (f64::from(score) - mean).powi(2);
        self.chances.iter().zip(0_u16..).map(squares).sum::<f64>().sqrt()
    }

    /// The shape with a mean changed by `basis_points`, or `None` where no shape on these scores has that mean.
    ///
    /// Every chance is multiplied by e to the power of its score times one tilt: the change that is least unlike the
    /// shape (the smallest relative entropy). Fewer failures and better successes both take part in it.
    #[must_use]
    pub fn changed_by(&self, basis_points: i32) -> Option<Self> {
        let wanted = self.mean() * (1.0 + f64::from(basis_points) / 10_000.0);
        if basis_points == 0 {
            return Some(self.clone());
        }
        let (mut low, mut high) = (-TILT_MAX, TILT_MAX);
        if !(self.tilted(low).mean() < wanted && wanted < self.tilted(high).mean()) {
            return None;
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if self.tilted(middle).mean() < wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(self.tilted(low))
    }

    /// The chances added up: the last one is 1.
    pub(super) fn cumulated(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let mut upto: Vec<f64> = self
            .chances
            .iter()
            .map(|chance| {
                sum += chance;
                sum
            })
            .collect();
        // Rounding must not leave a draw without a score, nor give one that never came.
        let last = self.chances.iter().rposition(|&chance| chance > 0.0).unwrap_or(0);
        upto.iter_mut().skip(last).for_each(|it| *it = 1.0);
        upto
    }

    #[cfg(test)]
    pub(super) fn chances(&self) -> &[f64] {
        &self.chances
    }

    fn tilted(&self, tilt: f64) -> Self {
        // Measured from the end that gains, so that no power overflows.
        let anchor = if tilt > 0.0 { (self.chances.len() - 1) as f64 } else { 0.0 };
        let weights = self
            .chances
            .iter()
            .zip(0_u16..)
            .map(|(chance, score)| chance * (tilt * (f64::from(score) - anchor)).exp());
        let weights: Vec<f64> = weights.collect();
        let all: f64 = weights.iter().sum();
        Self { chances: weights.into_iter().map(|weight| weight / all).collect() }
    }
}
