//! The guard `paired`: a task of the test is done under both versions, and the better picture is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mathesis::orchestrator::{Pipeline, Probe, Worked};
use mathesis::runtime::check_workflow;
use mathesis::stand_in::claude::Reply;
use mathesis::workflow::definition::GuardMode;
use serde_json::{Value, json};

use super::Works;
use super::crashes::{ROWS, dying_once, walk_dying};
use super::plant::Plant;
use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

/// What the candidates' research documents have and the old ones do not.
const ONLY_IN_THE_NEW: [&str; 2] = ["Name what must stay unchanged.", "Keep the logo."];

/// The works in the middle of a paired test. The judge scores a picture by its model and by whether it was made under
/// the new version, and a second round's by two points more.
async fn testing(score: fn(&str, bool) -> u16) -> Works {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.trigger.tasks = 3;
            definition.guard.mode = GuardMode::Paired;
        })
        .build()
        .await;
    stage.open_test().await;
    stage.assigner.refresh().await.expect("the versions are read");
    Works::on(stage, move |request| answer(request, score)).await
}

fn answer(request: &Value, score: fn(&str, bool) -> u16) -> Reply {
    let text = request["messages"][0]["content"].to_string();
    let model = if text.contains(&format!("Target model: {WAN}")) { WAN } else { NANO };
    let schema = &request["output_config"]["format"]["schema"]["properties"];
    if schema.get("score").is_none() {
        let documents = request["system"].to_string();
        let new = ONLY_IN_THE_NEW.iter().any(|line| documents.contains(line));
        let arm = if new { "new" } else { "old" };
        let again = if text.contains("too dark") { ", again" } else { "" };
        let prompt = format!("Do it for {model} the {arm} way{again}.");
        return Reply::Text(json!({"enhanced_prompt": prompt, "rationale": "short"}).to_string());
    }
    let again = if text.contains(", again") { 2 } else { 0 };
    let score = score(model, text.contains("the new way")) + again;
    let issues = if score >= 8 { vec![] } else { vec!["too dark"] };
    let judged =
        json!({"score": score, "passed": score >= 8, "issues": issues, "reasoning": "seen"});
    Reply::Text(judged.to_string())
}

/// Brings one task to its end.
async fn do_task(works: &Works) -> String {
    static DELIVERIES: AtomicU32 = AtomicU32::new(1);
    let task = works.task("Σκούρος ουρανός");
    let delivery = DELIVERIES.fetch_add(1, Ordering::Relaxed).to_string();
    works.deliver_status(&task, "ready for edit", &delivery).await;
    assert!(matches!(works.work().await, Worked::Finished(_)));
    task
}

/// `model v<leg> round <iteration>: <score>`, the selected one with a star.
async fn attempts(works: &Works) -> Vec<String> {
    let rows = works
        .value(
            "SELECT to_jsonb(array_agg(concat(model_name, ' v', version, ' round ', iteration, ': ',
                    validation_score, CASE WHEN was_selected THEN ' *' END)
                    ORDER BY iteration, model_name, version)) FROM attempts WHERE version > 0",
        )
        .await;
    serde_json::from_value(rows).expect("a list of texts")
}

#[tokio::test]
async fn each_model_does_the_task_under_both_versions_and_the_best_of_the_four_is_given_back() {
    let works = testing(|model, new| match (model, new) {
        (WAN, false) => 8,
        (NANO, true) => 9,
        _ => 6,
    })
    .await;
    let task = do_task(&works).await;
    let of_each = [
        "nano-banana v1 round 1: 6",
        "nano-banana v2 round 1: 9 *",
        "wan-2.5-edit v1 round 1: 8",
        "wan-2.5-edit v2 round 1: 6",
    ];
    assert_eq!(attempts(&works).await, of_each);
    let prompts = "SELECT to_jsonb(array_agg(enhanced_prompt ORDER BY model_name, version))
                     FROM attempts WHERE version > 0 AND prompt_version = version";
    let prompts = works.value(prompts).await;
    assert_eq!(
        prompts,
        json!([
            "Do it for nano-banana the old way.",
            "Do it for nano-banana the new way.",
            "Do it for wan-2.5-edit the old way.",
            "Do it for wan-2.5-edit the new way.",
        ])
    );
    assert_eq!(works.wavespeed.billed().len(), 4, "a picture each, billed once");
    assert_eq!((works.own_pictures(&task), works.state(&task).comments.len()), (1, 1));
    assert_eq!(works.state(&task).status, "review");
    let won = "SELECT to_jsonb(winner_model || ' v' || winner_leg) FROM tasks WHERE winner_leg > 0";
    assert_eq!(works.value(won).await, json!("nano-banana v2"));

    works.stage.watch().await;
    let scored = "SELECT count(*) FROM deck_slots WHERE state = 'scored'";
    assert_eq!(works.stage.number(scored).await, 4, "both legs of both models count");
}

#[tokio::test]
async fn what_the_old_version_won_is_the_old_legs() {
    let works = testing(|_, new| if new { 8 } else { 9 }).await;
    do_task(&works).await;
    let selected: Vec<String> =
        attempts(&works).await.into_iter().filter(|row| row.ends_with('*')).collect();
    assert_eq!(selected, ["wan-2.5-edit v1 round 1: 9 *"]);
}

#[tokio::test]
async fn a_second_round_goes_on_under_the_version_that_did_better_alone() {
    let works = testing(|model, new| match (model, new) {
        (WAN, true) => 6,
        (NANO, false) => 7,
        _ => 4,
    })
    .await;
    do_task(&works).await;
    let rows = attempts(&works).await;
    let (first, second) = rows.split_at(4);
    assert!(first.iter().all(|row| row.contains("round 1") && !row.ends_with('*')), "{rows:?}");
    assert_eq!(second, ["nano-banana v1 round 2: 9 *", "wan-2.5-edit v2 round 2: 8"]);
    assert_eq!(works.wavespeed.billed().len(), 6);
}

#[tokio::test]
async fn twenty_tasks_bring_a_paired_test_to_its_verdict() {
    let works = testing(|_, new| if new { 9 } else { 8 }).await;
    for _ in 0..20 {
        do_task(&works).await;
    }
    assert_eq!(works.stage.watch().await, 2, "each model takes its look");
    for row in works.stage.experiments(1).await {
        assert_eq!((row.status.as_str(), row.candidate_count), ("adopted", Some(20)));
        assert_eq!((row.control_sum, row.candidate_sum), (Some(160), Some(180)));
    }
    let selected = "SELECT count(*) FROM attempts WHERE was_selected AND version > 0";
    assert_eq!(works.stage.number(selected).await, 20, "one a task");
    do_task(&works).await;
    assert_eq!(works.wavespeed.billed().len(), 82, "the 21st task is done under one version");
}

#[tokio::test]
async fn a_paired_run_that_dies_at_every_step_ends_as_if_it_had_not() {
    let score = |model: &str, new: bool| if model == WAN && new { 7 } else { 6 };
    let undisturbed = testing(score).await;
    do_task(&undisturbed).await;
    let wanted = undisturbed.value(ROWS).await;

    let works = testing(score).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "dying").await;
    let probe =
        dying_once(|when, step| !(step.ends_with("/submit") && matches!(when, "begun" | "sent")));
    let deaths = walk_dying(&works, &probe).await;
    assert!(deaths > 50, "it died at {deaths} points only");
    assert_eq!(works.value(ROWS).await, wanted);
    assert_eq!(works.wavespeed.billed().len(), 6);
    assert_eq!(works.own_pictures(&task), 1);
}

#[tokio::test]
async fn a_leg_that_dies_while_it_asks_for_its_picture_costs_its_pair_and_nothing_else() {
    let works = testing(|_, new| if new { 9 } else { 8 }).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "lost").await;
    let probe = dying_once(|when, step| when == "sent" && step == "1/wan-2.5-edit/v1/submit");
    assert_eq!(walk_dying(&works, &probe).await, 1);
    assert_eq!(works.wavespeed.billed().len(), 4, "no picture is asked for twice");
    let error =
        "SELECT to_jsonb(error_fault || ' v' || version) FROM attempts WHERE error IS NOT NULL";
    assert_eq!(works.value(error).await, json!("infrastructure v1"));
    let process: Arc<Pipeline> = works.process(Probe::default()).await;
    check_workflow(&process.engine, &works.stage.worker, works.stage.id()).await.expect("it looks");
    let scored = "SELECT to_jsonb(array_agg(model_name ORDER BY slot)) FROM deck_slots WHERE state = 'scored'";
    assert_eq!(works.value(scored).await, json!([NANO, NANO]), "half a pair counts for neither");
    let open =
        "SELECT count(*) FROM deck_slots WHERE model_name = 'wan-2.5-edit' AND state = 'open'";
    assert_eq!(works.stage.number(open).await, 40, "its place goes to another task");
    assert_eq!(works.own_pictures(&task), 1, "and the task has its picture all the same");
}

#[tokio::test]
async fn the_binary_serves_a_paired_workflow() {
    let plant = Plant::guarded_by("paired").await;
    plant.start().await;
    plant.hook();
    let tasks = plant.tasks(1);
    plant.until_done(1).await;
    plant.assert_given_back(&tasks);
}
