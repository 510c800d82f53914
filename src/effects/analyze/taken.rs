//! What is taken of an answer: what names tasks of the window and insights that were shown. The rest is counted.

use std::collections::HashSet;

use crate::effects::paid_call::{self, Unusable};
use crate::store::insights::{InsightRow, NewAnalysis, NewInsight, NewJudgement};
use crate::workflow::Definition;
use crate::workflow::answer::{ALL_MODELS, AnalysisAnswer, Judgement};
use crate::workflow::context::WindowFacts;

/// Checks what the schema cannot hold: models that exist, confidences from 0 to 1, texts that say
/// something.
pub(super) fn usable(text: &str, definition: &Definition) -> Result<AnalysisAnswer, Unusable> {
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

/// What an answer may speak of.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    /// The external ids of the window's tasks.
    pub(super) in_window: &'k [String],
    /// The earlier insights that were shown.
    pub(super) earlier: &'k [InsightRow],
}

pub(super) fn to_rows(
    answer: AnalysisAnswer,
    shown: &WindowFacts,
    known: Known<'_>,
) -> NewAnalysis {
    let mut evidence = Evidence { exists: known.in_window.iter().collect(), dropped: 0 };
    let insights = answer
        .patterns
        .into_iter()
        .map(|pattern| NewInsight {
            insight_type: pattern.insight_type.as_str().to_owned(),
            model_name: pattern.model,
            description: pattern.description,
            confidence_score: pattern.confidence,
            example_task_ids: evidence.taken(pattern.evidence_task_ids),
            suggested_change: pattern.suggested_change,
        })
        .collect();
    let named = answer.earlier.len();
    let judgements = judgements(answer.earlier, known.earlier, &mut evidence);
    NewAnalysis {
        tasks_analyzed: i32::try_from(shown.tasks_total).unwrap_or(i32::MAX),
        tasks_shown: i32::try_from(shown.tasks_shown).unwrap_or(i32::MAX),
        summary: answer.summary,
        model_insights: serde_json::json!(answer.model_insights),
        recommendations: serde_json::json!(answer.recommendations),
        evidence_dropped: narrow(evidence.dropped),
        judgements_dropped: narrow(named - judgements.len()),
        insights,
        judgements,
    }
}

/// A judgement is taken if its insight was shown, was not judged before in the same answer, and at least one task
/// of the window shows it.
fn judgements(
    named: Vec<Judgement>,
    earlier: &[InsightRow],
    evidence: &mut Evidence<'_>,
) -> Vec<NewJudgement> {
    let mut judged = HashSet::new();
    named
        .into_iter()
        .filter_map(|judgement| {
            let example_task_ids = evidence.taken(judgement.evidence_task_ids);
            let insight = earlier.iter().find(|row| row.handle() == judgement.insight)?;
            (!example_task_ids.is_empty() && judged.insert(insight.id)).then(|| NewJudgement {
                insight_id: insight.id,
                verdict: judgement.verdict.as_str(),
                reason: judgement.reason,
                example_task_ids,
            })
        })
        .collect()
}

struct Evidence<'e> {
    exists: HashSet<&'e String>,
    dropped: usize,
}

impl Evidence<'_> {
    /// The ids that the window holds, each once; the others are counted.
    fn taken(&mut self, named: Vec<String>) -> Vec<String> {
        let before = named.len();
        let mut seen = HashSet::new();
        let taken: Vec<String> = named
            .into_iter()
            .filter(|id| self.exists.contains(id) && seen.insert(id.clone()))
            .collect();
        self.dropped += before - taken.len();
        taken
    }
}

fn narrow(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(answer: serde_json::Value, earlier: &[InsightRow]) -> NewAnalysis {
        let answer = serde_json::from_value(answer).expect("the answer is of the schema");
        let in_window = ["a".to_owned(), "b".to_owned()];
        to_rows(answer, &WindowFacts::default(), Known { in_window: &in_window, earlier })
    }

    fn insight(id: i64, cycle: i64, ordinal: i32) -> InsightRow {
        InsightRow {
            id,
            cycle,
            ordinal,
            insight_type: "failure_mode".to_owned(),
            model_name: "all".to_owned(),
            description: "d".to_owned(),
            confidence_score: 0.5,
            tasks_analyzed: 2,
            example_task_ids: Vec::new(),
            suggested_change: String::new(),
            applied: false,
            standing: "new".to_owned(),
            confirmed: 0,
            weakened: 0,
            judged_in_cycle: None,
            helpful: 0,
            harmful: 0,
            created_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn evidence_that_is_not_in_the_window_is_dropped_and_counted() {
        let taken = rows(
            json!({
                "summary": "s", "model_insights": [], "recommendations": [],
                "patterns": [{
                    "insight_type": "failure_mode", "model": "all", "description": "d",
                    "confidence": 0.5, "evidence_task_ids": ["a", "b", "a", "ghost"],
                    "suggested_change": ""
                }]
            }),
            &[],
        );
        assert_eq!(taken.insights[0].example_task_ids, ["a", "b"]);
        assert_eq!(taken.evidence_dropped, 2);
    }

    #[test]
    fn a_judgement_counts_once_and_only_of_what_was_shown_and_by_what_exists() {
        let judged = |insight: &str, verdict: &str, evidence: &[&str]| json!({ "insight": insight, "verdict": verdict, "evidence_task_ids": evidence, "reason": "r" });
        let taken = rows(
            json!({
                "summary": "s", "model_insights": [], "recommendations": [], "patterns": [],
                "earlier": [
                    judged("3.1", "confirmed", &["a", "ghost"]),
                    judged("3.1", "retired", &["b"]),
                    judged("9.9", "retired", &["a"]),
                    judged("3.2", "retired", &["ghost"]),
                    judged("3.3", "weakened", &[]),
                    judged("4.1", "retired", &["b"]),
                ]
            }),
            &[insight(17, 3, 1), insight(18, 3, 2), insight(19, 3, 3), insight(20, 4, 1)],
        );
        let told: Vec<(i64, &str, Vec<String>)> = taken
            .judgements
            .into_iter()
            .map(|judgement| (judgement.insight_id, judgement.verdict, judgement.example_task_ids))
            .collect();
        assert_eq!(
            told,
            [(17, "confirmed", vec!["a".to_owned()]), (20, "retired", vec!["b".to_owned()])]
        );
        assert_eq!((taken.judgements_dropped, taken.evidence_dropped), (4, 2));
    }
}
