//! Events of a pipeline and answers of Claude, in short.

use serde_json::{Value, json};

/// One run of a task, as an orchestrator logs it.
#[derive(Debug, Clone)]
pub struct TaskRun {
    /// The task's external id.
    pub task: String,
    /// What the person asked for.
    pub prompt: String,
    /// Model, version named (0 names none), score.
    pub attempts: Vec<(String, i32, i64)>,
}

impl TaskRun {
    /// A run of a Greek task whose attempts are given as (model, version, score).
    pub fn new(task: impl Into<String>, attempts: &[(&str, i32, i64)]) -> Self {
        Self {
            task: task.into(),
            prompt: "Άλλαξε το φόντο σε λευκό, κράτα το λογότυπο «Ἑλλάς»".to_owned(),
            attempts: attempts.iter().map(|(m, v, s)| ((*m).to_owned(), *v, *s)).collect(),
        }
    }

    /// Every event of the run, in the order in which they happen.
    pub fn events(&self) -> Vec<Value> {
        let mut events = vec![json!({
            "type": "task_started", "task_id": self.task, "original_prompt": self.prompt,
            "task_type": "SIMPLE_EDIT", "category": "background"
        })];
        for (model, version, score) in &self.attempts {
            events.extend(attempt_events(&self.task, model, *version, *score));
        }
        let winner = self.attempts.iter().max_by_key(|(_, _, score)| *score);
        match winner {
            Some((model, _, score)) if *score >= 8 => events.push(json!({
                "type": "winner", "task_id": self.task, "winner": model, "score": score,
                "total_iterations": 1
            })),
            _ => {}
        }
        events.push(json!({
            "type": "completed", "task_id": self.task, "processing_time_ms": 21_000
        }));
        events
    }
}

fn attempt_events(task: &str, model: &str, version: i32, score: i64) -> [Value; 3] {
    let mut enhancement = json!({
        "type": "enhancement", "task_id": task, "model": model,
        "original_prompt": "Άλλαξε το φόντο", "enhanced_prompt": "Replace only the background with white.",
        "latency_ms": 2300
    });
    if version > 0 {
        enhancement["version"] = json!(version);
    }
    [
        enhancement,
        json!({
            "type": "generation", "task_id": task, "model": model,
            "image_url": format!("https://images.example/{task}/{model}.png"),
            "generation_time_ms": 12_500
        }),
        json!({
            "type": "validation", "task_id": task, "model": model, "score": score,
            "passed": score >= 8, "issues": if score >= 8 { json!([]) } else { json!(["logo changed"]) },
            "reasoning": "as the picture shows"
        }),
    ]
}

/// An analysis with one insight a model, resting on the tasks given.
pub fn analysis_answer(evidence: &[&str]) -> Value {
    let pattern = |model: &str| {
        json!({
            "insight_type": "failure_mode", "model": model,
            "description": "Logos change when the prompt does not say to keep them.",
            "confidence": 0.8, "evidence_task_ids": evidence,
            "suggested_change": "Say that logos stay as they are."
        })
    };
    json!({
        "summary": "Logos are lost.",
        "patterns": [pattern("wan-2.5-edit"), pattern("nano-banana")],
        "model_insights": [],
        "recommendations": [{ "model": "all", "text": "Name what must stay." }]
    })
}

/// A generation that appends one line to the research document.
pub fn edit_answer(line: &str) -> Value {
    edit_because(line, "1")
}

/// The same for the second model, of which the second insight of [`analysis_answer`] speaks.
pub fn nano_edit_answer(line: &str) -> Value {
    edit_because(line, "2")
}

/// A generation that appends one line to the research document, and says why.
pub fn edit_because(line: &str, insight: &str) -> Value {
    json!({
        "summary": format!("adds: {line}"),
        "edits": [{
            "document": "research", "operation": "append", "section": "",
            "text": format!("\n{line}\n"), "because": [insight]
        }]
    })
}

/// A generation that proposes nothing.
pub fn no_edit_answer() -> Value {
    json!({ "summary": "nothing to improve", "edits": [] })
}
