//! Adopted versions since their adoption, and what noise hides.

use serde::Serialize;

use crate::dashboard::words;
use crate::experiment::gate::Sum;
use crate::store::analytics::Analytics;

#[derive(Debug, Serialize)]
pub(super) struct Watched {
    model: String,
    version: i32,
    since: String,
    scores: String,
    mean: String,
    predecessor: String,
    evidence: String,
    stands: &'static str,
    alarm: bool,
}

pub(super) fn watched(it: &Analytics) -> Vec<Watched> {
    let mean = |total: i64, count: i32| {
        let count = u64::from(count.unsigned_abs());
        words::tenths(Sum { total: total.unsigned_abs(), count }.mean())
    };
    it.watches
        .iter()
        .map(|watch| Watched {
            model: watch.model_name.clone(),
            version: watch.version,
            since: words::moment(watch.opened_at, it.time_zone),
            scores: words::count(i64::from(watch.scores)),
            mean: mean(watch.score_sum, watch.scores),
            predecessor: mean(i64::from(watch.reference_sum), watch.reference_count),
            evidence: format!("{:.2} to 1", watch.log_e.exp().min(f64::MAX)),
            stands: match (watch.alarmed_at, watch.ended_because.as_deref()) {
                (Some(_), None) => "harm alarm",
                (Some(_), Some(_)) => "harm alarm, then ended",
                (None, None) => "watched",
                (None, Some("judge_changed")) => "ended, another judge scores",
                (None, Some(_)) => "ended, another version serves",
            },
            alarm: watch.alarmed_at.is_some(),
        })
        .collect()
}

/// One warning for each version whose windows differ by as much as a good candidate would improve them.
pub(super) fn noise(it: &Analytics) -> Vec<String> {
    it.noise
        .iter()
        .filter(|noise| noise.hides_ten_percent)
        .map(|noise| {
            format!(
                "Two windows of {} v{} differ by up to {:.0}% by themselves: an effect of 10% between windows cannot be told from noise.",
                noise.model,
                noise.version,
                noise.floor.difference_95 * 100.0
            )
        })
        .collect()
}
