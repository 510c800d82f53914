//! The hidden truth behind the stand-ins: what a prompt document says decides how good the pictures of its tasks are.
//!
//! It works through the bytes that the pipeline carries, and through nothing else. The enhancer reads the system prompt
//! (the documents) and the request, and writes a prompt that follows both. The painter reads that prompt and the
//! original's pixels, and draws a picture whose pixels hold how good it is and what is wrong with it. The validator
//! decodes the two pictures that it is shown and words what it sees. Nothing here knows which version a task got or
//! which arm it is in, so scores rise only when the documents become better.

mod analyst;
mod asked;
mod enhancer;
mod painter;
mod pictures;
mod tasks;
mod truth;
mod validator;

use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;

use super::claude::{Reply, Responder};
use super::clickup::NewTask;
use super::wavespeed::{Order, Painter};
use analyst::Analyst;
pub use tasks::{Kind, Task, task};
pub use truth::Model;

/// How Claude's role takes its time over an analysis or a generation, so that a reader sees the state in which the
/// cycle waits for it.
const THINKS_FOR: Duration = Duration::from_millis(1_200);

/// Claude's part in the world: enhances prompts, validates pictures, analyses windows, writes candidates.
///
/// It is told what it is asked for by the schema of the answer, as the real one is.
#[derive(Debug, Default)]
pub struct WorldClaude {
    analyst: Analyst,
}

impl Responder for WorldClaude {
    fn reply(&self, request: &Value) -> Reply {
        let wanted = &request["output_config"]["format"]["schema"]["properties"];
        let asked = |field: &str| wanted.get(field).is_some();
        if asked("enhanced_prompt") {
            Reply::Text(enhancer::answer(request))
        } else if asked("score") {
            Reply::ThinkingThenText(validator::answer(request))
        } else if asked("patterns") || asked("edits") {
            let answer = if asked("patterns") {
                self.analyst.analysis(request)
            } else {
                self.analyst.candidate(request)
            };
            let reply = Box::new(Reply::ThinkingThenText(answer));
            Reply::Slowly { delay: THINKS_FOR, reply }
        } else {
            Reply::Text("This world knows pictures, prompts and what is learnt of them.".to_owned())
        }
    }
}

/// WaveSpeed's part in the world. Equal seeds, prompts and originals give equal pictures.
#[derive(Debug, Clone, Copy)]
pub struct WorldPainter {
    seed: u64,
}

impl WorldPainter {
    /// A painter whose luck follows from the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Painter for WorldPainter {
    fn paint(&self, order: &Order) -> Result<Bytes, String> {
        painter::paint(self.seed, order)
    }
}

/// The task of that number with its original, as a person would put it on the board.
///
/// # Errors
/// When the picture cannot be encoded.
pub fn new_task(seed: u64, number: u64) -> Result<NewTask, String> {
    let asked = task(seed, number);
    let picture = pictures::original(number)?;
    Ok(NewTask {
        id: Some(asked.id.clone()),
        name: format!("{}: {}", asked.kind.category(), asked.product),
        text: asked.prompt,
        picture: Some(picture),
        ..NewTask::default()
    })
}

#[cfg(test)]
mod tests;
