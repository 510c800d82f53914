//! The calls of ClickUp.

use std::io;
use std::sync::Arc;

use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Site, lock};
use crate::orchestrator::service::Service;
use crate::stand_in::documented::Documented;
use crate::stand_in::fault::Fault;
use crate::stand_in::listener::{self, Answered, Answers, Refused, Request, set_header};

/// Tasks that one page of a list shows.
const PAGE: usize = 100;

pub(super) struct Api(pub(super) Arc<Site>);

impl Answers for Api {
    const SERVICE: Service = Service::ClickUp;
    const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

    fn answer<'a>(
        &'a self,
        request: &'a Request,
        _: &'a Fault,
    ) -> BoxFuture<'a, io::Result<Response>> {
        async move { Ok(self.0.route(request).await.unwrap_or_else(Refused::response)) }.boxed()
    }

    fn dress(&self, request: &Request, response: &mut Response) {
        if !request.path().starts_with("/api/") || response.headers().contains_key(RESET) {
            return;
        }
        let limit = self.0.settings.requests_per_minute;
        let standing = lock(&self.0.rate).standing(limit);
        if response.status() == 429 {
            // The script's own: whoever honours it waits a second, and not for the minute's end.
            let reset = self.0.settings.clock.now().timestamp().saturating_add(1);
            limit_headers(response, limit, 0, reset);
        } else {
            limit_headers(response, limit, standing.remaining, standing.reset);
        }
    }
}

const RESET: &str = "x-ratelimit-reset";

fn limit_headers(response: &mut Response, limit: u32, remaining: u32, reset: i64) {
    set_header(response, "x-ratelimit-limit", &limit.to_string());
    set_header(response, "x-ratelimit-remaining", &remaining.to_string());
    set_header(response, RESET, &reset.to_string());
}

/// A refusal in the documented form.
pub(super) fn refused(error: Documented) -> Refused {
    listener::json(error.status(), error.body()).into()
}

/// The body of a call.
pub(super) fn parsed(request: &Request) -> Result<Value, Refused> {
    serde_json::from_slice(&request.bytes()).map_err(|_| refused(Documented::ClickupBadRequest))
}

impl Site {
    async fn route(self: &Arc<Self>, request: &Request) -> Answered {
        let path = request.path();
        if let Some(id) = path.strip_prefix("/attachments/") {
            return self.download(request, id);
        }
        if let Some(control) = path.strip_prefix(listener::CONTROL) {
            return self.control(request, control);
        }
        let limit = self.settings.requests_per_minute;
        let standing = lock(&self.rate).count(self.settings.clock.now(), limit);
        if standing.is_over {
            let mut response = refused(Documented::ClickupRateLimited).response();
            limit_headers(&mut response, limit, 0, standing.reset);
            return Err(response.into());
        }
        // A personal token stands alone, one of an application behind `Bearer`.
        let token = request.header("authorization");
        if token.strip_prefix("Bearer ").unwrap_or(token) != self.settings.token {
            return Err(refused(Documented::ClickupTokenInvalid));
        }
        let Some(call) = path.strip_prefix("/api/v2/") else {
            return Err(listener::html(404).into());
        };
        let parts: Vec<&str> = call.split('/').collect();
        let method = request.head.method.as_str();
        match (method, parts.as_slice()) {
            ("GET", ["task", id]) => self.task(request, id),
            ("PUT", ["task", id]) => self.change_task(request, id),
            ("DELETE", ["task", id]) => match self.delete_task(id) {
                true => Ok(listener::answer(204, "application/json", "")),
                false => Err(refused(Documented::ClickupTaskNotFound)),
            },
            ("POST", ["task", id, "attachment"]) => self.attach(request, id).await,
            ("GET" | "POST", ["task", id, "comment"]) => self.comment(request, id),
            ("POST", ["task", id, "field", field]) => self.set_field(request, id, field),
            ("GET", ["list", id, "task"]) => Ok(self.list(request, id)),
            ("GET", ["list", _, "field"]) => Ok(listener::json(200, self.fields().to_string())),
            ("GET" | "POST", ["team", team, "webhook"]) => self.team_webhooks(request, team),
            ("PUT" | "DELETE", ["webhook", id]) => self.webhook(request, id),
            // A wrong method, too, is answered with a page.
            _ => Err(listener::html(404).into()),
        }
    }

    fn task(&self, request: &Request, id: &str) -> Answered {
        let mut board = lock(&self.board);
        let addresses = board.addresses();
        let task = board.open_task(id).ok_or_else(|| refused(Documented::ClickupTaskNotFound))?;
        let mut shown = self.task_shown(task, addresses, false);
        if request.query("include_markdown_description") == ["true"] {
            shown["markdown_description"] = json!(task.text);
        }
        Ok(listener::json(200, shown.to_string()))
    }

    fn change_task(self: &Arc<Self>, request: &Request, id: &str) -> Answered {
        let asked = parsed(request)?;
        if let Some(status) = asked["status"].as_str() {
            self.set_status(id, status).map_err(refused)?;
        }
        for (field, content) in [("name", "name"), ("description", "content")] {
            let Some(text) = asked[field].as_str() else { continue };
            if let Some(task) = lock(&self.board).open_task(id) {
                let place = if field == "name" { &mut task.name } else { &mut task.text };
                text.clone_into(place);
            }
            self.tell_update(id, content, json!(text));
        }
        self.task(request, id)
    }

    fn set_field(self: &Arc<Self>, request: &Request, id: &str, field: &str) -> Answered {
        let asked = parsed(request)?;
        {
            let mut board = lock(&self.board);
            let task = board.open_task(id);
            let task = task.ok_or_else(|| refused(Documented::ClickupTaskNotFound))?;
            let place = task.custom_fields.iter_mut().find(|known| known["id"] == field);
            let place = place.ok_or_else(|| refused(Documented::ClickupBadRequest))?;
            place["value"] = asked["value"].clone();
        }
        self.tell_update(id, "custom_field", asked["value"].clone());
        Ok(listener::json(200, "{}"))
    }

    /// A page of a list's tasks, the newest first, without their attachments.
    fn list(&self, request: &Request, list: &str) -> Response {
        let statuses: Vec<String> =
            request.query("statuses[]").iter().map(|status| status.to_lowercase()).collect();
        let page = request.query("page").first().and_then(|page| page.parse().ok()).unwrap_or(0);
        let board = lock(&self.board);
        let mut found: Vec<_> = board
            .tasks()
            .filter(|task| !task.deleted && task.list_id == list)
            .filter(|task| statuses.is_empty() || statuses.contains(&task.status.to_lowercase()))
            .collect();
        found.reverse();
        let from = PAGE.saturating_mul(page);
        let tasks: Vec<Value> = found
            .iter()
            .skip(from)
            .take(PAGE)
            .map(|task| self.task_shown(task, board.addresses(), true))
            .collect();
        let last_page = from.saturating_add(PAGE) >= found.len();
        listener::json(200, json!({"tasks": tasks, "last_page": last_page}).to_string())
    }
}
