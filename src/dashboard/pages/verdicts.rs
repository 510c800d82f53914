//! Past experiments with their verdicts and the evidence behind them.

use serde_json::json;

use super::Place;
use crate::dashboard::data::VerdictsData;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::view::tables;
use crate::dashboard::words;
use crate::store::analytics::Experiment;

/// The page of these verdicts.
#[must_use]
pub fn page(place: Place<'_>, verdicts: &[Experiment]) -> Page {
    let told: Vec<_> =
        verdicts.iter().map(|it| tables::verdict(place.workflow, it, place.zone)).collect();
    let mut table = Table::new("verdicts", "Every verdict, latest first.")
        .number("cycle", "Cycle")
        .short("model", "Model")
        .number("old_version", "Old")
        .number("new_version", "New")
        .column("status", "Verdict")
        .column("probation", "Probation")
        .number("old_sum", "Old sum")
        .number("old_count", "Old scores")
        .number("new_sum", "New sum")
        .number("new_count", "New scores")
        .number("improvement", "Improvement")
        .short("decided_at", "Decided")
        .long("sentence", "In words");
    for it in verdicts {
        let number = |value: Option<i32>| Cell::count_or_nothing(value.map(i64::from));
        table.row(vec![
            Cell::count(it.cycle).to(links::cycle(place.workflow, it.cycle)),
            Cell::text(&it.model),
            Cell::count(i64::from(it.old_version)),
            Cell::count(i64::from(it.new_version)),
            Cell::of(tables::label(it), it.status.clone()).tag(it.status.clone()),
            it.probation.as_ref().map_or_else(Cell::nothing, Cell::text),
            number(it.old_sum),
            number(it.old_count),
            number(it.new_sum),
            number(it.new_count),
            Cell::of(words::change(it.improvement), it.improvement),
            place.moment_or_nothing(it.decided_at),
            it.sentence.as_ref().map_or_else(Cell::nothing, Cell::text),
        ]);
    }
    let address = links::section(place.workflow, "verdicts");
    Page::new("verdicts.html", "Past verdicts", address, json!({ "verdicts": told }))
        .of_workflow(place.workflow, "verdicts")
        .with_data(json!(VerdictsData { verdicts }))
        .with_tables(vec![table])
}
