//! The analyst against the prompts as the shipped templates render them, and its edits as the server applies them.

use super::super::enhancer::enhance;
use super::super::tests::judged;
use super::super::truth::{Guidance, Trait};
use super::super::{Model, task};
use super::*;
use crate::demo::documents;
use crate::research::{self, BytesMax, Edit, EditRules, Operation, Texts, Which};
use crate::workflow::Definition;
use crate::workflow::context::{
    AnalysisContext, AttemptForAnalysis, BytesMaxForGeneration, EarlierInsight, GenerationContext,
    InsightForGeneration, SectionForGeneration, TaskForAnalysis, WindowFacts,
};
use crate::workflow::load::load;
use crate::workflow::template::{render_analysis, render_generation};

fn shipped() -> Definition {
    let home = tempfile::tempdir().expect("a temporary folder");
    documents::write(home.path()).expect("the documents are written");
    load(&home.path().join("workflows").join(documents::WORKFLOW))
        .expect("the demo's workflow is right")
}

fn start(model: Model) -> Texts {
    Texts {
        template: "{{activation}}{{research}}{{original_prompt}}".to_owned(),
        activation: documents::activation(model).to_owned(),
        research: documents::research(model).to_owned(),
    }
}

fn guidance(texts: &Texts) -> Guidance {
    Guidance::read(&format!("{}\n{}", texts.activation, texts.research))
}

/// A window of fifty tasks, as the pipeline of the demo would have logged it under these documents.
fn window(texts: &[(Model, Texts)], earlier: &[EarlierInsight]) -> String {
    let tasks: Vec<TaskForAnalysis> = (0..50)
        .map(|number| {
            let asked = task(9, number);
            let attempts = texts
                .iter()
                .map(|(model, texts)| {
                    let guidance = guidance(texts);
                    let judged = judged(9, number, *model, 1, &guidance);
                    let prompt = enhance(&asked.prompt, &guidance, "", &[]);
                    AttemptForAnalysis {
                        model: model.name().to_owned(),
                        iteration: 1,
                        version: 1,
                        enhanced_prompt_length: i32::try_from(prompt.chars().count()).ok(),
                        enhanced_prompt: Some(prompt),
                        score: Some(i32::from(judged.score)),
                        passed: Some(judged.score >= PASS_SCORE),
                        issues: judged.issues,
                        reasoning: None,
                        was_selected: false,
                        generation_time_ms: Some(9_000),
                        error: None,
                    }
                })
                .collect();
            TaskForAnalysis {
                task_id: asked.id,
                run_id: String::new(),
                original_prompt: asked.prompt,
                category: Some(asked.kind.category().to_owned()),
                task_type: Some("SIMPLE_EDIT".to_owned()),
                winner_model: None,
                winner_score: None,
                total_iterations: Some(1),
                processing_time_ms: Some(48_200),
                ended: "completed".to_owned(),
                attempts,
            }
        })
        .collect();
    let context = AnalysisContext {
        workflow: documents::WORKFLOW.to_owned(),
        score_max: 10,
        pass_score: 8,
        models: Model::ALL.iter().map(|model| model.name().to_owned()).collect(),
        window: WindowFacts { tasks_total: 50, tasks_shown: 50, ..WindowFacts::default() },
        earlier_insights: earlier.to_vec(),
        tasks,
        ..AnalysisContext::default()
    };
    render_analysis(&shipped(), &context).expect("the analysis renders").user
}

fn generation_prompt(model: Model, texts: &Texts, patterns: &[Pattern]) -> String {
    let document = Document::parse(&texts.research);
    let context = GenerationContext {
        model: model.name().to_owned(),
        version_now: 1,
        prompt_template: texts.template.clone(),
        activation: texts.activation.clone(),
        research: texts.research.clone(),
        sections: document
            .sections()
            .iter()
            .map(|section| SectionForGeneration {
                id: section.id.clone(),
                heading: section.heading.clone(),
                bytes: section.range.len(),
            })
            .collect(),
        insights: (1..)
            .zip(patterns.iter().filter(|pattern| pattern.model == model.name()))
            .map(|(id, pattern): (u32, &Pattern)| InsightForGeneration {
                id: id.to_string(),
                insight_type: pattern.insight_type.as_str().to_owned(),
                model_name: pattern.model.clone(),
                description: pattern.description.clone(),
                confidence_score: pattern.confidence,
                suggested_change: pattern.suggested_change.clone(),
                standing: "new".to_owned(),
                ..InsightForGeneration::default()
            })
            .collect(),
        recommendations: Vec::new(),
        required_placeholders: vec!["original_prompt".to_owned()],
        size_change_percent_max: 15,
        frozen_sections: Vec::new(),
        mode: "sections".to_owned(),
        activation_sections: Vec::new(),
        bytes_max: BytesMaxForGeneration {
            template: 20_000,
            activation: 40_000,
            research: 150_000,
        },
        quotation_characters_max: 60,
        earlier_candidates: Vec::new(),
        rejected: Vec::new(),
    };
    render_generation(&shipped(), &context).expect("the generation renders").user
}

fn applied(texts: &Texts, answer: &GenerationAnswer) -> Texts {
    let edits: Vec<Edit> = answer
        .edits
        .iter()
        .map(|edit| Edit {
            document: Which::Research,
            operation: match edit.operation {
                EditOperation::Replace => Operation::Replace,
                EditOperation::AddAfter => Operation::AddAfter,
                EditOperation::Append => Operation::Append,
                EditOperation::Remove => Operation::Remove,
                EditOperation::Move => Operation::Move,
            },
            section: edit.section.clone(),
            text: edit.text.clone(),
            after: edit.after.clone(),
            because: edit.because.clone(),
        })
        .collect();
    let rules = EditRules {
        required_placeholders: vec!["original_prompt".to_owned()],
        size_change_percent_max: 15,
        frozen_sections: Vec::new(),
        bytes_max: BytesMax { template: 20_000, activation: 40_000, research: 150_000 },
        insights: Vec::new(),
    };
    research::apply(texts, &edits, &rules).expect("the server takes the edits").texts
}

/// Analyses a window under these documents, and proposes for each model.
fn cycle(claude: &Analyst, texts: &[(Model, Texts)]) -> Vec<(Model, Texts)> {
    let patterns = analyse(&window(texts, &[])).patterns;
    texts
        .iter()
        .map(|(model, texts)| {
            let answer = claude.generate(&generation_prompt(*model, texts, &patterns));
            (*model, if answer.edits.is_empty() { texts.clone() } else { applied(texts, &answer) })
        })
        .collect()
}

#[test]
fn evidence_names_tasks_of_the_window_that_failed() {
    let texts = Model::ALL.map(|model| (model, start(model)));
    let prompt = window(&texts, &[]);
    let answer = analyse(&prompt);
    assert!(answer.patterns.len() >= 4, "{:#?}", answer.patterns);
    let attempts = reading::attempts(&prompt);
    assert_eq!(attempts.len(), 100);
    for pattern in &answer.patterns {
        assert!(!pattern.evidence_task_ids.is_empty());
        for id in &pattern.evidence_task_ids {
            assert!(
                attempts.iter().any(|attempt| attempt.task_id == *id
                    && attempt.model == pattern.model
                    && attempt.score < Some(8)),
                "{id} shows nothing of {}",
                pattern.model
            );
        }
    }
}

#[test]
fn its_edits_are_taken_and_lead_from_real_help_over_useless_style_to_real_help() {
    let claude = Analyst::default();
    let zero: Vec<(Model, Texts)> = Model::ALL.map(|model| (model, start(model))).to_vec();
    let says =
        |texts: &[(Model, Texts)], at: usize, wanted: Trait| guidance(&texts[at].1).says(wanted);

    let first = cycle(&claude, &zero);
    assert!(says(&first, 0, Trait::Preserve));
    assert!(says(&first, 1, Trait::Verbatim) && !says(&first, 1, Trait::Translate));

    // What is rejected is not active, so the third cycle starts from the same documents as the second.
    let second = cycle(&claude, &first);
    assert!(says(&second, 0, Trait::Cinematic) && says(&second, 1, Trait::Surfaces));

    let third = cycle(&claude, &first);
    assert!(says(&third, 0, Trait::Verbatim) && !says(&third, 0, Trait::Cinematic));
    assert!(says(&third, 1, Trait::OneChange) && !says(&third, 1, Trait::Surfaces));
}

#[test]
fn an_edit_leaves_every_other_line_as_it_was() {
    let claude = Analyst::default();
    let texts = Model::ALL.map(|model| (model, start(model)));
    for ((model, old), (_, new)) in texts.iter().zip(cycle(&claude, &texts)) {
        let gone: Vec<&str> =
            old.research.lines().filter(|line| !new.research.contains(line)).collect();
        match model {
            Model::Wan => assert!(gone.is_empty(), "{gone:?}"),
            Model::Nano => assert_eq!(gone.len(), 1, "{gone:?}"),
        }
    }
}

#[test]
fn a_prompt_without_tasks_or_insights_gets_an_empty_answer() {
    assert!(
        analyse("Models: wan-2.5-edit, nano-banana\n<tasks>\nNo task is shown.\n</tasks>")
            .patterns
            .is_empty()
    );
    let asked = generation_prompt(Model::Wan, &start(Model::Wan), &[]);
    assert!(Analyst::default().generate(&asked).edits.is_empty());
}

#[test]
fn what_an_earlier_insight_says_is_confirmed_and_not_found_anew() {
    let texts = Model::ALL.map(|model| (model, start(model)));
    let first = analyse(&window(&texts, &[]));
    let known = &first.patterns[0];
    let earlier = |id: &str, change: &str| EarlierInsight {
        id: id.to_owned(),
        insight_type: known.insight_type.as_str().to_owned(),
        model_name: known.model.clone(),
        description: known.description.clone(),
        suggested_change: change.to_owned(),
        confidence_score: known.confidence,
        standing: "weakened".to_owned(),
        confirmed: 0,
        weakened: 1,
        helpful: 0,
        harmful: 0,
        applied: false,
    };
    let shown = [earlier("4.2", &known.suggested_change), earlier("4.3", "Shout.")];
    let second = analyse(&window(&texts, &shown));
    let judged: Vec<(&str, InsightVerdict)> =
        second.earlier.iter().map(|judged| (judged.insight.as_str(), judged.verdict)).collect();
    assert_eq!(judged, [("4.2", InsightVerdict::Confirmed)]);
    assert_eq!(second.patterns.len(), first.patterns.len() - 1);
}
