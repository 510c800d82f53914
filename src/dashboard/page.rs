//! The whole page.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, context};

use super::view::Workflow;
use super::{STYLESHEET_PATH, WorkflowAnalytics};

const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("templates/page.html")),
    ("workflow.html", include_str!("templates/workflow.html")),
    ("details.html", include_str!("templates/details.html")),
    ("chart.html", include_str!("templates/chart.html")),
];

/// The page could not be written. The data behind it is untouched.
#[derive(Debug, thiserror::Error)]
#[error("the dashboard's page could not be written: {0}; its data is still at /analytics as JSON")]
pub struct PageError(#[from] minijinja::Error);

/// Writes the page of these workflows: HTML, UTF-8, complete.
///
/// # Errors
/// [`PageError`] when a template is broken, which the tests of this file rule out.
pub fn render(workflows: &[WorkflowAnalytics]) -> Result<String, PageError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    let range = workflows.first().map(|first| (first.analytics.from, first.analytics.to));
    let (from, to) = range.unwrap_or_default();
    let views: Vec<Workflow> = workflows
        .iter()
        .enumerate()
        .map(|(index, workflow)| Workflow::new(index, workflow))
        .collect();
    let page = environment.get_template("page.html")?.render(context! {
        workflows => Serde(views),
        stylesheet => STYLESHEET_PATH,
        from => from.map(|day| day.to_string()),
        to => to.map(|day| day.to_string()),
    })?;
    Ok(page)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
