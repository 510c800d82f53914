//! Whether it learns: the latest days against as many days before them.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use serde::Serialize;
use utoipa::ToSchema;

use super::log::mean;
use super::{ModelDay, TaskDay};

/// The most days on each side of the comparison.
pub const SPAN_DAYS_MAX: u64 = 30;

/// The most steps into which each side is parted.
const STEPS_A_SIDE_MAX: u64 = 8;

/// Two stretches of days of the same length, side by side.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    /// Entropy of the winners in bits: 0 where one model wins always; lower means a steadier choice.
    pub winner_entropy_bits: Measure,
    /// Kept of all pictures that a person judged, 0 to 1; higher is better.
    pub kept: Measure,
    /// The same numbers in equal steps through both stretches, oldest first.
    pub steps: Vec<Step>,
}

/// The numbers of a few days; none where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[schema(as = LearningStep)]
pub struct Step {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, itself included.
    pub to: NaiveDate,
    /// Mean score over all models.
    pub score: Option<f64>,
    /// Mean iterations of a task.
    pub iterations: Option<f64>,
    /// Mean seconds of a task.
    pub processing_seconds: Option<f64>,
    /// Entropy of the winners in bits.
    pub winner_entropy_bits: Option<f64>,
    /// Kept of all pictures that a person judged.
    pub kept: Option<f64>,
}

/// A stretch of days, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LearningSpan)]
pub struct Span {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Tasks that arrived in it.
    pub tasks: i64,
}

/// One number on both sides; none where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[schema(as = LearningMeasure)]
pub struct Measure {
    /// In the days before.
    pub before: Option<f64>,
    /// In the latest days.
    pub latest: Option<f64>,
}

/// Compares the latest days, up to and with `today`, with as many before them: half of the days on
/// record, at most `SPAN_DAYS_MAX`. None while fewer than two days are on record. Scores are those of the
/// one model where it is named; who wins is told of all.
#[must_use]
pub fn compare(
    tasks: &[TaskDay],
    models: &[ModelDay],
    model: Option<&str>,
    today: NaiveDate,
) -> Option<Learning> {
    let first = tasks.iter().map(|day| day.day).min()?;
    let days = u64::try_from(today.signed_duration_since(first).num_days() + 1).ok()?;
    let length = (days / 2).min(SPAN_DAYS_MAX);
    if length == 0 {
        return None;
    }
    let latest_from = today.checked_sub_days(Days::new(length - 1))?;
    let before_to = latest_from.pred_opt()?;
    let before_from = before_to.checked_sub_days(Days::new(length - 1))?;
    let log = Log { tasks, models, model };
    let before = log.side(before_from, before_to);
    let latest = log.side(latest_from, today);
    let measure =
        |of: fn(&Side) -> Option<f64>| Measure { before: of(&before), latest: of(&latest) };
    Some(Learning {
        before: before.span,
        latest: latest.span,
        score: measure(Side::score),
        iterations: measure(Side::iterations),
        processing_seconds: measure(Side::processing_seconds),
        selection: measure(|side| mean(side.wins_leading, side.wins)),
        winner_entropy_bits: measure(Side::winner_entropy_bits),
        kept: measure(Side::kept),
        steps: steps(&log, before_from, length),
    })
}

/// Parts both sides into as many steps, so that no step lies on both and no day is left over.
fn steps(log: &Log<'_>, first: NaiveDate, length: u64) -> Vec<Step> {
    let a_side = STEPS_A_SIDE_MAX.min(length);
    let day = |step: u64| first.checked_add_days(Days::new(step * length / a_side));
    (0..a_side * 2)
        .filter_map(|step| {
            let (from, to) = (day(step)?, day(step + 1)?.pred_opt()?);
            let side = log.side(from, to);
            Some(Step {
                from,
                to,
                score: side.score(),
                iterations: side.iterations(),
                processing_seconds: side.processing_seconds(),
                winner_entropy_bits: side.winner_entropy_bits(),
                kept: side.kept(),
            })
        })
        .collect()
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
    winner_entropy_bits: Option<f64>,
    kept: i64,
    deleted: i64,
}

/// What is compared.
struct Log<'l> {
    tasks: &'l [TaskDay],
    models: &'l [ModelDay],
    model: Option<&'l str>,
}

impl Log<'_> {
    fn side(&self, from: NaiveDate, to: NaiveDate) -> Side {
        let within = from..=to;
        let tasks: Vec<&TaskDay> =
            self.tasks.iter().filter(|day| within.contains(&day.day)).collect();
        let models: Vec<&ModelDay> =
            self.models.iter().filter(|day| within.contains(&day.day)).collect();
        let is_scored =
            |day: &&&ModelDay| self.model.is_none_or(|model| model == day.model.as_str());
        let scored: Vec<&ModelDay> = models.iter().filter(is_scored).copied().collect();
        let task_sum = |of: fn(&TaskDay) -> i64| tasks.iter().copied().map(of).sum::<i64>();
        let sum = |days: &[&ModelDay], of: fn(&ModelDay) -> i64| {
            days.iter().copied().map(of).sum::<i64>()
        };
        let mut wins_by_model: BTreeMap<&str, i64> = BTreeMap::new();
        for day in &models {
            *wins_by_model.entry(&day.model).or_default() += day.wins;
        }
        Side {
            span: Span { from, to, tasks: task_sum(|day| day.total) },
            score_sum: sum(&scored, |day| day.score_sum),
            scored: sum(&scored, |day| day.scored),
            iterations: (task_sum(|day| day.iterations_sum), task_sum(|day| day.iterations_tasks)),
            processing_ms: (
                task_sum(|day| day.processing_sum_ms),
                task_sum(|day| day.processing_tasks),
            ),
            wins: sum(&models, |day| day.wins),
            winner_entropy_bits: entropy_bits(&wins_by_model),
            wins_leading: wins_by_model.values().copied().max().unwrap_or(0),
            kept: task_sum(|day| day.kept),
            deleted: task_sum(|day| day.deleted),
        }
    }
}

impl Side {
    fn score(&self) -> Option<f64> {
        mean(self.score_sum, self.scored)
    }

    fn iterations(&self) -> Option<f64> {
        mean(self.iterations.0, self.iterations.1)
    }

    fn processing_seconds(&self) -> Option<f64> {
        mean(self.processing_ms.0, self.processing_ms.1).map(|mean_ms| mean_ms / 1000.0)
    }

    const fn winner_entropy_bits(&self) -> Option<f64> {
        self.winner_entropy_bits
    }

    fn kept(&self) -> Option<f64> {
        mean(self.kept, self.kept + self.deleted)
    }
}

/// Shannon's entropy of who wins; none where nobody did.
fn entropy_bits(wins_by_model: &BTreeMap<&str, i64>) -> Option<f64> {
    let all: i64 = wins_by_model.values().sum();
    let shares = wins_by_model.values().filter_map(|&wins| mean(wins, all)).filter(|s| *s > 0.0);
    (all > 0).then(|| shares.map(|share| -share * share.log2()).fold(0.0, |sum, bits| sum + bits))
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
        assert_eq!(compare(&[], &[], None, day(4)), None);
        assert_eq!(compare(&[tasks(4, 3)], &[], None, day(4)), None);
    }

    #[test]
    fn the_latest_half_stands_against_the_half_before() {
        let log = [tasks(1, 2), tasks(2, 2), tasks(4, 5)];
        let models =
            [scores(2, "wan", 2, 10, 1), scores(2, "nano", 2, 14, 1), scores(4, "wan", 4, 36, 4)];
        let learning = compare(&log, &models, None, day(4)).unwrap();
        assert_eq!(learning.before, Span { from: day(1), to: day(2), tasks: 4 });
        assert_eq!(learning.latest, Span { from: day(3), to: day(4), tasks: 5 });
        assert_eq!(learning.score, Measure { before: Some(6.0), latest: Some(9.0) });
        assert_eq!(learning.selection, Measure { before: Some(0.5), latest: Some(1.0) });
        assert_eq!(learning.processing_seconds, Measure { before: Some(1.5), latest: Some(1.5) });
        assert_eq!(learning.kept, Measure { before: None, latest: None });
        let entropy = Measure { before: Some(1.0), latest: Some(0.0) };
        assert_eq!(learning.winner_entropy_bits, entropy, "two models share, then one wins alone");
        let wan = compare(&log, &models, Some("wan"), day(4)).unwrap();
        assert_eq!(wan.score, Measure { before: Some(5.0), latest: Some(9.0) });
        assert_eq!(wan.winner_entropy_bits, entropy, "who wins is told of all models");
        let steps: Vec<_> = learning.steps.iter().map(|step| (step.from, step.score)).collect();
        let expected = [(1, None), (2, Some(6.0)), (3, None), (4, Some(9.0))];
        assert_eq!(steps, expected.map(|(number, score)| (day(number), score)));
    }

    #[test]
    fn an_odd_day_at_the_start_is_left_out() {
        let learning =
            compare(&[tasks(1, 9), tasks(2, 1), tasks(3, 1)], &[], None, day(3)).unwrap();
        assert_eq!((learning.before.tasks, learning.latest.tasks), (1, 1));
    }
}
