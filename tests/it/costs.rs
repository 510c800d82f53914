//! What learning costs a month, from the real prompts' sizes and the real prices.

use std::fs;
use std::path::PathBuf;

use mathesis::claude::cost::prices_as_of;
use mathesis::claude::{Usage, cost};
use mathesis::workflow::context::{
    AnalysisContext, AttemptForAnalysis, BytesMaxForGeneration, GenerationContext,
    InsightForGeneration, TaskForAnalysis, WindowFacts,
};
use mathesis::workflow::{Definition, render_analysis, render_generation};
use rust_decimal::Decimal;

use crate::support::stage::{NANO, WAN, shipped_definition};

/// Claude's tokenizer is not public. English runs at about 4 bytes a token and Greek at about 3 with the
/// tokenizer since 4.7, which makes 30% more tokens than the ones before; 3 for everything is on the
/// dear side.
const BYTES_A_TOKEN: usize = 3;

fn tokens(texts: &[&str]) -> u64 {
    (texts.iter().map(|text| text.len()).sum::<usize>() / BYTES_A_TOKEN) as u64
}

/// Reasonings of real length: the data set's where it is, else one of the same length.
fn reasonings() -> Vec<String> {
    let shared = std::env::var("MATHESIS_SHARED").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let found = fs::read_to_string(shared.join("data/viescore_gpt4o_text_guided_edit.ndjson"));
    found.map_or_else(
        |_| {
            println!("skipped: the real judge's reasonings are not here; texts of their mean length stand in");
            vec!["x".repeat(340)]
        },
        |text| {
            text.lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|row| row["reasoning"].as_str().map(str::to_owned))
                .collect()
        },
    )
}

/// Fifty tasks with both models and every fourth one taking a second iteration; Greek prompts of 600
/// characters, enhanced prompts of 900.
fn window(definition: &Definition) -> AnalysisContext {
    let reasonings = reasonings();
    let mut next = reasonings.iter().cycle();
    let tasks: Vec<TaskForAnalysis> = (0..50)
        .map(|n| {
            let iterations = if n % 4 == 0 { 2 } else { 1 };
            let attempts = (1..=iterations)
                .flat_map(|iteration| [WAN, NANO].map(|model| (iteration, model)))
                .map(|(iteration, model)| AttemptForAnalysis {
                    model: model.to_owned(),
                    iteration,
                    version: 1,
                    enhanced_prompt: Some("Replace only the sky with a warm sunset. ".repeat(22)),
                    enhanced_prompt_length: Some(902),
                    score: Some(7),
                    passed: Some(false),
                    issues: vec!["the logo changed its colour".to_owned()],
                    reasoning: next.next().cloned(),
                    was_selected: false,
                    generation_time_ms: Some(12_500),
                    error: None,
                })
                .collect();
            TaskForAnalysis {
                task_id: format!("86c{n:04}"),
                run_id: String::new(),
                original_prompt: "Άλλαξε τον ουρανό σε ηλιοβασίλεμα. ".repeat(17),
                category: Some("background".to_owned()),
                task_type: Some("SIMPLE_EDIT".to_owned()),
                winner_model: None,
                winner_score: None,
                total_iterations: Some(iterations),
                processing_time_ms: Some(31_000),
                ended: "completed".to_owned(),
                attempts,
            }
        })
        .collect();
    AnalysisContext {
        workflow: definition.name.as_str().to_owned(),
        score_max: 10,
        pass_score: 8,
        models: vec![WAN.to_owned(), NANO.to_owned()],
        window: WindowFacts { tasks_total: 50, tasks_shown: 50, ..WindowFacts::default() },
        tasks,
        ..AnalysisContext::default()
    }
}

fn generation() -> GenerationContext {
    let insight = InsightForGeneration {
        id: "1".to_owned(),
        insight_type: "failure_mode".to_owned(),
        model_name: "all".to_owned(),
        description: "Logos change when the prompt does not say to keep them. ".repeat(4),
        confidence_score: 0.8,
        suggested_change: "Say that logos stay as they are. ".repeat(4),
        standing: "confirmed".to_owned(),
        ..InsightForGeneration::default()
    };
    GenerationContext {
        model: NANO.to_owned(),
        version_now: 3,
        prompt_template: "{{activation}}\n{{research}}\n{{original_prompt}}".to_owned(),
        activation: "You turn a request into a precise prompt. ".repeat(240),
        research: "- Name what must stay unchanged, and say it last.\n".repeat(1_200),
        sections: Vec::new(),
        insights: vec![insight; 10],
        recommendations: vec!["Keep prompts short.".to_owned()],
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
    }
}

fn call_cost(model: &str, input: u64, output: u64) -> Decimal {
    let usage: Usage =
        serde_json::from_value(serde_json::json!({"input_tokens": input, "output_tokens": output}))
            .expect("a usage");
    let priced = cost(model, &usage);
    assert!(priced.known_model, "{model} has no known price");
    priced.usd
}

#[test]
fn a_month_at_25_tasks_a_day_stays_within_the_budget() {
    let definition = shipped_definition();
    let analysis = render_analysis(&definition, &window(&definition)).expect("the prompt renders");
    let candidate = render_generation(&definition, &generation()).expect("the prompt renders");
    let analysis_in = tokens(&[&analysis.system, &analysis.user]);
    let candidate_in = tokens(&[&candidate.system, &candidate.user]);
    // Answers with thinking: an analysis of ten insights, a generation of a few edits.
    let (analysis_out, candidate_out) = (8_000, 6_000);
    let analysis_usd = call_cost(&definition.claude.analysis_model, analysis_in, analysis_out);
    let candidate_usd = call_cost(&definition.claude.generation_model, candidate_in, candidate_out);
    let cycle_usd = analysis_usd + candidate_usd * Decimal::from(2);
    println!("prices as of {}, {BYTES_A_TOKEN} bytes a token", prices_as_of());
    println!("analysis: {analysis_in} tokens in, {analysis_out} out, {analysis_usd} USD");
    println!("candidate: {candidate_in} tokens in, {candidate_out} out, {candidate_usd} USD");
    println!("a cycle with two models: {cycle_usd} USD");
    for (tasks_a_day, cycles) in [(10, 4), (25, 10), (80, 30)] {
        // A cycle takes 50 tasks to its trigger and about 20 through its test, which count towards the
        // next trigger.
        println!(
            "{tasks_a_day} tasks a day: about {cycles} cycles, {} USD a month",
            cycle_usd * Decimal::from(cycles)
        );
    }
    let month = cycle_usd * Decimal::from(10);
    let budget = definition.claude.budget_usd_per_month;
    println!("the budget of {budget} USD is enough for {} cycles", (budget / cycle_usd).floor());
    assert!(month < budget, "10 cycles cost {month} USD, more than the budget of {budget} USD");
}
