//! What a run tells the learning layer: pure functions from the journal to events.
//!
//! Every value comes from the journal, times and costs included, so that a redo makes the very same event, which
//! then counts as a duplicate.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::record::{
    AttemptFailure, ClaudeFacts, EnhancedPrompt, Generated, JudgedPicture, ReadTask, Recorded,
    RunFailure,
};
use crate::store::pipeline::ClaimedJob;
use crate::task_log::{
    Completed, Enhancement, EventBody, Failure, Fault, Feedback, Generation, Judge, TaskEvent,
    TaskStarted, Validation, Winner,
};

/// The longest title that the task log takes, in characters.
const TITLE_CHARS_MAX: usize = 2_000;
/// The longest remark that the task log takes, with some room, in characters.
const REMARK_CHARS_MAX: usize = 19_000;

fn of_run(job: &ClaimedJob, body: EventBody, at: DateTime<Utc>) -> TaskEvent {
    TaskEvent::new(job.task_id.as_str(), job.run_id(), body).happened_at(at)
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// Under a name for each role: an attempt keeps one value for each name, and both roles' calls were paid.
fn claude_metadata(name: &str, facts: &ClaudeFacts) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert(
        name.to_owned(),
        json!({
            "model": facts.model,
            "request_id": facts.request_id,
            "input_tokens": facts.input_tokens,
            "cache_creation_tokens": facts.cache_creation_tokens,
            "cache_read_tokens": facts.cache_read_tokens,
            "output_tokens": facts.output_tokens,
            "calls": facts.calls,
            "cost_usd": facts.cost_usd,
            "cost_estimated": facts.cost_estimated,
        }),
    );
    map
}

/// The run begins.
#[must_use]
pub fn started(job: &ClaimedJob, task: &Recorded<ReadTask>) -> TaskEvent {
    let read = &task.value;
    let body = TaskStarted {
        original_prompt: read.text.clone(),
        task_name: Some(cut(&read.name, TITLE_CHARS_MAX)).filter(|name| !name.is_empty()),
        task_type: read.task_type.clone(),
        category: read.category.clone(),
    };
    of_run(job, EventBody::TaskStarted(body), task.begun_at)
}

/// A model's prompt was enhanced, under a version that it was assigned.
#[must_use]
pub fn enhanced(
    job: &ClaimedJob,
    model: &str,
    iteration: i32,
    version: i32,
    request: &str,
    enhanced: &Recorded<EnhancedPrompt>,
) -> TaskEvent {
    let value = &enhanced.value;
    let body = Enhancement {
        original_prompt: request.to_owned(),
        enhanced_prompt: value.prompt.clone(),
        latency_ms: value.claude.latency_ms,
    };
    let mut event = of_run(job, EventBody::Enhancement(body), enhanced.ended_at)
        .of_attempt(model, iteration)
        .with_version(version);
    event.metadata = claude_metadata("claude_enhancement", &value.claude);
    event.metadata.insert("rationale".to_owned(), value.rationale.as_str().into());
    event
}

/// A model made a picture.
#[must_use]
pub fn generated(
    job: &ClaimedJob,
    model: &str,
    iteration: i32,
    generated: &Recorded<Generated>,
) -> TaskEvent {
    let value = &generated.value;
    let body = Generation {
        image_url: value.url.clone(),
        generation_time_ms: Some(value.generation_time_ms),
        cost_usd: Some(value.cost_usd),
    };
    let mut event =
        of_run(job, EventBody::Generation(body), generated.ended_at).of_attempt(model, iteration);
    event.metadata.insert("prediction".to_owned(), value.prediction.as_str().into());
    event
}

/// A picture was judged.
#[must_use]
pub fn validated(
    job: &ClaimedJob,
    model: &str,
    iteration: i32,
    judged: &Recorded<JudgedPicture>,
) -> TaskEvent {
    let value = &judged.value;
    let body = Validation {
        score: value.score,
        passed: value.passed,
        issues: value.issues.clone(),
        reasoning: Some(value.reasoning.clone()).filter(|words| !words.is_empty()),
        judge: Some(Judge {
            model: value.claude.model.clone(),
            prompt_version: value.prompt_version.clone(),
        }),
    };
    let mut event =
        of_run(job, EventBody::Validation(body), judged.ended_at).of_attempt(model, iteration);
    event.metadata = claude_metadata("claude_validation", &value.claude);
    event
}

/// An attempt failed; the run goes on.
#[must_use]
pub fn attempt_failed(
    job: &ClaimedJob,
    model: &str,
    iteration: i32,
    failed: &Recorded<AttemptFailure>,
) -> TaskEvent {
    let value = &failed.value;
    let body = Failure {
        error: cut(&format!("{}: {}", value.code, value.words), REMARK_CHARS_MAX),
        stage: Some(value.stage.name().to_owned()),
        fault: Some(value.fault()),
    };
    of_run(job, EventBody::Error(body), failed.ended_at).of_attempt(model, iteration)
}

/// Who won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Won<'w> {
    /// The model.
    pub model: &'w str,
    /// Its score.
    pub score: u16,
    /// The version, where its task was done under two.
    pub leg: Option<i32>,
}

/// The winner, or that there is none.
#[must_use]
pub fn winner(
    job: &ClaimedJob,
    won: Option<Won<'_>>,
    iterations: i32,
    at: DateTime<Utc>,
) -> TaskEvent {
    let body = Winner {
        winner: won.map(|won| won.model.to_owned()),
        score: won.map(|won| won.score),
        leg: won.and_then(|won| won.leg),
        total_iterations: iterations,
    };
    of_run(job, EventBody::Winner(body), at)
}

/// The run was finished. What all its paid calls cost goes with it.
#[must_use]
pub fn completed(
    job: &ClaimedJob,
    began_at: DateTime<Utc>,
    at: DateTime<Utc>,
    cost_usd: Decimal,
) -> TaskEvent {
    let processing_time_ms = (at - began_at).num_milliseconds().max(0);
    let body = Completed { processing_time_ms: Some(processing_time_ms) };
    let mut event = of_run(job, EventBody::Completed(body), at);
    event.metadata.insert("cost_usd".to_owned(), json!(cost_usd));
    event
}

/// The run failed, and is over.
#[must_use]
pub fn run_failed(job: &ClaimedJob, failed: &Recorded<RunFailure>) -> TaskEvent {
    let value = &failed.value;
    let body = Failure {
        error: cut(&format!("{}: {}", value.code, value.words), REMARK_CHARS_MAX),
        stage: Some("run".to_owned()),
        fault: Some(Fault::Infrastructure),
    };
    of_run(job, EventBody::Error(body), failed.ended_at)
}

/// What became of the picture.
#[must_use]
pub fn feedback(
    task_id: &str,
    run: i32,
    kept: bool,
    words: Option<&str>,
    at: DateTime<Utc>,
) -> TaskEvent {
    let body = Feedback { kept: Some(kept), comment: words.map(str::to_owned) };
    TaskEvent::new(task_id, run.to_string(), EventBody::Feedback(body)).happened_at(at)
}
