//! The site's Claude: what it was asked, and what it answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mathesis::stand_in::claude::Reply;
use serde_json::Value;

use crate::support::{analysis_answer, edit_because};

#[derive(Default)]
pub struct Asked {
    pub analyses: AtomicU32,
    pub generations: AtomicU32,
    pub hang: AtomicU32,
    pub slow: AtomicU32,
}

impl Asked {
    /// Answers as the site's Claude does, and counts the question.
    pub fn answer(&self, request: &Value) -> Reply {
        let schema = &request["output_config"]["format"]["schema"]["properties"];
        let is_analysis = schema.get("patterns").is_some();
        if is_analysis {
            self.analyses.fetch_add(1, Ordering::SeqCst);
        } else {
            self.generations.fetch_add(1, Ordering::SeqCst);
        }
        if self.hang.load(Ordering::SeqCst) == 1 {
            return Reply::Hang;
        }
        let reply = Reply::Text(if is_analysis {
            analysis_answer(&["task-1"]).to_string()
        } else {
            // The second insight is about the second model.
            let is_nano = request.to_string().contains("Model: nano-banana.");
            let insight = if is_nano { "2" } else { "1" };
            edit_because("Name what must stay unchanged.", insight).to_string()
        });
        if self.slow.load(Ordering::SeqCst) == 1 {
            return Reply::Slowly { delay: Duration::from_secs(2), reply: Box::new(reply) };
        }
        reply
    }
}
