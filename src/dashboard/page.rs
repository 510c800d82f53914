//! A page: its template with everything that it prints, its tables, and its data.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, HtmlEscape, context};
use serde::Serialize;
use serde_json::Value;

use super::table::Table;
use super::{SCRIPT_PATH, STYLESHEET_PATH};

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("templates/", $name)))),+]
    };
}

const TEMPLATES: &[(&str, &str)] = templates![
    "base.html",
    "macros.html",
    "first.html",
    "workflow.html",
    "charts.html",
    "problem.html",
    "list.html",
    "conflict.html",
    "cycle.html",
    "insights.html",
    "verdicts.html",
    "model.html",
    "version.html",
    "tasks.html",
    "task.html",
    "why.html",
    "report.html",
    "report_body.html",
    "report_file.html",
];

static ENVIRONMENT: LazyLock<Result<Environment<'static>, String>> =
    LazyLock::new(|| environment().map_err(|error| error.to_string()));

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("commands", commands);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    Ok(environment)
}

/// A sentence with its `commands` set as code. What stands in it is escaped first: a hold's words may quote a file's
/// name, which anybody may have chosen.
fn commands(sentence: &str) -> minijinja::Value {
    let mut html = String::with_capacity(sentence.len());
    for (index, part) in sentence.split('`').enumerate() {
        let part = HtmlEscape(part);
        html += &if index % 2 == 0 { part.to_string() } else { format!("<code>{part}</code>") };
    }
    minijinja::Value::from_safe_string(html)
}

/// The page could not be written. The data behind it is untouched.
#[derive(Debug, thiserror::Error)]
#[error("the dashboard's page could not be written: {0}; its data is still there as JSON")]
pub struct PageError(String);

impl From<minijinja::Error> for PageError {
    fn from(error: minijinja::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// Who looks, as far as the pages care.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Viewer {
    /// The key's name.
    pub name: String,
    /// True where the buttons may be pressed.
    pub may_operate: bool,
    /// What every form of this session carries; empty where none is needed.
    pub csrf: String,
    /// True for a browser that signed in, and so can sign out.
    pub signed_in: bool,
}

/// A page, complete but for who looks at it.
#[derive(Debug)]
pub struct Page {
    /// What the tab is called.
    pub title: String,
    /// Its address with its query.
    pub address: String,
    /// The workflow that it belongs to, if one.
    pub workflow: Option<String>,
    /// Which entry of the workflow's menu it is.
    pub section: &'static str,
    /// Its tables, for CSV and JSON.
    pub tables: Vec<Table>,
    /// What `Accept: application/json` gets.
    pub data: Value,
    template: &'static str,
    view: minijinja::Value,
}

impl Page {
    /// A page of that template; `view` is what it prints, under the name `it`.
    pub fn new(
        template: &'static str,
        title: impl Into<String>,
        address: impl Into<String>,
        view: impl Serialize,
    ) -> Self {
        Self {
            title: title.into(),
            address: address.into(),
            workflow: None,
            section: "",
            tables: Vec::new(),
            data: Value::Null,
            template,
            view: minijinja::Value::from(Serde(view)),
        }
    }

    /// The page as a part of a workflow, under an entry of its menu.
    #[must_use]
    pub fn of_workflow(mut self, workflow: &str, section: &'static str) -> Self {
        self.workflow = Some(workflow.to_owned());
        self.section = section;
        self
    }

    /// The page with its data.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    /// The page with tables, each then found by its name in the template, too.
    #[must_use]
    pub fn with_tables(mut self, tables: Vec<Table>) -> Self {
        self.tables = tables;
        for table in &mut self.tables {
            table.belongs_to(&self.address);
        }
        self
    }

    /// One of its tables.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The whole page: HTML, UTF-8, complete.
    ///
    /// # Errors
    /// [`PageError`] when a template is broken, which the tests rule out.
    pub fn html(&self, viewer: &Viewer) -> Result<String, PageError> {
        let environment = ENVIRONMENT.as_ref().map_err(|error| PageError(error.clone()))?;
        let tables: std::collections::BTreeMap<&str, &Table> =
            self.tables.iter().map(|table| (table.name.as_str(), table)).collect();
        let menu = self.workflow.as_deref().map(menu);
        Ok(environment.get_template(self.template)?.render(context! {
            it => &self.view,
            title => &self.title,
            address => &self.address,
            section => self.section,
            workflow => self.workflow.as_deref(),
            home => self.workflow.as_deref().map(super::links::workflow),
            menu => Serde(menu),
            tables => Serde(tables),
            viewer => Serde(viewer),
            stylesheet => STYLESHEET_PATH,
            script => SCRIPT_PATH,
        })?)
    }
}

/// The entries of a workflow's menu: section, words, address.
fn menu(workflow: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut entries = vec![("overview", "Overview", super::links::workflow(workflow))];
    entries
        .extend(SECTIONS.map(|(name, words)| (name, words, super::links::section(workflow, name))));
    entries
}

/// A workflow's pages beside its first.
const SECTIONS: [(&str, &str); 5] = [
    ("cycles", "Cycles"),
    ("verdicts", "Verdicts"),
    ("insights", "Insights"),
    ("tasks", "Tasks"),
    ("changes", "Config changes"),
];

/// The page that tells what was refused, with a way out: its address and its words.
#[must_use]
pub fn problem(title: &str, detail: &str, (back, words): (&str, &str)) -> Page {
    let view = serde_json::json!({ "detail": detail, "back": back, "words": words });
    Page::new("problem.html", title, back, view)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
