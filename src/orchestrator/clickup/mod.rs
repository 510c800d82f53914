//! ClickUp: tasks, their attachments and comments, and the webhook that tells of them.
//!
//! Written from ClickUp's API reference (developer.clickup.com, version 2) and answers seen live in 2026. Reading order:
//! [`wire`] is what is said, `call` makes one call with its few retries, `errors` says what a failure means,
//! [`webhook`] reads what ClickUp sends by itself.
//!
//! A call that only reads or that may be made twice (GET, PUT) is repeated after 429, 5xx and a failed connection. One
//! that makes something (an upload, a comment) only after 429 or a refused connection; if its end cannot be known, the
//! error says [`Unknown`](super::service::Next::Unknown), and the caller looks before it calls again.

mod call;
mod errors;
#[cfg(test)]
pub(super) mod tests;
pub mod webhook;
pub mod wire;

pub use webhook::{BadDelivery, Delivery, Event};
pub use wire::{Attachment, Comment, CustomField, RegisteredWebhook, Task, TaskHead, TaskPage};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use super::service::{Next, Service, ServiceError};
use crate::clock::Clock;
use crate::outbound::{self, Throttle};
use crate::settings::Secret;
use crate::task_log::Fault;
use call::{Call, Payload};

/// How to reach ClickUp.
#[derive(Debug, Clone)]
pub struct ClickUpSettings {
    /// Such as `https://api.clickup.com`, without the path.
    pub base_url: String,
    /// A personal token (`pk_…`) or one of OAuth.
    pub token: Secret,
    /// For one attempt, from the connection to the answer's last byte; an upload has four times as long.
    pub timeout: Duration,
}

/// The events that a webhook is registered for.
const EVENTS: [&str; 5] =
    ["taskCreated", "taskUpdated", "taskStatusUpdated", "taskDeleted", "taskCommentPosted"];

/// Calls ClickUp. A clone is the same client, with the same rate limit.
#[derive(Clone)]
pub struct ClickUp {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: reqwest::Url,
    token: Secret,
    timeout: Duration,
    throttle: Throttle,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for ClickUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickUp").field("throttle", &self.inner.throttle).finish_non_exhaustive()
    }
}

impl ClickUp {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// `clickup_bad_settings` when the address or the token cannot be one, or the machine's certificates cannot be read.
    pub fn new(settings: ClickUpSettings, clock: Arc<dyn Clock>) -> Result<Self, ServiceError> {
        let bad = |words: &str| errors::error("clickup_bad_settings", words, Next::Operator);
        let base = outbound::base_address(&settings.base_url).ok_or_else(|| {
            bad("CLICKUP_BASE_URL is not a web address; write it like https://api.clickup.com.")
        })?;
        if settings.token.expose().trim().is_empty()
            || outbound::secret_header(settings.token.expose().trim()).is_none()
        {
            return Err(bad("CLICKUP_API_TOKEN is empty or holds a sign that no token has."));
        }
        let connect_timeout = settings.timeout.min(Duration::from_secs(5));
        let http = outbound::client(&base, connect_timeout, settings.timeout.saturating_mul(4))
            .map_err(|words| bad(&format!("The HTTPS client could not be set up: {words}.")))?;
        let inner = Inner {
            http,
            base,
            token: settings.token,
            timeout: settings.timeout,
            throttle: Throttle::new(Arc::clone(&clock)),
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A task; `None` if ClickUp says that there is none, which is what a deleted one looks like.
    ///
    /// # Errors
    /// See [`ServiceError`]; nothing has changed.
    pub async fn task(&self, id: &str) -> Result<Option<Task>, ServiceError> {
        let id = segment("task", id)?;
        let found = self.json(&Call::new(Method::GET, "a task was read", &["task", id])).await;
        match found {
            Ok(task) => Ok(Some(task)),
            Err(error) if error.code == errors::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page, from 0, of a list's tasks in this status. Subtasks and archived tasks are not among them.
    ///
    /// # Errors
    /// See [`ServiceError`]; nothing has changed.
    pub async fn tasks_in(
        &self,
        list_id: &str,
        status: &str,
        page: u32,
    ) -> Result<TaskPage, ServiceError> {
        let list_id = segment("list", list_id)?;
        let call = Call::new(Method::GET, "a list was read", &["list", list_id, "task"])
            .with_query("archived", "false")
            .with_query("page", page.to_string())
            .with_query("statuses[]", status);
        self.json(&call).await
    }

    /// Attaches a file to a task. Not idempotent: after an error that says `Unknown`, look for the same title with
    /// [`task`](Self::task) before it is made again.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn upload(
        &self,
        task: &str,
        file_name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Attachment, ServiceError> {
        let task = segment("task", task)?;
        let call = Call::new(Method::POST, "a file was attached", &["task", task, "attachment"])
            .with_payload(Payload::File {
                name: file_name.to_owned(),
                media_type: media_type.to_owned(),
                bytes,
            });
        self.json(&call).await
    }

    /// The newest comments of a task, at most 25, the newest first.
    ///
    /// # Errors
    /// See [`ServiceError`]; nothing has changed.
    pub async fn comments(&self, task: &str) -> Result<Vec<Comment>, ServiceError> {
        let task = segment("task", task)?;
        let call = Call::new(Method::GET, "comments were read", &["task", task, "comment"]);
        self.json::<wire::Comments>(&call).await.map(|page| page.comments)
    }

    /// Writes a comment and returns its id. Not idempotent: after an error that says `Unknown`, look with
    /// [`comments`](Self::comments) before it is made again.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn comment(&self, task: &str, text: &str) -> Result<String, ServiceError> {
        let task = segment("task", task)?;
        let call = Call::new(Method::POST, "a comment was written", &["task", task, "comment"])
            .with_payload(Payload::Json(json!({"comment_text": text, "notify_all": false})));
        self.json::<wire::Made>(&call).await.map(|made| made.id)
    }

    /// Gives a task this status.
    ///
    /// # Errors
    /// `clickup_status_refused` when the task's list has no such status; else see [`ServiceError`].
    pub async fn set_status(&self, task: &str, status: &str) -> Result<(), ServiceError> {
        let task = segment("task", task)?;
        let call = Call::new(Method::PUT, "a status was set", &["task", task])
            .with_payload(Payload::Json(json!({"status": status})));
        match self.json::<serde_json::Value>(&call).await {
            Ok(_task) => Ok(()),
            Err(error) if error.code == errors::BAD_REQUEST => {
                Err(errors::status_refused(status, &error.words))
            }
            Err(error) => Err(error),
        }
    }

    /// Registers a webhook for the tasks of one list. Not idempotent: each call makes another one.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn register_webhook(
        &self,
        team: &str,
        list_id: &str,
        endpoint: &str,
    ) -> Result<RegisteredWebhook, ServiceError> {
        let team = segment("team", team)?;
        let list_id = segment("list", list_id)?;
        // ClickUp wants the list's id as a number, and has never had one that is not.
        let list = list_id.parse::<u64>().map_or_else(|_| json!(list_id), |number| json!(number));
        let call = Call::new(Method::POST, "a webhook was registered", &["team", team, "webhook"])
            .with_payload(Payload::Json(json!({
                "endpoint": endpoint, "events": EVENTS, "list_id": list,
            })));
        self.json::<wire::WebhookMade>(&call).await.map(Into::into)
    }
}

/// Ids come from outside, and go into an address.
fn segment<'a>(what: &str, id: &'a str) -> Result<&'a str, ServiceError> {
    if wire::is_id(id) {
        return Ok(id);
    }
    Err(ServiceError::new(
        Service::ClickUp,
        "clickup_bad_id",
        format!("What should be the id of a {what} is none; nothing was sent."),
        Next::Never { fault: Fault::Infrastructure },
    ))
}
