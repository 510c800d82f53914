//! Config files that a person edited: the list, and one with its three-way comparison and ways out.

use serde::Serialize;
use serde_json::json;

use super::Place;
use super::model::{Line, lines};
use crate::dashboard::data::{ConflictData, ConflictsData};
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::{links, words};
use crate::runtime::{ConflictShown, DocumentShown};
use crate::store::conflicts::Conflict;

/// A way out that a person asked for and is to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The edit becomes the version that serves.
    KeepMine,
    /// The active version is written over the edit.
    TakeTheirs,
    /// The conflict is left standing.
    Cancel,
}

impl Asked {
    /// The way out of that name, as links and forms have it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "keep-mine" => Some(Self::KeepMine),
            "take-theirs" => Some(Self::TakeTheirs),
            "cancel" => Some(Self::Cancel),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::KeepMine => "keep-mine",
            Self::TakeTheirs => "take-theirs",
            Self::Cancel => "cancel",
        }
    }
}

/// The page of these conflicts.
#[must_use]
pub fn list(place: Place<'_>, conflicts: &[Conflict]) -> Page {
    let address = links::section(place.workflow, "conflicts");
    Page::new("list.html", "Files edited by hand", address, json!({ "lists": ["conflicts"] }))
        .of_workflow(place.workflow, "changes")
        .with_data(json!(ConflictsData { conflicts }))
        .with_tables(vec![table(place, conflicts)])
}

fn table(place: Place<'_>, conflicts: &[Conflict]) -> Table {
    let caption = "Config files that a person edited, those that wait for a decision first.";
    let mut table = Table::new("conflicts", caption)
        .number("conflict", "Conflict")
        .short("seen_at", "Seen")
        .short("model", "Model")
        .short("host", "On")
        .short("status", "Status")
        .long("said", "What came of it");
    for conflict in conflicts {
        let link = links::conflict(place.workflow, conflict.conflict_id);
        table.row(vec![
            Cell::count(conflict.conflict_id).to(link),
            place.moment(conflict.seen_at),
            Cell::text(&conflict.model_name).to(links::model(place.workflow, &conflict.model_name)),
            Cell::text(&conflict.host),
            Cell::of(words::title(&conflict.status), conflict.status.clone()),
            Cell::text(conflict.said.clone().unwrap_or_default()),
        ]);
    }
    table
}

#[derive(Debug, Serialize)]
struct View<'v> {
    number: i64,
    page: String,
    model: &'v str,
    model_page: String,
    host: &'v str,
    folder: &'v str,
    seen: String,
    edit: &'v str,
    base: i32,
    has_marker: bool,
    active: i32,
    status: &'v str,
    standing: String,
    open: bool,
    asked: Option<&'static str>,
    documents: Vec<Document>,
}

#[derive(Debug, Serialize)]
struct Document {
    file: &'static str,
    absent: Option<&'static str>,
    mine: Vec<Line>,
    theirs: Vec<Line>,
    overlaps: usize,
    merged: String,
}

impl From<&DocumentShown> for Document {
    fn from(shown: &DocumentShown) -> Self {
        let compared = shown.compared.as_ref();
        Self {
            file: shown.file,
            absent: shown.absent,
            mine: compared.map(|three| lines(&three.mine)).unwrap_or_default(),
            theirs: compared.map(|three| lines(&three.theirs)).unwrap_or_default(),
            overlaps: compared.map_or(0, |three| three.overlaps),
            merged: compared
                .filter(|three| !three.theirs.is_empty() && !three.mine.is_empty())
                .map(|three| three.merged.clone())
                .unwrap_or_default(),
        }
    }
}

/// The conflict's page; a way out that was asked for stands on it to be confirmed.
#[must_use]
pub fn one(place: Place<'_>, shown: &ConflictShown, asked: Option<Asked>) -> Page {
    let conflict = &shown.conflict;
    let address = links::conflict(place.workflow, conflict.conflict_id);
    let open = conflict.status == "open";
    let view = View {
        number: conflict.conflict_id,
        page: address.clone(),
        model: &conflict.model_name,
        model_page: links::model(place.workflow, &conflict.model_name),
        host: &conflict.host,
        folder: &conflict.folder,
        seen: words::moment(conflict.seen_at, place.zone),
        edit: &conflict.edit_hash,
        base: shown.compared_from,
        has_marker: conflict.base_version.is_some(),
        active: shown.active_version,
        status: &conflict.status,
        standing: standing(conflict),
        open,
        asked: asked.filter(|_| open).map(Asked::name),
        documents: shown.documents.iter().map(Document::from).collect(),
    };
    let title = format!("{} edited by hand on {}", conflict.model_name, conflict.host);
    Page::new("conflict.html", title, address, view)
        .of_workflow(place.workflow, "changes")
        .with_data(json!(ConflictData { conflict: shown }))
}

fn standing(conflict: &Conflict) -> String {
    let by = conflict.ordered_by.as_deref().unwrap_or("mathesis");
    let way = if conflict.keeps_mine() { "keep the edit" } else { "take the active version" };
    let said = conflict.said.as_deref().unwrap_or_default();
    match conflict.status.as_str() {
        "open" if said.is_empty() => {
            "It waits for a decision, and the workflow is held.".to_owned()
        }
        "open" => format!("It waits for a decision: {said}."),
        "settled" => format!("Settled as {by} ordered: {said}."),
        "gone" => "Settled: the files were put back by hand.".to_owned(),
        _ => format!("{by} ordered to {way}; the process on {} carries that out.", conflict.host),
    }
}
