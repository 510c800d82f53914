//! The tables and lists further down the page.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::Value;

use crate::dashboard::words::{self, NOTHING};
use crate::experiment::evidence::Evidence;
use crate::experiment::figures;
use crate::store::analytics::{Analytics, ConfigChange, Experiment, Insight, TaskDay};

/// Days that the table lists; the charts show all.
pub(super) const DAYS_LISTED: usize = 60;

#[derive(Debug, Serialize)]
pub(super) struct Day {
    date: String,
    tasks: String,
    iterations: String,
    processing: String,
    /// One for each model of the legend.
    scores: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
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
pub(super) struct Verdict {
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
pub(super) struct Finding {
    kind: String,
    model: String,
    description: String,
    change: String,
    confidence: String,
    tasks: i32,
    examples: Vec<String>,
    applied: bool,
    id: String,
    standing: String,
    record: String,
    cycle: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct Versions {
    model: String,
    rows: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    number: i32,
    active: bool,
    parent: String,
    score: String,
    tested: String,
    summary: String,
    created: String,
    by: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Change {
    at: String,
    model: String,
    what: String,
    status: String,
    backup: String,
    summary: String,
    by: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Cost {
    month: String,
    spent: String,
    budget: Option<String>,
    estimated: Option<String>,
    calls: String,
    share: Option<String>,
    /// Width of the bar in thousandths, at most 1000.
    bar: Option<i64>,
}

pub(super) fn days(it: &Analytics, models: &[&str]) -> Vec<Day> {
    let score = |day: &TaskDay, model: &str| {
        let found = it.model_days.iter().find(|point| point.day == day.day && point.model == model);
        words::tenths(found.and_then(|point| point.mean_score))
    };
    it.task_days
        .iter()
        .rev()
        .take(DAYS_LISTED)
        .map(|day| Day {
            date: words::day(day.day),
            tasks: words::count(day.total),
            iterations: words::tenths(day.mean_iterations),
            processing: words::duration(day.mean_processing_seconds),
            scores: models.iter().map(|model| score(day, model)).collect(),
        })
        .collect()
}

pub(super) fn models(it: &Analytics) -> Vec<Model> {
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

pub(super) fn verdict(verdict: &Experiment, it: &Analytics) -> Verdict {
    let mean = |sum: Option<i32>, count: Option<i32>| match (sum, count) {
        (Some(sum), Some(count)) if count > 0 => Some(format!(
            "{} ({sum} over {count})",
            words::tenths(Some(f64::from(sum) / f64::from(count)))
        )),
        _ => None,
    };
    let old = mean(verdict.old_sum, verdict.old_count);
    let new = mean(verdict.new_sum, verdict.new_count);
    Verdict {
        model: verdict.model.clone(),
        versions: format!("version {} against {}", verdict.new_version, verdict.old_version),
        cycle: verdict.cycle,
        label: label(verdict),
        status: verdict.status.clone(),
        improvement: words::change(verdict.improvement),
        means: old.zip(new).map(|(old, new)| format!("old {old}, new {new}")),
        decided: verdict
            .decided_at
            .map_or_else(|| NOTHING.to_owned(), |at| words::moment(at, it.time_zone)),
        sentence: sentences(verdict),
        evidence: verdict.evidence.as_ref().map(evidence).unwrap_or_default(),
    }
}

fn label(verdict: &Experiment) -> String {
    match verdict.probation.as_deref() {
        Some("open") => "adopted, on watch".to_owned(),
        Some("kept") => "adopted, and kept".to_owned(),
        Some("regressed") => "adopted, then put back".to_owned(),
        _ => verdict.status.clone(),
    }
}

/// The verdict's sentence, and the probation's once it has ended.
fn sentences(verdict: &Experiment) -> String {
    let told = [&verdict.sentence, &verdict.probation_sentence];
    told.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The figures under the sentence; none where an older program stored them otherwise.
fn evidence(stored: &Value) -> Vec<(&'static str, String)> {
    serde_json::from_value::<Evidence>(stored.clone())
        .map(|evidence| figures::of(&evidence))
        .unwrap_or_default()
}

pub(super) fn finding(insight: &Insight) -> Finding {
    Finding {
        kind: words::title(&insight.insight_type),
        model: if insight.model == "all" { "all models".to_owned() } else { insight.model.clone() },
        description: insight.description.clone(),
        change: insight.suggested_change.clone(),
        confidence: words::percent(Some(insight.confidence)),
        tasks: insight.tasks_analyzed,
        examples: insight.example_task_ids.clone(),
        applied: insight.applied,
        id: insight.id.clone(),
        standing: insight.standing.clone(),
        record: record(insight),
        cycle: insight.cycle,
    }
}

/// What became of an insight since it was found; empty while nothing did.
fn record(insight: &Insight) -> String {
    let judged = insight.judged_in_cycle.map(|cycle| {
        let (confirmed, weakened) = (insight.confirmed, insight.weakened);
        format!(
            "Later analyses: confirmed {confirmed}, weakened {weakened}; the last in cycle {cycle}."
        )
    });
    let (helpful, harmful) = (insight.helpful, insight.harmful);
    let tried = (helpful + harmful > 0)
        .then(|| format!("Candidates that rested on it: helpful {helpful}, harmful {harmful}."));
    let unsupported = (insight.standing == "unsupported")
        .then(|| "It named no task of its window, so nothing rests on it.".to_owned());
    [judged, tried, unsupported].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) fn versions(it: &Analytics) -> Vec<Versions> {
    it.versions
        .iter()
        .map(|known| Versions {
            model: known.model.clone(),
            rows: known
                .versions
                .iter()
                .map(|version| Version {
                    number: version.version,
                    active: version.active,
                    parent: version
                        .parent_version
                        .map_or_else(|| NOTHING.to_owned(), |it| it.to_string()),
                    score: words::tenths(version.a_b_test_score),
                    tested: version
                        .tasks_tested
                        .map_or_else(|| NOTHING.to_owned(), |it| it.to_string()),
                    summary: version.summary.clone(),
                    created: words::moment(version.created_at, it.time_zone),
                    by: version.created_by.clone(),
                })
                .collect(),
        })
        .collect()
}

pub(super) fn change(change: &ConfigChange, it: &Analytics) -> Change {
    let versions = match change.from_version {
        Some(from) if from != change.to_version => {
            format!("version {from} to {}", change.to_version)
        }
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
            |reason| {
                if change.summary.is_empty() {
                    reason
                } else {
                    format!("{} ({reason})", change.summary)
                }
            },
        ),
        by: change.changed_by.clone(),
    }
}

pub(super) fn cost(it: &Analytics) -> Cost {
    let cost = &it.cost;
    let dollars = |amount: Decimal| format!("${:.2}", amount.round_dp(2));
    let share = cost
        .budget_usd
        .filter(|budget| *budget > Decimal::ZERO)
        .and_then(|budget| cost.spent_usd.checked_div(budget))
        .and_then(|share| share.to_f64());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of f64 saturates, and it is capped"
    )]
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
