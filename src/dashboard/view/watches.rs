//! Adopted versions since their adoption, and what noise hides.

use crate::dashboard::table::{Cell, Table};
use crate::dashboard::words;
use crate::experiment::gate::Sum;
use crate::store::analytics::Analytics;

/// The standing watch; none where nothing is or was watched.
pub(super) fn table(it: &Analytics) -> Option<Table> {
    let mean = |total: i64, count: i32| {
        let count = u64::from(count.unsigned_abs());
        Cell::tenths(Sum { total: total.unsigned_abs(), count }.mean())
    };
    let caption =
        "Each is held against what its predecessor scored in the test. The alarm rings at 20 to 1.";
    let mut table = Table::new("watch", caption)
        .short("model", "Model")
        .number("version", "Version")
        .short("since", "Since")
        .number("scores", "Scores")
        .number("mean_score", "Mean")
        .number("predecessor_mean_score", "Predecessor")
        .number("evidence_of_harm", "Evidence of harm")
        .column("stands", "Stands");
    for watch in &it.watches {
        let stands = match (watch.alarmed_at, watch.ended_because.as_deref()) {
            (Some(_), None) => "harm alarm",
            (Some(_), Some(_)) => "harm alarm, then ended",
            (None, None) => "watched",
            (None, Some("judge_changed")) => "ended, another judge scores",
            (None, Some(_)) => "ended, another version serves",
        };
        let evidence = watch.log_e.exp().min(f64::MAX);
        table.row(vec![
            Cell::text(&watch.model_name),
            Cell::count(i64::from(watch.version)),
            Cell::of(words::moment(watch.opened_at, it.time_zone), watch.opened_at.to_rfc3339()),
            Cell::count(i64::from(watch.scores)),
            mean(watch.score_sum, watch.scores),
            mean(i64::from(watch.reference_sum), watch.reference_count),
            Cell::of(format!("{evidence:.2} to 1"), evidence),
            Cell::text(stands).tag(if watch.alarmed_at.is_some() { "rejected" } else { "quiet" }),
        ]);
    }
    (!table.is_empty()).then_some(table)
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
