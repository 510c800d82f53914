//! Webhook deliveries: signed, tried up to five times, and counted against the webhook when they fail.

use std::sync::Arc;

use axum::body::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::events::Event;
use super::hooks::Hook;
use super::{Site, lock};
use crate::orchestrator::service::Service;
use crate::stand_in::fault::{Delivery, Fault};
use crate::stand_in::script::{DELIVER, Seen};

const ATTEMPTS_MAX: u32 = 5;

/// A delivery that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The event, such as `taskCreated`.
    pub event: String,
    /// The task that it is about.
    pub task_id: String,
    /// How often it was sent.
    pub attempts: u32,
    /// The last answer's status; none when there was no answer.
    pub status: Option<u16>,
}

impl Delivered {
    /// Whether the endpoint took it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// The header `X-Signature`: HMAC-SHA-256 over the raw body, in lower-case hexadecimal.
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    hmac.update(body);
    hex::encode(hmac.finalize().into_bytes())
}

impl Site {
    /// Delivers events to every webhook that wants them, each on its own.
    pub(super) fn tell(self: &Arc<Self>, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let hooks: Vec<Hook> = lock(&self.board)
                .hooks()
                .iter()
                .filter(|hook| hook.wants(event.name, &event.list_id))
                .cloned()
                .collect();
            for hook in hooks {
                self.under_way.spawn(Arc::clone(self).deliver(hook, event.clone()));
            }
        }
    }

    async fn deliver(self: Arc<Self>, hook: Hook, event: Event) {
        let body = event.body(&hook.id);
        let fault = self.script.meet(Seen {
            service: Service::ClickUp,
            method: DELIVER.to_owned(),
            path: event.name.to_owned(),
            body: Bytes::from(body.clone()),
        });
        let right = signature(&self.settings.webhook_secret, body.as_bytes());
        let (signed, times) = match fault {
            Fault::Delivery(Delivery::Twice) => (Some(right), 2),
            Fault::Delivery(Delivery::BadSignature) => {
                (Some(signature("wrong", body.as_bytes())), 1)
            }
            Fault::Delivery(Delivery::NoSignature) => (None, 1),
            Fault::Slow(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => (Some(right), 1),
                    () = self.stopping.cancelled() => return,
                }
            }
            Fault::Pass => (Some(right), 1),
            // Whatever else stands there, nothing arrives.
            _ => return,
        };
        for _ in 0..times {
            tokio::select! {
                () = self.attempt(&hook, &event, &body, signed.as_deref()) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Sends until it is taken, the webhook is suspended, or it has been sent five times.
    async fn attempt(&self, hook: &Hook, event: &Event, body: &str, signed: Option<&str>) {
        let mut delivered = Delivered {
            event: event.name.to_owned(),
            task_id: event.task_id.clone(),
            attempts: 0,
            status: None,
        };
        while delivered.attempts < ATTEMPTS_MAX {
            if delivered.attempts > 0 {
                tokio::time::sleep(self.settings.delivery_pause).await;
            }
            delivered.attempts = delivered.attempts.saturating_add(1);
            let mut request =
                self.http.post(&hook.endpoint).header("content-type", "application/json");
            if let Some(signature) = signed {
                request = request.header("x-signature", signature);
            }
            let answer = request.body(body.to_owned()).send().await;
            delivered.status = answer.ok().map(|answer| answer.status().as_u16());
            if delivered.is_taken() || matches!(delivered.status, Some(401 | 410)) {
                break;
            }
        }
        if !delivered.is_taken()
            && let Some(hook) = lock(&self.board).hook(&hook.id)
        {
            hook.fail(delivered.status);
        }
        lock(&self.delivered).push(delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vector_is_met() {
        let body = r##"{"event":"taskStatusUpdated","history_items":[{"id":"2800787326392370170","type":1,"date":"1642736194135","field":"status","parent_id":"162641062","data":{"status_type":"custom"},"source":null,"user":{"id":183,"username":"John","email":"john@example.com","color":"#7b68ee","initials":"J","profilePicture":null},"before":{"status":"to do","color":"#f9d900","orderindex":0,"type":"open"},"after":{"status":"ready for edit","color":"#7C4DFF","orderindex":1,"type":"custom"}}],"task_id":"1vj38vv","webhook_id":"7fa3ec74-69a8-4530-a251-8a13730bd204"}"##;
        assert_eq!(
            signature(
                "O94IM25S7PXBPYTMNXLLET230SRP0S89COR7B1YOJ2ZIE8WQNK5UUKEF26W0Z5GA",
                body.as_bytes()
            ),
            "5207b704de52365db29431cdf3cc598ff1f5ebe2ceae7db735e9a1bc5f14f019"
        );
    }
}
