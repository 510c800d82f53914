//! Tasks, attachments and comments as the API shows them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::board::{Attachment, Comment, Task, extension};
use super::{Site, TEAM};

/// The user behind everything that happens.
pub(super) fn user() -> Value {
    json!({
        "id": 183, "username": "John", "email": "john@example.com", "color": "#7b68ee",
        "initials": "J", "profilePicture": null,
    })
}

/// Dates of tasks are texts of Unix milliseconds.
pub(super) fn date(at: DateTime<Utc>) -> String {
    at.timestamp_millis().to_string()
}

impl Site {
    /// A status as the API shows it.
    pub(super) fn status_shown(&self, status: &str) -> Value {
        let at = self.settings.statuses.iter().position(|known| known == status).unwrap_or(0);
        let last = self.settings.statuses.len().saturating_sub(1);
        let (kind, colour) = match at {
            0 => ("open", "#f9d900"),
            at if at == last => ("closed", "#6bc950"),
            _ => ("custom", "#7C4DFF"),
        };
        json!({"status": status, "color": colour, "orderindex": at, "type": kind})
    }

    /// A task whole, or, as lists show it, without its attachments.
    pub(super) fn task_shown(&self, task: &Task, addresses: u32, in_list: bool) -> Value {
        let mut status = self.status_shown(&task.status);
        status["id"] = json!(format!("sc{}_{}", task.list_id, status["orderindex"]));
        let closed = (status["type"] == "closed").then(|| date(task.updated_at));
        let mut shown = json!({
            "id": task.id, "custom_id": null, "custom_item_id": 0, "name": task.name,
            "text_content": task.text, "description": task.text, "status": status,
            "orderindex": "237665836.00000000000000000000000000000000",
            "date_created": date(task.created_at), "date_updated": date(task.updated_at),
            "date_closed": closed, "date_done": closed, "archived": false,
            "creator": user(), "assignees": [], "watchers": [], "checklists": [], "tags": [],
            "parent": null, "priority": null, "due_date": null, "start_date": null, "points": null,
            "time_estimate": null, "custom_fields": task.custom_fields,
            "dependencies": [], "linked_tasks": [], "team_id": TEAM,
            "url": format!("https://app.clickup.com/t/{}", task.id), "permission_level": "create",
            "list": {"id": task.list_id, "name": "Edits", "access": true},
            "folder": {"id": "9001", "name": "hidden", "hidden": true, "access": true},
            "space": {"id": "7002"},
        });
        if !in_list {
            let attachments = task.attachments.iter();
            shown["attachments"] = attachments
                .map(|attached| self.attachment_of_task(&task.id, attached, addresses))
                .collect();
        }
        shown
    }

    /// The address of an attachment, signed until the addresses end.
    fn address(&self, attached: &Attachment, addresses: u32) -> String {
        format!("{}/attachments/{}?sig={addresses}", self.base_url, attached.id)
    }

    /// An attachment within a task: `version` is a number, `date` a text.
    fn attachment_of_task(&self, task: &str, attached: &Attachment, addresses: u32) -> Value {
        let file = &attached.file;
        let address = self.address(attached, addresses);
        let thumbnail = file.media_type.starts_with("image/").then_some(&address);
        json!({
            "id": attached.id, "date": date(attached.at), "title": file.title, "type": 1,
            "source": 1, "version": 0, "extension": extension(&file.title),
            "thumbnail_small": thumbnail, "thumbnail_medium": thumbnail, "thumbnail_large": thumbnail,
            "mimetype": file.media_type, "hidden": false, "parent_id": task,
            "size": file.bytes.len(), "deleted": false, "url": address,
            "url_w_query": format!("{address}&view=open"), "url_w_host": address,
        })
    }

    /// An attachment as its upload is answered: `version` is a text, `date` a number.
    pub(super) fn attachment_uploaded(&self, attached: &Attachment, addresses: u32) -> Value {
        let address = self.address(attached, addresses);
        json!({
            "id": attached.id, "version": "0", "date": attached.at.timestamp_millis(),
            "title": attached.file.title, "extension": extension(&attached.file.title),
            "thumbnail_small": address, "thumbnail_large": address, "url": address,
        })
    }
}

/// A comment within a list of comments: its id is a text, though writing it was answered with a number.
pub(super) fn comment_shown(comment: &Comment) -> Value {
    json!({
        "id": comment.id.to_string(), "comment": [{"text": comment.text}],
        "comment_text": comment.text, "user": user(), "resolved": false, "assignee": null,
        "assigned_by": null, "reactions": [], "date": date(comment.at),
    })
}
