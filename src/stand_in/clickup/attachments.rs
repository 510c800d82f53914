//! Attachments: uploads as multipart, downloads at addresses that can end.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, Multipart};
use serde_json::{Value, json};

use super::api::refused;
use super::{AttachedFile, Site, lock};
use crate::stand_in::documented::Documented;
use crate::stand_in::listener::{self, Answered, Refused, Request};

impl Site {
    /// `POST /task/{id}/attachment`.
    pub(super) async fn attach(self: &Arc<Self>, request: &Request, id: &str) -> Answered {
        let no_task = || refused(Documented::ClickupTaskNotFound);
        if lock(&self.board).open_task(id).is_none() {
            return Err(no_task());
        }
        let file = sent(request).await.ok_or_else(|| refused(Documented::ClickupBadRequest))?;
        let title = file.title.clone();
        let answer = {
            let mut board = lock(&self.board);
            let attached = board.attachment(file, self.settings.clock.now());
            let task = board.open_task(id).ok_or_else(no_task)?;
            task.attachments.push(attached.clone());
            self.attachment_uploaded(&attached, board.addresses())
        };
        let after = json!([{"id": answer["id"], "title": title}]);
        self.tell_update(id, "attachments", after);
        Ok(listener::json(200, answer.to_string()))
    }

    /// `GET /attachments/{id}?sig=…`, which needs no token.
    pub(super) fn download(&self, request: &Request, id: &str) -> Answered {
        let denied = || {
            let body = "<Error><Code>AccessDenied</Code></Error>";
            Refused::from(listener::answer(403, "application/xml", body))
        };
        let board = lock(&self.board);
        if request.query("sig") != [board.addresses().to_string()] {
            return Err(denied());
        }
        let found = board
            .tasks()
            .flat_map(|task| &task.attachments)
            .find(|attached| attached.id == id)
            .ok_or_else(denied)?;
        Ok(listener::answer(200, &found.file.media_type, found.file.bytes.clone()))
    }

    /// `GET /list/{id}/field`.
    pub(super) fn fields(&self) -> Value {
        json!({"fields": [
            {"id": "ebc14f5d-9159-4cab-a3e1-f74fe47fc449", "name": "AI Edit", "type": "checkbox",
             "type_config": {}, "date_created": "1757042939899", "hide_from_guests": false,
             "required": false},
        ]})
    }
}

/// The file of an upload: the first part named `attachment`, or `attachment[0]` as the documentation has it.
async fn sent(request: &Request) -> Option<AttachedFile> {
    let mut whole = axum::http::Request::new(axum::body::Body::from(request.bytes()));
    *whole.headers_mut() = request.head.headers.clone();
    DefaultBodyLimit::disable().apply(&mut whole);
    let mut parts = Multipart::from_request(whole, &()).await.ok()?;
    while let Some(part) = parts.next_field().await.ok()? {
        if !matches!(part.name(), Some("attachment" | "attachment[0]")) {
            continue;
        }
        let title = part.file_name()?.to_owned();
        let media_type = part.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = part.bytes().await.ok()?;
        return Some(AttachedFile { title, media_type, bytes });
    }
    None
}
