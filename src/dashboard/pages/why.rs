//! How a task's prompt came to be: the version behind a picture, section by section, with the insights that each edit
//! rests on and the tasks that showed them.

use serde::Serialize;
use serde_json::json;

use super::Place;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::runtime::blame::{BlamedEdit, BlamedSection, Why};
use crate::store::blame::{AttemptRow, Reason};

/// Tasks that are named under a reason; the data has them all.
const TASKS_SHOWN_MAX: usize = 5;

#[derive(Debug, Serialize)]
struct View {
    task: String,
    task_page: String,
    run: String,
    model: String,
    version: i32,
    version_page: String,
    standing: String,
    /// Label and address of the run's other models.
    others: Vec<(String, String)>,
    kept: Vec<String>,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    document: &'static str,
    /// Its heading, or its id where it has none.
    name: String,
    bytes: usize,
    since: (i32, String),
    incomplete: bool,
    edits: Vec<Edit>,
}

#[derive(Debug, Serialize)]
struct Edit {
    version: (i32, String),
    cycle: Option<(i64, String)>,
    operation: &'static str,
    gained: String,
    reasons: Vec<Because>,
}

#[derive(Debug, Serialize)]
struct Because {
    insight: String,
    standing: String,
    claim: String,
    tasks: Vec<(String, String)>,
    more: usize,
}

/// The page of one picture's prompt.
#[must_use]
pub fn page(place: Place<'_>, why: &Why) -> Page {
    let attempt = &why.attempt;
    let run = why.run.run_id.as_str();
    let version_page = |version| links::version(place.workflow, &attempt.model, version);
    let mut others: Vec<(String, String)> = why
        .attempts
        .iter()
        .filter(|other| other.model != attempt.model && other.version.is_some())
        .map(|other| {
            (other.model.clone(), links::why(place.workflow, &why.task, run, &other.model))
        })
        .collect();
    others.dedup();
    let kept = why.blame.kept.iter().filter(|kept| kept.bytes > 0).map(|kept| {
        let (name, same, all) = (kept.document.as_str(), kept.kept_prefix_bytes, kept.bytes);
        format!("Of the {name}, the first {same} of {all} bytes are as in the version before.")
    });
    let view = View {
        task: why.task.clone(),
        task_page: links::task(place.workflow, &why.task, run),
        run: run.to_owned(),
        model: attempt.model.clone(),
        version: why.blame.version,
        version_page: version_page(why.blame.version),
        standing: standing(attempt),
        others,
        kept: kept.collect(),
        sections: why.blame.sections.iter().map(|it| section(place, &attempt.model, it)).collect(),
    };
    let address = links::why(place.workflow, &why.task, run, &attempt.model);
    Page::new("why.html", format!("Why: task {}", why.task), address, view)
        .of_workflow(place.workflow, "tasks")
        .with_data(json!(why))
}

fn standing(attempt: &AttemptRow) -> String {
    let score = match attempt.score {
        Some(score) => format!("scored {score}"),
        None => "has no score".to_owned(),
    };
    let chosen = if attempt.selected { " and was chosen" } else { "" };
    format!("Its picture of iteration {} {score}{chosen}.", attempt.iteration)
}

fn section(place: Place<'_>, model: &str, it: &BlamedSection) -> Section {
    let name = if it.heading.is_empty() { &it.section } else { &it.heading };
    let since = links::version(place.workflow, model, it.since_version);
    Section {
        document: it.document.as_str(),
        name: name.clone(),
        bytes: it.bytes,
        since: (it.since_version, since),
        incomplete: it.incomplete,
        edits: it.edits.iter().map(|edit| told(place, model, edit)).collect(),
    }
}

fn told(place: Place<'_>, model: &str, it: &BlamedEdit) -> Edit {
    Edit {
        version: (it.version, links::version(place.workflow, model, it.version)),
        cycle: it.cycle.map(|cycle| (cycle, links::cycle(place.workflow, cycle))),
        operation: it.operation.as_str(),
        gained: it.gained.as_ref().map_or_else(|| "not tested".to_owned(), |gain| gain.in_words()),
        reasons: it.because.iter().map(|reason| because(place, reason)).collect(),
    }
}

fn because(place: Place<'_>, reason: &Reason) -> Because {
    let shown = reason.tasks.iter().take(TASKS_SHOWN_MAX);
    Because {
        insight: reason.insight.clone(),
        standing: reason.standing.clone(),
        claim: reason.claim.clone(),
        tasks: shown.map(|task| (task.clone(), links::task(place.workflow, task, ""))).collect(),
        more: reason.tasks.len().saturating_sub(TASKS_SHOWN_MAX),
    }
}
