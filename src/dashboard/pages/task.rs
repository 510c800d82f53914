//! One run of a task: every attempt with its picture, its score and the judge's reasoning.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::json;

use super::Place;
use super::cycles::plain;
use crate::dashboard::data::TaskData;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::{links, words};
use crate::store::analytics::pages::TaskHead;
use crate::store::task_log::{AttemptRecord, TaskRecord};

#[derive(Debug, Serialize)]
struct View {
    task: String,
    run: String,
    name: Option<String>,
    standing: String,
    facts: Vec<(&'static str, String)>,
    prompt: Option<String>,
    comment: Option<String>,
    error: Option<String>,
    cycle: Option<(i64, String)>,
    runs: Vec<(String, String)>,
    /// Each model whose prompt can be explained, and where.
    why: Vec<(String, String)>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Serialize)]
struct Attempt {
    model: String,
    iteration: i32,
    version: Option<(i32, String)>,
    selected: bool,
    observed: bool,
    score: String,
    /// `adopted` for a pass, `rejected` for a fail, else empty.
    passed: &'static str,
    prompt: Option<String>,
    /// Where the picture is, if a browser may be sent there.
    picture: Option<String>,
    /// Where it is, if not.
    address: Option<String>,
    issues: Vec<String>,
    reasoning: Option<String>,
    judge: Option<String>,
    error: Option<String>,
    times: String,
}

/// The run's page; `runs` are all runs of the task.
#[must_use]
pub fn page(place: Place<'_>, task: &TaskRecord, runs: &[TaskHead]) -> Page {
    let others = runs.iter().filter(|run| run.run_id != task.run_id);
    let view = View {
        task: task.task_id.clone(),
        run: task.run_id.clone(),
        name: task.task_name.clone(),
        standing: standing(task),
        facts: facts(place, task),
        prompt: task.original_prompt.clone(),
        comment: task.feedback_comment.clone(),
        error: task.error.clone(),
        cycle: task
            .analyzed_in_cycle
            .filter(|cycle| *cycle > 0)
            .map(|cycle| (cycle, links::cycle(place.workflow, cycle))),
        runs: others
            .map(|run| {
                let name = if run.run_id.is_empty() { "the unnamed run" } else { &run.run_id };
                (name.to_owned(), links::task(place.workflow, &run.task_id, &run.run_id))
            })
            .collect(),
        why: explained(place, task),
        attempts: task.attempts.iter().map(|it| attempt(place, it)).collect(),
    };
    let title = task.task_name.clone().unwrap_or_else(|| format!("Task {}", task.task_id));
    Page::new("task.html", title, links::task(place.workflow, &task.task_id, &task.run_id), view)
        .of_workflow(place.workflow, "tasks")
        .with_data(json!(TaskData { task }))
        .with_tables(vec![table(place, &task.attempts)])
}

/// Where each prompt of the run is explained: those that a version of ours wrote.
fn explained(place: Place<'_>, task: &TaskRecord) -> Vec<(String, String)> {
    let known = task.attempts.iter().filter(|it| it.prompt_version.is_some() && !it.observed);
    let models: BTreeSet<&String> = known.map(|it| &it.model).collect();
    let page = |model: &String| links::why(place.workflow, &task.task_id, &task.run_id, model);
    models.into_iter().map(|model| (model.clone(), page(model))).collect()
}

fn standing(task: &TaskRecord) -> String {
    match (task.ended_by.as_deref(), &task.winner_model, task.winner_score) {
        (None, ..) => "It is still running.".to_owned(),
        (Some("abandoned"), ..) => "It fell silent and was given up.".to_owned(),
        (Some("error"), ..) => "It ended in an error.".to_owned(),
        (_, Some(winner), Some(score)) => format!("{winner} won with {score}."),
        (_, Some(winner), None) => format!("{winner} won."),
        _ => "It ended without a winner.".to_owned(),
    }
}

fn facts(place: Place<'_>, task: &TaskRecord) -> Vec<(&'static str, String)> {
    let seconds = task
        .processing_time_ms
        .map(|ms| std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64());
    let kept = task.feedback_kept.map(|kept| if kept { "kept" } else { "deleted" }.to_owned());
    let error = task.error_fault.as_ref().map(|fault| plain(fault));
    [
        ("Arrived", Some(words::moment(task.created_at, place.zone))),
        ("Category", task.category.clone()),
        ("Type", task.task_type.clone()),
        ("Iterations", task.total_iterations.map(|number| number.to_string())),
        ("Time", seconds.map(|seconds| words::duration(Some(seconds)))),
        ("Picture", kept),
        ("Fault", error),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value?)))
    .collect()
}

fn attempt(place: Place<'_>, it: &AttemptRecord) -> Attempt {
    let safe = it.image_url.as_deref().and_then(links::outside).map(str::to_owned);
    let time = |label: &str, ms: Option<i64>| {
        let seconds = std::time::Duration::from_millis(ms?.unsigned_abs()).as_secs_f64();
        Some(format!("{label} {}", words::duration(Some(seconds))))
    };
    let cost = it.cost_usd.map(|cost| format!("picture ${cost:.3}"));
    let times =
        [time("prompt", it.enhancement_latency_ms), time("picture", it.generation_time_ms), cost];
    Attempt {
        model: it.model.clone(),
        iteration: it.iteration,
        version: it
            .prompt_version
            .filter(|_| !it.observed)
            .map(|number| (number, links::version(place.workflow, &it.model, number))),
        selected: it.was_selected,
        observed: it.observed,
        score: it
            .validation_score
            .map_or_else(|| words::NOTHING.to_owned(), |score| score.to_string()),
        passed: match it.validation_passed {
            Some(true) => "adopted",
            Some(false) => "rejected",
            None => "quiet",
        },
        prompt: it.enhanced_prompt.clone(),
        address: it.image_url.clone().filter(|_| safe.is_none()),
        picture: safe,
        issues: issues(it),
        reasoning: it.validation_reasoning.clone(),
        judge: it.judge_model.clone(),
        error: it.error.clone(),
        times: times.into_iter().flatten().collect::<Vec<_>>().join(", "),
    }
}

fn issues(it: &AttemptRecord) -> Vec<String> {
    let listed = it.validation_issues.as_ref().and_then(|issues| issues.as_array());
    listed.into_iter().flatten().filter_map(|issue| issue.as_str()).map(str::to_owned).collect()
}

fn table(place: Place<'_>, attempts: &[AttemptRecord]) -> Table {
    let mut table = Table::new("attempts", "Every attempt, by iteration and model.")
        .number("iteration", "Iteration")
        .short("model", "Model")
        .number("version", "Version")
        .number("score", "Score")
        .column("passed", "Passed")
        .column("selected", "Chosen")
        .column("picture", "Picture");
    for it in attempts {
        let version = it.prompt_version.map_or_else(Cell::nothing, |number| {
            Cell::count(i64::from(number)).to(links::version(place.workflow, &it.model, number))
        });
        let picture = it.image_url.as_ref().map_or_else(Cell::nothing, |address| {
            match links::outside(address) {
                Some(safe) => Cell::of("Open", address.clone()).to(safe),
                None => Cell::text(address),
            }
        });
        table.row_marked(
            vec![
                Cell::count(i64::from(it.iteration)),
                Cell::text(&it.model),
                version,
                Cell::count_or_nothing(it.validation_score.map(i64::from)),
                match it.validation_passed {
                    Some(true) => Cell::of("passed", true),
                    Some(false) => Cell::of("failed", false),
                    None => Cell::nothing(),
                },
                if it.was_selected {
                    Cell::of("chosen", true).tag("adopted")
                } else {
                    Cell::of("", false)
                },
                picture,
            ],
            it.was_selected,
        );
    }
    table
}
