//! Which tasks of a window are shown when they are too many: the worst, the best and the typical.

use std::collections::HashSet;

use crate::workflow::context::LeftOut;

/// The rule of [`sample`], as Claude and people are told it.
pub const RULE: &str = "a third of the tasks shown are those whose best score is lowest, a third those whose best score is highest; the last third is typical: taken at even steps through the others in the order of their scores; all are listed oldest first";

/// A task of a window, as far as sampling needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The task's row.
    pub id: i64,
    /// The best score that any attempt of it got.
    pub best_score: Option<i32>,
}

/// What is shown of a window, and what is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The rows of the tasks shown, in the window's order.
    pub shown: Vec<i64>,
    /// What was left out; none when all is shown.
    pub left_out: Option<LeftOut>,
}

/// The tasks to show when at most `limit` can be, by [`RULE`]. The same window gives the same tasks.
#[must_use]
pub fn sample(window: &[Head], limit: usize) -> Vec<i64> {
    if window.len() <= limit {
        return window.iter().map(|task| task.id).collect();
    }
    let mut by_score: Vec<&Head> = window.iter().collect();
    // A task without any score failed altogether, so it ranks below a score of 0.
    by_score.sort_by_key(|task| (task.best_score.unwrap_or(-1), task.id));
    let third = limit / 3;
    let others = by_score.get(third..by_score.len() - third).unwrap_or_default();
    let typical = limit - 2 * third;
    let chosen: HashSet<i64> = by_score
        .iter()
        .take(third)
        .chain(by_score.iter().rev().take(third))
        // The middle of each step, so that neither end of the others is favoured.
        .chain(
            (0..typical)
                .filter_map(|step| others.get((2 * step + 1) * others.len() / (2 * typical))),
        )
        .map(|task| task.id)
        .collect();
    window.iter().map(|task| task.id).filter(|id| chosen.contains(id)).collect()
}

/// What is shown and what is not, once the tasks to show are known.
#[must_use]
pub fn divide(window: &[Head], shown: &[i64]) -> Sampled {
    let chosen: HashSet<i64> = shown.iter().copied().collect();
    let (shown, left): (Vec<&Head>, Vec<&Head>) =
        window.iter().partition(|task| chosen.contains(&task.id));
    Sampled { shown: shown.into_iter().map(|task| task.id).collect(), left_out: summary(&left) }
}

fn summary(left: &[&Head]) -> Option<LeftOut> {
    if left.is_empty() {
        return None;
    }
    let scores: Vec<i32> = left.iter().filter_map(|task| task.best_score).collect();
    let sum: i64 = scores.iter().map(|score| i64::from(*score)).sum();
    Some(LeftOut {
        tasks: u32::try_from(left.len()).unwrap_or(u32::MAX),
        lowest: scores.iter().min().copied(),
        highest: scores.iter().max().copied(),
        mean: (!scores.is_empty()).then(|| format!("{:.2}", sum as f64 / scores.len() as f64)),
        without_score: u32::try_from(left.len() - scores.len()).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(scores: impl IntoIterator<Item = Option<i32>>) -> Vec<Head> {
        (1..).zip(scores).map(|(id, best_score)| Head { id, best_score }).collect()
    }

    #[test]
    fn a_small_window_is_shown_whole_and_in_order() {
        let window = window([Some(3), None, Some(9)]);
        assert_eq!(sample(&window, 3), [1, 2, 3]);
        assert_eq!(divide(&window, &[1, 2, 3]).left_out, None);
    }

    #[test]
    fn a_large_window_shows_the_worst_the_best_and_the_typical_in_order() {
        let window = window((0..100).map(|n| Some(n / 10)));
        let shown = sample(&window, 30);
        assert_eq!(shown.len(), 30);
        assert!((1..=10).all(|id| shown.contains(&id)), "the worst ten are shown");
        assert!((91..=100).all(|id| shown.contains(&id)), "the best ten are shown");
        let typical: Vec<i64> = shown.iter().copied().filter(|id| (11..=90).contains(id)).collect();
        assert_eq!(typical, [15, 23, 31, 39, 47, 55, 63, 71, 79, 87], "one of each eight between");
        assert!(shown.is_sorted());
    }

    #[test]
    fn what_is_left_out_is_summed_up() {
        let window = window([Some(3), None, Some(9), Some(4), Some(6)]);
        let left = divide(&window, &[1, 3]).left_out.unwrap();
        assert_eq!((left.tasks, left.without_score), (3, 1));
        assert_eq!(
            (left.lowest, left.highest, left.mean.as_deref()),
            (Some(4), Some(6), Some("5.00"))
        );
    }

    proptest! {
        #[test]
        fn any_limit_gives_exactly_that_many_and_always_the_same(
            scores in prop::collection::vec(prop::option::of(0..11), 0..80), limit in 0_usize..90,
        ) {
            let window = window(scores);
            let shown = sample(&window, limit);
            prop_assert_eq!(shown.len(), limit.min(window.len()));
            prop_assert!(shown.is_sorted());
            prop_assert_eq!(&shown, &sample(&window, limit));
            let divided = divide(&window, &shown);
            let left = divided.left_out.map_or(0, |left| left.tasks as usize);
            prop_assert_eq!(divided.shown.len() + left, window.len());
        }
    }
}
