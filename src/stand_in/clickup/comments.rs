//! Comments over the API.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};

use super::api::{parsed, refused};
use super::shown::comment_shown;
use super::{Site, lock};
use crate::stand_in::documented::Documented;
use crate::stand_in::listener::{self, Answered, Request};

/// Comments that one answer shows.
const PAGE: usize = 25;

impl Site {
    /// `/task/{id}/comment`.
    pub(super) fn comment(self: &Arc<Self>, request: &Request, task: &str) -> Answered {
        if request.head.method == Method::GET {
            return self.comments(request, task);
        }
        let asked = parsed(request)?;
        let text = asked["comment_text"].as_str().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| refused(Documented::ClickupBadRequest))?;
        let comment = self.add_comment(task, text);
        let comment = comment.ok_or_else(|| refused(Documented::ClickupTaskNotFound))?;
        let answer = json!({
            "id": comment.id,
            "hist_id": lock(&self.board).uuid(),
            "date": comment.at.timestamp_millis(),
        });
        Ok(listener::json(200, answer.to_string()))
    }

    /// The newest first; `start_id` names the oldest one that is known already.
    fn comments(&self, request: &Request, task: &str) -> Answered {
        let known = request.query("start_id").first().and_then(|id| id.parse::<u64>().ok());
        let mut board = lock(&self.board);
        let task = board.open_task(task).ok_or_else(|| refused(Documented::ClickupTaskNotFound))?;
        let comments: Vec<Value> = task
            .comments
            .iter()
            .rev()
            .filter(|comment| known.is_none_or(|known| comment.id < known))
            .take(PAGE)
            .map(comment_shown)
            .collect();
        Ok(listener::json(200, json!({"comments": comments}).to_string()))
    }
}
