//! Insights with the tasks that show them.

use serde_json::json;

use super::Place;
use crate::dashboard::data::InsightsData;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::dashboard::view::tables;
use crate::store::analytics::Insight;

/// The page of these insights.
#[must_use]
pub fn page(place: Place<'_>, insights: &[Insight]) -> Page {
    let findings: Vec<_> =
        insights.iter().map(|insight| tables::finding(place.workflow, insight)).collect();
    let mut table = Table::new("insights", "Every insight, latest first.")
        .column("id", "Insight")
        .column("type", "Type")
        .column("model", "Model")
        .long("claim", "Claim")
        .number("confidence", "Sure")
        .column("standing", "Stands")
        .number("confirmed", "Confirmed")
        .number("weakened", "Weakened")
        .number("helpful", "Helpful")
        .number("harmful", "Harmful")
        .long("suggested_change", "Suggested")
        .column("evidence_tasks", "Seen in");
    for insight in insights {
        table.row(vec![
            Cell::text(&insight.id),
            Cell::text(&insight.insight_type),
            Cell::text(&insight.model),
            Cell::text(&insight.description),
            Cell::percent(Some(insight.confidence)),
            Cell::text(&insight.standing),
            Cell::count(i64::from(insight.confirmed)),
            Cell::count(i64::from(insight.weakened)),
            Cell::count(insight.helpful),
            Cell::count(insight.harmful),
            Cell::text(&insight.suggested_change),
            Cell::of(insight.example_task_ids.join(", "), json!(insight.example_task_ids)),
        ]);
    }
    let address = links::section(place.workflow, "insights");
    Page::new("insights.html", "Insights", address, json!({ "insights": findings }))
        .of_workflow(place.workflow, "insights")
        .with_data(json!(InsightsData { insights }))
        .with_tables(vec![table])
}
