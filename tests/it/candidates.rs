//! Candidates as edits, and the rules that they keep to.

use mathesis::cycle::{ModelResult, StateName};
use mathesis::store::candidates;
use mathesis::store::versions::{self, Version};
use mathesis::workflow::definition::CandidateMode;
use serde_json::{Value, json};

use crate::support::stage::WAN;
use crate::support::{Stage, TaskRun, analysis_answer, edit_answer, no_edit_answer};

/// What a person asked for, longer than a short quotation.
const ASKED: &str = "Βάλε στη φωτογραφία τον τίτλο «Καλό Πάσχα σε όλους» με χρυσά γράμματα, επάνω δεξιά, και άφησε το λογότυπο όπως είναι.";

/// A stage with one model in Generating.
async fn generating(
    edit: impl FnOnce(&mut mathesis::workflow::Definition) + Send + 'static,
) -> Stage {
    let stage = Stage::builder()
        .definition(|d| {
            d.trigger.tasks = 3;
            d.models.retain(|model| model.name.as_str() == WAN);
            d.documents.frozen_sections = vec!["What works".to_owned()];
            edit(d);
        })
        .build()
        .await;
    analysed(&stage, "seed").await;
    stage
}

/// Three tasks, and an analysis that finds one insight in them.
async fn analysed(stage: &Stage, prefix: &str) {
    for n in 1..=3 {
        let mut run = TaskRun::new(format!("{prefix}-{n}"), &[(WAN, 1, 6)]);
        run.prompt = ASKED.to_owned();
        stage.log(run.events()).await;
    }
    assert_eq!(stage.watch().await, 1);
    let mut answer = analysis_answer(&[&format!("{prefix}-1")]);
    answer["patterns"].as_array_mut().expect("patterns").truncate(1);
    stage.claude.answer_json(answer);
    assert_eq!(stage.step().await, StateName::Generating);
}

fn prompt(stage: &Stage, request: usize) -> String {
    let asked = serde_json::to_value(&stage.claude.requests()[request]).expect("a request is JSON");
    let content = &asked["messages"][0]["content"];
    content.as_str().or_else(|| content[0]["text"].as_str()).expect("one text").to_owned()
}

fn edit(operation: &str, section: &str, text: &str) -> Value {
    json!({ "summary": format!("{operation} {section}"), "edits": [{
        "document": "research", "operation": operation, "section": section, "text": text,
        "after": "", "because": ["1"] }] })
}

fn whole(document: &str, text: &str) -> Value {
    json!({ "summary": "s", "edits": [{ "document": document, "operation": "replace",
        "section": "", "text": text, "after": "", "because": ["1"] }] })
}

async fn version(stage: &Stage, number: i32) -> Version {
    versions::find(stage.pool(), stage.id(), WAN, number)
        .await
        .expect("the versions read")
        .expect("it exists")
}

#[tokio::test]
async fn a_candidate_that_breaks_a_rule_goes_back_once_with_the_reason() {
    let unknown_insight = {
        let mut answer = edit_answer("A rule.");
        answer["edits"][0]["because"] = json!(["1", "9.9"]);
        answer
    };
    for (fault, answer, reason) in [
        ("unknown_section", edit("replace", "nowhere", "x"), "has no section"),
        (
            "missing_placeholder",
            whole("template", "{{activation}} {{research}}"),
            "original_prompt",
        ),
        ("frozen_section", edit("replace", "wan-2-5-edit/what-works", "Nothing.\n"), "frozen"),
        ("size_change", edit_answer(&"long ".repeat(2_000)), "bytes of change are allowed"),
        ("copied_task_text", edit_answer(&ASKED.to_uppercase()), "word for word in a task"),
        ("unknown_insight", unknown_insight, "there is no insight"),
    ] {
        let stage = generating(|_| {}).await;
        stage.claude.answer_json(answer).answer_json(edit_answer("Good at last."));
        assert_eq!(stage.step().await, StateName::Testing, "{fault}");
        let told = prompt(&stage, 2);
        let told = told.split("without these faults:\n").nth(1).unwrap_or_default();
        assert!(told.contains(reason) && told.contains(fault), "{fault}: {told}");
        assert!(version(&stage, 2).await.research_text.ends_with("Good at last.\n"));
        let kept = candidates::earlier(stage.pool(), stage.id(), WAN, 10).await.expect("they read");
        assert_eq!(kept.len(), 1, "{fault}");
        assert_eq!((kept[0].cycle, kept[0].ended.as_str()), (1, "refused"));
        assert!(kept[0].why.contains(reason), "{}", kept[0].why);
    }
}

#[tokio::test]
async fn a_second_broken_rule_ends_the_generation_without_a_candidate_and_is_remembered() {
    let stage = generating(|_| {}).await;
    stage.claude.answer_json(edit("remove", "wan-2-5-edit/what-works", ""));
    stage.claude.answer_json(edit("replace", "wan-2-5-edit/what-works", "Nothing.\n"));
    assert_eq!(stage.step().await, StateName::Rejected, "no hold: the cycle goes on");
    assert_eq!(stage.claude.requests().len(), 3);
    let ended = stage.cycle_number(1).await;
    let outcome = &ended.snapshot.state.outcome().expect("an outcome").models[0];
    assert_eq!(
        (outcome.result, outcome.reason.as_str()),
        (ModelResult::NoCandidate, "rule_broken")
    );
    insta::assert_snapshot!(outcome.detail, @r#"frozen_section: edit 1: the section "wan-2-5-edit/what-works" of research is frozen by this workflow, with all below it. Leave it as it is"#);

    analysed(&stage, "next").await;
    stage.claude.answer_json(no_edit_answer());
    stage.step().await;
    let asked = prompt(&stage, 4);
    let told =
        asked.split("<earlier_candidates>").nth(1).and_then(|rest| rest.split("</earlier").next());
    insta::assert_snapshot!(told.expect("the section is there").trim());
}

#[tokio::test]
async fn rejected_and_rolled_back_candidates_are_told_to_the_next_generation() {
    let stage =
        generating(|d| (d.split.per_arm, d.split.block, d.gate.scores_per_arm_min) = (2, 2, 1))
            .await;
    stage.claude.answer_json(edit_answer("Name the light."));
    assert_eq!(stage.step().await, StateName::Testing);
    for n in 1..=4 {
        let told = stage.assign(&format!("t-{n}"), WAN).await.version;
        stage.log(TaskRun::new(format!("t-{n}"), &[(WAN, told, 6)]).events()).await;
    }
    assert_eq!(stage.watch().await, 1);
    while stage.cycle().await.number == 1 {
        stage.work().await;
    }
    let kept = candidates::earlier(stage.pool(), stage.id(), WAN, 10).await.expect("they read");
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].version, kept[0].ended.as_str()), (Some(2), "rejected"));
    assert_eq!(kept[0].edits[0].in_words(), "append research");
    assert_eq!(kept[0].edits[0].because, ["1.1"], "an insight is kept by its handle");
}

#[tokio::test]
async fn in_template_mode_the_whole_template_is_written_anew() {
    let stage = generating(|d| d.models[0].mode = Some(CandidateMode::Template)).await;
    let template = "{{activation}}\n{{research}}\nBe exact: {{original_prompt}}\n";
    let answer = |template: &str| json!({ "summary": "asks for exactness", "prompt_template": template, "because": ["1"] });
    stage.claude.answer_json(answer("{{activation}} Be exact, {{customer}}: {{original_prompt}}"));
    stage.claude.answer_json(answer(template));
    assert_eq!(stage.step().await, StateName::Testing);
    assert!(prompt(&stage, 1).contains("written anew, whole"));
    assert!(prompt(&stage, 2).contains("new_placeholder"));
    let schema = serde_json::to_value(&stage.claude.requests()[1]).expect("JSON");
    assert!(schema["output_config"].to_string().contains("prompt_template"));
    let (first, second) = (version(&stage, 1).await, version(&stage, 2).await);
    assert_eq!(second.prompt_template, template);
    assert_eq!(
        (second.research_text, second.activation_text),
        (first.research_text, first.activation_text)
    );
    assert_eq!(second.edits[0].in_words(), "replace template");

    let stage = generating(|d| d.documents.mode = CandidateMode::Template).await;
    stage.claude.answer_json(answer(""));
    assert_eq!(stage.step().await, StateName::Rejected, "an empty template proposes nothing");
}
