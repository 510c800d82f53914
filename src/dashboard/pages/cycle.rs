//! One cycle: its gapless history, its experiments with their scores, every call and its cost.

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;

use super::Place;
use super::cycles::plain;
use crate::cycle::Event;
use crate::dashboard::data::CycleData;
use crate::dashboard::page::Page;
use crate::dashboard::spark::{self, Histogram};
use crate::dashboard::statechart::{self, StateChart};
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::view::{Hold, decided_on, releases, tables};
use crate::dashboard::{links, words};
use crate::runtime::CycleStatus;
use crate::store::analytics::pages::ScoredExperiment;
use crate::store::analytics::{ConfigChange, Insight};
use crate::store::claude_calls::CallRow;
use crate::store::cycles::TransitionRow;
use crate::store::effects::EffectRow;

/// Everything that is known of one cycle.
#[derive(Debug)]
pub struct Facts {
    /// Where it stands.
    pub status: CycleStatus,
    /// Its history, oldest first.
    pub transitions: Vec<TransitionRow>,
    /// Its effects, oldest first.
    pub effects: Vec<EffectRow>,
    /// Its calls of Claude, oldest first.
    pub calls: Vec<CallRow>,
    /// Its experiments.
    pub experiments: Vec<ScoredExperiment>,
    /// What its analysis found.
    pub insights: Vec<Insight>,
    /// What it changed of the files.
    pub changes: Vec<ConfigChange>,
    /// The best possible score.
    pub score_max: u32,
}

#[derive(Debug, Serialize)]
struct View {
    number: i64,
    state: String,
    sentence: String,
    opened: String,
    since: String,
    ended: Option<String>,
    time_zone: &'static str,
    chart: StateChart,
    open: bool,
    paused: bool,
    page: String,
    previous: Option<String>,
    holds: Vec<Hold>,
    experiments: Vec<Tested>,
    insights: Vec<tables::Finding>,
    gapless: Option<String>,
    steps: String,
    cost: String,
    estimated: bool,
}

#[derive(Debug, Serialize)]
struct Tested {
    verdict: tables::Verdict,
    model: String,
    diff: String,
    test: Option<Histogram>,
    probation: Option<Histogram>,
}

/// The cycle's page.
#[must_use]
pub fn page(place: Place<'_>, facts: &Facts) -> Page {
    let status = &facts.status;
    let cost = cost(&facts.calls);
    let data = json!(CycleData {
        status,
        transitions: transitions(place, &facts.transitions).json()["rows"].take(),
        effects: &facts.effects,
        calls: &facts.calls,
        cost_usd: cost.normalize(),
        experiments: &facts.experiments,
        insights: &facts.insights,
        config_changes: &facts.changes,
    });
    let tables = vec![
        transitions(place, &facts.transitions),
        calls(place, &facts.calls),
        effects(place, &facts.effects),
        super::changes::table(place, &facts.changes),
    ];
    let title = format!("Cycle {}", status.cycle);
    Page::new(
        "cycle.html",
        title,
        links::cycle(place.workflow, status.cycle),
        view(place, facts, cost),
    )
    .of_workflow(place.workflow, "cycles")
    .with_data(data)
    .with_tables(tables)
}

fn view(place: Place<'_>, facts: &Facts, cost: Decimal) -> View {
    let status = &facts.status;
    let open = !status.state.is_terminal();
    let passed: Vec<(&str, &str)> = facts
        .transitions
        .iter()
        .filter(|row| row.from_state != row.to_state)
        .map(|row| (row.from_state.as_str(), row.to_state.as_str()))
        .collect();
    let page = links::cycle(place.workflow, status.cycle);
    View {
        number: status.cycle,
        state: plain(status.state.as_str()),
        sentence: status.sentence.clone(),
        opened: words::moment(status.opened_at, place.zone),
        since: words::moment(status.since, place.zone),
        ended: status.ended_at.map(|at| words::moment(at, place.zone)),
        time_zone: place.zone.name(),
        chart: statechart::draw("chart", status.state.as_str(), &passed, !status.holds.is_empty()),
        open,
        paused: status.holds.iter().any(|hold| hold.kind == "operator"),
        previous: (status.cycle > 1).then(|| links::cycle(place.workflow, status.cycle - 1)),
        holds: holds(place, status),
        experiments: experiments(place, facts),
        insights: facts.insights.iter().map(|it| tables::finding(place.workflow, it)).collect(),
        gapless: gap(&facts.transitions),
        steps: words::count(i64::try_from(facts.transitions.len()).unwrap_or(i64::MAX)),
        cost: words::dollars(cost),
        estimated: facts.calls.iter().any(|call| call.cost_estimated == Some(true)),
        page,
    }
}

fn holds(place: Place<'_>, status: &CycleStatus) -> Vec<Hold> {
    status
        .holds
        .iter()
        .map(|hold| Hold {
            title: words::hold(&hold.kind),
            reason: hold.reason.clone(),
            remedy: hold.remedy.clone(),
            since: words::moment(hold.since, place.zone),
            by: hold.by.clone(),
            page: decided_on(place.workflow, &hold.code),
            releases: releases(place.workflow, Some(status.cycle), &hold.kind),
        })
        .collect()
}

fn experiments(place: Place<'_>, facts: &Facts) -> Vec<Tested> {
    facts
        .experiments
        .iter()
        .enumerate()
        .map(|(index, tested)| {
            let it = &tested.experiment;
            let drawn = |name: &str, scores: &crate::store::analytics::pages::Scores| {
                let id = format!("{name}-{index}");
                spark::histogram(&id, facts.score_max, &scores.old, &scores.new)
            };
            Tested {
                verdict: tables::verdict(place.workflow, it, place.zone),
                model: it.model.clone(),
                diff: format!(
                    "{}?from={}&to={}#diff",
                    links::model(place.workflow, &it.model),
                    it.old_version,
                    it.new_version
                ),
                test: drawn("test", &tested.test),
                probation: drawn("probation", &tested.probation),
            }
        })
        .collect()
}

/// What is wrong with the numbering of a history; none where it runs from 1 without a hole.
fn gap(rows: &[TransitionRow]) -> Option<String> {
    let wrong = (1_i64..).zip(rows).find(|(expected, row)| row.seq != *expected)?;
    Some(format!("Step {} is missing: the history was changed from outside.", wrong.0))
}

fn cost(calls: &[CallRow]) -> Decimal {
    calls.iter().filter_map(|call| call.cost_usd).sum()
}

fn transitions(place: Place<'_>, rows: &[TransitionRow]) -> Table {
    let mut table = Table::new("transitions", "Every step that the cycle took, oldest first.")
        .number("seq", "Step")
        .short("at", "When")
        .column("event", "Event")
        .column("to", "State")
        .column("actor", "By")
        .long("reason", "Why");
    for row in rows {
        let state = if row.from_state == row.to_state {
            Cell::of("stays", row.to_state.as_str())
        } else {
            let to = statechart::title(row.to_state);
            Cell::of(to, row.to_state.as_str())
                .note(format!("from {}", plain(row.from_state.as_str())))
        };
        let name = row.event.name();
        let told = happened(&row.event);
        let event = Cell::of(words::title(name.as_str()), name.as_str());
        table.row(vec![
            Cell::count(row.seq),
            place.moment(row.at),
            if told.is_empty() { event } else { event.note(told) },
            state,
            Cell::text(&row.actor),
            row.reason.as_ref().map_or_else(Cell::nothing, Cell::text),
        ]);
    }
    table
}

/// What an event says beside its name, in a few words.
fn happened(event: &Event) -> String {
    match event {
        Event::TriggerReached { window } => format!("{} tasks", window.tasks),
        Event::AnalysisFinished { insights } => format!("{insights} insights"),
        Event::CandidatesGenerated { experiments, without } => {
            let tested = experiments
                .iter()
                .map(|it| format!("{} {} against {}", it.model, it.candidate, it.control));
            let none = without.iter().map(|it| {
                let detail =
                    if it.detail.is_empty() { String::new() } else { format!(" ({})", it.detail) };
                format!("{}: {}{detail}", it.model, plain(it.reason.as_str()))
            });
            tested.chain(none).collect::<Vec<_>>().join(", ")
        }
        Event::LookTaken { model, .. } | Event::ModelRetired { model } => model.clone(),
        Event::ProbationLookTaken { model, pooled, .. } => format!(
            "{model}: old {} over {}, new {} over {}",
            pooled.control.total,
            pooled.control.count,
            pooled.candidate.total,
            pooled.candidate.count
        ),
        Event::ProbationSettled { model, keep } => {
            format!("{model}: {}", if *keep { "kept" } else { "put back" })
        }
        Event::CandidatesRefused { models } if models.is_empty() => "all".to_owned(),
        Event::CandidatesRefused { models } => models.join(", "),
        Event::RollbackRequested { model, from, to } => format!("{model} from {from} to {to}"),
        Event::CancelRequested { reason } => reason.clone(),
        Event::TestTimedOut
        | Event::VerdictsSettled
        | Event::FilesApplied
        | Event::FilesReverted => String::new(),
    }
}

fn calls(place: Place<'_>, rows: &[CallRow]) -> Table {
    let mut table =
        Table::new("calls", "Every call of Claude, oldest first, with its tokens and its cost.")
            .short("started_at", "When")
            .column("purpose", "For")
            .column("claude_model", "Claude model")
            .number("attempt", "Try")
            .column("status", "Came to")
            .number("input_tokens", "Read")
            .number("cache_creation_tokens", "To cache")
            .number("cache_read_tokens", "From cache")
            .number("output_tokens", "Written")
            .number("cost_usd", "Cost")
            .column("request_id", "Request");
    for call in rows {
        let purpose = Cell::text(&call.purpose);
        let status = Cell::text(call.status.as_deref().unwrap_or("running"));
        let cost = call.cost_usd.map_or_else(Cell::nothing, |cost| {
            Cell::of(format!("${:.4}", cost.round_dp(4)), cost.normalize().to_string())
        });
        table.row(vec![
            place.moment(call.started_at),
            if call.model_name.is_empty() { purpose } else { purpose.note(&call.model_name) },
            Cell::text(&call.claude_model),
            Cell::count(i64::from(call.attempt)),
            match &call.error_message {
                Some(error) => status.note(error),
                None => status,
            },
            Cell::count_or_nothing(call.input_tokens),
            Cell::count_or_nothing(call.cache_creation_tokens),
            Cell::count_or_nothing(call.cache_read_tokens),
            Cell::count_or_nothing(call.output_tokens),
            if call.cost_estimated == Some(true) { cost.note("estimated") } else { cost },
            call.request_id.as_ref().map_or_else(Cell::nothing, Cell::text),
        ]);
    }
    table
}

fn effects(place: Place<'_>, rows: &[EffectRow]) -> Table {
    let mut table = Table::new("effects", "Everything that the cycle had done, oldest first.")
        .number("seq", "Step")
        .column("kind", "What")
        .column("status", "Stands")
        .number("attempts", "Tries")
        .short("created_at", "Asked")
        .short("finished_at", "Done")
        .long("last_error", "Last error");
    for row in rows {
        table.row(vec![
            Cell::count(row.seq),
            Cell::of(plain(&row.kind), row.kind.clone()),
            Cell::text(&row.status),
            Cell::count(i64::from(row.attempts)),
            place.moment(row.created_at),
            place.moment_or_nothing(row.finished_at),
            row.last_error.as_ref().map_or_else(Cell::nothing, Cell::text),
        ]);
    }
    table
}
