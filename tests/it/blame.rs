//! From a section, or from a picture, back to the insights and tasks.

use mathesis::cycle::StateName;
use mathesis::runtime::blame::{self, Why};
use serde_json::{Value, json};

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, analysis_answer};

/// One cycle of wan with these edits, adopted.
async fn adopt(stage: &Stage, prefix: &str, edits: Value) {
    for n in 1..=3 {
        stage.log(TaskRun::new(format!("{prefix}-{n}"), &[(WAN, 0, 6)]).events()).await;
    }
    assert_eq!(stage.watch().await, 1);
    let mut analysis = analysis_answer(&[&format!("{prefix}-1"), &format!("{prefix}-2")]);
    analysis["patterns"].as_array_mut().expect("patterns").truncate(1);
    stage.claude.answer_json(analysis);
    stage.claude.answer_json(json!({ "summary": "s", "edits": edits }));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    let control = stage.active_version(WAN).await;
    let cycle = stage.cycle().await.number;
    for n in 1..=4 {
        let task = format!("{prefix}-test-{n}");
        let told = stage.assign(&task, WAN).await.version;
        let score = if told == control { 6 } else { 9 };
        stage.log(TaskRun::new(task, &[(WAN, told, score)]).events()).await;
    }
    stage.watch().await;
    while stage.cycle().await.number == cycle {
        stage.work().await;
    }
    assert_eq!(stage.active_version(WAN).await, control + 1);
}

fn edit(operation: &str, section: &str, after: &str, text: &str) -> Value {
    json!({ "document": "research", "operation": operation, "section": section, "after": after,
        "text": text, "because": ["1"] })
}

/// Two adopted versions: the second renames what the first changed, and moves it behind what it added.
async fn learnt() -> Stage {
    let stage = Stage::builder()
        .definition(|d| {
            d.trigger.tasks = 3;
            d.models.retain(|model| model.name.as_str() == WAN);
            (d.split.per_arm, d.split.block, d.gate.scores_per_arm_min) = (2, 2, 1);
        })
        .build()
        .await;
    let works = "wan-2-5-edit/what-works";
    let edits = json!([
        edit("replace", works, "", "Prompts that name what stays."),
        edit("add_after", works, "", "## Light\n\nName it first."),
    ]);
    adopt(&stage, "a", edits).await;
    let edits = json!([
        edit("move", works, "Light", ""),
        edit("replace", works, "", "## What works well\n\nPrompts that name what stays."),
    ]);
    adopt(&stage, "b", edits).await;
    stage
}

async fn why(stage: &Stage, task: &str, model: Option<&str>) -> Result<Why, &'static str> {
    let found = blame::why(&stage.store, stage.id(), task, None, model).await;
    found.map_err(|error| error.code())
}

#[tokio::test]
async fn a_section_shows_cycle_insight_tasks_and_gain_through_rename_and_move() {
    let stage = learnt().await;
    let found = blame::version_blame(&stage.store, stage.id(), WAN, None).await.expect("it reads");
    assert_eq!(found.version, 3);
    insta::assert_json_snapshot!(found);
}

#[tokio::test]
async fn a_picture_leads_to_its_version_its_sections_and_their_evidence() {
    let stage = learnt().await;
    let found = why(&stage, "b-test-1", None).await;
    // Only what scored 8 was chosen; of the four, two were made by the new version.
    let mut chosen = Vec::new();
    for n in 1..=4 {
        if let Ok(found) = why(&stage, &format!("b-test-{n}"), None).await {
            assert_eq!((found.attempt.version, found.attempt.score), (Some(3), Some(9)));
            assert!(found.attempt.selected && found.blame.version == 3);
            let reasons = found.blame.sections.iter().flat_map(|section| &section.edits);
            let tasks: Vec<&String> =
                reasons.flat_map(|edit| &edit.because).flat_map(|reason| &reason.tasks).collect();
            assert!(
                tasks.iter().any(|task| *task == "a-1") && tasks.iter().any(|task| *task == "b-2")
            );
            chosen.push(n);
        }
    }
    assert_eq!(chosen.len(), 2);
    assert!(found.is_ok() || found == Err("no_winner"));
}

#[tokio::test]
async fn what_is_missing_has_a_code_of_its_own() {
    let stage = learnt().await;
    stage.log(TaskRun::new("unversioned", &[(WAN, 0, 5)]).events()).await;
    assert_eq!(why(&stage, "nobody", None).await, Err("unknown_task"));
    assert_eq!(why(&stage, "unversioned", None).await, Err("no_winner"));
    assert_eq!(why(&stage, "unversioned", Some(NANO)).await, Err("no_attempt"));
    assert_eq!(why(&stage, "unversioned", Some(WAN)).await, Err("no_version_recorded"));
    let version = blame::version_blame(&stage.store, stage.id(), WAN, Some(77)).await;
    assert_eq!(version.expect_err("there is none").code(), "unknown_version");
}
