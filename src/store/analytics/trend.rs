//! Whether it learns: the latest days against as many days before them.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use serde::Serialize;

use super::log::mean;
use super::{ModelDay, TaskDay};

/// The most days on each side of the comparison.
pub const SPAN_DAYS_MAX: u64 = 30;

/// Two stretches of days of the same length, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Learning {
    /// The days before.
    pub before: Span,
    /// The latest days.
    pub latest: Span,
    /// Mean score over all models; higher is better.
    pub score: Measure,
    /// Mean iterations of a task; lower is better.
    pub iterations: Measure,
    /// Mean seconds of a task from start to end; lower is better.
    pub processing_seconds: Measure,
    /// The leading model's share of the wins, 0 to 1; higher means that the choice is more consistent.
    pub selection: Measure,
    /// Kept of all pictures that a person judged, 0 to 1; higher is better.
    pub kept: Measure,
}

/// A stretch of days, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Tasks that arrived in it.
    pub tasks: i64,
}

/// One number on both sides; none where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measure {
    /// In the days before.
    pub before: Option<f64>,
    /// In the latest days.
    pub latest: Option<f64>,
}

/// Compares the latest days, up to and with `today`, with as many before them: half of the days on
/// record, at most `SPAN_DAYS_MAX`. None while fewer than two days are on record.
#[must_use]
pub fn compare(tasks: &[TaskDay], models: &[ModelDay], today: NaiveDate) -> Option<Learning> {
    let first = tasks.iter().map(|day| day.day).min()?;
    let days = u64::try_from(today.signed_duration_since(first).num_days() + 1).ok()?;
    let length = (days / 2).min(SPAN_DAYS_MAX);
    if length == 0 {
        return None;
    }
    let latest_from = today.checked_sub_days(Days::new(length - 1))?;
    let before_to = latest_from.pred_opt()?;
    let before_from = before_to.checked_sub_days(Days::new(length - 1))?;
    let before = Side::of(tasks, models, before_from, before_to);
    let latest = Side::of(tasks, models, latest_from, today);
    let measure =
        |of: fn(&Side) -> Option<f64>| Measure { before: of(&before), latest: of(&latest) };
    Some(Learning {
        before: before.span,
        latest: latest.span,
        score: measure(|side| mean(side.score_sum, side.scored)),
        iterations: measure(|side| mean(side.iterations.0, side.iterations.1)),
        processing_seconds: measure(|side| {
            mean(side.processing_ms.0, side.processing_ms.1).map(|mean_ms| mean_ms / 1000.0)
        }),
        selection: measure(|side| mean(side.wins_leading, side.wins)),
        kept: measure(|side| mean(side.kept, side.kept + side.deleted)),
    })
}

/// One side's sums; pairs are a sum and its count.
#[derive(Debug)]
struct Side {
    span: Span,
    score_sum: i64,
    scored: i64,
    iterations: (i64, i64),
    processing_ms: (i64, i64),
    wins: i64,
    wins_leading: i64,
    kept: i64,
    deleted: i64,
}

impl Side {
    fn of(tasks: &[TaskDay], models: &[ModelDay], from: NaiveDate, to: NaiveDate) -> Self {
        let within = from..=to;
        let tasks: Vec<&TaskDay> = tasks.iter().filter(|day| within.contains(&day.day)).collect();
        let models: Vec<&ModelDay> =
            models.iter().filter(|day| within.contains(&day.day)).collect();
        let task_sum = |of: fn(&TaskDay) -> i64| tasks.iter().copied().map(of).sum::<i64>();
        let model_sum = |of: fn(&ModelDay) -> i64| models.iter().copied().map(of).sum::<i64>();
        let mut wins_by_model: BTreeMap<&str, i64> = BTreeMap::new();
        for day in &models {
            *wins_by_model.entry(&day.model).or_default() += day.wins;
        }
        Self {
            span: Span { from, to, tasks: task_sum(|day| day.total) },
            score_sum: model_sum(|day| day.score_sum),
            scored: model_sum(|day| day.scored),
            iterations: (task_sum(|day| day.iterations_sum), task_sum(|day| day.iterations_tasks)),
            processing_ms: (
                task_sum(|day| day.processing_sum_ms),
                task_sum(|day| day.processing_tasks),
            ),
            wins: model_sum(|day| day.wins),
            wins_leading: wins_by_model.values().copied().max().unwrap_or(0),
            kept: task_sum(|day| day.kept),
            deleted: task_sum(|day| day.deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, number).unwrap()
    }

    fn tasks(number: u32, total: i64) -> TaskDay {
        TaskDay {
            day: day(number),
            total,
            completed: total,
            errored: 0,
            abandoned: 0,
            running: 0,
            with_winner: total,
            kept: 0,
            deleted: 0,
            removed_unanalyzed: 0,
            iterations_sum: total * 2,
            iterations_tasks: total,
            processing_sum_ms: 1500 * total,
            processing_tasks: total,
            mean_iterations: None,
            mean_processing_seconds: None,
        }
    }

    fn scores(number: u32, model: &str, scored: i64, score_sum: i64, wins: i64) -> ModelDay {
        ModelDay {
            day: day(number),
            model: model.to_owned(),
            attempts: scored,
            scored,
            score_sum,
            mean_score: None,
            passed: 0,
            wins,
        }
    }

    #[test]
    fn one_day_is_no_trend() {
        assert_eq!(compare(&[], &[], day(4)), None);
        assert_eq!(compare(&[tasks(4, 3)], &[], day(4)), None);
    }

    #[test]
    fn the_latest_half_stands_against_the_half_before() {
        let log = [tasks(1, 2), tasks(2, 2), tasks(4, 5)];
        let models =
            [scores(2, "wan", 2, 10, 1), scores(2, "nano", 2, 14, 1), scores(4, "wan", 4, 36, 4)];
        let learning = compare(&log, &models, day(4)).unwrap();
        assert_eq!(learning.before, Span { from: day(1), to: day(2), tasks: 4 });
        assert_eq!(learning.latest, Span { from: day(3), to: day(4), tasks: 5 });
        assert_eq!(learning.score, Measure { before: Some(6.0), latest: Some(9.0) });
        assert_eq!(learning.selection, Measure { before: Some(0.5), latest: Some(1.0) });
        assert_eq!(learning.processing_seconds, Measure { before: Some(1.5), latest: Some(1.5) });
        assert_eq!(learning.kept, Measure { before: None, latest: None });
    }

    #[test]
    fn an_odd_day_at_the_start_is_left_out() {
        let learning = compare(&[tasks(1, 9), tasks(2, 1), tasks(3, 1)], &[], day(3)).unwrap();
        assert_eq!((learning.before.tasks, learning.latest.tasks), (1, 1));
    }
}
