//! One version with its three texts.

use serde::Serialize;
use serde_json::json;

use super::Place;
use crate::dashboard::data::VersionData;
use crate::dashboard::page::Page;
use crate::dashboard::{links, words};
use crate::store::versions::Version;

#[derive(Debug, Serialize)]
struct View<'v> {
    model: &'v str,
    version: i32,
    page: String,
    active: bool,
    made: String,
    by: &'v str,
    cycle: Option<(i64, String)>,
    parent: Option<(i32, String)>,
    score: Option<String>,
    summary: &'v str,
    hash: &'v str,
    texts: [(&'static str, &'v str); 3],
}

/// The version's page. Whether it is active is asked apart, since the version itself never changes.
#[must_use]
pub fn page(place: Place<'_>, version: &Version, active: bool) -> Page {
    let model = links::model(place.workflow, &version.model_name);
    let view = View {
        model: &version.model_name,
        version: version.version,
        page: model.clone(),
        active,
        made: words::moment(version.created_at, place.zone),
        by: &version.created_by,
        cycle: version.cycle.map(|cycle| (cycle, links::cycle(place.workflow, cycle))),
        parent: version
            .parent_version
            .map(|parent| (parent, format!("{model}?from={parent}&to={}#diff", version.version))),
        score: version.a_b_test_score.map(|score| words::tenths(Some(score))),
        summary: &version.summary,
        hash: &version.content_hash,
        texts: [
            ("Activation", &version.activation_text),
            ("Research", &version.research_text),
            ("Template", &version.prompt_template),
        ],
    };
    let title = format!("{} version {}", version.model_name, version.version);
    let address = links::version(place.workflow, &version.model_name, version.version);
    Page::new("version.html", title, address, view)
        .of_workflow(place.workflow, "overview")
        .with_data(json!(VersionData { version, is_active: active }))
}
