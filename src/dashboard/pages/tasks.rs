//! The runs of tasks, newest first, with a search.

use serde::Serialize;
use serde_json::json;

use super::Place;
use crate::dashboard::data::TasksData;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::store::analytics::pages::{TASKS_A_PAGE, TaskHead};

#[derive(Debug, Serialize)]
struct View {
    action: String,
    wanted: String,
    empty: bool,
    older: Option<String>,
}

/// The page of these runs; `wanted` is the task that was searched for, `query` the filter.
#[must_use]
pub fn page(place: Place<'_>, tasks: &[TaskHead], wanted: &str, query: &str) -> Page {
    let action = links::section(place.workflow, "tasks");
    let address = links::with_query(&action, query);
    let full = i64::try_from(tasks.len()).unwrap_or(i64::MAX) >= TASKS_A_PAGE;
    let older = tasks.last().filter(|_| full).map(|last| {
        let place = format!("after={}-{}", last.created_at.timestamp_micros(), last.id);
        links::with_query(&address, &place)
    });
    let mut table = Table::new("tasks", "Runs of tasks, newest first.")
        .column("task_id", "Task")
        .column("run_id", "Run")
        .column("category", "Category")
        .short("created_at", "Arrived")
        .column("ended_by", "Ended by")
        .short("winner_model", "Winner")
        .number("winner_score", "Score")
        .number("total_iterations", "Iterations")
        .column("kept", "Picture");
    for task in tasks {
        let number = |value: Option<i32>| Cell::count_or_nothing(value.map(i64::from));
        let text = |value: &Option<String>| value.as_ref().map_or_else(Cell::nothing, Cell::text);
        let name =
            Cell::text(&task.task_id).to(links::task(place.workflow, &task.task_id, &task.run_id));
        table.row(vec![
            match &task.task_name {
                Some(title) => name.note(title),
                None => name,
            },
            Cell::text(&task.run_id),
            text(&task.category),
            place.moment(task.created_at),
            task.ended_by.as_ref().map_or_else(|| Cell::of("running", ()), Cell::text),
            text(&task.winner_model),
            number(task.winner_score),
            number(task.total_iterations),
            match task.feedback_kept {
                Some(true) => Cell::of("kept", true),
                Some(false) => Cell::of("deleted", false),
                None => Cell::nothing(),
            },
        ]);
    }
    let view = View { action, wanted: wanted.to_owned(), empty: tasks.is_empty(), older };
    Page::new("tasks.html", "Tasks", address, view)
        .of_workflow(place.workflow, "tasks")
        .with_data(json!(TasksData { tasks }))
        .with_tables(vec![table])
}
