//! What ClickUp says, read leniently: ids come as text or number, dates as text or number of unix milliseconds, and a
//! field that is missing, null or new is no error.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A task, as far as the pipeline reads it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "TaskOnTheWire")]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its title.
    pub name: String,
    /// What it asks for: the plain text of its description, else the description as it is, else empty.
    pub text: String,
    /// The name of its status, as the list writes it.
    pub status: String,
    /// The id of its list.
    pub list_id: String,
    /// Its files, those of its comments too, without deleted ones, in ClickUp's order.
    pub attachments: Vec<Attachment>,
    /// Its custom fields, empty ones too.
    pub custom_fields: Vec<CustomField>,
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "AttachmentOnTheWire")]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// Its file name.
    pub title: String,
    /// As ClickUp says it, which nobody checked.
    pub media_type: Option<String>,
    /// Its size in bytes, as ClickUp says it.
    pub size_bytes: Option<u64>,
    /// Where it can be read; the address may hold a signature that ends, so it is read at once and never logged.
    pub url: String,
    /// When it was attached.
    pub created_at: Option<DateTime<Utc>>,
}

/// A custom field of a task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CustomField {
    /// Its id.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its type, such as `checkbox` or `drop_down`.
    #[serde(default, rename = "type")]
    pub field_type: String,
    /// Its value, whose form follows the type; `None` when it is empty, for ClickUp then leaves it out.
    #[serde(default)]
    pub value: Option<Value>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskPage {
    /// The tasks; at most 100.
    #[serde(default)]
    pub tasks: Vec<TaskHead>,
    /// Whether there is no further page.
    #[serde(default = "yes")]
    pub last_page: bool,
}

/// What a page of a list says of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "TaskHeadOnTheWire")]
pub struct TaskHead {
    /// Its id.
    pub id: String,
    /// The name of its status.
    pub status: String,
    /// When it last changed.
    pub updated_at: Option<DateTime<Utc>>,
}

/// A comment of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Comment {
    /// Its id.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// What it says, as plain text.
    #[serde(default, rename = "comment_text", deserialize_with = "text_or_null")]
    pub text: String,
    /// When it was written.
    #[serde(default, rename = "date", deserialize_with = "unix_ms")]
    pub created_at: Option<DateTime<Utc>>,
}

/// A webhook that was just registered.
#[derive(Clone, PartialEq, Eq)]
pub struct RegisteredWebhook {
    /// Its id.
    pub id: String,
    /// What its deliveries are signed with; ClickUp shows it this once.
    pub secret: String,
}

impl fmt::Debug for RegisteredWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredWebhook").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is seen of an error, and may be missing or not JSON at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default, rename = "err", deserialize_with = "text_or_null")]
    pub(super) words: String,
    #[serde(default, rename = "ECODE", deserialize_with = "text_or_null")]
    pub(super) code: String,
}

#[derive(Deserialize)]
pub(super) struct Comments {
    #[serde(default)]
    pub(super) comments: Vec<Comment>,
}

#[derive(Deserialize)]
pub(super) struct Made {
    #[serde(deserialize_with = "text_or_number")]
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct WebhookMade {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
    webhook: WebhookBody,
}

#[derive(Deserialize)]
struct WebhookBody {
    secret: String,
}

impl From<WebhookMade> for RegisteredWebhook {
    fn from(made: WebhookMade) -> Self {
        Self { id: made.id, secret: made.webhook.secret }
    }
}

#[derive(Deserialize)]
struct TaskOnTheWire {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
    #[serde(default, deserialize_with = "text_or_null")]
    name: String,
    #[serde(default, deserialize_with = "text_or_null")]
    text_content: String,
    #[serde(default, deserialize_with = "text_or_null")]
    description: String,
    status: StatusOnTheWire,
    list: ListOnTheWire,
    #[serde(default, deserialize_with = "or_default")]
    attachments: Vec<AttachmentOnTheWire>,
    #[serde(default, deserialize_with = "or_default")]
    custom_fields: Vec<CustomField>,
}

impl From<TaskOnTheWire> for Task {
    fn from(task: TaskOnTheWire) -> Self {
        let said = !task.text_content.trim().is_empty();
        let kept = task.attachments.into_iter().filter(|file| !file.deleted);
        Self {
            id: task.id,
            name: task.name,
            text: if said { task.text_content } else { task.description },
            status: task.status.status,
            list_id: task.list.id,
            attachments: kept.map(Into::into).collect(),
            custom_fields: task.custom_fields,
        }
    }
}

#[derive(Deserialize)]
struct TaskHeadOnTheWire {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
    status: StatusOnTheWire,
    #[serde(default, deserialize_with = "unix_ms")]
    date_updated: Option<DateTime<Utc>>,
}

impl From<TaskHeadOnTheWire> for TaskHead {
    fn from(task: TaskHeadOnTheWire) -> Self {
        Self { id: task.id, status: task.status.status, updated_at: task.date_updated }
    }
}

#[derive(Deserialize)]
struct StatusOnTheWire {
    status: String,
}

#[derive(Deserialize)]
struct ListOnTheWire {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
}

#[derive(Deserialize)]
struct AttachmentOnTheWire {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
    #[serde(default, deserialize_with = "text_or_null")]
    title: String,
    #[serde(default)]
    mimetype: Option<String>,
    #[serde(default, deserialize_with = "whole_number")]
    size: Option<u64>,
    url: String,
    #[serde(default, deserialize_with = "unix_ms")]
    date: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "or_default")]
    deleted: bool,
}

impl From<AttachmentOnTheWire> for Attachment {
    fn from(file: AttachmentOnTheWire) -> Self {
        Self {
            id: file.id,
            title: file.title,
            media_type: file.mimetype,
            size_bytes: file.size,
            url: file.url,
            created_at: file.date,
        }
    }
}

/// Whether a text could be an id of ClickUp's, and can stand in an address.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A text, or a number as text.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(reader: D) -> Result<String, D::Error> {
    match Value::deserialize(reader)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("an id that is {}", kind_of(&other)))),
    }
}

fn text_or_null<'de, D: Deserializer<'de>>(reader: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(reader).map(Option::unwrap_or_default)
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    reader: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(reader).map(Option::unwrap_or_default)
}

/// A date that cannot be read is an unknown one: no decision of the pipeline rests on it alone.
fn unix_ms<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let ms = match Value::deserialize(reader)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    };
    Ok(ms.and_then(DateTime::from_timestamp_millis))
}

fn whole_number<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(reader)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    })
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

const fn yes() -> bool {
    true
}
