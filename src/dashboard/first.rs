//! The first page: every workflow, or one.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::json;

use super::data::OverviewData;
use super::page::Page;
use super::table::Table;
use super::view::Workflow;
use super::{WorkflowAnalytics, links};

/// How the address asks for tasks without a category.
pub const NO_CATEGORY: &str = "none";

#[derive(Debug, Serialize)]
struct View {
    workflows: Vec<Workflow>,
    filter: Filter,
    /// Where the form of the filter leads.
    action: String,
}

/// What the form shows: what was asked for, and what there is to ask for.
#[derive(Debug, Default, Serialize)]
struct Filter {
    from: String,
    to: String,
    model: String,
    category: String,
    models: BTreeSet<String>,
    /// Value and words of each.
    categories: BTreeSet<(String, String)>,
    set: bool,
}

impl Filter {
    fn of(workflows: &[WorkflowAnalytics]) -> Self {
        let Some(first) = workflows.first().map(|first| &first.analytics) else {
            return Self::default();
        };
        let day =
            |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string()).unwrap_or_default();
        let value = |category: &str| match category {
            "" => (NO_CATEGORY.to_owned(), "none".to_owned()),
            named => (named.to_owned(), named.to_owned()),
        };
        let all = || workflows.iter().map(|workflow| &workflow.analytics);
        let category = first.category.as_deref().map(|named| value(named).0).unwrap_or_default();
        let (from, to) = (day(first.from), day(first.to));
        let model = first.model.clone().unwrap_or_default();
        Self {
            models: all().flat_map(|it| it.model_names.iter().cloned()).collect(),
            categories: all().flat_map(|it| it.categories.iter().map(|it| value(it))).collect(),
            set: [&from, &to, &model, &category].iter().any(|text| !text.is_empty()),
            from,
            to,
            model,
            category,
        }
    }

    fn query(&self) -> String {
        links::query(&[
            ("from", &self.from),
            ("to", &self.to),
            ("model", &self.model),
            ("category", &self.category),
        ])
    }
}

/// The page of these workflows; `only` names the one that was asked for.
#[must_use]
pub fn page(workflows: &[WorkflowAnalytics], only: Option<&str>) -> Page {
    let filter = Filter::of(workflows);
    let query = filter.query();
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
    let view = View { workflows: views, filter, action };
    let mut page =
        Page::new("first.html", title, address, view).with_data(json!(OverviewData { workflows }));
    // The views have the tables already, each under the address of its workflow.
    page.tables = tables;
    match (only, workflows) {
        (Some(name), _) => page.of_workflow(name, "overview"),
        (None, [one]) => page.of_workflow(&one.workflow, "overview"),
        _ => page,
    }
}
