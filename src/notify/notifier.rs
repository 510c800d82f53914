//! The notifier: takes what is due from the outbox, sends it, and notes what came of it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::TimeDelta;
use futures::future::join_all;
use reqwest::Url;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::message::{Link, Message, Parts};
use super::signature::SigningKey;
use crate::dashboard::{links, pages};
use crate::outbound::{self, exchange, public_client};
use crate::report::markdown;
use crate::runtime::{Engine, Operator, Workflow};
use crate::settings::Secret;
use crate::store::audit::{self, NewEntry, Outcome};
use crate::store::notifications::{self, TEST, Taken};
use crate::store::{StoreError, reports};
use crate::workflow::definition::Notify;

/// How often the outbox is looked at.
const POLL: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// For so long a notification belongs to whoever took it: longer than sending it may take.
const LEASE_SECONDS: i64 = 20;
/// Of an answer no more is read; nothing rests on it but its status.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Sent one after the other to one webhook, before the others have their turn again.
const AT_ONCE_MAX: usize = 20;

/// Looks a secret up by the name of its environment variable.
pub type Secrets = Arc<dyn Fn(&str) -> Option<Secret> + Send + Sync>;

/// Sends what the outbox holds.
#[derive(Clone)]
pub struct Notifier {
    engine: Engine,
    secrets: Secrets,
}

/// What a test of a webhook came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The notification's id.
    pub notification_id: Uuid,
    /// The status of the answer, or why there is none.
    pub outcome: Result<u16, String>,
}

impl Notifier {
    /// A notifier that finds its secrets there.
    #[must_use]
    pub fn new(engine: Engine, secrets: Secrets) -> Self {
        Self { engine, secrets }
    }

    /// Sends until the token is cancelled. What is being sent then is sent again by the next process.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let sent = tokio::select! {
                sent = self.deliver_due() => sent,
                () = stop.cancelled() => break,
            };
            if let Err(error) = sent {
                tracing::warn!(error = %error, "the outbox could not be looked at; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.engine.clock.sleep(POLL) => {}
            }
        }
    }

    /// Sends what is due, each workflow's beside the others'; returns how many were delivered.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; what was sent and not marked is sent again.
    pub async fn deliver_due(&self) -> Result<u32, StoreError> {
        let engine = &self.engine;
        let due = notifications::workflows_due(engine.store.pool(), engine.now()).await?;
        let known = due.into_iter().filter_map(|id| engine.registry.by_id(id));
        let workflows: Vec<Workflow> = known.collect();
        let delivered = join_all(workflows.iter().map(|workflow| self.deliver_of(workflow))).await;
        delivered.into_iter().sum()
    }

    async fn deliver_of(&self, workflow: &Workflow) -> Result<u32, StoreError> {
        let mut delivered = 0;
        for _ in 0..AT_ONCE_MAX {
            let Some(taken) = self.take(workflow, None).await? else { break };
            delivered += u32::from(self.deliver(workflow, &taken).await?.is_ok());
        }
        Ok(delivered)
    }

    async fn take(
        &self,
        workflow: &Workflow,
        named: Option<Uuid>,
    ) -> Result<Option<Taken>, StoreError> {
        let now = self.engine.now();
        let lease_until = now + TimeDelta::seconds(LEASE_SECONDS);
        let pool = self.engine.store.pool();
        notifications::take(pool, workflow.workflow_id, named, now, lease_until).await
    }

    /// Sends one and notes what came of it.
    ///
    /// Crash contract. Before the answer nothing is noted, and the notification is sent again under the same id when its
    /// lease is out. Between the answer and the note the receiver gets it twice; it tells by the id.
    async fn deliver(
        &self,
        workflow: &Workflow,
        taken: &Taken,
    ) -> Result<Result<u16, String>, StoreError> {
        let pool = self.engine.store.pool();
        let outcome = self.send(workflow, taken).await?;
        let now = self.engine.now();
        match &outcome {
            Ok(status) => {
                notifications::delivered(pool, taken, now).await?;
                tracing::info!(
                    workflow.name = workflow.name(),
                    notification.id = %taken.notification_id,
                    notification.kind = taken.kind,
                    status,
                    "a notification was delivered"
                );
            }
            Err(words) => {
                let next = now + delay_before(taken.tries);
                let next = (taken.kind != TEST && next <= taken.give_up_at).then_some(next);
                notifications::failed(pool, taken, words, next, now).await?;
                // Who asked for a test is told.
                if taken.kind != TEST {
                    tracing::warn!(
                        workflow.name = workflow.name(),
                        notification.id = %taken.notification_id,
                        notification.kind = taken.kind,
                        notification.attempts = taken.attempts,
                        again_at = next.map(|at| at.to_rfc3339()),
                        error = words,
                        "a notification was not delivered"
                    );
                }
            }
        }
        Ok(outcome)
    }

    async fn send(
        &self,
        workflow: &Workflow,
        taken: &Taken,
    ) -> Result<Result<u16, String>, StoreError> {
        let notify = &workflow.definition.notify;
        let message = self.message(workflow, taken).await?;
        Ok(self.post(notify, taken.notification_id, &message).await)
    }

    /// Posts a message; the error is in words, without the address or the secret.
    async fn post(&self, notify: &Notify, id: Uuid, message: &Message) -> Result<u16, String> {
        if !notify.is_on() {
            return Err("the workflow has no notify.url any more".to_owned());
        }
        let name = &notify.secret_env;
        let secret = (self.secrets)(name)
            .ok_or_else(|| format!("the environment variable {name} is not set"))?;
        let key = SigningKey::new(&secret)
            .map_err(|bad| format!("the environment variable {name} cannot sign: {bad}"))?;
        let address = Url::parse(&notify.url)
            .map_err(|error| format!("notify.url is no web address: {error}"))?;
        let client = if notify.allow_private {
            outbound::client(&address, CONNECT_TIMEOUT, TIMEOUT)
        } else {
            public_client(&address, CONNECT_TIMEOUT, TIMEOUT)
        }?;
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let (id, timestamp) = (format!("msg_{}", id.simple()), self.engine.now().timestamp());
        let request = client
            .post(address)
            .header("content-type", "application/json")
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", key.sign(&id, timestamp, &body))
            .header("webhook-id", id)
            .body(body);
        let reply = exchange(request, ANSWER_BYTES_MAX).await.map_err(|failure| failure.words)?;
        match reply.status {
            200..=299 => Ok(reply.status),
            300..=399 => {
                Err(format!("it answered {}, and redirects are not followed", reply.status))
            }
            status => Err(format!("it answered {status}")),
        }
    }

    async fn message(&self, workflow: &Workflow, taken: &Taken) -> Result<Message, StoreError> {
        let notify = &workflow.definition.notify;
        let base = notify.dashboard_url.trim_end_matches('/');
        let base = (!base.is_empty()).then_some(base);
        let absolute = |label: String, path: &str| {
            base.map(|base| Link { label, url: format!("{base}{path}") })
        };
        let (mut report, mut shown) = (None, Vec::new());
        if let Some(cycle) = taken.cycle {
            let of = reports::Of {
                workflow_id: workflow.workflow_id,
                workflow: workflow.name(),
                time_zone: workflow.definition.timezone,
                score_max: workflow.definition.score_max,
                now: self.engine.now(),
            };
            let facts = reports::load(self.engine.store.pool(), of, cycle).await?;
            let told = facts.map(|facts| pages::report::of(&facts, notify.language));
            shown.extend(
                told.iter()
                    .flat_map(|told| &told.links)
                    .filter_map(|link| absolute(link.label.clone(), &link.path)),
            );
            report = told.map(|told| markdown(&told, base));
        }
        if shown.is_empty() {
            shown.extend(absolute(workflow.name().to_owned(), &links::workflow(workflow.name())));
        }
        Ok(Message::of(Parts {
            workflow: workflow.name(),
            kind: &taken.kind,
            cycle: taken.cycle,
            subject: &taken.subject,
            said: &taken.said,
            at: taken.created_at,
            language: notify.language,
            report,
            links: shown,
        }))
    }

    /// Sends a test to the workflow's webhook, once and at once, and tells what came of it.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn test(
        &self,
        workflow: &Workflow,
        operator: Operator<'_>,
    ) -> Result<Tested, StoreError> {
        let (engine, workflow_id) = (&self.engine, workflow.workflow_id);
        let said = format!("asked for by {}", operator.name);
        let mut tx = engine.store.pool().begin().await?;
        let now = engine.now();
        let id = notifications::ask_for_test(&mut tx, workflow_id, &said, now).await?;
        record(&mut tx, workflow_id, "notify_test", operator, "a test was sent", now).await?;
        tx.commit().await?;
        let outcome = match self.take(workflow, Some(id)).await? {
            Some(taken) => self.deliver(workflow, &taken).await?,
            // A serving process was quicker.
            None => Err("a serving process sends it; `mathesis notify list` shows what came of it"
                .to_owned()),
        };
        Ok(Tested { notification_id: id, outcome })
    }
}

/// Has notifications sent again: the one that is named, or all that were given up. Returns how many; the next serving
/// process that looks sends them.
///
/// # Errors
/// [`StoreError`] when the database fails; nothing was changed then.
pub async fn send_again(
    engine: &Engine,
    workflow: &Workflow,
    named: Option<Uuid>,
    operator: Operator<'_>,
) -> Result<u64, StoreError> {
    let now = engine.now();
    let mut tx = engine.store.pool().begin().await?;
    let again = notifications::send_again(&mut tx, workflow.workflow_id, named, now).await?;
    let said = match again {
        1 => "1 notification is sent again".to_owned(),
        again => format!("{again} notifications are sent again"),
    };
    record(&mut tx, workflow.workflow_id, "notify_retry", operator, &said, now).await?;
    tx.commit().await?;
    Ok(again)
}

async fn record(
    tx: &mut sqlx::PgConnection,
    workflow_id: i64,
    act: &str,
    operator: Operator<'_>,
    said: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), StoreError> {
    let entry = NewEntry {
        act,
        subject: "",
        cycle: None,
        actor: operator.actor(),
        result: Outcome::Done,
        said,
    };
    audit::record(tx, workflow_id, &entry, now).await
}

/// How long to wait after so many tries: ten seconds, then three times as long each time, four hours at most.
#[must_use]
pub fn delay_before(tries: i32) -> TimeDelta {
    let longest = Duration::from_secs(4 * 60 * 60);
    let mut delays = ExponentialBuilder::new()
        .with_min_delay(Duration::from_secs(10))
        .with_factor(3.0)
        .with_max_delay(longest)
        .without_max_times()
        .build();
    let before = usize::try_from(tries.saturating_sub(1)).unwrap_or(0);
    TimeDelta::from_std(delays.nth(before).unwrap_or(longest)).unwrap_or(TimeDelta::hours(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_four_hours_and_last_three_days() {
        let seconds = |tries| delay_before(tries).num_seconds();
        assert_eq!([1, 2, 3, 4].map(seconds), [10, 30, 90, 270]);
        assert_eq!([8, 9, 1_000].map(seconds), [14_400; 3]);
        let within: i64 = (1..=24).map(seconds).sum();
        assert!(within < 72 * 3600, "so that it is tried some twenty times: {within}");
    }
}
