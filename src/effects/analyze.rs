//! Analyzing: Claude finds the patterns of the window.

use std::collections::HashSet;

use super::paid_call::{self, Caller, Purpose, Unusable};
use super::{EffectFailure, context};
use crate::claude::MessageRequest;
use crate::runtime::{Engine, What};
use crate::store::effects::ClaimedEffect;
use crate::store::insights::{NewAnalysis, NewInsight};
use crate::store::window::{self, WindowTask};
use crate::workflow::answer::{ALL_MODELS, AnalysisAnswer, analysis_schema};
use crate::workflow::context::{AnalysisContext, WindowFacts};
use crate::workflow::template::render_analysis;
use crate::workflow::{Definition, ModelName};

pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (_, definition) = context(engine, claim).await?;
    let shown = analysis_context(engine, claim, &definition).await?;
    let models: Vec<ModelName> = definition.models.iter().map(|model| model.name.clone()).collect();
    let build = |rejected: &[String]| {
        let asked = AnalysisContext { rejected: rejected.to_vec(), ..shown.clone() };
        let prompt = render_analysis(&definition, &asked)?;
        Ok(MessageRequest::structured(
            definition.claude.analysis_model.clone(),
            definition.claude.analysis_max_tokens,
            vec![(prompt.system, true)],
            prompt.user,
            analysis_schema(&models),
        ))
    };
    let caller = Caller {
        engine,
        claim,
        definition: &definition,
        purpose: Purpose { name: "analysis", model: "" },
    };
    let answer: AnalysisAnswer =
        paid_call::ask(caller, build, |text| usable(text, &definition)).await?;
    let in_window = window::task_ids(engine.store.pool(), claim.workflow_id, claim.cycle).await?;
    Ok(What::Analysis(to_rows(answer, &shown.window, &in_window)))
}

/// What Claude is shown: computed facts over the whole window, and its tasks, sampled when too many.
async fn analysis_context(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
) -> Result<AnalysisContext, EffectFailure> {
    let pool = engine.store.pool();
    let heads = window::heads(pool, claim.workflow_id, claim.cycle).await?;
    let limit = definition.claude.analysis_tasks_max as usize;
    let shown = sample(&heads, limit);
    let tasks = window::tasks(pool, claim.workflow_id, &shown).await?;
    let facts = window::facts(pool, claim.workflow_id, claim.cycle).await?;
    let sampled = shown.len() < heads.len();
    Ok(AnalysisContext {
        workflow: definition.name.as_str().to_owned(),
        score_max: definition.score_max,
        pass_score: definition.pass_score,
        models: definition.models.iter().map(|model| model.name.as_str().to_owned()).collect(),
        window: WindowFacts {
            tasks_total: u32::try_from(heads.len()).unwrap_or(u32::MAX),
            tasks_shown: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
            sampled,
            sampling_rule: if sampled { SAMPLING_RULE.to_owned() } else { String::new() },
        },
        facts,
        tasks,
        rejected: Vec::new(),
    })
}

const SAMPLING_RULE: &str = "a third of the tasks shown are those whose best score is lowest, a third those whose best score is highest, the rest are spread evenly over time among the others; oldest first";

/// The tasks to show when a window is too large: the worst third, the best third, and a third spread
/// evenly over the rest, in the window's order. Deterministic, so that a redo asks the same question.
fn sample(window: &[WindowTask], limit: usize) -> Vec<i64> {
    if window.len() <= limit {
        return window.iter().map(|task| task.id).collect();
    }
    let mut by_score: Vec<&WindowTask> = window.iter().collect();
    // A task without any score failed altogether, so it ranks below a score of 0.
    by_score.sort_by_key(|task| (task.best_score.unwrap_or(-1), task.id));
    let third = limit / 3;
    let mut chosen: HashSet<i64> = by_score
        .iter()
        .take(third)
        .chain(by_score.iter().rev().take(third))
        .map(|t| t.id)
        .collect();
    let rest: Vec<i64> =
        window.iter().map(|task| task.id).filter(|id| !chosen.contains(id)).collect();
    let wanted = limit.saturating_sub(chosen.len());
    chosen.extend((0..wanted).filter_map(|place| rest.get(place * rest.len() / wanted.max(1))));
    window.iter().map(|task| task.id).filter(|id| chosen.contains(id)).collect()
}

/// Checks what the schema cannot hold: models that exist, confidences from 0 to 1, texts that say
/// something.
fn usable(text: &str, definition: &Definition) -> Result<AnalysisAnswer, Unusable> {
    let answer: AnalysisAnswer = paid_call::read(text)?;
    for pattern in &answer.patterns {
        let known = pattern.model == ALL_MODELS
            || definition.models.iter().any(|model| model.name.as_str() == pattern.model);
        if !known {
            return Err(Unusable(format!("a pattern names the unknown model {:?}", pattern.model)));
        }
        if !(0.0..=1.0).contains(&pattern.confidence) {
            return Err(Unusable(format!(
                "a pattern's confidence is {}, and must be from 0 to 1",
                pattern.confidence
            )));
        }
        if pattern.description.trim().is_empty() {
            return Err(Unusable("a pattern has an empty description".to_owned()));
        }
    }
    if text.contains('\0') || text.contains("\\u0000") {
        return Err(Unusable("the answer holds a NUL character".to_owned()));
    }
    Ok(answer)
}

fn to_rows(answer: AnalysisAnswer, shown: &WindowFacts, in_window: &[String]) -> NewAnalysis {
    let exists: HashSet<&str> = in_window.iter().map(String::as_str).collect();
    let mut dropped = 0_usize;
    let insights = answer
        .patterns
        .into_iter()
        .map(|pattern| {
            let named = pattern.evidence_task_ids.len();
            let mut seen = HashSet::new();
            let evidence: Vec<String> = pattern
                .evidence_task_ids
                .into_iter()
                .filter(|id| exists.contains(id.as_str()) && seen.insert(id.clone()))
                .collect();
            dropped += named - evidence.len();
            NewInsight {
                insight_type: pattern.insight_type.as_str().to_owned(),
                model_name: pattern.model,
                description: pattern.description,
                confidence_score: pattern.confidence,
                example_task_ids: evidence,
                suggested_change: pattern.suggested_change,
            }
        })
        .collect();
    NewAnalysis {
        tasks_analyzed: i32::try_from(shown.tasks_total).unwrap_or(i32::MAX),
        tasks_shown: i32::try_from(shown.tasks_shown).unwrap_or(i32::MAX),
        summary: answer.summary,
        model_insights: serde_json::json!(answer.model_insights),
        recommendations: serde_json::json!(answer.recommendations),
        evidence_dropped: i32::try_from(dropped).unwrap_or(i32::MAX),
        insights,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(scores: &[Option<i32>]) -> Vec<WindowTask> {
        (1..)
            .zip(scores)
            .map(|(id, best_score)| WindowTask { id, best_score: *best_score })
            .collect()
    }

    #[test]
    fn a_small_window_is_shown_whole_and_in_order() {
        let window = window(&[Some(3), None, Some(9)]);
        assert_eq!(sample(&window, 3), [1, 2, 3]);
    }

    #[test]
    fn a_large_window_shows_the_worst_the_best_and_some_between_in_order() {
        let scores: Vec<Option<i32>> = (0..100).map(|n| Some(n / 10)).collect();
        let window = window(&scores);
        let shown = sample(&window, 30);
        assert_eq!(shown.len(), 30);
        assert!((1..=10).all(|id| shown.contains(&id)), "the worst ten are shown");
        assert!((91..=100).all(|id| shown.contains(&id)), "the best ten are shown");
        assert!(shown.is_sorted());
    }

    #[test]
    fn any_limit_gives_exactly_that_many() {
        let scores: Vec<Option<i32>> = (0..57).map(|n| (n % 7 != 0).then_some(n % 11)).collect();
        let window = window(&scores);
        for limit in 1..57 {
            assert_eq!(sample(&window, limit).len(), limit, "limit {limit}");
        }
    }

    #[test]
    fn evidence_that_is_not_in_the_window_is_dropped_and_counted() {
        let answer: AnalysisAnswer = serde_json::from_value(serde_json::json!({
            "summary": "s", "model_insights": [], "recommendations": [],
            "patterns": [{
                "insight_type": "failure_mode", "model": "all", "description": "d",
                "confidence": 0.5, "evidence_task_ids": ["a", "b", "a", "ghost"],
                "suggested_change": ""
            }]
        }))
        .expect("the answer is of the schema");
        let shown = WindowFacts {
            tasks_total: 2,
            tasks_shown: 2,
            sampled: false,
            sampling_rule: String::new(),
        };
        let rows = to_rows(answer, &shown, &["a".to_owned(), "b".to_owned()]);
        assert_eq!(rows.insights[0].example_task_ids, ["a", "b"]);
        assert_eq!(rows.evidence_dropped, 2);
    }
}
