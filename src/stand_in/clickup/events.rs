//! What happens on the board, and the payloads that tell of it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::board::{Board, Comment, Task};
use super::shown::{date, user};
use super::{NewTask, Site, lock};
use crate::stand_in::documented::Documented;

/// The first id of a history item; the real ones look like this.
const FIRST_HISTORY_ID: u64 = 2_800_763_136_717_140_857;
/// The first id of a comment.
const FIRST_COMMENT_ID: u64 = 458_315;

/// An event that webhooks are told of, without the webhook's own id.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) list_id: String,
    pub(super) task_id: String,
    pub(super) history_items: Vec<Value>,
}

impl Event {
    fn of(name: &'static str, task: &Task, history_items: Vec<Value>) -> Self {
        let (list_id, task_id) = (task.list_id.clone(), task.id.clone());
        Self { name, list_id, task_id, history_items }
    }

    /// The body of a delivery.
    pub(super) fn body(&self, webhook_id: &str) -> String {
        let mut body =
            json!({"event": self.name, "task_id": self.task_id, "webhook_id": webhook_id});
        if !self.history_items.is_empty() {
            body["history_items"] = json!(self.history_items);
        }
        body.to_string()
    }
}

/// One line of a task's history.
fn item(
    board: &mut Board,
    task: &Task,
    now: DateTime<Utc>,
    field: &str,
    before: Value,
    after: Value,
) -> Value {
    let id = FIRST_HISTORY_ID.saturating_add(board.number());
    json!({
        "id": id.to_string(), "type": 1, "date": date(now), "field": field,
        "parent_id": task.list_id, "data": {}, "source": null, "user": user(),
        "before": before, "after": after,
    })
}

impl Site {
    /// Creates a task and tells of it twice, as ClickUp does.
    pub(super) fn create_task(self: &std::sync::Arc<Self>, new: NewTask) -> String {
        let now = self.settings.clock.now();
        let (id, events) = {
            let mut board = lock(&self.board);
            let id = board.create(new, now);
            let Some(task) = board.task(&id).cloned() else { return id };
            let removed =
                json!({"status": null, "color": "#000000", "type": "removed", "orderindex": -1});
            let after = self.status_shown(&task.status);
            let status = item(&mut board, &task, now, "status", removed, after);
            let created = item(&mut board, &task, now, "task_creation", Value::Null, Value::Null);
            let events = [
                Event::of("taskCreated", &task, vec![status.clone(), created]),
                Event::of("taskStatusUpdated", &task, vec![status]),
            ];
            (id, events)
        };
        self.tell(events);
        id
    }

    /// Sets a status, whoever does it. The name need not have the list's capitals.
    ///
    /// # Errors
    /// The documented error when there is no such task or status.
    pub(super) fn set_status(
        self: &std::sync::Arc<Self>,
        id: &str,
        status: &str,
    ) -> Result<(), Documented> {
        let wanted = status.to_lowercase();
        let known = self.settings.statuses.iter().find(|known| known.to_lowercase() == wanted);
        let known = known.ok_or(Documented::ClickupStatusNotFound)?.clone();
        let now = self.settings.clock.now();
        let event = {
            let mut board = lock(&self.board);
            let task = board.open_task(id).ok_or(Documented::ClickupTaskNotFound)?;
            let before = std::mem::replace(&mut task.status, known.clone());
            if before == known {
                return Ok(());
            }
            task.updated_at = now;
            let task = task.clone();
            let (before, after) = (self.status_shown(&before), self.status_shown(&known));
            let history = item(&mut board, &task, now, "status", before, after);
            Event::of("taskStatusUpdated", &task, vec![history])
        };
        self.tell([event]);
        Ok(())
    }

    /// Writes a comment, whoever does it; none when there is no such task.
    pub(super) fn add_comment(
        self: &std::sync::Arc<Self>,
        id: &str,
        text: &str,
    ) -> Option<Comment> {
        let now = self.settings.clock.now();
        let (comment, event) = {
            let mut board = lock(&self.board);
            let comment_id = FIRST_COMMENT_ID.saturating_add(board.number());
            let comment = Comment { id: comment_id, text: text.to_owned(), at: now };
            let task = board.open_task(id)?;
            task.comments.push(comment.clone());
            let task = task.clone();
            let after = json!(comment_id.to_string());
            let mut history = item(&mut board, &task, now, "comment", Value::Null, after);
            history["comment"] = json!({
                "id": comment_id.to_string(), "date": date(now), "parent": id, "type": 1,
                "comment": [{"text": text, "attributes": {}}], "text_content": format!("{text}\n"),
                "x": null, "y": null, "user": user(),
            });
            (comment, Event::of("taskCommentPosted", &task, vec![history]))
        };
        self.tell([event]);
        Some(comment)
    }

    /// Tells that a task's field has changed.
    pub(super) fn tell_update(self: &std::sync::Arc<Self>, id: &str, field: &str, after: Value) {
        let now = self.settings.clock.now();
        let event = {
            let mut board = lock(&self.board);
            let Some(task) = board.open_task(id) else { return };
            task.updated_at = now;
            let task = task.clone();
            let history = item(&mut board, &task, now, field, Value::Null, after);
            Event::of("taskUpdated", &task, vec![history])
        };
        self.tell([event]);
    }

    /// Deletes a task, whoever does it; false when there is no such task.
    pub(super) fn delete_task(self: &std::sync::Arc<Self>, id: &str) -> bool {
        let event = {
            let mut board = lock(&self.board);
            let Some(task) = board.open_task(id) else { return false };
            task.deleted = true;
            Event::of("taskDeleted", task, Vec::new())
        };
        self.tell([event]);
        true
    }
}
