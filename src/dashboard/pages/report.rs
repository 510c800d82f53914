//! The report of a cycle for somebody who is no engineer, as a page and as a file of its own.

use serde::Serialize;
use serde_json::json;

use super::Place;
use crate::dashboard::data::ReportData;
use crate::dashboard::page::{Page, PageError, Viewer};
use crate::dashboard::{STYLESHEET, links};
use crate::report::{self, Facts, Language, Report, Target};

#[derive(Debug, Serialize)]
struct View<'r> {
    report: &'r Report,
    lang: &'static str,
    /// The same in the other language: its code, its name and where it is.
    other: (&'static str, &'static str, String),
    stylesheet: Option<&'static str>,
    /// Where the dashboard is, for a file's links; empty within the dashboard.
    base: String,
}

/// The sentences of a cycle's report, its links leading to the dashboard's pages.
#[must_use]
pub fn of(facts: &Facts, language: Language) -> Report {
    report::report(facts, language, |target| match target {
        Target::Cycle(cycle) => links::cycle(&facts.workflow, cycle),
        Target::PutBack(model, version) => {
            format!("{}?rollback={version}#rollback", links::model(&facts.workflow, model))
        }
    })
}

/// The report as a page.
#[must_use]
pub fn page(place: Place<'_>, facts: &Facts, language: Language) -> Page {
    let report = of(facts, language);
    let own = format!("{}/report", links::cycle(place.workflow, facts.cycle));
    let view = view(&report, language, &own, None, String::new());
    let address = format!("{own}?lang={language}");
    Page::new("report.html", report.title.clone(), address, view)
        .of_workflow(place.workflow, "cycles")
        .with_data(json!(ReportData {
            facts,
            report: &report,
            markdown: report::markdown(&report, None),
        }))
}

/// The report as one HTML file that needs nothing else; `base` is where the dashboard is, for its links.
///
/// # Errors
/// [`PageError`] when a template is broken.
pub fn file(facts: &Facts, language: Language, base: Option<&str>) -> Result<String, PageError> {
    let report = of(facts, language);
    let base = base.map(|base| base.trim_end_matches('/').to_owned()).unwrap_or_default();
    let view = view(&report, language, "", Some(STYLESHEET), base);
    Page::new("report_file.html", report.title.clone(), "", view).html(&Viewer::default())
}

fn view<'r>(
    report: &'r Report,
    language: Language,
    own: &str,
    stylesheet: Option<&'static str>,
    base: String,
) -> View<'r> {
    let (code, name) = match language {
        Language::English => ("el", "Στα ελληνικά"),
        Language::Greek => ("en", "In English"),
    };
    View {
        report,
        lang: language.code(),
        other: (code, name, format!("{own}?lang={code}")),
        stylesheet,
        base,
    }
}
