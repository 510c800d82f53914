//! Contexts with which every template is tried at load.
//!
//! Outside text in them is a mark that would end a quotation or a tag; if it comes out of a template as it went in, the
//! template has put outside text in without the filter `data`.

use crate::workflow::context::{
    AnalysisContext, AttemptForAnalysis, Band, BytesMaxForGeneration, EarlierCandidate,
    EarlierInsight, FirstIterations, GenerationContext, InsightForGeneration, LeftOut, ModelFacts,
    SectionForGeneration, TagFact, TaskForAnalysis, WindowFacts,
};

/// How a mark begins. It cannot come out of the filters `data` and `fenced` unharmed.
pub(super) const MARK: &str = "</data>unguarded:";

/// The mark for one field: `MARK`, the field's name, a semicolon and a quotation mark.
pub(crate) fn mark(field: &str) -> String {
    format!("{MARK}{field};\"")
}

/// A context in which everything has a value.
pub(super) fn full_analysis() -> AnalysisContext {
    AnalysisContext {
        workflow: "sample".to_owned(),
        score_max: 10,
        pass_score: 8,
        models: vec!["model-a".to_owned(), "model-b".to_owned()],
        window: WindowFacts {
            tasks_total: 60,
            tasks_shown: 2,
            sampled: true,
            sampling_rule: "the two oldest".to_owned(),
            left_out: Some(LeftOut {
                tasks: 58,
                lowest: Some(2),
                highest: Some(9),
                mean: Some("6.1".to_owned()),
                without_score: 1,
            }),
            texts_shortened: 2,
        },
        facts: vec![ModelFacts {
            model: "model-a".to_owned(),
            version: 2,
            attempts: 60,
            scored: 58,
            mean: Some("7.41".to_owned()),
            pass_rate: Some("72%".to_owned()),
            wins: 30,
            mean_prompt_length_passed: Some(900),
            mean_prompt_length_failed: Some(1400),
            greek_share: Some("94%".to_owned()),
            first: FirstIterations {
                attempts: 50,
                scored: 49,
                mean: Some("7.2".to_owned()),
                spread: Some("1.9".to_owned()),
                pass_rate: Some("70%".to_owned()),
            },
            later_attempts: 10,
            later_mean: Some("8.1".to_owned()),
            errors_of_prompt: 1,
            errors_of_infrastructure: 2,
            length_bands: vec![full_band()],
            length_correlation: Some("-0.31".to_owned()),
            greek_request_bands: vec![full_band()],
            greek_prompt_bands: vec![full_band()],
            tags: vec![TagFact {
                tag: "text".to_owned(),
                attempts: 9,
                share: "18%".to_owned(),
                mean_with: "5.1".to_owned(),
                mean_without: Some("7.9".to_owned()),
            }],
            untagged: 3,
        }],
        earlier_insights: vec![EarlierInsight {
            id: "4.2".to_owned(),
            insight_type: "failure_mode".to_owned(),
            model_name: "model-a".to_owned(),
            description: mark("description"),
            suggested_change: mark("suggested_change"),
            confidence_score: 0.75,
            standing: "confirmed".to_owned(),
            confirmed: 2,
            weakened: 1,
            helpful: 1,
            harmful: 1,
            applied: true,
        }],
        earlier_not_shown: 3,
        tasks: vec![full_task(), full_task()],
        rejected: vec![mark("rejected")],
    }
}

fn full_band() -> Band {
    Band {
        label: "up to 310 characters".to_owned(),
        attempts: 20,
        mean: "7.5".to_owned(),
        pass_rate: "75%".to_owned(),
    }
}

fn full_task() -> TaskForAnalysis {
    TaskForAnalysis {
        task_id: mark("task_id"),
        run_id: mark("run_id"),
        original_prompt: mark("original_prompt"),
        category: Some(mark("category")),
        task_type: Some(mark("task_type")),
        winner_model: Some("model-a".to_owned()),
        winner_score: Some(9),
        total_iterations: Some(2),
        processing_time_ms: Some(61_000),
        ended: "completed".to_owned(),
        attempts: vec![AttemptForAnalysis {
            model: "model-a".to_owned(),
            iteration: 1,
            version: 2,
            enhanced_prompt: Some(mark("enhanced_prompt")),
            enhanced_prompt_length: Some(900),
            score: Some(9),
            passed: Some(true),
            issues: vec![mark("issues")],
            reasoning: Some(mark("reasoning")),
            was_selected: true,
            generation_time_ms: Some(12_500),
            error: Some(mark("error")),
        }],
    }
}

/// A context in which nothing has a value that may lack one, so that the templates' other branches run.
pub(super) fn bare_analysis() -> AnalysisContext {
    let mut context = full_analysis();
    context.window.sampled = false;
    context.window.sampling_rule = String::new();
    context.window.left_out = None;
    context.window.texts_shortened = 0;
    context.facts = vec![ModelFacts { model: "model-a".to_owned(), ..ModelFacts::default() }];
    context.earlier_insights.clear();
    context.earlier_not_shown = 0;
    for task in &mut context.tasks {
        task.run_id = String::new();
        task.category = None;
        task.task_type = None;
        task.winner_model = None;
        task.winner_score = None;
        task.total_iterations = None;
        task.processing_time_ms = None;
        for attempt in &mut task.attempts {
            attempt.enhanced_prompt = None;
            attempt.enhanced_prompt_length = None;
            attempt.score = None;
            attempt.passed = None;
            attempt.issues.clear();
            attempt.reasoning = None;
            attempt.was_selected = false;
            attempt.generation_time_ms = None;
            attempt.error = None;
        }
    }
    context.tasks.truncate(1);
    context.rejected.clear();
    context
}

/// A context in which everything has a value.
pub(super) fn full_generation() -> GenerationContext {
    GenerationContext {
        model: "model-a".to_owned(),
        version_now: 2,
        prompt_template: mark("prompt_template"),
        activation: mark("activation"),
        research: mark("research"),
        mode: "sections".to_owned(),
        sections: vec![SectionForGeneration {
            id: mark("id"),
            heading: mark("heading"),
            bytes: 4096,
        }],
        activation_sections: vec![SectionForGeneration {
            id: mark("id"),
            heading: mark("heading"),
            bytes: 512,
        }],
        insights: vec![InsightForGeneration {
            id: "17".to_owned(),
            insight_type: "prompt_pattern".to_owned(),
            model_name: "all".to_owned(),
            description: mark("description"),
            confidence_score: 0.75,
            suggested_change: mark("suggested_change"),
            standing: "confirmed".to_owned(),
            confirmed: 2,
            weakened: 1,
            helpful: 1,
            harmful: 0,
        }],
        recommendations: vec![mark("recommendations")],
        required_placeholders: vec!["original_prompt".to_owned()],
        size_change_percent_max: 15,
        bytes_max: BytesMaxForGeneration {
            template: 20_000,
            activation: 40_000,
            research: 150_000,
        },
        quotation_characters_max: 60,
        frozen_sections: vec!["Licence".to_owned()],
        earlier_candidates: vec![EarlierCandidate {
            cycle: 4,
            ended: "rejected".to_owned(),
            what: mark("what"),
            edits: vec![mark("edits")],
            why: mark("why"),
        }],
        rejected: vec![mark("rejected")],
    }
}

/// A context in which every list and document is empty.
pub(super) fn bare_generation() -> GenerationContext {
    GenerationContext {
        prompt_template: String::new(),
        activation: String::new(),
        research: String::new(),
        mode: "template".to_owned(),
        sections: Vec::new(),
        activation_sections: Vec::new(),
        earlier_candidates: Vec::new(),
        insights: Vec::new(),
        recommendations: Vec::new(),
        required_placeholders: Vec::new(),
        frozen_sections: Vec::new(),
        rejected: Vec::new(),
        ..full_generation()
    }
}
