//! Claude as the analyst: it reads the prompts that the server sends, and answers from what stands in them.
//!
//! It is no language model. It counts which of the validator's complaints go along with failed attempts, as far as it
//! knows their words, and turns the surest finding that the documents do not serve yet into an edit. It does not know
//! which of its findings will help: only the test tells. Some do not.

mod knowledge;
mod reading;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::asked::user_text;
use super::truth::PASS_SCORE;
use crate::research::Document;
use crate::workflow::answer::{
    AnalysisAnswer, EditOperation, EditedDocument, GenerationAnswer, InsightType, InsightVerdict,
    Judgement, ModelInsight, Pattern, ProposedEdit, Recommendation,
};
use knowledge::{Place, TOPICS, Topic};
use reading::{Attempt, Earlier, GenerationPrompt, Insight};

/// A complaint of fewer failed attempts than this share is no finding.
const SHARE_MIN: f64 = 0.25;
/// An analysis names at most so many tasks as evidence.
const EVIDENCE_MAX: usize = 8;

/// The analyst. It remembers what it has proposed, since a request does not tell it what was rejected.
#[derive(Debug, Default)]
pub(super) struct Analyst {
    proposed: Mutex<HashSet<(String, String)>>,
}

impl Analyst {
    /// The answer to an analysis, in JSON.
    pub(super) fn analysis(&self, request: &Value) -> String {
        json(&analyse(&user_text(request)))
    }

    /// The answer to a generation, in JSON.
    pub(super) fn candidate(&self, request: &Value) -> String {
        json(&self.generate(&user_text(request)))
    }
}

fn json(answer: &impl serde::Serialize) -> String {
    // Plain fields of text and numbers always have a JSON form.
    serde_json::to_string(answer).unwrap_or_default()
}

/// What the tasks of a window show.
fn analyse(prompt: &str) -> AnalysisAnswer {
    let attempts = reading::attempts(prompt);
    let models = reading::models(prompt);
    let mut patterns = Vec::new();
    let mut model_insights = Vec::new();
    let mut recommendations = Vec::new();
    for model in &models {
        // A later iteration had the validator's remarks, so only first ones are compared.
        let scored: Vec<&Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.model == *model && attempt.iteration == 1)
            .filter(|attempt| attempt.score.is_some())
            .collect();
        let found = findings(model, &scored);
        model_insights.extend(model_insight(model, &scored, &found));
        recommendations.extend(found.iter().take(2).map(|pattern| Recommendation {
            model: model.clone(),
            text: pattern.suggested_change.clone(),
        }));
        patterns.extend(found);
    }
    let shown = reading::earlier(prompt);
    let earlier = confirmations(&shown, &patterns);
    let summary = if patterns.is_empty() {
        format!("{} attempts were read; no complaint stands out.", attempts.len())
    } else {
        format!(
            "{} attempts were read. {} complaints of the validator stand out among those that failed at the first iteration.",
            attempts.len(),
            patterns.len()
        )
    };
    // What an earlier insight says already is no new pattern.
    patterns.retain(|new| !shown.iter().any(|old| old.says(&new.model, &new.suggested_change)));
    AnalysisAnswer { summary, patterns, model_insights, recommendations, earlier }
}

/// An earlier insight is confirmed by the failures that show it again; the others are not spoken of.
fn confirmations(earlier: &[Earlier], found: &[Pattern]) -> Vec<Judgement> {
    earlier
        .iter()
        .filter_map(|insight| {
            let again = found.iter().find(|new| insight.says(&new.model, &new.suggested_change))?;
            Some(Judgement {
                insight: insight.id.clone(),
                verdict: InsightVerdict::Confirmed,
                evidence_task_ids: again.evidence_task_ids.clone(),
                reason: again.description.clone(),
            })
        })
        .collect()
}

/// The complaints of a model's failed attempts, the commonest first.
fn findings(model: &str, scored: &[&Attempt]) -> Vec<Pattern> {
    let failed: Vec<&&Attempt> =
        scored.iter().filter(|attempt| attempt.score < Some(i64::from(PASS_SCORE))).collect();
    let mut found: Vec<Pattern> = TOPICS
        .iter()
        .filter_map(|topic| {
            let showing: Vec<&&&Attempt> =
                failed.iter().filter(|attempt| topic.shows_in(&attempt.issues)).collect();
            let share = showing.len() as f64 / failed.len().max(1) as f64;
            if share < SHARE_MIN {
                return None;
            }
            let mut lowest = showing.clone();
            lowest.sort_by_key(|attempt| attempt.score);
            Some(Pattern {
                insight_type: InsightType::FailureMode,
                model: model.to_owned(),
                description: format!(
                    "{} Seen in {} of the {} first attempts that failed.",
                    topic.finding,
                    showing.len(),
                    failed.len()
                ),
                confidence: (share.min(0.95) * 100.0).round() / 100.0,
                evidence_task_ids: lowest
                    .iter()
                    .take(EVIDENCE_MAX)
                    .map(|attempt| attempt.task_id.clone())
                    .collect(),
                suggested_change: topic.advice.to_owned(),
            })
        })
        .collect();
    found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    found
}

fn model_insight(model: &str, scored: &[&Attempt], found: &[Pattern]) -> Option<ModelInsight> {
    if scored.is_empty() {
        return None;
    }
    let texts =
        |patterns: &[Pattern]| patterns.iter().map(|found| found.description.clone()).collect();
    let greek = found.iter().find(|pattern| pattern.suggested_change.contains("Greek"));
    Some(ModelInsight {
        model: model.to_owned(),
        strengths: Vec::new(),
        weaknesses: texts(found),
        best_prompt_length: None,
        greek_text: greek.map(|pattern| pattern.suggested_change.clone()).unwrap_or_default(),
        what_scores_high: String::new(),
        what_fails: found.first().map(|pattern| pattern.description.clone()).unwrap_or_default(),
    })
}

impl Analyst {
    /// The edit that serves the surest insight that neither the documents nor an earlier proposal has served.
    fn generate(&self, prompt: &str) -> GenerationAnswer {
        let asked = reading::generation(prompt);
        let mut proposed = self.proposed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_confidence: Vec<&Insight> = asked.insights.iter().collect();
        by_confidence.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        for insight in by_confidence {
            let Some(topic) = TOPICS.iter().find(|topic| topic.advice == insight.suggested_change)
            else {
                continue;
            };
            let key = (asked.model.clone(), topic.advice.to_owned());
            if asked.research.contains(topic.advice) || proposed.contains(&key) {
                continue;
            }
            proposed.insert(key);
            return GenerationAnswer {
                summary: topic.summary.to_owned(),
                edits: vec![edit(&asked, insight, topic)],
            };
        }
        GenerationAnswer {
            summary: "The documents serve every insight that is sure enough, or it has been proposed before.".to_owned(),
            edits: Vec::new(),
        }
    }
}

fn edit(asked: &GenerationPrompt, insight: &Insight, topic: &Topic) -> ProposedEdit {
    let document = Document::parse(&asked.research);
    // Only ids that the prompt lists may be named.
    let listed: HashSet<&str> = asked.sections.iter().map(String::as_str).collect();
    let section_like = |word: &str| {
        document.sections().iter().find(|section| {
            section.heading.to_lowercase().contains(word) && listed.contains(section.id.as_str())
        })
    };
    let whole = |operation, section: &str, text: String| ProposedEdit {
        document: EditedDocument::Research,
        operation,
        section: section.to_owned(),
        text,
        after: String::new(),
        because: vec![insight.id.clone()],
    };
    let new_section = format!("## {}\n\n- {}\n", topic.heading, topic.advice);
    match topic.place {
        Place::Inside(word) => {
            if let Some(section) = section_like(word) {
                let old = document.text_of(section);
                let kept: Vec<&str> =
                    old.trim_end().lines().filter(|line| !topic.contradicts(line)).collect();
                let text = format!("{}\n- {}\n\n", kept.join("\n"), topic.advice);
                return whole(EditOperation::Replace, &section.id, text);
            }
        }
        Place::After(word) => {
            if let Some(section) = section_like(word) {
                return whole(EditOperation::AddAfter, &section.id, format!("{new_section}\n"));
            }
        }
        Place::AtTheEnd => {}
    }
    whole(EditOperation::Append, "", format!("\n{new_section}"))
}

#[cfg(test)]
mod tests;
