//! Every cycle, newest first.

use serde_json::json;

use super::Place;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::store::cycles::CycleRow;

/// The page of these cycles.
#[must_use]
pub fn page(place: Place<'_>, cycles: &[CycleRow]) -> Page {
    let mut table = Table::new("cycles", "Every cycle, newest first.")
        .number("cycle", "Cycle")
        .column("state", "State")
        .short("opened_at", "Opened")
        .short("ended_at", "Ended")
        .long("outcome", "What came of it")
        .short("report", "In plain words");
    for cycle in cycles {
        let state = &cycle.snapshot.state;
        let models = state.outcome().map(|outcome| outcome.models.clone()).unwrap_or_default();
        let told: Vec<String> = models
            .iter()
            .map(|model| format!("{} {}", model.model, plain(model.result.as_str())))
            .collect();
        let name = state.name();
        let report = format!("{}/report", links::cycle(place.workflow, cycle.number));
        table.row(vec![
            Cell::count(cycle.number).to(links::cycle(place.workflow, cycle.number)),
            Cell::of(plain(name.as_str()), name.as_str()).tag(tag(name.as_str())),
            place.moment(cycle.opened_at),
            place.moment_or_nothing(cycle.ended_at),
            Cell::of(told.join(", "), json!(models)),
            Cell::of("Report", report.clone()).to(report),
        ]);
    }
    let data = table.json();
    Page::new(
        "list.html",
        "Cycles",
        links::section(place.workflow, "cycles"),
        json!({ "lists": ["cycles"] }),
    )
    .of_workflow(place.workflow, "cycles")
    .with_data(data)
    .with_tables(vec![table])
}

/// A stored name as words: `rolled_back` is "rolled back".
pub(super) fn plain(name: &str) -> String {
    name.replace('_', " ")
}

/// The colour of a state.
fn tag(state: &str) -> &'static str {
    match state {
        "applied" => "adopted",
        "rejected" | "rolled_back" | "cancelled" => "rejected",
        _ => "quiet",
    }
}
