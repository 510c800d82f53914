//! The first page: every workflow, or one.

use serde::Serialize;
use serde_json::json;

use super::page::Page;
use super::table::Table;
use super::view::Workflow;
use super::{WorkflowAnalytics, links};

#[derive(Debug, Serialize)]
struct View {
    workflows: Vec<Workflow>,
    from: Option<String>,
    to: Option<String>,
    /// Where the form of the range leads.
    action: String,
}

/// The page of these workflows; `only` names the one that was asked for.
#[must_use]
pub fn page(workflows: &[WorkflowAnalytics], only: Option<&str>) -> Page {
    let range = workflows.first().map(|first| (first.analytics.from, first.analytics.to));
    let (from, to) = range.unwrap_or_default();
    let query =
        [("from", from), ("to", to)].into_iter().filter_map(|(name, day)| Some((name, day?)));
    let query: Vec<String> = query.map(|(name, day)| format!("{name}={day}")).collect();
    let query = query.join("&");
    let action = only.map_or_else(|| "/analytics".to_owned(), links::workflow);
    let views: Vec<Workflow> = workflows
        .iter()
        .enumerate()
        .map(|(index, workflow)| Workflow::new(index, workflow, &query))
        .collect();
    let tables: Vec<Table> = match views.as_slice() {
        [one] => one.tables().cloned().collect(),
        _ => Vec::new(),
    };
    let title = match workflows {
        [one] => one.workflow.clone(),
        _ => "What the pipeline has learnt".to_owned(),
    };
    let address = links::with_query(&action, &query);
    let view = View {
        workflows: views,
        from: from.map(|day| day.to_string()),
        to: to.map(|day| day.to_string()),
        action,
    };
    let mut page =
        Page::new("first.html", title, address, view).with_data(json!({ "workflows": workflows }));
    // The views have the tables already, each under the address of its workflow.
    page.tables = tables;
    match (only, workflows) {
        (Some(name), _) => page.of_workflow(name, "overview"),
        (None, [one]) => page.of_workflow(&one.workflow, "overview"),
        _ => page,
    }
}
