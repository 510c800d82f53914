//! A stand-in for ClickUp: a real HTTP server on 127.0.0.1 with tasks, attachments, comments and signed webhooks.
//!
//! A test, or a person with `mathesis stand-ins`, acts on its [board](ClickUpStandIn::create_task) as people do; the
//! pipeline acts over the API. Both are told to the webhooks, as ClickUp does.

mod api;
mod attachments;
mod board;
mod comments;
mod control;
mod deliveries;
mod events;
mod hooks;
mod rate;
mod shown;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::listener::{Bound, Listener};
use super::script::Script;
use crate::clock::{Clock, SystemClock};
use board::Board;
pub use deliveries::{Delivered, signature};
use rate::Rate;

/// The list that tasks are in when nobody says otherwise.
pub const LIST: &str = "162641062";
/// The workspace.
pub const TEAM: &str = "108";

/// How to start a stand-in.
#[derive(Clone)]
pub struct ClickUpStandInSettings {
    /// The one personal token that it accepts.
    pub token: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Signs the deliveries of every webhook, registered ones too.
    pub webhook_secret: String,
    /// Where every event is delivered from the start; none until a webhook is registered.
    pub webhook_endpoint: Option<String>,
    /// The statuses of every list, in their order; the first is the open one, the last the closed one.
    pub statuses: Vec<String>,
    /// Requests that are answered in a minute, as the plan says. Default: 10,000.
    pub requests_per_minute: u32,
    /// How long an endpoint may take to answer a delivery. Default: 7 s, as documented.
    pub delivery_timeout: Duration,
    /// The wait between two attempts of a delivery, which is not documented. Default: 1 s.
    pub delivery_pause: Duration,
    /// Dates what happens, and counts the minute of the limit.
    pub clock: Arc<dyn Clock>,
}

impl Default for ClickUpStandInSettings {
    fn default() -> Self {
        let statuses =
            ["to do", "ready for edit", "in progress", "review", "needs attention", "complete"];
        Self {
            token: "pk_stand_in".to_owned(),
            port: 0,
            webhook_secret: "O94IM25S7PXBPYTMNXLLET230SRP0S89COR7B1YOJ2ZIE8WQNK5UUKEF26W0Z5GA"
                .to_owned(),
            webhook_endpoint: None,
            statuses: statuses.map(str::to_owned).to_vec(),
            requests_per_minute: 10_000,
            delivery_timeout: Duration::from_secs(7),
            delivery_pause: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A file at a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    /// Its title, such as `original.png`.
    pub title: String,
    /// Its media type, such as `image/png`.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A task to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its id; none for one that the stand-in makes up.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its description.
    pub text: String,
    /// Its status. Default: `ready for edit`.
    pub status: String,
    /// Its list. Default: [`LIST`].
    pub list_id: String,
    /// A PNG, attached as `original.png`.
    pub picture: Option<Bytes>,
    /// Further attachments, the oldest first.
    pub attachments: Vec<AttachedFile>,
    /// Custom fields, as the API shows them.
    pub custom_fields: Vec<Value>,
}

impl Default for NewTask {
    fn default() -> Self {
        Self {
            id: None,
            name: "Edit a picture".to_owned(),
            text: String::new(),
            status: "ready for edit".to_owned(),
            list_id: LIST.to_owned(),
            picture: None,
            attachments: Vec::new(),
            custom_fields: Vec::new(),
        }
    }
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: String,
    /// Its attachments, the oldest first.
    pub attachments: Vec<AttachedFile>,
    /// The texts of its comments, the oldest first.
    pub comments: Vec<String>,
    /// True once it was deleted; the API no longer knows it.
    pub deleted: bool,
}

/// A running stand-in. Dropping it stops it.
pub struct ClickUpStandIn {
    listener: Listener,
    site: Arc<Site>,
    _ends_deliveries: DropGuard,
}

/// What the server works on.
struct Site {
    settings: ClickUpStandInSettings,
    base_url: String,
    script: Script,
    http: reqwest::Client,
    board: Mutex<Board>,
    rate: Mutex<Rate>,
    delivered: Mutex<Vec<Delivered>>,
    under_way: TaskTracker,
    stopping: CancellationToken,
}

impl ClickUpStandIn {
    /// Starts a stand-in and returns when it listens.
    ///
    /// # Errors
    /// When the port is taken, or no HTTP client for the deliveries can be made.
    pub async fn start(settings: ClickUpStandInSettings, script: Script) -> io::Result<Self> {
        let bound = Bound::take(settings.port).await?;
        let stopping = CancellationToken::new();
        let site = Arc::new(Site {
            base_url: bound.base_url().to_owned(),
            http: super::listener::client(settings.delivery_timeout)?,
            board: Mutex::new(Board::new(script.seed())),
            rate: Mutex::default(),
            delivered: Mutex::default(),
            under_way: TaskTracker::new(),
            stopping: stopping.clone(),
            script: script.clone(),
            settings,
        });
        if let Some(endpoint) = &site.settings.webhook_endpoint {
            lock(&site.board).add_hook(endpoint, vec!["*".to_owned()], None);
        }
        let listener = bound.serve(script, Arc::new(api::Api(Arc::clone(&site))));
        Ok(Self { listener, site, _ends_deliveries: stopping.drop_guard() })
    }

    /// Its address, such as `http://127.0.0.1:41234`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.listener.base_url()
    }

    /// Delivers every event to this address from now on, beside the registered webhooks.
    pub fn deliver_to(&self, endpoint: &str) {
        lock(&self.site.board).add_hook(endpoint, vec!["*".to_owned()], None);
    }

    /// Creates a task and delivers `taskCreated` and `taskStatusUpdated`, as ClickUp does. Returns its id.
    pub fn create_task(&self, task: NewTask) -> String {
        self.site.create_task(task)
    }

    /// Sets a task's status, as a person does. False when there is no such task or status.
    #[must_use]
    pub fn set_status(&self, task: &str, status: &str) -> bool {
        self.site.set_status(task, status).is_ok()
    }

    /// Writes a comment, as a person does. False when there is no such task.
    #[must_use]
    pub fn comment_by_person(&self, task: &str, text: &str) -> bool {
        self.site.add_comment(task, text).is_some()
    }

    /// Deletes a task, as a person does. False when there is no such task.
    #[must_use]
    pub fn delete_task(&self, task: &str) -> bool {
        self.site.delete_task(task)
    }

    /// How a task stands, deleted or not; none when it never was.
    #[must_use]
    pub fn state(&self, task: &str) -> Option<TaskState> {
        lock(&self.site.board).task(task).map(board::Task::state)
    }

    /// All tasks, the oldest first, deleted ones too.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskState> {
        lock(&self.site.board).tasks().map(board::Task::state).collect()
    }

    /// How many tasks stand in one of these statuses.
    #[must_use]
    pub fn count(&self, statuses: &[&str]) -> usize {
        let board = lock(&self.site.board);
        let stands =
            |task: &&board::Task| !task.deleted && statuses.contains(&task.status.as_str());
        board.tasks().filter(stands).count()
    }

    /// Makes every address of an attachment that was given out end; a task that is read anew has new ones.
    pub fn end_addresses(&self) {
        lock(&self.site.board).end_addresses();
    }

    /// Every delivery that came to its end, the oldest first.
    #[must_use]
    pub fn delivered(&self) -> Vec<Delivered> {
        lock(&self.site.delivered).clone()
    }

    /// Waits until no delivery is under way.
    pub async fn settled(&self) {
        self.site.under_way.close();
        self.site.under_way.wait().await;
    }

    /// Stops it: deliveries under way are given up, and no request is answered once this returns.
    pub async fn stop(mut self) {
        self.site.stopping.cancel();
        self.listener.stop().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
