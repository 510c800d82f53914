//! Webhooks: registered, listed, changed and removed over the API.

use axum::http::Method;
use serde_json::{Value, json};

use super::api::{parsed, refused};
use super::{Site, TEAM, lock};
use crate::stand_in::documented::Documented;
use crate::stand_in::listener::{self, Answered, Refused, Request};

/// Failed deliveries after which a webhook is suspended.
const FAILURES_MAX: u32 = 100;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) id: String,
    pub(super) endpoint: String,
    /// The events that it wants; `*` for all.
    pub(super) events: Vec<String>,
    pub(super) list_id: Option<String>,
    pub(super) failures: u32,
    pub(super) suspended: bool,
}

impl Hook {
    pub(super) fn new(
        id: String,
        endpoint: &str,
        events: Vec<String>,
        list_id: Option<String>,
    ) -> Self {
        let endpoint = endpoint.to_owned();
        Self { id, endpoint, events, list_id, failures: 0, suspended: false }
    }

    /// Whether it is told of such an event.
    pub(super) fn wants(&self, event: &str, list_id: &str) -> bool {
        !self.suspended
            && self.events.iter().any(|wanted| wanted == "*" || wanted == event)
            && self.list_id.as_deref().is_none_or(|list| list == list_id)
    }

    /// Counts a delivery that failed, and suspends the webhook where ClickUp does.
    pub(super) fn fail(&mut self, last_status: Option<u16>) {
        self.failures = self.failures.saturating_add(1);
        self.suspended |= self.failures >= FAILURES_MAX || matches!(last_status, Some(401 | 410));
    }

    fn shown(&self, secret: &str) -> Value {
        // Numbers here, texts elsewhere, as the API has it.
        let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text), Value::from);
        json!({
            "id": self.id, "userid": 183, "team_id": number(TEAM), "endpoint": self.endpoint,
            "client_id": "QVOQP06ZXC6CMGVFKB0ZT7J9Y7APOYGO", "events": self.events, "task_id": null,
            "list_id": self.list_id.as_deref().map(number), "folder_id": null, "space_id": null,
            "health": {
                "status": if self.suspended { "suspended" } else { "active" },
                "fail_count": self.failures,
            },
            "secret": secret,
        })
    }
}

impl Site {
    /// `/team/{team}/webhook`.
    pub(super) fn team_webhooks(&self, request: &Request, team: &str) -> Answered {
        if team != TEAM {
            return Err(refused(Documented::ClickupTeamNotAuthorized));
        }
        let secret = &self.settings.webhook_secret;
        if request.head.method == Method::GET {
            let board = lock(&self.board);
            let hooks: Vec<Value> = board.hooks().iter().map(|hook| hook.shown(secret)).collect();
            return Ok(listener::json(200, json!({"webhooks": hooks}).to_string()));
        }
        let asked = parsed(request)?;
        let endpoint = asked["endpoint"].as_str().filter(|url| url.starts_with("http"));
        let endpoint = endpoint.ok_or_else(|| refused(Documented::ClickupBadRequest))?;
        let list_id = match &asked["list_id"] {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let hook = lock(&self.board).add_hook(endpoint, events(&asked)?, list_id);
        let answer = json!({"id": hook.id, "webhook": hook.shown(secret)});
        Ok(listener::json(200, answer.to_string()))
    }

    /// `/webhook/{id}`.
    pub(super) fn webhook(&self, request: &Request, id: &str) -> Answered {
        let not_found = || {
            let body = r#"{"err":"Webhook not found","ECODE":"WBHK_001"}"#;
            Refused::from(listener::json(404, body))
        };
        if request.head.method == Method::DELETE {
            let removed = lock(&self.board).remove_hook(id);
            return if removed { Ok(listener::json(200, "{}")) } else { Err(not_found()) };
        }
        let asked = parsed(request)?;
        let mut board = lock(&self.board);
        let hook = board.hook(id).ok_or_else(not_found)?;
        if let Some(endpoint) = asked["endpoint"].as_str() {
            endpoint.clone_into(&mut hook.endpoint);
        }
        if !asked["events"].is_null() {
            hook.events = events(&asked)?;
        }
        if asked["status"] == "active" {
            (hook.suspended, hook.failures) = (false, 0);
        }
        let answer = json!({"id": id, "webhook": hook.shown(&self.settings.webhook_secret)});
        Ok(listener::json(200, answer.to_string()))
    }
}

/// The events of a registration: names, or `*`, alone or in a list.
fn events(asked: &Value) -> Result<Vec<String>, Refused> {
    let events: Option<Vec<String>> = match &asked["events"] {
        Value::String(all) => Some(vec![all.clone()]),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    events.filter(|events| !events.is_empty()).ok_or_else(|| refused(Documented::ClickupBadRequest))
}
