//! What the templates print: every number already in words, every chart already placed.

mod charts;
mod learning;
pub(super) mod tables;
mod watches;

use serde::Serialize;

use super::chart::COLOURS;
use super::spark::{self, Histogram};
use super::statechart::{self, StateChart};
use super::table::Table;
use super::{WorkflowAnalytics, links, words};
use crate::store::analytics::{Analytics, ArmCount, Phase};
use crate::store::notifications::Trouble;

/// Verdicts and insights on the first screen; their own pages have the others.
const LATEST: usize = 3;

#[derive(Debug, Serialize)]
pub(super) struct Workflow {
    /// Unique in the page, for headings and charts.
    id: String,
    name: String,
    home: String,
    empty: bool,
    filtered: bool,
    time_zone: &'static str,
    generated: String,
    counted: Option<String>,
    only_model: Option<String>,
    standing: String,
    cycle: Option<Cycle>,
    holds: Vec<Hold>,
    /// Notifications that could not be delivered, in words.
    undelivered: Option<String>,
    /// False while automation is switched off.
    automatic: bool,
    learning: String,
    measures: Vec<learning::Compared>,
    running: Vec<Running>,
    score_max: u32,
    scores: Option<charts::Pair>,
    iterations: Option<charts::Pair>,
    processing: Option<charts::Pair>,
    legend: Vec<String>,
    models: Table,
    days: Table,
    wins: Vec<tables::Bar>,
    fates: Option<tables::Fates>,
    tasks: Vec<(&'static str, String)>,
    removed_unanalyzed: Option<String>,
    past: Vec<tables::Verdict>,
    past_hidden: usize,
    watch: Option<Table>,
    noise: Vec<String>,
    insights: Vec<tables::Finding>,
    insights_hidden: usize,
    active: Table,
    cost: tables::Cost,
}

#[derive(Debug, Serialize)]
struct Cycle {
    number: String,
    page: String,
    since: String,
    waiting: Option<String>,
    chart: StateChart,
    /// True while an operator's pause stands.
    paused: bool,
}

/// A hold as a page tells it, with the buttons that lift it.
#[derive(Debug, Serialize)]
pub(super) struct Hold {
    pub title: String,
    pub reason: String,
    pub remedy: String,
    pub since: String,
    pub by: String,
    /// Where what caused it is looked at and decided, if that has a page.
    pub page: Option<String>,
    pub releases: Vec<Release>,
}

/// A button that lifts a hold.
#[derive(Debug, Serialize)]
pub(super) struct Release {
    label: &'static str,
    /// Where its form is sent.
    action: String,
    /// A field that the form carries beside the token.
    field: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Serialize)]
struct Running {
    model: String,
    page: String,
    phase: &'static str,
    arms: Vec<Arm>,
    histogram: Option<Histogram>,
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
    pub(super) fn new(index: usize, of: &WorkflowAnalytics, query: &str) -> Self {
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
        let home = links::workflow(&of.workflow);
        let address = links::with_query(&home, query);
        let placed = |mut table: Table| {
            table.belongs_to(&address);
            table
        };
        Self {
            name: of.workflow.clone(),
            empty: it.tasks.total == 0,
            filtered: !query.is_empty(),
            time_zone: zone.name(),
            generated: words::moment(it.generated_at, zone),
            counted: it.counted_at.map(|at| words::moment(at, zone)),
            only_model: it.model.clone(),
            standing: words::standing(it),
            cycle: cycle(&id, &of.workflow, it),
            holds: holds(&of.workflow, it),
            undelivered: of.undelivered.as_ref().map(Trouble::in_words),
            automatic: it.holds.iter().all(|hold| hold.kind != "automation_off"),
            learning: words::learning(it),
            measures: it.learning.as_ref().map(learning::measures).unwrap_or_default(),
            running: running(&id, &of.workflow, it),
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
            models: placed(tables::models(&of.workflow, it)),
            days: placed(tables::days(it, &scored)),
            wins: tables::wins(it),
            fates: tables::fates(it),
            tasks: tasks(it),
            removed_unanalyzed: (it.tasks.removed_unanalyzed > 0)
                .then(|| words::count(it.tasks.removed_unanalyzed)),
            past: it
                .past
                .iter()
                .take(LATEST)
                .map(|verdict| tables::verdict(&of.workflow, verdict, it.time_zone))
                .collect(),
            past_hidden: it.past.len().saturating_sub(LATEST),
            watch: watches::table(it).map(placed),
            noise: watches::noise(it),
            insights: it
                .insights
                .iter()
                .take(LATEST)
                .map(|insight| tables::finding(&of.workflow, insight))
                .collect(),
            insights_hidden: it.insights.len().saturating_sub(LATEST),
            active: placed(tables::active(&of.workflow, it)),
            cost: tables::cost(it),
            id,
            home,
        }
    }

    /// Every table of the page.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.models, &self.days, &self.active].into_iter().chain(&self.watch)
    }
}

fn cycle(id: &str, workflow: &str, it: &Analytics) -> Option<Cycle> {
    let cycle = it.cycle.as_ref()?;
    let passed: Vec<(&str, &str)> =
        cycle.passed.iter().map(|passed| (passed.from.as_str(), passed.to.as_str())).collect();
    let held = !it.holds.is_empty();
    Some(Cycle {
        number: words::count(cycle.number),
        page: links::cycle(workflow, cycle.number),
        since: words::moment(cycle.since, it.time_zone),
        waiting: (cycle.state != "collecting" && cycle.waiting_tasks > 0)
            .then(|| words::count(cycle.waiting_tasks)),
        chart: statechart::draw(&format!("{id}-chart"), &cycle.state, &passed, held),
        paused: it.holds.iter().any(|hold| hold.kind == "operator"),
    })
}

fn holds(workflow: &str, it: &Analytics) -> Vec<Hold> {
    let number = it.cycle.as_ref().map(|cycle| cycle.number);
    it.holds
        .iter()
        .map(|hold| Hold {
            title: words::hold(&hold.kind),
            reason: hold.reason.clone(),
            remedy: hold.remedy.clone(),
            since: words::moment(hold.placed_at, it.time_zone),
            by: hold.placed_by.clone(),
            page: decided_on(workflow, &hold.code),
            releases: releases(workflow, number, &hold.kind),
        })
        .collect()
}

/// The page on which a hold with that code is decided. What is no text holds as an edit does, and there is nothing to
/// choose between.
pub(super) fn decided_on(workflow: &str, code: &str) -> Option<String> {
    (code == "config_conflict").then(|| links::section(workflow, "conflicts"))
}

/// The buttons that lift a hold of that kind.
pub(super) fn releases(workflow: &str, cycle: Option<i64>, kind: &str) -> Vec<Release> {
    let on_cycle = |label, operation| {
        let page = links::cycle(workflow, cycle?);
        Some(Release { label, action: format!("{page}/{operation}"), field: None })
    };
    let found = match kind {
        "operator" => vec![on_cycle("Resume", "resume")],
        "approval" => vec![on_cycle("Approve", "approve"), on_cycle("Refuse", "refuse")],
        "effect_failed" | "budget_spent" | "config_conflict" => {
            vec![on_cycle("Try again", "retry")]
        }
        "automation_off" => vec![Some(Release {
            label: "Switch automation on",
            action: format!("{}/automation", links::workflow(workflow)),
            field: Some(("enabled", "true")),
        })],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

fn running(id: &str, workflow: &str, it: &Analytics) -> Vec<Running> {
    it.running
        .iter()
        .enumerate()
        .map(|(index, running)| Running {
            model: running.model.clone(),
            page: links::cycle(workflow, running.cycle),
            histogram: spark::histogram(
                &format!("{id}-scores-{index}"),
                it.score_max,
                &running.old.scores,
                &running.new.scores,
            ),
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
