//! A model's versions: the history, the diff of any two, and the way back to an earlier one.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Place;
use crate::dashboard::data::ModelData;
use crate::dashboard::links;
use crate::dashboard::page::Page;
use crate::dashboard::table::{Cell, Table};
use crate::store::analytics::ConfigChange;
use crate::store::versions::VersionHead;

/// Two versions and what changed between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ShownDiff)]
pub struct Diff {
    /// The old version.
    pub from: i32,
    /// The new version.
    pub to: i32,
    /// Unified; empty where the texts are equal.
    pub diff: String,
}

/// Everything that is known of a model.
#[derive(Debug)]
pub struct Facts {
    /// The model.
    pub model: String,
    /// The version that serves.
    pub active: Option<i32>,
    /// The number of its newest version.
    pub newest: i32,
    /// The versions shown are older than this one; without it, they are the newest.
    pub after: Option<i32>,
    /// A page of its versions, newest first.
    pub versions: Vec<VersionHead>,
    /// The two versions that are compared.
    pub diff: Option<Diff>,
    /// The version that is to be put back, and what that changes, once a person asked for it.
    pub rollback: Option<Diff>,
    /// Changes of its files.
    pub changes: Vec<ConfigChange>,
}

#[derive(Debug, Serialize)]
struct View {
    model: String,
    page: String,
    active: Option<i32>,
    newest: i32,
    after: Option<i32>,
    empty: bool,
    /// Where older versions are listed, and, on such a page, the newest.
    older: Option<String>,
    latest: Option<String>,
    diff: Option<Shown>,
    rollback: Option<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    from: i32,
    to: i32,
    lines: Vec<Line>,
}

/// A line of a diff.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// `add`, `del`, `hunk`, `file` or empty.
    class: &'static str,
    text: String,
}

impl From<&Diff> for Shown {
    fn from(diff: &Diff) -> Self {
        Self { from: diff.from, to: diff.to, lines: lines(&diff.diff) }
    }
}

/// The lines of a unified diff with what each is. A header counts as one only before its hunk, since a
/// removed line may well begin with two dashes.
pub(super) fn lines(diff: &str) -> Vec<Line> {
    let mut in_hunk = false;
    let mut left = (0_u32, 0_u32);
    diff.split_inclusive('\n')
        .map(|line| {
            let text = line.trim_end_matches('\n').to_owned();
            if left == (0, 0) {
                in_hunk = false;
            }
            let class = match text.as_bytes().first() {
                Some(b'@') if !in_hunk => {
                    in_hunk = true;
                    left = hunk_size(&text);
                    "hunk"
                }
                Some(b'\\') => "hunk",
                _ if !in_hunk => "file",
                Some(b'+') => {
                    left.1 = left.1.saturating_sub(1);
                    "add"
                }
                Some(b'-') => {
                    left.0 = left.0.saturating_sub(1);
                    "del"
                }
                _ => {
                    left = (left.0.saturating_sub(1), left.1.saturating_sub(1));
                    ""
                }
            };
            Line { class, text }
        })
        .collect()
}

/// How many lines of each side a hunk has, from `@@ -1,3 +1,7 @@`.
fn hunk_size(header: &str) -> (u32, u32) {
    let size = |range: Option<&str>| {
        range.map_or(0, |range| {
            range.split_once(',').map_or("1", |(_, size)| size).parse().unwrap_or(0)
        })
    };
    let mut parts = header.split(' ').skip(1);
    (size(parts.next()), size(parts.next()))
}

/// The model's page.
#[must_use]
pub fn page(place: Place<'_>, facts: &Facts) -> Page {
    let page = links::model(place.workflow, &facts.model);
    let after = |version: i32| links::with_query(&page, &format!("after={version}"));
    let address = facts.after.map_or_else(|| page.clone(), after);
    let last = facts.versions.last().map(|version| version.version);
    let view = View {
        model: facts.model.clone(),
        page: page.clone(),
        active: facts.active,
        newest: facts.newest,
        after: facts.after,
        empty: facts.versions.is_empty(),
        // They are numbered from 1, and none is ever removed.
        older: last.filter(|last| *last > 1).map(after),
        latest: facts.after.map(|_| page.clone()),
        diff: facts.diff.as_ref().map(Shown::from),
        rollback: facts.rollback.as_ref().map(Shown::from),
    };
    let data = json!(ModelData {
        model: &facts.model,
        active_version: facts.active,
        versions: &facts.versions,
        diff: facts.diff.as_ref(),
        config_changes: &facts.changes,
    });
    let tables =
        vec![versions(place, facts, &address), super::changes::table(place, &facts.changes)];
    Page::new("model.html", facts.model.clone(), address, view)
        .of_workflow(place.workflow, "overview")
        .with_data(data)
        .with_tables(tables)
}

fn versions(place: Place<'_>, facts: &Facts, address: &str) -> Table {
    let mut table = Table::new("versions", "Versions, newest first.")
        .number("version", "Version")
        .column("serves", "Serves")
        .number("parent_version", "From")
        .number("test_score", "Test score")
        .number("test_scores", "Scores")
        .short("created_at", "Made")
        .long("summary", "What it changes")
        .column("diff", "Changes")
        .column("rollback", "Way back");
    for version in &facts.versions {
        let number = version.version;
        let made = place.moment(version.created_at).note(&version.created_by);
        let diff = version.parent_version.map_or_else(Cell::nothing, |parent| {
            let link = links::with_query(address, &format!("from={parent}&to={number}#diff"));
            Cell::of("Diff", link.clone()).to(link)
        });
        let back = links::with_query(address, &format!("rollback={number}#rollback"));
        table.row_marked(
            vec![
                Cell::count(i64::from(number)).to(links::version(
                    place.workflow,
                    &facts.model,
                    number,
                )),
                if version.is_active {
                    Cell::of("active", true).tag("adopted")
                } else {
                    Cell::of("", false)
                },
                Cell::count_or_nothing(version.parent_version.map(i64::from)),
                Cell::tenths(version.a_b_test_score),
                Cell::count_or_nothing(version.tasks_tested.map(i64::from)),
                match version.cycle {
                    Some(cycle) => made.to(links::cycle(place.workflow, cycle)),
                    None => made,
                },
                Cell::text(&version.summary),
                diff,
                if version.is_active {
                    Cell::nothing()
                } else {
                    Cell::of("Roll back to it", back.clone()).to(back)
                },
            ],
            version.is_active,
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_line_that_begins_with_dashes_is_no_header() {
        let diff = "--- a\n+++ b\n@@ -1,2 +1,1 @@\n--- rule\n same\n--- c\n+++ d\n@@ -1 +1 @@\n-x\n+y\n\\ No newline\n";
        let classes: Vec<_> = lines(diff).into_iter().map(|line| line.class).collect();
        assert_eq!(
            classes,
            ["file", "file", "hunk", "del", "", "file", "file", "hunk", "del", "add", "hunk"]
        );
    }
}
