//! What the templates print: every number already in words, every chart already placed.

mod charts;
mod tables;
mod watches;

use serde::Serialize;

use super::WorkflowAnalytics;
use super::chart::COLOURS;
use super::words;
use crate::store::analytics::{Analytics, ArmCount, Learning, Measure, Phase};
use tables::DAYS_LISTED;

#[derive(Debug, Serialize)]
pub(super) struct Workflow {
    /// Unique in the page, for headings and charts.
    id: String,
    name: String,
    empty: bool,
    time_zone: &'static str,
    generated: String,
    standing: String,
    cycle: Option<Cycle>,
    holds: Vec<Hold>,
    learning: String,
    span: Option<String>,
    measures: Vec<Compared>,
    running: Vec<Running>,
    score_max: u32,
    scores: Option<charts::Pair>,
    iterations: Option<charts::Pair>,
    processing: Option<charts::Pair>,
    legend: Vec<String>,
    days: Vec<tables::Day>,
    days_hidden: usize,
    models: Vec<tables::Model>,
    tasks: Vec<(&'static str, String)>,
    removed_unanalyzed: Option<String>,
    past: Vec<tables::Verdict>,
    watches: Vec<watches::Watched>,
    noise: Vec<String>,
    insights: Vec<tables::Finding>,
    versions: Vec<tables::Versions>,
    changes: Vec<tables::Change>,
    cost: tables::Cost,
}

#[derive(Debug, Serialize)]
struct Cycle {
    number: String,
    since: String,
    waiting: Option<String>,
}

#[derive(Debug, Serialize)]
struct Hold {
    title: String,
    reason: String,
    remedy: String,
    since: String,
    by: String,
}

#[derive(Debug, Serialize)]
struct Compared {
    label: &'static str,
    latest: String,
    before: String,
    /// `better`, `worse` or empty.
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
struct Running {
    model: String,
    phase: &'static str,
    arms: Vec<Arm>,
}

#[derive(Debug, Serialize)]
struct Arm {
    label: String,
    /// One of `scored`, `dealt` and `open` for each slot, in that order.
    slots: Vec<&'static str>,
    scored: i64,
    of: i64,
    under_way: i64,
    sum: String,
    mean: String,
}

impl Workflow {
    pub(super) fn new(index: usize, of: &WorkflowAnalytics) -> Self {
        let it = &of.analytics;
        let zone = it.time_zone;
        let id = format!("w{}", index + 1);
        let scored: Vec<&str> = it
            .models
            .iter()
            .filter(|model| model.scored > 0)
            .map(|model| model.model.as_str())
            .take(COLOURS)
            .collect();
        Self {
            name: of.workflow.clone(),
            empty: it.tasks.total == 0,
            time_zone: zone.name(),
            generated: words::moment(it.generated_at, zone),
            standing: words::standing(it),
            cycle: it.cycle.as_ref().map(|cycle| Cycle {
                number: words::count(cycle.number),
                since: words::moment(cycle.since, zone),
                waiting: (cycle.state != "collecting" && cycle.waiting_tasks > 0)
                    .then(|| words::count(cycle.waiting_tasks)),
            }),
            holds: holds(it),
            learning: words::learning(it),
            span: it.learning.as_ref().map(span),
            measures: it.learning.as_ref().map(measures).unwrap_or_default(),
            running: running(it),
            score_max: it.score_max,
            scores: charts::scores(&id, it, &scored),
            iterations: charts::days(
                &format!("{id}-iterations"),
                "Iterations a task, by day",
                it,
                |day| (day.iterations_sum, 1.0, day.iterations_tasks),
            ),
            processing: charts::days(&format!("{id}-time"), "Minutes a task, by day", it, |day| {
                (day.processing_sum_ms, 60_000.0, day.processing_tasks)
            }),
            legend: scored.iter().map(|&model| model.to_owned()).collect(),
            days: tables::days(it, &scored),
            days_hidden: it.task_days.len().saturating_sub(DAYS_LISTED),
            models: tables::models(it),
            tasks: tasks(it),
            removed_unanalyzed: (it.tasks.removed_unanalyzed > 0)
                .then(|| words::count(it.tasks.removed_unanalyzed)),
            past: it.past.iter().map(|verdict| tables::verdict(verdict, it)).collect(),
            watches: watches::watched(it),
            noise: watches::noise(it),
            insights: it.insights.iter().map(tables::finding).collect(),
            versions: tables::versions(it),
            changes: it.config_changes.iter().map(|changed| tables::change(changed, it)).collect(),
            cost: tables::cost(it),
            id,
        }
    }
}

fn holds(it: &Analytics) -> Vec<Hold> {
    it.holds
        .iter()
        .map(|hold| Hold {
            title: match hold.kind.as_str() {
                "operator" => "Paused".to_owned(),
                "effect_failed" => "A step failed".to_owned(),
                "approval" => "Waiting for approval".to_owned(),
                "automation_off" => "Automation is off".to_owned(),
                "budget_spent" => "The month's budget is spent".to_owned(),
                "config_conflict" => "A config file was edited by hand".to_owned(),
                other => words::title(other),
            },
            reason: hold.reason.clone(),
            remedy: hold.remedy.clone(),
            since: words::moment(hold.placed_at, it.time_zone),
            by: hold.placed_by.clone(),
        })
        .collect()
}

fn span(learning: &Learning) -> String {
    format!(
        "{} to {} against {} to {}",
        words::day(learning.latest.from),
        words::day(learning.latest.to),
        words::day(learning.before.from),
        words::day(learning.before.to)
    )
}

fn measures(learning: &Learning) -> Vec<Compared> {
    let compared = |label, measure: Measure, up_is_good: bool, text: fn(Option<f64>) -> String| {
        let (before, latest) = (text(measure.before), text(measure.latest));
        let verdict = match (measure.before, measure.latest) {
            // What reads the same has not moved.
            (Some(was), Some(is)) if before != latest => {
                if (is > was) == up_is_good {
                    "better"
                } else {
                    "worse"
                }
            }
            _ => "",
        };
        Compared { label, latest, before, verdict }
    };
    vec![
        compared("Mean score", learning.score, true, words::tenths),
        compared("Iterations a task", learning.iterations, false, words::tenths),
        compared("Time a task", learning.processing_seconds, false, words::duration),
        compared("Wins of the leading model", learning.selection, true, words::percent),
        compared("Pictures kept", learning.kept, true, words::percent),
    ]
}

fn running(it: &Analytics) -> Vec<Running> {
    it.running
        .iter()
        .map(|running| Running {
            model: running.model.clone(),
            phase: match running.phase {
                Phase::Test => "test",
                Phase::Watch => "adopted, on watch",
            },
            arms: vec![
                arm(format!("Old, version {}", running.old_version), &running.old),
                arm(format!("New, version {}", running.new_version), &running.new),
            ],
        })
        .collect()
}

fn arm(label: String, count: &ArmCount) -> Arm {
    let under_way = count.dealt - count.scored;
    let many =
        |number: i64, state| std::iter::repeat_n(state, usize::try_from(number).unwrap_or(0));
    Arm {
        label,
        slots: many(count.scored, "scored")
            .chain(many(under_way, "dealt"))
            .chain(many(count.slots - count.dealt, "open"))
            .collect(),
        scored: count.scored,
        of: count.slots,
        under_way,
        sum: words::count(count.sum),
        mean: words::tenths(count.mean),
    }
}

fn tasks(it: &Analytics) -> Vec<(&'static str, String)> {
    let tasks = &it.tasks;
    vec![
        ("Tasks", words::count(tasks.total)),
        ("Completed", words::count(tasks.completed)),
        ("Errored", words::count(tasks.errored)),
        ("Abandoned", words::count(tasks.abandoned)),
        ("Running", words::count(tasks.running)),
        ("Kept", words::count(tasks.kept)),
        ("Deleted", words::count(tasks.deleted)),
    ]
}
