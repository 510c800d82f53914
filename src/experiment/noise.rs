//! The noise floor: how far the scores of one and the same prompt differ from window to window.
//!
//! Tasks differ, days differ, a judge has moods. What two windows of the same version differ by, no version can be
//! credited with. A test deals both versions at the same time, so this noise does not decide it; but whoever compares
//! this month's mean with last month's sees at least this much of nothing.

use serde::Serialize;
use utoipa::ToSchema;

/// Fewer scores than this, and a window's mean says nothing.
const SCORES_MIN: u64 = 8;
/// Two means of one spread differ by less than this many standard deviations, 19 times in 20.
const DIFFERENCE_95: f64 = 1.959_963_984_540_054 * std::f64::consts::SQRT_2;

/// The scores of one version in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The sum of their squares.
    pub sum_of_squares: u64,
}

/// What the windows of one version show. Ratios are plain, of the mean score: 0.08 is 8%.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct NoiseFloor {
    /// Windows with enough scores.
    pub windows: usize,
    /// Scores in them.
    pub scores: u64,
    /// The mean of the windows' means, in points.
    pub mean: f64,
    /// The standard deviation of the windows' means, in points; `None` of a single window.
    pub spread: Option<f64>,
    /// What that would be by chance alone, from the spread within the windows, in points.
    pub spread_by_chance: f64,
    /// What two windows of this one version differ by, 19 times in 20 less: of what was seen and what chance alone
    /// gives, the larger.
    pub difference_95: f64,
}

impl NoiseFloor {
    /// `None` without a window of eight scores, or where the mean is 0.
    #[must_use]
    pub fn of(windows: &[Window]) -> Option<Self> {
        let enough: Vec<&Window> = windows.iter().filter(|it| it.count >= SCORES_MIN).collect();
        let number = enough.len() as f64;
        let means: Vec<f64> = enough.iter().map(|it| it.sum as f64 / it.count as f64).collect();
        let mean = means.iter().sum::<f64>() / number;
        if enough.is_empty() || mean <= 0.0 {
            return None;
        }
        let by_chance = enough.iter().map(|it| squared_error(it)).sum::<f64>() / number;
        let spread = (enough.len() > 1).then(|| {
            let squares: f64 = means.iter().map(|it| (it - mean).powi(2)).sum();
            (squares / (number - 1.0)).sqrt()
        });
        let spread_by_chance = by_chance.sqrt();
        let larger = spread.unwrap_or(0.0).max(spread_by_chance);
        Some(Self {
            windows: enough.len(),
            scores: enough.iter().map(|it| it.count).sum(),
            mean,
            spread,
            spread_by_chance,
            difference_95: DIFFERENCE_95 * larger / mean,
        })
    }

    /// True when an effect of so many hundredths of a percent cannot be told from the noise.
    #[must_use]
    pub fn hides(&self, effect_basis_points: u32) -> bool {
        self.difference_95 >= f64::from(effect_basis_points) / 10_000.0
    }
}

/// Of the window's mean, squared.
fn squared_error(window: &Window) -> f64 {
    let count = window.count as f64;
    // On integers as far as they go, so that equal scores give exactly 0.
    let squares = u128::from(window.sum_of_squares) * u128::from(window.count);
    let square = u128::from(window.sum) * u128::from(window.sum);
    let scaled = squares.saturating_sub(square) as f64;
    scaled / (count * count * (count - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(scores: &[u64]) -> Window {
        Window {
            count: scores.len() as u64,
            sum: scores.iter().sum(),
            sum_of_squares: scores.iter().map(|it| it * it).sum(),
        }
    }

    #[test]
    fn windows_that_differ_by_more_than_chance_set_the_floor() {
        let windows = [window(&[7; 10]), window(&[9; 10])];
        let floor = NoiseFloor::of(&windows).unwrap();
        assert_eq!((floor.windows, floor.scores, floor.spread_by_chance), (2, 20, 0.0));
        assert!((floor.spread.unwrap() - 2.0_f64.sqrt()).abs() < 1e-12);
        assert!((floor.difference_95 - DIFFERENCE_95 * 2.0_f64.sqrt() / 8.0).abs() < 1e-12);
        assert!(floor.hides(1000));
    }

    #[test]
    fn a_single_window_is_judged_by_its_own_spread() {
        let wide = [4, 9, 5, 8, 4, 9, 5, 8, 4, 9];
        let floor = NoiseFloor::of(&[window(&wide)]).unwrap();
        assert_eq!(floor.spread, None);
        assert!(floor.hides(1000), "{floor:?}");
        let many: Vec<u64> = wide.iter().copied().cycle().take(400).collect();
        assert!(!NoiseFloor::of(&[window(&many)]).unwrap().hides(1000), "forty times the scores");
    }

    #[test]
    fn too_few_scores_or_only_zeros_have_no_floor() {
        assert_eq!(NoiseFloor::of(&[]), None);
        assert_eq!(NoiseFloor::of(&[window(&[7; 7])]), None);
        assert_eq!(NoiseFloor::of(&[window(&[0; 20])]), None);
    }
}
