//! The calls by which a person plays the people at ClickUp: `/stand-in/…`, without a token and out of any script's
//! reach.

use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::refused;
use super::board::Task;
use super::{LIST, NewTask, Site, lock};
use crate::stand_in::listener::{self, Answered, Refused, Request};
use crate::stand_in::script;
use crate::stand_in::wavespeed::picture;

/// A task as a person writes it; everything but the text may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    id: Option<String>,
    name: Option<String>,
    text: String,
    status: Option<String>,
    list_id: Option<String>,
    /// A PNG in base64; without it, a plain picture is attached.
    picture: Option<String>,
}

fn wrong(words: impl std::fmt::Display) -> Refused {
    listener::json(400, json!({"err": words.to_string()}).to_string()).into()
}

impl Site {
    /// What comes behind `/stand-in/`.
    pub(super) fn control(self: &Arc<Self>, request: &Request, path: &str) -> Answered {
        let parts: Vec<&str> = path.split('/').collect();
        let unknown =
            |words: &str| Refused::from(listener::json(404, json!({"err": words}).to_string()));
        let done = |yes: bool| {
            let no = || unknown("there is no such task");
            yes.then(|| listener::json(200, "{}")).ok_or_else(no)
        };
        match (request.head.method.as_str(), parts.as_slice()) {
            ("GET", ["tasks"]) => Ok(listener::json(200, self.overview().to_string())),
            ("POST", ["tasks"]) => self.create_wanted(request),
            ("DELETE", ["tasks", id]) => done(self.delete_task(id)),
            ("PUT", ["tasks", id]) => {
                let asked: Value = serde_json::from_slice(&request.bytes()).map_err(wrong)?;
                let status = asked["status"].as_str().ok_or_else(|| wrong("status is missing"))?;
                match self.set_status(id, status) {
                    Ok(()) => done(true),
                    Err(error) => Err(refused(error)),
                }
            }
            ("POST", ["tasks", id, "comments"]) => {
                let asked: Value = serde_json::from_slice(&request.bytes()).map_err(wrong)?;
                let text = asked["text"].as_str().ok_or_else(|| wrong("text is missing"))?;
                done(self.add_comment(id, text).is_some())
            }
            ("POST", ["addresses", "end"]) => {
                lock(&self.board).end_addresses();
                done(true)
            }
            ("POST", ["script"]) => {
                let text = String::from_utf8_lossy(&request.bytes()).into_owned();
                self.script.add(script::parse(&text).map_err(wrong)?);
                let answer = json!({"uses_left": self.script.left()});
                Ok(listener::json(200, answer.to_string()))
            }
            _ => Err(unknown("there is no such call; see docs/stand-ins.md")),
        }
    }

    fn create_wanted(self: &Arc<Self>, request: &Request) -> Answered {
        let wanted: Wanted = serde_json::from_slice(&request.bytes()).map_err(wrong)?;
        let drawn = match wanted.picture {
            Some(text) => Bytes::from(STANDARD.decode(text).map_err(wrong)?),
            None => picture(384, 384, |_, _| [201, 214, 223]).map_err(wrong)?,
        };
        let usual = NewTask::default();
        let id = self.create_task(NewTask {
            id: wanted.id,
            name: wanted.name.unwrap_or(usual.name),
            text: wanted.text,
            status: wanted.status.unwrap_or(usual.status),
            list_id: wanted.list_id.unwrap_or_else(|| LIST.to_owned()),
            picture: Some(drawn),
            attachments: Vec::new(),
            custom_fields: Vec::new(),
        });
        Ok(listener::json(200, json!({"id": id}).to_string()))
    }

    /// The tasks, the oldest first, with the titles of their attachments.
    fn overview(&self) -> Value {
        let shown = |task: &Task| {
            let titles: Vec<&str> =
                task.attachments.iter().map(|attached| attached.file.title.as_str()).collect();
            let comments: Vec<&str> =
                task.comments.iter().map(|comment| comment.text.as_str()).collect();
            json!({
                "id": task.id, "name": task.name, "status": task.status, "deleted": task.deleted,
                "attachments": titles, "comments": comments,
            })
        };
        let board = lock(&self.board);
        let tasks: Vec<Value> = board.tasks().map(shown).collect();
        json!({"tasks": tasks})
    }
}
