//! What ClickUp keeps: tasks with their attachments and comments, and webhooks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::hooks::Hook;
use super::{AttachedFile, NewTask, TaskState};
use crate::stand_in::script::mixed;

/// A task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) status: String,
    pub(super) list_id: String,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) comments: Vec<Comment>,
    pub(super) custom_fields: Vec<Value>,
    pub(super) deleted: bool,
}

/// A file at a task.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) id: String,
    pub(super) file: AttachedFile,
    pub(super) at: DateTime<Utc>,
}

/// A comment.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub(super) id: u64,
    pub(super) text: String,
    pub(super) at: DateTime<Utc>,
}

impl Task {
    /// How it stands.
    pub(super) fn state(&self) -> TaskState {
        TaskState {
            id: self.id.clone(),
            name: self.name.clone(),
            status: self.status.clone(),
            attachments: self.attachments.iter().map(|attached| attached.file.clone()).collect(),
            comments: self.comments.iter().map(|comment| comment.text.clone()).collect(),
            deleted: self.deleted,
        }
    }
}

/// Everything that is kept.
#[derive(Debug)]
pub(super) struct Board {
    seed: u64,
    given: u64,
    tasks: Vec<Task>,
    by_id: HashMap<String, usize>,
    hooks: Vec<Hook>,
    /// Addresses of attachments that carry another number have ended.
    addresses: u32,
}

impl Board {
    /// An empty board.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            given: 0,
            tasks: Vec::new(),
            by_id: HashMap::new(),
            hooks: Vec::new(),
            addresses: 1,
        }
    }

    /// A number that was never given out.
    pub(super) fn number(&mut self) -> u64 {
        self.given = self.given.saturating_add(1);
        self.given
    }

    /// An id in the form of a UUID.
    pub(super) fn uuid(&mut self) -> String {
        let number = self.number();
        let (high, low) = (mixed(self.seed, number), mixed(!self.seed, number));
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            .into_uuid()
            .to_string()
    }

    /// Creates a task; its id. One with an id that is taken takes its place.
    pub(super) fn create(&mut self, new: NewTask, now: DateTime<Utc>) -> String {
        let number = self.number();
        let made_up = || format!("86c{:07x}", (mixed(self.seed, 0) ^ number) & 0xfff_ffff);
        let id = new.id.clone().unwrap_or_else(made_up);
        let original = new.picture.map(|bytes| AttachedFile {
            title: "original.png".to_owned(),
            media_type: "image/png".to_owned(),
            bytes,
        });
        let files: Vec<AttachedFile> = original.into_iter().chain(new.attachments).collect();
        let attachments = files.into_iter().map(|file| self.attachment(file, now)).collect();
        let task = Task {
            id: id.clone(),
            name: new.name,
            text: new.text,
            status: new.status,
            list_id: new.list_id,
            created_at: now,
            updated_at: now,
            attachments,
            comments: Vec::new(),
            custom_fields: new.custom_fields,
            deleted: false,
        };
        self.by_id.insert(id.clone(), self.tasks.len());
        self.tasks.push(task);
        id
    }

    /// A file with an id of its own.
    pub(super) fn attachment(&mut self, file: AttachedFile, at: DateTime<Utc>) -> Attachment {
        let id = format!("{}.{}", self.uuid(), extension(&file.title));
        Attachment { id, file, at }
    }

    /// A task, deleted or not.
    pub(super) fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.get(*self.by_id.get(id)?)
    }

    /// A task that is not deleted.
    pub(super) fn open_task(&mut self, id: &str) -> Option<&mut Task> {
        let at = *self.by_id.get(id)?;
        self.tasks.get_mut(at).filter(|task| !task.deleted)
    }

    /// All tasks, the oldest first.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// The webhooks.
    pub(super) const fn hooks(&self) -> &Vec<Hook> {
        &self.hooks
    }

    /// A webhook.
    pub(super) fn hook(&mut self, id: &str) -> Option<&mut Hook> {
        self.hooks.iter_mut().find(|hook| hook.id == id)
    }

    /// Registers a webhook.
    pub(super) fn add_hook(
        &mut self,
        endpoint: &str,
        events: Vec<String>,
        list_id: Option<String>,
    ) -> Hook {
        let hook = Hook::new(self.uuid(), endpoint, events, list_id);
        self.hooks.push(hook.clone());
        hook
    }

    /// Removes a webhook; false when there was none.
    pub(super) fn remove_hook(&mut self, id: &str) -> bool {
        let before = self.hooks.len();
        self.hooks.retain(|hook| hook.id != id);
        self.hooks.len() < before
    }

    /// The number that addresses of attachments carry now.
    pub(super) const fn addresses(&self) -> u32 {
        self.addresses
    }

    /// Ends the addresses that were given out.
    pub(super) fn end_addresses(&mut self) {
        self.addresses = self.addresses.saturating_add(1);
    }
}

/// The part of a title behind its last dot.
pub(super) fn extension(title: &str) -> &str {
    title.rsplit_once('.').map_or("", |(_, extension)| extension)
}
