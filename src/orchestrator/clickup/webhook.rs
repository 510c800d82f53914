//! What ClickUp sends by itself: a signed body that names a task, and little else.
//!
//! There is neither a delivery's id nor a time in it, and ClickUp may send the same thing up to five times, so what a
//! delivery is recognised by is made of the ids in it.

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::wire::{is_id, text_or_number};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A task was made. ClickUp sends a change of status with it.
    TaskCreated,
    /// Something of a task changed.
    TaskUpdated,
    /// A task's status changed.
    TaskStatusUpdated,
    /// A task was deleted.
    TaskDeleted,
    /// Something else, by ClickUp's name.
    Other(String),
}

/// A delivery, as far as anything may rest on it: that a task is worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What happened.
    pub event: Event,
    /// To which task.
    pub task_id: String,
    /// Through which webhook.
    pub webhook_id: String,
    /// The same for every repeat of the delivery, and for nothing else; at most 200 characters.
    pub dedupe_key: String,
    /// The status that the task had after it, where the delivery says so.
    pub status_after: Option<String>,
}

/// A body that is no delivery. It was signed, so ClickUp sent it: it is acknowledged and dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDelivery {
    /// It is not the JSON of a delivery.
    #[error("the delivery is not the JSON of one: {0}")]
    NotJson(String),
    /// A field holds what it cannot hold.
    #[error("the delivery's {0} is none")]
    BadField(&'static str),
}

impl BadDelivery {
    /// A name for code; it never changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "clickup_delivery_not_json",
            Self::BadField(_) => "clickup_delivery_bad_field",
        }
    }
}

/// Whether the header `X-Signature` is that of the body: HMAC-SHA256 under the webhook's secret, in hex. Takes the same
/// time for every signature of the right length.
#[must_use]
pub fn signature_is_valid(secret: &str, body: &[u8], header: Option<&str>) -> bool {
    let Some(signature) = header.and_then(|header| hex::decode(header.trim()).ok()) else {
        return false;
    };
    // An empty secret is one that was never set; everybody could sign with it.
    if secret.is_empty() {
        return false;
    }
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).is_ok_and(|mut mac| {
        mac.update(body);
        mac.verify_slice(&signature).is_ok()
    })
}

/// Reads a body whose signature has been checked.
///
/// # Errors
/// [`BadDelivery`] when it is not one of the documented form, such as that of an automation.
pub fn parse(body: &[u8]) -> Result<Delivery, BadDelivery> {
    let read: Body = serde_json::from_slice(body)
        .map_err(|error| BadDelivery::NotJson(crate::outbound::shorten(&error.to_string(), 200)))?;
    let named = |name: &str| (1..=64).contains(&name.len()) && name.is_ascii();
    if !named(&read.event) {
        return Err(BadDelivery::BadField("event"));
    }
    if !is_id(&read.task_id) {
        return Err(BadDelivery::BadField("task_id"));
    }
    if !is_id(&read.webhook_id) {
        return Err(BadDelivery::BadField("webhook_id"));
    }
    let items = read.history_items.unwrap_or_default();
    Ok(Delivery {
        dedupe_key: dedupe_key(&read.webhook_id, &read.event, &read.task_id, &items, body),
        status_after: items.iter().find_map(HistoryItem::status_after),
        event: Event::from(read.event),
        task_id: read.task_id,
        webhook_id: read.webhook_id,
    })
}

impl From<String> for Event {
    fn from(name: String) -> Self {
        match name.as_str() {
            "taskCreated" => Self::TaskCreated,
            "taskUpdated" => Self::TaskUpdated,
            "taskStatusUpdated" => Self::TaskStatusUpdated,
            "taskDeleted" => Self::TaskDeleted,
            _ => Self::Other(name),
        }
    }
}

impl Event {
    /// ClickUp's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::TaskCreated => "taskCreated",
            Self::TaskUpdated => "taskUpdated",
            Self::TaskStatusUpdated => "taskStatusUpdated",
            Self::TaskDeleted => "taskDeleted",
            Self::Other(name) => name,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    event: String,
    #[serde(deserialize_with = "text_or_number")]
    task_id: String,
    #[serde(deserialize_with = "text_or_number")]
    webhook_id: String,
    #[serde(default)]
    history_items: Option<Vec<HistoryItem>>,
}

/// What changed. `before` and `after` are null, a text, a list or an object, as the field would have it.
#[derive(Deserialize)]
struct HistoryItem {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    field: Value,
    #[serde(default)]
    after: Value,
}

impl HistoryItem {
    fn id(&self) -> Option<String> {
        match &self.id {
            Value::String(id) if !id.is_empty() => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }

    fn status_after(&self) -> Option<String> {
        let after = (self.field == "status").then_some(&self.after)?;
        let status = after.as_str().or_else(|| after.get("status")?.as_str())?;
        Some(status.to_owned())
    }
}

/// Of the four ids; of the whole body where the change has none.
fn dedupe_key(
    webhook: &str,
    event: &str,
    task: &str,
    items: &[HistoryItem],
    body: &[u8],
) -> String {
    let short = |text: &str| text.len() <= 48;
    match items.first().and_then(HistoryItem::id) {
        Some(item) if short(webhook) && short(event) && short(task) && short(&item) => {
            format!("{webhook}:{event}:{task}:{item}")
        }
        Some(item) => {
            let whole = serde_json::json!([webhook, event, task, item]).to_string();
            format!("ids:{}", hex::encode(Sha256::digest(whole)))
        }
        None => format!("body:{}", hex::encode(Sha256::digest(body))),
    }
}
