//! The tables, bars and lists of the first page.

use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::Value;

use crate::dashboard::table::{Cell, Table};
use crate::dashboard::{links, words};
use crate::experiment::evidence::Evidence;
use crate::experiment::figures;
use crate::research::quotes::FORGOTTEN;
use crate::store::analytics::{Analytics, Experiment, Insight, ModelDay};

/// A bar with its words; its length is out of 1000.
#[derive(Debug, Serialize)]
pub(in crate::dashboard) struct Bar {
    label: String,
    text: String,
    length: i64,
}

/// What became of the pictures that a person judged.
#[derive(Debug, Serialize)]
pub(in crate::dashboard) struct Fates {
    kept: String,
    deleted: String,
    share: String,
    /// Length of the kept part, out of 1000.
    length: i64,
}

#[derive(Debug, Serialize)]
pub(in crate::dashboard) struct Verdict {
    model: String,
    page: String,
    versions: String,
    cycle: i64,
    status: String,
    label: String,
    improvement: String,
    means: Option<String>,
    decided: Option<String>,
    sentence: String,
    evidence: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
pub(in crate::dashboard) struct Finding {
    kind: String,
    model: String,
    description: String,
    change: String,
    confidence: String,
    tasks: i32,
    examples: Vec<(String, Option<String>)>,
    applied: bool,
    id: String,
    standing: String,
    record: String,
    cycle: i64,
    page: String,
}

#[derive(Debug, Serialize)]
pub(in crate::dashboard) struct Cost {
    month: String,
    spent: String,
    budget: Option<String>,
    estimated: Option<String>,
    calls: String,
    share: Option<String>,
    /// Width of the bar in thousandths, at most 1000.
    bar: Option<i64>,
}

/// Length out of 1000 of a share from 0 to 1.
#[expect(clippy::cast_possible_truncation, reason = "a cast of f64 saturates, and it is capped")]
fn length(share: f64) -> i64 {
    ((share * 1000.0).round() as i64).clamp(0, 1000)
}

pub(super) fn days(it: &Analytics, models: &[&str]) -> Table {
    let mut table =
        Table::new("days", "Tasks by the day on which they arrived, and each model's mean score.")
            .short("day", "Day")
            .number("tasks", "Tasks")
            .number("completed", "Completed")
            .number("iterations", "Iterations")
            .number("seconds", "Time a task")
            .number("kept", "Kept")
            .number("deleted", "Deleted")
            .column(
                "mean_scores",
                if models.is_empty() { "Mean scores".to_owned() } else { models.join(", ") },
            );
    for day in it.task_days.iter().rev() {
        let found = |model: &&str| -> Option<&ModelDay> {
            it.model_days.iter().find(|point| point.day == day.day && point.model == **model)
        };
        let means: Vec<String> = models
            .iter()
            .map(|model| words::tenths(found(model).and_then(|point| point.mean_score)))
            .collect();
        let values: serde_json::Map<String, Value> = models
            .iter()
            .map(|model| {
                let mean = found(model).and_then(|point| point.mean_score);
                ((*model).to_owned(), Value::from(mean))
            })
            .collect();
        table.row(vec![
            Cell::of(words::day(day.day), day.day.to_string()),
            Cell::count(day.total),
            Cell::count(day.completed),
            Cell::of(words::hundredths(day.mean_iterations), day.mean_iterations),
            Cell::of(words::duration(day.mean_processing_seconds), day.mean_processing_seconds),
            Cell::count(day.kept),
            Cell::count(day.deleted),
            Cell::of(means.join(", "), Value::Object(values)),
        ]);
    }
    table
}

pub(super) fn models(workflow: &str, it: &Analytics) -> Table {
    let caption = "How each model does. The win rate is of the tasks that have a winner.";
    let mut table = Table::new("models", caption)
        .short("model", "Model")
        .number("active_version", "Active version")
        .number("attempts", "Attempts")
        .number("scored", "Scored")
        .number("mean_score", "Mean score")
        .number("pass_rate", "Pass rate")
        .number("wins", "Wins")
        .number("win_rate", "Win rate");
    for model in &it.models {
        let active = it
            .versions
            .iter()
            .filter(|known| known.model == model.model)
            .flat_map(|known| &known.versions)
            .find(|version| version.active);
        let name = Cell::text(&model.model);
        table.row(vec![
            if model.observed {
                name.note("observed only")
            } else {
                name.to(links::model(workflow, &model.model))
            },
            Cell::count_or_nothing(active.map(|version| i64::from(version.version))),
            Cell::count(model.attempts),
            Cell::count(model.scored),
            Cell::tenths(model.mean_score),
            Cell::percent(model.pass_rate),
            Cell::count(model.wins),
            Cell::percent(model.win_rate),
        ]);
    }
    table
}

/// Who wins, the most frequent first.
pub(super) fn wins(it: &Analytics) -> Vec<Bar> {
    let mut winners: Vec<_> = it.models.iter().filter(|model| model.wins > 0).collect();
    winners.sort_by_key(|model| std::cmp::Reverse(model.wins));
    winners
        .iter()
        .map(|model| Bar {
            label: model.model.clone(),
            text: format!("{} ({})", words::percent(model.win_rate), words::count(model.wins)),
            length: length(model.win_rate.unwrap_or_default()),
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53, and it is a picture")]
pub(super) fn fates(it: &Analytics) -> Option<Fates> {
    let (kept, deleted) = (it.tasks.kept, it.tasks.deleted);
    let judged = kept + deleted;
    (judged > 0).then(|| {
        let share = kept as f64 / judged as f64;
        Fates {
            kept: words::count(kept),
            deleted: words::count(deleted),
            share: words::percent(Some(share)),
            length: length(share),
        }
    })
}

/// A verdict with its evidence folded under its sentence.
pub(in crate::dashboard) fn verdict(workflow: &str, verdict: &Experiment, zone: Tz) -> Verdict {
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
        page: links::cycle(workflow, verdict.cycle),
        versions: format!("version {} against {}", verdict.new_version, verdict.old_version),
        cycle: verdict.cycle,
        label: label(verdict),
        status: verdict.status.clone(),
        improvement: words::change(verdict.improvement),
        means: old.zip(new).map(|(old, new)| format!("old {old}, new {new}")),
        decided: verdict.decided_at.map(|at| words::moment(at, zone)),
        sentence: sentences(verdict),
        evidence: verdict.evidence.as_ref().map(evidence).unwrap_or_default(),
    }
}

pub(in crate::dashboard) fn label(verdict: &Experiment) -> String {
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

/// An insight with the tasks that show it.
pub(in crate::dashboard) fn finding(workflow: &str, insight: &Insight) -> Finding {
    // A forgotten task has no page.
    let page = |task: &String| (task != FORGOTTEN).then(|| links::task(workflow, task, ""));
    let task = |task: &String| (task.clone(), page(task));
    Finding {
        kind: words::title(&insight.insight_type),
        model: if insight.model == "all" { "all models".to_owned() } else { insight.model.clone() },
        description: insight.description.clone(),
        change: insight.suggested_change.clone(),
        confidence: words::percent(Some(insight.confidence)),
        tasks: insight.tasks_analyzed,
        examples: insight.example_task_ids.iter().map(task).collect(),
        applied: insight.applied,
        id: insight.id.clone(),
        standing: insight.standing.clone(),
        record: record(insight),
        cycle: insight.cycle,
        page: links::cycle(workflow, insight.cycle),
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

/// Which version of each model serves.
pub(super) fn active(workflow: &str, it: &Analytics) -> Table {
    let mut table = Table::new("active", "The version that serves, by model.")
        .short("model", "Model")
        .number("version", "Version")
        .number("versions", "Of")
        .number("test_score", "Test score")
        .short("made", "Made")
        .long("summary", "What it changed");
    for known in &it.versions {
        let Some(version) = known.versions.iter().find(|version| version.active) else { continue };
        table.row(vec![
            Cell::text(&known.model).to(links::model(workflow, &known.model)),
            Cell::count(i64::from(version.version)).to(links::version(
                workflow,
                &known.model,
                version.version,
            )),
            Cell::count(i64::from(known.count)),
            Cell::tenths(version.a_b_test_score),
            Cell::of(
                words::moment(version.created_at, it.time_zone),
                version.created_at.to_rfc3339(),
            )
            .note(&version.created_by),
            Cell::text(&version.summary),
        ]);
    }
    table
}

pub(super) fn cost(it: &Analytics) -> Cost {
    let cost = &it.cost;
    let share = cost
        .budget_usd
        .filter(|budget| *budget > Decimal::ZERO)
        .and_then(|budget| cost.spent_usd.checked_div(budget))
        .and_then(|share| share.to_f64());
    Cost {
        month: cost.month.format("%B %Y").to_string(),
        spent: words::dollars(cost.spent_usd),
        budget: cost.budget_usd.map(words::dollars),
        estimated: (cost.estimated_usd > Decimal::ZERO).then(|| words::dollars(cost.estimated_usd)),
        calls: words::count(cost.calls),
        share: share.map(|share| words::percent(Some(share))),
        bar: share.map(length),
    }
}
