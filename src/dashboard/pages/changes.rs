//! Changes of config files and their backups.

use serde_json::json;

use super::Place;
use crate::dashboard::data::ChangesData;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::{links, words};
use crate::store::analytics::ConfigChange;

/// The page of these changes.
#[must_use]
pub fn page(place: Place<'_>, changes: &[ConfigChange]) -> Page {
    let address = links::section(place.workflow, "changes");
    Page::new("list.html", "Config changes and backups", address, json!({ "lists": ["changes"] }))
        .of_workflow(place.workflow, "changes")
        .with_data(json!(ChangesData { config_changes: changes }))
        .with_tables(vec![table(place, changes)])
}

/// Changes as a table, latest first.
pub(super) fn table(place: Place<'_>, changes: &[ConfigChange]) -> Table {
    let caption =
        "Changes of config files, latest first. Each has a backup of the files as they were.";
    let mut table = Table::new("changes", caption)
        .short("at", "When")
        .short("model", "Model")
        .short("change", "Change")
        .number("from_version", "From")
        .number("to_version", "To")
        .column("backup", "Backup")
        .long("why", "Why");
    for change in changes {
        let why = match (&change.reason, change.summary.as_str()) {
            (Some(reason), "") => reason.clone(),
            (Some(reason), summary) => format!("{summary} ({reason})"),
            (None, summary) => summary.to_owned(),
        };
        let version = |number: i32| {
            Cell::count(i64::from(number)).to(links::version(place.workflow, &change.model, number))
        };
        table.row(vec![
            place.moment(change.finished_at.unwrap_or(change.intended_at)).note(&change.changed_by),
            Cell::text(&change.model).to(links::model(place.workflow, &change.model)),
            Cell::of(words::title(&change.kind), change.kind.clone()).note(&change.status),
            change.from_version.map_or_else(Cell::nothing, version),
            version(change.to_version),
            Cell::text(change.backup_path.as_ref().unwrap_or(&change.backup_name)),
            Cell::text(why),
        ]);
    }
    table
}
