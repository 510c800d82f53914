//! The guard `probation`: an adoption is provisional, until thirty more tasks have confirmed it.

mod endings;
mod undecided;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, Operation};
use serde_json::json;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, candidates_win};

/// A stage whose candidates are adopted and on watch.
async fn on_probation() -> Stage {
    let stage = Stage::builder().on_probation().build().await;
    watch_adoptions(&stage).await;
    stage
}

/// From Collecting to Probation, both candidates adopted.
async fn watch_adoptions(stage: &Stage) {
    stage.reach_applying("first").await;
    // The tasks of the test came before the probation, by the clock, too.
    stage.clock.advance(chrono::Duration::minutes(1));
    assert_eq!(stage.step().await, StateName::Probation);
}

/// Scores under which an adoption holds what its test promised.
fn holds(_: &str, told: &Assignment) -> i64 {
    if told.arm == Some(Arm::Candidate) { 8 } else { 6 }
}

/// Scores under which nothing is left of what the test promised: 10 × 6 and 15 × 8 against 10 × 9 and
/// 15 × 6.
fn regresses(_: &str, told: &Assignment) -> i64 {
    if told.arm == Some(Arm::Candidate) { 6 } else { 8 }
}

/// Every file of the config folders but the backups and what this program keeps for itself.
fn documents(stage: &Stage) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for model in [WAN, NANO] {
        for entry in fs::read_dir(stage.file(model, "")).expect("the folder reads") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_file() && !name.starts_with('.') {
                found.insert(format!("{model}/{name}"), read(&path));
            }
        }
    }
    found
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("the file reads")
}

/// The versions with their texts and which of them serves, as the database has them.
async fn versions(stage: &Stage) -> String {
    stage
        .text(
            "SELECT string_agg(concat_ws('|', model_name, version, is_active, content_hash,
                           prompt_template, activation_text, research_text), E'\\n'
                           ORDER BY model_name, version)
               FROM prompt_versions WHERE version = 1",
        )
        .await
}

/// Status and sentence of a model's probation.
async fn stands(stage: &Stage, model: &str) -> (String, Option<String>) {
    sqlx::query_as("SELECT status, sentence FROM probations WHERE model_name = $1")
        .bind(model)
        .fetch_one(stage.pool())
        .await
        .expect("the model was on probation")
}

#[tokio::test]
async fn adopted_versions_are_dealt_thirty_tasks_one_to_one_in_seven_blocks_of_four_and_one_of_two()
{
    let stage = on_probation().await;
    let blocks: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE arm = 'candidate') FROM deck_slots
          WHERE phase = 'probation' AND model_name = $1 GROUP BY block ORDER BY block",
    )
    .bind(WAN)
    .fetch_all(stage.pool())
    .await
    .unwrap();
    assert_eq!(blocks, [(4, 2), (4, 2), (4, 2), (4, 2), (4, 2), (4, 2), (4, 2), (2, 1)]);
    assert_eq!(stage.active_version(WAN).await, 2, "the adopted version serves");
    assert_eq!(
        stage.status().await.sentence,
        "Cycle 1 Probation: adopted, on watch: wan-2.5-edit 0 of 15 old, 0 of 15 new scored; \
         nano-banana 0 of 15 old, 0 of 15 new scored"
    );
    let row = &stage.experiments(1).await[0];
    assert_eq!(row.status, "adopted", "the verdict is what it was");
}

#[tokio::test]
async fn a_task_keeps_its_arm_and_the_thirty_first_gets_the_adopted_version() {
    let stage = on_probation().await;
    let mut old = 0;
    for n in 1..=30 {
        let told = stage.assign(&format!("watch-{n}"), WAN).await;
        let expected = if told.arm == Some(Arm::Candidate) { 2 } else { 1 };
        assert_eq!((told.version, told.cycle), (expected, Some(1)));
        old += usize::from(told.arm == Some(Arm::Control));
        assert_eq!(stage.assign(&format!("watch-{n}"), WAN).await, told, "asked again");
    }
    assert_eq!(old, 15);
    let next = stage.assign("watch-31", WAN).await;
    assert_eq!((next.version, next.arm), (2, None));
}

#[tokio::test]
async fn an_adoption_that_holds_is_kept_with_all_its_scores_on_record() {
    let stage = on_probation().await;
    stage.play("watch", 30, holds).await;
    assert_eq!(stage.watch().await, 2, "each model takes its look");
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
    assert_eq!(stage.active_version(WAN).await, 2);
    let (status, sentence) = stands(&stage, WAN).await;
    assert_eq!(status, "kept");
    insta::assert_snapshot!(sentence.unwrap(), @"wan-2.5-edit v2 stays: with its probation it scored 8.4 against 6.0 on 25 tasks each (+40.0%), and staying asks for more than +5%.");
    assert_eq!(stage.number("SELECT count(*) FROM deck_slots WHERE frozen").await, 100);
    let tested = "SELECT tasks_tested::bigint FROM prompt_versions
                   WHERE model_name = 'wan-2.5-edit' AND version = 2";
    assert_eq!(stage.number(tested).await, 25, "the version's record holds both decks");
}

#[tokio::test]
async fn an_adoption_that_regresses_is_put_back_byte_for_byte_in_files_and_database() {
    let stage = Stage::builder().on_probation().build().await;
    let (files, rows) = (documents(&stage), versions(&stage).await);
    watch_adoptions(&stage).await;
    assert_ne!(documents(&stage), files, "the adopted version was written");
    stage.play("watch", 30, regresses).await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Reverting);
    assert_eq!(stage.step().await, StateName::RolledBack);
    assert_eq!(documents(&stage), files);
    assert_eq!(versions(&stage).await, rows);
    assert_eq!(stage.active_version(WAN).await, 1);
    let (status, sentence) = stands(&stage, WAN).await;
    assert_eq!(status, "regressed");
    insta::assert_snapshot!(sentence.unwrap(), @"wan-2.5-edit goes back to v1: with its probation v2 scored 7.2 against 7.2 on 25 tasks each (+0.0%), and staying asks for more than +5%.");
    assert_eq!(stage.cycle().await.number, 2, "the next cycle is open");
}

#[tokio::test]
async fn the_verdict_stays_what_it_was_when_its_adoption_is_put_back() {
    let stage = on_probation().await;
    let before = stage.experiment_as_text(1, WAN).await;
    stage.play("watch", 30, regresses).await;
    stage.watch().await;
    stage.step().await;
    assert_eq!(stage.experiment_as_text(1, WAN).await, before);
}

#[tokio::test]
async fn the_tasks_of_a_probation_count_towards_the_next_analysis() {
    let stage = on_probation().await;
    stage.play("watch", 30, holds).await;
    stage.watch().await;
    assert_eq!(stage.status().await.tasks_waiting, 50, "twenty of the test, thirty of the watch");
}

#[tokio::test]
async fn a_held_probation_deals_nothing_and_takes_what_its_holders_report() {
    let stage = on_probation().await;
    let told = stage.assign("dealt", WAN).await;
    stage.please(Operation::Pause).await;
    let other = stage.assign("asks-during-the-hold", WAN).await;
    assert_eq!((other.version, other.arm), (2, None), "the version that serves");
    stage.log(TaskRun::new("dealt", &[(WAN, told.version, 7)]).events()).await;
    stage.watch().await;
    let scored = "SELECT count(*) FROM deck_slots WHERE phase = 'probation' AND state = 'scored'";
    assert_eq!(stage.number(scored).await, 1);
}

#[tokio::test]
async fn a_lost_slot_of_a_probation_is_dealt_again_in_its_arm_and_leaves_the_verdict_alone() {
    let stage = on_probation().await;
    let told = stage.assign("silent", WAN).await;
    let before = stage.experiment_as_text(1, WAN).await;
    stage.clock.advance(chrono::Duration::hours(7));
    stage.watch().await;
    let next = stage.assign("next", WAN).await;
    assert_eq!(next.arm, told.arm);
    assert_eq!(stage.number("SELECT max(deals_again)::bigint FROM probations").await, 1);
    assert_eq!(stage.experiment_as_text(1, WAN).await, before);
    stage.log(TaskRun::new("silent", &[(WAN, told.version, 9)]).events()).await;
    stage.watch().await;
    let late = "SELECT late_score::bigint FROM assignments WHERE clickup_task_id = 'silent'";
    assert_eq!(stage.number(late).await, 9, "kept, and not counted");
}

#[tokio::test]
async fn a_validator_that_changed_since_the_test_leaves_the_probation_to_a_person() {
    let stage = on_probation().await;
    for n in 1..=30 {
        for model in [WAN, NANO] {
            let task = format!("watch-{n}");
            let told = stage.assign(&task, model).await;
            let mut events = TaskRun::new(task, &[(model, told.version, 8)]).events();
            events.retain(|event| event["type"] != "completed" && event["type"] != "winner");
            for event in events.iter_mut().filter(|event| event["type"] == "validation") {
                event["judge"] = json!({ "model": "another", "prompt_version": "2" });
            }
            stage.try_log(events).await;
        }
    }
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Probation);
    let hold = stage.the_hold().await;
    assert_eq!(hold.code, "approval_probation_undecided");
    assert_eq!(stage.watch().await, 0, "asked once");
    stage.please(Operation::Refuse { models: Vec::new() }).await;
    assert_eq!(stage.step().await, StateName::RolledBack);
}

#[tokio::test]
async fn its_first_score_by_another_validator_is_enough_to_ask() {
    let stage = on_probation().await;
    let told = stage.assign("watch-1", WAN).await;
    let mut events = TaskRun::new("watch-1", &[(WAN, told.version, 8)]).events();
    for event in events.iter_mut().filter(|event| event["type"] == "validation") {
        event["judge"] = json!({ "model": "another", "prompt_version": "2" });
    }
    stage.log(events).await;
    assert_eq!(stage.watch().await, 1, "no further one is waited for");
    assert_eq!(stage.the_hold().await.code, "approval_probation_undecided");
}

#[tokio::test]
async fn off_adopts_at_once_and_deals_nothing_more() {
    let stage = Stage::new().await;
    stage.reach_deciding("first", candidates_win).await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(stage.number("SELECT count(*) FROM probations").await, 0);
}
