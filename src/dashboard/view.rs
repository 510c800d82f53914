//! What the templates print: every number already in words, every chart already placed.

use serde::Serialize;
use serde_json::Value;

use super::WorkflowAnalytics;
use super::chart::{self, COLOURS, Chart, Mark, Plot, Point, Series};
use super::words::{self, NOTHING};
use crate::store::analytics::{
    Analytics, ArmCount, ConfigChange, Experiment, Insight, Learning, Measure, Phase, TaskDay,
};

const WIDE: (f64, f64) = (960.0, 320.0);
const HALF: (f64, f64) = (464.0, 220.0);
const NARROW: (f64, f64) = (350.0, 240.0);
/// Days that the tables list; the charts show all.
const DAYS_LISTED: usize = 60;

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
    scores: Option<Pair>,
    iterations: Option<Pair>,
    processing: Option<Pair>,
    legend: Vec<String>,
    days: Vec<Day>,
    days_hidden: usize,
    models: Vec<Model>,
    tasks: Vec<(&'static str, String)>,
    removed_unanalyzed: Option<String>,
    past: Vec<Verdict>,
    insights: Vec<Finding>,
    versions: Vec<Versions>,
    changes: Vec<Change>,
    cost: Cost,
}

/// The same chart for wide and for narrow screens.
#[derive(Debug, Serialize)]
struct Pair {
    wide: Chart,
    narrow: Chart,
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

#[derive(Debug, Serialize)]
struct Day {
    day: String,
    tasks: String,
    iterations: String,
    processing: String,
    /// One for each model of the legend.
    scores: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Model {
    name: String,
    observed: bool,
    active: String,
    attempts: String,
    scored: String,
    mean: String,
    pass_rate: String,
    wins: String,
    win_rate: String,
}

#[derive(Debug, Serialize)]
struct Verdict {
    model: String,
    versions: String,
    cycle: i64,
    status: String,
    label: String,
    improvement: String,
    means: Option<String>,
    decided: String,
    sentence: String,
    evidence: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
struct Finding {
    kind: String,
    model: String,
    description: String,
    change: String,
    confidence: String,
    tasks: i32,
    examples: Vec<String>,
    applied: bool,
    cycle: i64,
}

#[derive(Debug, Serialize)]
struct Versions {
    model: String,
    rows: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    version: i32,
    active: bool,
    parent: String,
    score: String,
    tested: String,
    summary: String,
    created: String,
    by: String,
}

#[derive(Debug, Serialize)]
struct Change {
    at: String,
    model: String,
    what: String,
    status: String,
    backup: String,
    summary: String,
    by: String,
}

#[derive(Debug, Serialize)]
struct Cost {
    month: String,
    spent: String,
    budget: Option<String>,
    estimated: Option<String>,
    calls: String,
    share: Option<String>,
    /// Width of the bar in thousandths, at most 1000.
    bar: Option<i64>,
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
            scores: scores_chart(&id, it, &scored),
            iterations: days_chart(&format!("{id}-iterations"), "Iterations a task, by day", it, |day| {
                (day.iterations_sum, 1.0, day.iterations_tasks)
            }),
            processing: days_chart(&format!("{id}-time"), "Minutes a task, by day", it, |day| {
                (day.processing_sum_ms, 60_000.0, day.processing_tasks)
            }),
            legend: scored.iter().map(|&model| model.to_owned()).collect(),
            days: days(it, &scored),
            days_hidden: it.task_days.len().saturating_sub(DAYS_LISTED),
            models: models(it),
            tasks: tasks(it),
            removed_unanalyzed: (it.tasks.removed_unanalyzed > 0)
                .then(|| words::count(it.tasks.removed_unanalyzed)),
            past: it.past.iter().map(|verdict| self::verdict(verdict, it)).collect(),
            insights: it.insights.iter().map(finding).collect(),
            versions: versions(it),
            changes: it.config_changes.iter().map(|changed| change(changed, it)).collect(),
            cost: cost(it),
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
                if (is > was) == up_is_good { "better" } else { "worse" }
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
    let many = |number: i64, state| std::iter::repeat_n(state, usize::try_from(number).unwrap_or(0));
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

#[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53, and it is a picture")]
fn scores_chart(id: &str, it: &Analytics, models: &[&str]) -> Option<Pair> {
    let series: Vec<Series> = models
        .iter()
        .map(|&model| Series {
            label: model.to_owned(),
            points: it
                .model_days
                .iter()
                .filter(|day| day.model == model)
                .map(|day| Point { day: day.day, sum: day.score_sum as f64, count: day.scored as f64 })
                .collect(),
        })
        .collect();
    let marks: Vec<Mark> = it
        .activations
        .iter()
        .filter(|mark| mark.kind != "first_start")
        .map(|mark| Mark { day: mark.day, label: format!("{} v{}", mark.model, mark.version) })
        .collect();
    let limits = (0.0, Some(f64::from(it.score_max)));
    pair(&format!("{id}-scores"), "Mean score by day", &series, &marks, limits, WIDE)
}

/// A chart of one line; `of` gives a day's sum, what to divide it by for its unit, and its count.
#[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53, and it is a picture")]
fn days_chart(id: &str, title: &str, it: &Analytics, of: fn(&TaskDay) -> (i64, f64, i64)) -> Option<Pair> {
    let point = |day: &TaskDay| {
        let (sum, unit, count) = of(day);
        Point { day: day.day, sum: sum as f64 / unit, count: count as f64 }
    };
    let series = [Series { label: "All models".to_owned(), points: it.task_days.iter().map(point).collect() }];
    pair(id, title, &series, &[], (0.0, None), HALF)
}

fn pair(
    id: &str,
    title: &str,
    series: &[Series],
    marks: &[Mark],
    limits: (f64, Option<f64>),
    wide: (f64, f64),
) -> Option<Pair> {
    let plot = |suffix, (width, height)| Plot {
        id: format!("{id}-{suffix}"),
        title: title.to_owned(),
        series,
        marks,
        limits,
        width,
        height,
    };
    Some(Pair { wide: chart::draw(&plot("wide", wide))?, narrow: chart::draw(&plot("narrow", NARROW))? })
}

fn days(it: &Analytics, models: &[&str]) -> Vec<Day> {
    let score = |day: &TaskDay, model: &str| {
        let found = it.model_days.iter().find(|point| point.day == day.day && point.model == model);
        words::tenths(found.and_then(|point| point.mean_score))
    };
    it.task_days
        .iter()
        .rev()
        .take(DAYS_LISTED)
        .map(|day| Day {
            day: words::day(day.day),
            tasks: words::count(day.total),
            iterations: words::tenths(day.mean_iterations),
            processing: words::duration(day.mean_processing_seconds),
            scores: models.iter().map(|model| score(day, model)).collect(),
        })
        .collect()
}

fn models(it: &Analytics) -> Vec<Model> {
    let active = |model: &str| {
        it.versions
            .iter()
            .filter(|known| known.model == model)
            .flat_map(|known| &known.versions)
            .find(|version| version.active)
            .map_or_else(|| NOTHING.to_owned(), |version| version.version.to_string())
    };
    it.models
        .iter()
        .map(|model| Model {
            name: model.model.clone(),
            observed: model.observed,
            active: active(&model.model),
            attempts: words::count(model.attempts),
            scored: words::count(model.scored),
            mean: words::tenths(model.mean_score),
            pass_rate: words::percent(model.pass_rate),
            wins: words::count(model.wins),
            win_rate: words::percent(model.win_rate),
        })
        .collect()
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

fn verdict(verdict: &Experiment, it: &Analytics) -> Verdict {
    let mean = |sum: Option<i32>, count: Option<i32>| match (sum, count) {
        (Some(sum), Some(count)) if count > 0 => {
            Some(format!("{} ({sum} over {count})", words::tenths(Some(f64::from(sum) / f64::from(count)))))
        }
        _ => None,
    };
    let old = mean(verdict.old_sum, verdict.old_count);
    let new = mean(verdict.new_sum, verdict.new_count);
    Verdict {
        model: verdict.model.clone(),
        versions: format!("version {} against {}", verdict.new_version, verdict.old_version),
        cycle: verdict.cycle,
        label: if verdict.on_watch { "adopted, on watch".to_owned() } else { verdict.status.clone() },
        status: verdict.status.clone(),
        improvement: words::change(verdict.improvement),
        means: old.zip(new).map(|(old, new)| format!("old {old}, new {new}")),
        decided: verdict
            .decided_at
            .map_or_else(|| NOTHING.to_owned(), |at| words::moment(at, it.time_zone)),
        sentence: verdict.sentence.clone().unwrap_or_default(),
        evidence: verdict.evidence.as_ref().map(evidence).unwrap_or_default(),
    }
}

/// The numbers that a person asks for first; the rest is in the JSON answer.
fn evidence(evidence: &Value) -> Vec<(&'static str, String)> {
    let number = |name: &str| evidence.get(name).and_then(Value::as_f64);
    let decimals = |value: f64| format!("{value:.3}");
    [
        ("Improvement likely to last", number("posterior_mean").map(|value| words::change(Some(value)))),
        ("Chance that the new version is better", number("p_better").map(|value| words::percent(Some(value)))),
        ("Chance of this result if both were alike (exact p)", number("p_exact").map(decimals)),
        ("The same, ties by half (mid p)", number("p_mid").map(decimals)),
        ("E-value", number("e_value").map(|value| format!("{value:.2}"))),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value?)))
    .collect()
}

fn finding(insight: &Insight) -> Finding {
    Finding {
        kind: words::title(&insight.insight_type),
        model: if insight.model == "all" { "all models".to_owned() } else { insight.model.clone() },
        description: insight.description.clone(),
        change: insight.suggested_change.clone(),
        confidence: words::percent(Some(insight.confidence)),
        tasks: insight.tasks_analyzed,
        examples: insight.example_task_ids.clone(),
        applied: insight.applied,
        cycle: insight.cycle,
    }
}

fn versions(it: &Analytics) -> Vec<Versions> {
    it.versions
        .iter()
        .map(|known| Versions {
            model: known.model.clone(),
            rows: known
                .versions
                .iter()
                .map(|version| Version {
                    version: version.version,
                    active: version.active,
                    parent: version.parent_version.map_or_else(|| NOTHING.to_owned(), |it| it.to_string()),
                    score: words::tenths(version.a_b_test_score),
                    tested: version.tasks_tested.map_or_else(|| NOTHING.to_owned(), |it| it.to_string()),
                    summary: version.summary.clone(),
                    created: words::moment(version.created_at, it.time_zone),
                    by: version.created_by.clone(),
                })
                .collect(),
        })
        .collect()
}

fn change(change: &ConfigChange, it: &Analytics) -> Change {
    let versions = match change.from_version {
        Some(from) if from != change.to_version => format!("version {from} to {}", change.to_version),
        _ => format!("version {}", change.to_version),
    };
    Change {
        at: words::moment(change.finished_at.unwrap_or(change.intended_at), it.time_zone),
        model: change.model.clone(),
        what: format!("{}, {versions}", words::title(&change.kind)),
        status: change.status.clone(),
        backup: change.backup_path.clone().unwrap_or_else(|| change.backup_name.clone()),
        summary: change.reason.clone().map_or_else(
            || change.summary.clone(),
            |reason| if change.summary.is_empty() { reason } else { format!("{} ({reason})", change.summary) },
        ),
        by: change.changed_by.clone(),
    }
}

fn cost(it: &Analytics) -> Cost {
    use rust_decimal::Decimal;
    use rust_decimal::prelude::ToPrimitive;

    let cost = &it.cost;
    let dollars = |amount: Decimal| format!("${:.2}", amount.round_dp(2));
    let share = cost
        .budget_usd
        .filter(|budget| *budget > Decimal::ZERO)
        .and_then(|budget| cost.spent_usd.checked_div(budget))
        .and_then(|share| share.to_f64());
    #[expect(clippy::cast_possible_truncation, reason = "a cast of f64 saturates, and it is capped")]
    let bar = share.map(|share| ((share * 1000.0) as i64).clamp(0, 1000));
    Cost {
        month: cost.month.format("%B %Y").to_string(),
        spent: dollars(cost.spent_usd),
        budget: cost.budget_usd.map(dollars),
        estimated: (cost.estimated_usd > Decimal::ZERO).then(|| dollars(cost.estimated_usd)),
        calls: words::count(cost.calls),
        share: share.map(|share| words::percent(Some(share))),
        bar,
    }
}
