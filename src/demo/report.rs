//! What the demo says, in lines. Every figure comes from the server's answers, its task log, or the stand-ins' records.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use serde_json::Value;

use super::DemoError;
use super::api::find;
use super::documents::{self, CONFIG_FOLDER};
use super::feeder::Board;
use super::ledger::{Bill, Ledger, Tally};
use super::stage::Stage;
use crate::stand_in::world::Model;

/// How long the dashboard's figures may stay behind the log, and how often they are looked at.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(60);
const FIGURES_PAUSE: Duration = Duration::from_millis(200);

/// What to say when a cycle enters a state.
///
/// # Errors
/// [`DemoError::Api`].
pub(super) async fn entered(
    stage: &Stage,
    number: i64,
    state: &str,
) -> Result<Vec<String>, DemoError> {
    let api = stage.api();
    Ok(match state {
        "analyzing" => vec!["Analyzing  Claude reads the window".to_owned()],
        "generating" => {
            let found = insights(&api.analytics().await?, number);
            let words = if found.is_empty() { "Nothing new; earlier ones stand." } else { "Found:" };
            let mut lines = vec![format!("Generating Claude turns the findings into edits. {words}")];
            lines.extend(found);
            lines
        }
        "testing" => {
            let status = api.workflow(&format!("/cycles/{number}")).await?;
            let analytics = api.analytics().await?;
            let mut lines = vec![
                "Testing    ten tasks with the old version, ten with the new one, dealt at random"
                    .to_owned(),
            ];
            lines.extend(candidates(&status, &analytics));
            lines
        }
        "deciding" => vec!["Deciding".to_owned()],
        "applying" => {
            let status = api.workflow(&format!("/cycles/{number}")).await?;
            let mut lines = verdicts(&status);
            lines.push("Applying   the adopted documents are written".to_owned());
            lines
        }
        "probation" => vec![
            "Probation  adopted, on watch: thirty more tasks, one to one, before the adoption stands"
                .to_owned(),
        ],
        "reverting" => vec!["Reverting  the old documents are put back".to_owned()],
        "applied" | "rolled_back" => {
            let status = api.workflow(&format!("/cycles/{number}")).await?;
            let mut lines = vec![
                if state == "applied" {
                    "Applied"
                } else {
                    "RolledBack the old versions serve again"
                }
                .to_owned(),
            ];
            lines.extend(probations(&status));
            lines.extend(files(&api.analytics().await?, stage.home(), number));
            lines
        }
        "rejected" => {
            let status = api.workflow(&format!("/cycles/{number}")).await?;
            let mut lines = verdicts(&status);
            lines.push("Rejected   the old versions stay".to_owned());
            lines
        }
        other => vec![other.to_owned()],
    })
}

fn rows<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    find(value, name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Each model's two surest insights, and how many more there are.
fn insights(analytics: &Value, number: i64) -> Vec<String> {
    const SHOWN: usize = 2;
    let of_cycle: Vec<&Value> =
        rows(analytics, "insights").iter().filter(|insight| insight["cycle"] == number).collect();
    let mut lines = Vec::new();
    for model in Model::ALL {
        let mut found: Vec<&&Value> =
            of_cycle.iter().filter(|insight| text(insight, "model") == model.name()).collect();
        let confidence = |insight: &Value| insight["confidence"].as_f64().unwrap_or(0.0);
        found.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)));
        lines.extend(found.iter().take(SHOWN).map(|insight| {
            format!(
                "           {}, confidence {}: {}",
                model.name(),
                insight["confidence"],
                text(insight, "description"),
            )
        }));
        let more = found.len().saturating_sub(SHOWN);
        if more > 0 {
            lines.push(format!("           {}, less sure: {more} more", model.name()));
        }
    }
    lines
}

fn candidates(status: &Value, analytics: &Value) -> Vec<String> {
    rows(status, "models")
        .iter()
        .filter(|model| model["new_version"].is_number())
        .map(|model| {
            format!(
                "           {} version {} against {}: {}",
                text(model, "model"),
                model["new_version"],
                model["old_version"],
                summary(analytics, text(model, "model"), &model["new_version"])
            )
        })
        .collect()
}

/// What a version changes, as its maker put it.
fn summary<'v>(analytics: &'v Value, model: &str, version: &Value) -> &'v str {
    rows(analytics, "versions")
        .iter()
        .filter(|entry| text(entry, "model") == model)
        .flat_map(|entry| rows(entry, "versions"))
        .find(|entry| entry["version"] == *version)
        .map_or("", |entry| text(entry, "summary"))
}

/// The verdicts, in the server's own sentences.
fn verdicts(status: &Value) -> Vec<String> {
    let tested = rows(status, "models").iter().filter(|model| model["sentence"].is_string());
    let mut lines: Vec<String> =
        tested.map(|model| format!("           {}", text(model, "sentence"))).collect();
    let untested = rows(status, "outcome").iter().filter(|model| model["result"] == "no_candidate");
    lines.extend(untested.map(|model| {
        format!("           {}: no candidate, {}", text(model, "model"), text(model, "reason"))
    }));
    lines
}

/// What became of adoptions on probation, in the server's own sentences.
fn probations(status: &Value) -> Vec<String> {
    rows(status, "models")
        .iter()
        .filter(|model| model["probation_sentence"].is_string())
        .map(|model| format!("           {}", text(model, "probation_sentence")))
        .collect()
}

fn files(analytics: &Value, home: &Path, number: i64) -> Vec<String> {
    let from_home = |path: &str| {
        let path = Path::new(path);
        let shown = path.strip_prefix(home).or_else(|_| path.strip_prefix("."));
        shown.unwrap_or(path).display().to_string()
    };
    let changed = changed_in(analytics, number);
    let goes_back = |model: &str| {
        changed
            .iter()
            .any(|change| text(change, "model") == model && text(change, "kind") == "revert")
    };
    changed
        .iter()
        .filter(|change| text(change, "kind") == "revert" || !goes_back(text(change, "model")))
        .map(|change| {
            let model = text(change, "model");
            let is = if text(change, "kind") == "revert" { "is back" } else { "is" };
            let backup = change["backup_path"].as_str().map_or("none".to_owned(), from_home);
            format!(
                "           {CONFIG_FOLDER}/{model}: version {} {is} in place of {}; backup {backup}",
                change["to_version"], change["from_version"]
            )
        })
        .collect()
}

/// The file changes of a cycle: those that put a version in place which that cycle made, or took it away again.
fn changed_in(analytics: &Value, number: i64) -> Vec<&Value> {
    let made_in = |model: &str, version: &Value| {
        rows(analytics, "versions")
            .iter()
            .filter(|entry| text(entry, "model") == model)
            .flat_map(|entry| rows(entry, "versions"))
            .any(|entry| entry["version"] == *version && entry["cycle"] == number)
    };
    rows(analytics, "config_changes")
        .iter()
        .filter(|change| text(change, "status") == "done")
        .filter(|change| match text(change, "kind") {
            "apply" => made_in(text(change, "model"), &change["to_version"]),
            "revert" => made_in(text(change, "model"), &change["from_version"]),
            _ => false,
        })
        .collect()
}

/// How far each model's deck is.
pub(super) fn deck_counts(status: &Value) -> String {
    rows(status, "models")
        .iter()
        .filter(|model| model["new_version"].is_number())
        .map(|model| {
            let pair =
                |what: &str| format!("{}+{}", model[what]["control"], model[what]["candidate"]);
            format!("{} dealt {}, scored {}", text(model, "model"), pair("dealt"), pair("scored"))
        })
        .collect::<Vec<_>>()
        .join("; ")
}

/// Slots of a running test that tasks hold, over all models.
pub(super) fn slots_dealt(status: &Value) -> u64 {
    let arms = ["control", "candidate"];
    let of_model = |model: &Value| -> u64 {
        arms.iter().filter_map(|arm| model["dealt"][*arm].as_u64()).sum()
    };
    rows(status, "models").iter().map(of_model).sum()
}

/// The means of a cycle's versions, over every first score that the log has for them.
pub(super) fn means(status: &Value, ledger: &Ledger) -> Vec<String> {
    Model::ALL
        .iter()
        .filter_map(|model| {
            let entry =
                rows(status, "models").iter().find(|entry| text(entry, "model") == model.name())?;
            let (old, new) = (entry["old_version"].as_i64()?, entry["new_version"].as_i64()?);
            Some(format!(
                "           {}: mean of version {old} {}, of version {new} {}",
                model.name(),
                shown(ledger.tally(*model, old)),
                shown(ledger.tally(*model, new))
            ))
        })
        .collect()
}

fn shown(tally: Tally) -> String {
    match tally.mean() {
        Some(mean) => format!("{mean:.2} ({} scores)", tally.count),
        None => "unknown (no score)".to_owned(),
    }
}

/// What was learnt, what became of every task, what it cost, and where to look.
///
/// # Errors
/// [`DemoError::Api`], and [`DemoError::Disagree`] if the records of the server and the services do not agree.
pub(super) async fn end(stage: &Stage, took: Duration) -> Result<(), DemoError> {
    let status = stage.api().workflow("/cycle").await?;
    let ledger = stage.ledger().await?;
    let board = Board::of(&stage.services().clickup.tasks());
    let analytics = counted_up(stage, &board).await?;
    println!("\nWhat was learnt, in {:.0} s and {} tasks", took.as_secs_f64(), board.finished());
    for model in Model::ALL {
        let entry =
            rows(&status, "models").iter().find(|entry| text(entry, "model") == model.name());
        let active = entry.and_then(|entry| entry["active_version"].as_i64()).unwrap_or(1);
        println!(
            "  {}: version {active} serves. Mean first score before {} with version 1, after {} with version {active}.",
            model.name(),
            shown(ledger.tally(model, 1)),
            shown(ledger.tally(model, active))
        );
        let path = stage.home().join(CONFIG_FOLDER).join(model.name()).join("research.md");
        let now = fs::read_to_string(path).unwrap_or_default();
        for line in changed_lines(documents::research(model), &now) {
            println!("    {line}");
        }
    }
    println!("\nWhat became of the tasks");
    let told = stage.services().clickup.delivered();
    let told = told.iter().filter(|told| told.event == "taskCreated" && told.is_taken()).count();
    let bill = ledger.compare(&stage.services().wavespeed.billed());
    let completed = completed_in(&analytics);
    for line in accounts(board, told, bill, completed) {
        println!("  {line}");
    }
    let cost = find(&analytics, "cost").cloned().unwrap_or_default();
    let spent = text(&cost, "spent_usd").parse::<Decimal>().unwrap_or_default().round_dp(2);
    println!(
        "  Claude: {} calls for tasks and learning. Learning cost {spent} US dollars at list prices; the stand-ins take none.",
        stage.services().claude.calls(),
    );
    let wrong = disagreements(board, bill, completed);
    if !wrong.is_empty() {
        return Err(DemoError::Disagree(wrong.join("; ")));
    }
    println!("\nDashboard       {}/analytics", stage.api().base());
    Ok(())
}

fn completed_in(analytics: &Value) -> Option<u64> {
    find(analytics, "tasks").and_then(|tasks| tasks["completed"].as_u64())
}

/// The dashboard's figures, which a refresher keeps a little behind the log, once they have caught up with
/// the board; as they stand when they do not in time.
async fn counted_up(stage: &Stage, board: &Board) -> Result<Value, DemoError> {
    let deadline = Instant::now() + FIGURES_TIMEOUT;
    loop {
        let analytics = stage.api().analytics().await?;
        let completed = completed_in(&analytics).and_then(|count| usize::try_from(count).ok());
        if completed == Some(board.finished()) || Instant::now() >= deadline {
            return Ok(analytics);
        }
        tokio::time::sleep(FIGURES_PAUSE).await;
    }
}

/// What the board, the bill and the log say.
fn accounts(board: Board, told: usize, bill: Bill, completed: Option<u64>) -> Vec<String> {
    let mut lines = vec![
        format!(
            "ClickUp: {} tasks were put on the board, {told} webhooks of a new task were taken.",
            board.created
        ),
        format!(
            "         {} have their picture, {} were left to a person with the reason, {} are lost, {} have two pictures.",
            board.with_picture,
            board.for_a_person,
            board.under_way(),
            board.twice
        ),
        format!("WaveSpeed: {} pictures on the bill, each asked for once.", bill.billed),
    ];
    if bill.unlogged > 0 {
        lines.push(format!(
            "         The killed server did not hear of {} of them; the log says so, and none was asked for again.",
            bill.unlogged
        ));
    }
    let completed = completed.map_or("an unknown number".to_owned(), |count| count.to_string());
    lines.push(format!("Mathesis: {completed} tasks completed in the task log."));
    lines
}

/// What must agree and does not.
fn disagreements(board: Board, bill: Bill, completed: Option<u64>) -> Vec<String> {
    let all_logged =
        completed.and_then(|count| usize::try_from(count).ok()) == Some(board.finished());
    [
        (board.under_way() > 0, "tasks are lost"),
        (board.twice > 0, "tasks have two pictures"),
        (!bill.is_sound, "pictures were billed that no attempt stands for"),
        (!all_logged, "the log counts other completed tasks than the board"),
    ]
    .iter()
    .filter(|(is_wrong, _)| *is_wrong)
    .map(|(_, words)| (*words).to_owned())
    .collect()
}

/// The lines of a document that went and came, marked as a diff marks them.
fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let patch = diffy::create_patch(before, after);
    let lines = patch.hunks().iter().flat_map(diffy::Hunk::lines);
    lines
        .filter_map(|line| {
            let (mark, line) = match line {
                diffy::Line::Delete(line) => ('-', line),
                diffy::Line::Insert(line) => ('+', line),
                diffy::Line::Context(_) => return None,
            };
            let line = line.trim_end();
            let line = line.strip_prefix("- ").unwrap_or(line);
            (!line.is_empty()).then(|| format!("{mark} {line}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_of_files_names_the_version_and_the_backup() {
        let analytics = json!({"workflows": [{"analytics": {
            "versions": [{"model": "nano-banana", "versions": [{"version": 2, "cycle": 1}]}],
            "config_changes": [
                {"model": "nano-banana", "kind": "apply", "status": "done", "from_version": 1, "to_version": 2,
                 "backup_path": "/tmp/home/config/deep_research/nano-banana/backup_20261122_101500"},
                {"model": "nano-banana", "kind": "first_start", "status": "done", "from_version": null, "to_version": 1},
            ],
        }}]});
        let lines = files(&analytics, Path::new("/tmp/home"), 1);
        insta::assert_snapshot!(lines.join("\n").trim(), @"config/deep_research/nano-banana: version 2 is in place of 1; backup config/deep_research/nano-banana/backup_20261122_101500");
        assert!(files(&analytics, Path::new("/tmp/home"), 2).is_empty());
    }

    #[test]
    fn what_a_probation_took_back_is_told_with_its_sentence_and_not_as_applied() {
        let analytics = json!({"workflows": [{"analytics": {
            "versions": [{"model": "nano-banana", "versions": [{"version": 2, "cycle": 1}]}],
            "config_changes": [
                {"model": "nano-banana", "kind": "revert", "status": "done", "from_version": 2, "to_version": 1,
                 "backup_path": "/tmp/home/config/deep_research/nano-banana/backup_20261122_120000"},
                {"model": "nano-banana", "kind": "apply", "status": "done", "from_version": 1, "to_version": 2,
                 "backup_path": "/tmp/home/config/deep_research/nano-banana/backup_20261122_101500"},
            ],
        }}]});
        let status = json!({"models": [
            {"model": "nano-banana", "probation_sentence": "nano-banana goes back to v1: it did no better."},
            {"model": "wan-2.5-edit", "probation_sentence": null},
        ]});
        let mut lines = probations(&status);
        lines.extend(files(&analytics, Path::new("/tmp/home"), 1));
        insta::assert_snapshot!(lines.join("\n"), @r"
                   nano-banana goes back to v1: it did no better.
                   config/deep_research/nano-banana: version 1 is back in place of 2; backup config/deep_research/nano-banana/backup_20261122_120000
        ");
    }

    #[test]
    fn the_accounts_say_what_became_of_every_task() {
        let board = Board { created: 9, with_picture: 7, for_a_person: 2, twice: 0 };
        let bill = Bill { billed: 20, unlogged: 1, is_sound: true };
        insta::assert_snapshot!(accounts(board, 9, bill, Some(9)).join("\n"), @r"
        ClickUp: 9 tasks were put on the board, 9 webhooks of a new task were taken.
                 7 have their picture, 2 were left to a person with the reason, 0 are lost, 0 have two pictures.
        WaveSpeed: 20 pictures on the bill, each asked for once.
                 The killed server did not hear of 1 of them; the log says so, and none was asked for again.
        Mathesis: 9 tasks completed in the task log.
        ");
        assert!(disagreements(board, bill, Some(9)).is_empty());
        let wrong = Board { created: 10, twice: 1, ..board };
        let unsound = Bill { is_sound: false, ..bill };
        assert_eq!(disagreements(wrong, unsound, Some(8)).len(), 4);
    }

    #[test]
    fn lines_that_went_and_came_are_marked() {
        let lines = changed_lines("a\nb\n\nc\n", "a\n\nc\nd\n");
        assert_eq!(lines, ["- b", "+ d"]);
    }

    #[test]
    fn a_model_without_a_candidate_says_why() {
        let status = json!({"models": [], "outcome": [
            {"model": "nano-banana", "result": "no_candidate", "reason": "at_ceiling"},
        ]});
        insta::assert_snapshot!(verdicts(&status).join("\n").trim(), @"nano-banana: no candidate, at_ceiling");
    }
}
