//! The state machine as people read it: a diagram and tables, found by probing [`step`].
//!
//! Nothing here is drawn by hand but the words. Every sample event is offered to every sample state
//! under every variant of the rules, and what the machine answers is what the page says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::effect::EffectKind;
use super::event::EventName;
use super::machine::step;
use super::samples::{sample_events, sample_rules, sample_states};
use super::snapshot::Snapshot;
use super::state::{State, StateName};

/// The whole page of docs/state-machine.md, in Markdown.
#[must_use]
pub fn state_machine_page() -> String {
    format!(
        "<!-- Generated from the machine by `cargo test`; do not edit. \
         `MATHESIS_BLESS=1 cargo test` rewrites it. -->\n\n\
         {INTRODUCTION}\n\
         ## The diagram\n\n```mermaid\n{mermaid}```\n\n{BESIDE_THE_DIAGRAM}\n\
         ## The states\n\n{states}\n{ABOUT_EFFECTS}\n\
         ## The events\n\n{events}\n\
         ## Every event in every state\n\n{ABOUT_THE_TABLE}\n{table}\n\
         ## How to regenerate this page\n\n{REGENERATING}",
        mermaid = mermaid(),
        states = state_table(),
        events = event_table(),
        table = transition_table(),
    )
}

/// The transitions as a Mermaid `stateDiagram-v2`, edges labelled by their events.
#[must_use]
pub fn mermaid() -> String {
    let mut edges: BTreeMap<(StateName, StateName), BTreeSet<EventName>> = BTreeMap::new();
    for probe in probes().into_iter().filter(Probe::leaves) {
        let events = edges.entry((probe.from, probe.to)).or_default();
        events.insert(probe.event);
    }
    let mut lines = vec![
        "stateDiagram-v2".to_owned(),
        format!("    [*] --> {}", StateName::Collecting.title()),
    ];
    for ((from, to), events) in &edges {
        let labels = joined(events.iter().map(|event| event.as_str().to_owned()));
        lines.push(format!("    {} --> {}: {labels}", from.title(), to.title()));
    }
    for terminal in StateName::ALL.iter().filter(|name| name.is_terminal()) {
        lines.push(format!("    {} --> [*]", terminal.title()));
    }
    in_lines(&lines)
}

/// Every change of state that the machine makes.
#[must_use]
pub fn arrows() -> BTreeSet<(StateName, StateName)> {
    probes().iter().filter(|probe| probe.leaves()).map(|probe| (probe.from, probe.to)).collect()
}

/// The full table of events by states, in Markdown: where each event leads, `stays` where the state
/// takes it and remains, `–` where it is refused.
#[must_use]
pub fn transition_table() -> String {
    let mut cells: BTreeMap<(EventName, StateName), BTreeSet<StateName>> = BTreeMap::new();
    for probe in probes() {
        let reached = cells.entry((probe.event, probe.from)).or_default();
        reached.insert(probe.to);
    }
    let titles = StateName::ALL.iter().map(|name| name.title().to_owned());
    let mut lines = table_head(std::iter::once("event".to_owned()).chain(titles));
    for &event in EventName::ALL {
        let row = StateName::ALL.iter().map(|&from| {
            let reached = cells.get(&(event, from)).into_iter().flatten();
            let words = joined(reached.map(|&to| {
                let word = if to == from { "stays" } else { to.title() };
                word.to_owned()
            }));
            if words.is_empty() { "–".to_owned() } else { words }
        });
        lines.push(table_row(std::iter::once(code(event.as_str())).chain(row)));
    }
    in_lines(&lines)
}

/// One event that one state took.
struct Probe {
    from: StateName,
    event: EventName,
    to: StateName,
    effects: Vec<EffectKind>,
}

impl Probe {
    fn leaves(&self) -> bool {
        self.from != self.to
    }
}

/// Every event that some sample state takes under some variant of the rules.
fn probes() -> Vec<Probe> {
    let events = sample_events();
    let states = sample_states();
    let mut probes = Vec::new();
    for rules in sample_rules() {
        for state in &states {
            let mut before = Snapshot::open(1, rules.clone());
            before.state = state.clone();
            for event in &events {
                if let Ok((after, effects)) = step(&before, event) {
                    probes.push(Probe {
                        from: state.name(),
                        event: event.name(),
                        to: after.state.name(),
                        effects: effects.iter().map(super::Effect::kind).collect(),
                    });
                }
            }
        }
    }
    probes
}

fn state_table() -> String {
    let probes = probes();
    let asked = |name: StateName, entering: bool| {
        let kinds: BTreeSet<EffectKind> = probes
            .iter()
            .filter(|probe| probe.to == name && probe.leaves() == entering)
            .flat_map(|probe| probe.effects.iter().copied())
            .filter(|&kind| kind != EffectKind::RollBack)
            .collect();
        let words = joined(kinds.iter().map(|kind| code(kind.as_str())));
        if words.is_empty() { "nothing".to_owned() } else { words }
    };
    let head = ["state", "means", "carries", "asked on entering", "asked while in it"];
    let mut lines = table_head(head.map(str::to_owned));
    for &name in StateName::ALL {
        lines.push(table_row([
            name.title().to_owned(),
            means(name).to_owned(),
            carries(name),
            asked(name, true),
            asked(name, false),
        ]));
    }
    in_lines(&lines)
}

fn event_table() -> String {
    let mut lines = table_head(["event", "happened when"].map(str::to_owned));
    for &name in EventName::ALL {
        lines.push(table_row([code(name.as_str()), happened_when(name).to_owned()]));
    }
    in_lines(&lines)
}

/// The names of what a state carries, read off its stored form.
fn carries(name: StateName) -> String {
    let fields: BTreeSet<String> = sample_states()
        .iter()
        .filter(|state| state.name() == name)
        .flat_map(stored_fields)
        .collect();
    let words = joined(fields.iter().map(|field| code(field)));
    if words.is_empty() { "nothing".to_owned() } else { words }
}

fn stored_fields(state: &State) -> Vec<String> {
    match serde_json::to_value(state) {
        Ok(Value::Object(fields)) => {
            fields.into_iter().map(|(field, _)| field).filter(|field| field != "name").collect()
        }
        _ => Vec::new(),
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn in_lines(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn table_row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |", cells.join(" | "))
}

fn table_head(titles: impl IntoIterator<Item = String>) -> Vec<String> {
    let titles: Vec<String> = titles.into_iter().collect();
    let rule = format!("|{}", "---|".repeat(titles.len()));
    vec![table_row(titles), rule]
}

const fn means(name: StateName) -> &'static str {
    match name {
        StateName::Collecting => "completed tasks are counted; nothing is under way",
        StateName::Analyzing => "Claude looks for patterns in the window's tasks",
        StateName::Generating => "Claude turns the insights into one candidate a model",
        StateName::Testing => "each model's candidate is tested against its active version",
        StateName::Deciding => "every experiment has its verdict, and they are checked",
        StateName::Applying => "adopted versions are written to the files and made active",
        StateName::Probation => {
            "adopted versions serve, and are watched against their predecessors"
        }
        StateName::Reverting => "adoptions are taken back, files included",
        StateName::Applied => "ended: at least one adoption stands",
        StateName::Rejected => "ended: the old versions stay",
        StateName::RolledBack => "ended: versions were adopted, and none of the adoptions stands",
        StateName::Cancelled => "ended by an operator: no adoption stands",
    }
}

const fn happened_when(name: EventName) -> &'static str {
    match name {
        EventName::TriggerReached => {
            "enough completed tasks wait for an analysis; they are now its window"
        }
        EventName::AnalysisFinished => "Claude's answer is read and its insights are stored",
        EventName::CandidatesGenerated => {
            "candidates are stored and their decks dealt, for some models or for none"
        }
        EventName::LookTaken => {
            "a model's deck is complete, or its judge changed; its scores are frozen"
        }
        EventName::TestTimedOut => {
            "the test's time is out; models without a verdict are inconclusive"
        }
        EventName::VerdictsSettled => "the verdicts agree with the frozen scores",
        EventName::FilesApplied => "files and database agree on the adopted versions",
        EventName::ProbationLookTaken => "a model's probation has its scores, or its time is out",
        EventName::ProbationSettled => "a person decided a probation that could not decide itself",
        EventName::FilesReverted => "files and database agree on the versions that were put back",
        EventName::CandidatesRefused => {
            "an operator refused candidates before their test or their adoption"
        }
        EventName::RollbackRequested => "an operator put a model back to an earlier version",
        EventName::ModelRetired => "a model left the workflow's definition",
        EventName::CancelRequested => "an operator ended the cycle",
    }
}

const INTRODUCTION: &str = "\
# The learning cycle

A workflow learns in cycles. A cycle collects completed tasks, has Claude analyse them and write better
prompts, tests each new prompt against the old one on real tasks, and keeps it only if it is better by
the rule. One cycle of a workflow is open at a time; the step that ends it opens the next one.

The cycle is a pure state machine: a state and an event give the next state, and a list of effects, which
is the work that the step wants done. State, history and effects are committed together, so a crash at any
moment loses nothing and does nothing twice. An event that a state does not wait for changes nothing and is
answered with an error that names both.

A hold (a pause, an approval that is awaited, an effect that failed for good) is no state. It stands beside
the state and stops new work; it is not on this page.
";

const BESIDE_THE_DIAGRAM: &str = "\
Events that leave a cycle in its state are not drawn; the table below has them. Which of two ways an event
takes depends on what the state carries and on the workflow's rules: with `guard = \"off\"` an adoption
is final once its files are written, with `guard = \"probation\"` it is watched first.
";

const ABOUT_EFFECTS: &str = "\
Effects *asked on entering* are those that some way into the state asks for; those *asked while in it*
come with an event that does not leave it. `await_approval` is asked for where the workflow's `approval` says so, and
when a probation was extended and still has too few scores, or met another judge. `rollback_requested` asks for `roll_back`
in every state that takes it; it is left out of the table.
";

const ABOUT_THE_TABLE: &str = "\
A name is a state that the event may lead to, `stays` means that the state takes the event and remains,
`–` means that it is refused.
";

const REGENERATING: &str = "\
`cargo test` compares this page with the machine and fails when it is stale. After a change of the
machine, `MATHESIS_BLESS=1 cargo test` rewrites it; read the difference before you commit it.
";
