//! `POST /webhooks/clickup`: what ClickUp sends by itself, checked, put on record, and answered at once.
//!
//! The signature is the key here: ClickUp knows no other, and comes from another host. So the route stands outside
//! the gate that asks for bearer keys and, on an open server, for this machine's own names. It never answers 401 or
//! 410, at which ClickUp suspends a webhook without a word.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Serialize;
use utoipa::ToSchema;

use super::clickup::webhook::{parse, signature_is_valid};
use super::clickup::{Delivery, Event};
use super::definition::PipelineKeys;
use super::pipeline::Pipeline;
use super::reading::NO_PICTURE;
use crate::http::{Described, Problem, Route, gives, read_body};
use crate::settings::Secret;
use crate::store::pipeline::deliveries::{Follows, NewDelivery, accept};

/// The route.
pub const PATH: &str = "/webhooks/clickup";
/// The largest delivery, in bytes.
const DELIVERY_BYTES_MAX: usize = 1 << 20;

/// What the route works with.
#[derive(Clone)]
struct Hook {
    pipeline: Arc<Pipeline>,
    secret: Secret,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Received {
    /// `job`, `open`, `feedback`, `ignored` or `duplicate`.
    pub result: &'static str,
}

/// The route, for the router of the server that this pipeline runs in.
pub fn route(pipeline: Arc<Pipeline>, secret: Secret) -> Route {
    described().by(post(receive).with_state(Hook { pipeline, secret }))
}

/// What the route says of itself.
#[must_use]
pub fn described() -> Described {
    let answer = gives::<Received>("What became of the delivery, which is committed");
    let summary = "Takes a delivery of ClickUp's, by its signature; never answers 401 or 410";
    Described::new("post", PATH, "receive_clickup", summary, answer)
        .in_group("webhooks")
        .taking_any("A delivery, signed in `X-Signature`", &[403, 408, 413, 415, 422])
}

/// Takes a delivery. It is committed when this answers 200; any other answer makes ClickUp send it again.
async fn receive(
    State(hook): State<Hook>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Received>, Problem> {
    let bytes = read_body(&headers, body, DELIVERY_BYTES_MAX).await?;
    let signature = headers.get("x-signature").and_then(|value| value.to_str().ok());
    if !signature_is_valid(hook.secret.expose(), &bytes, signature) {
        tracing::warn!(
            delivery.bytes = bytes.len(),
            delivery.signed = signature.is_some(),
            "a delivery without a valid signature was refused"
        );
        return Err(bad_signature());
    }
    let delivery = parse(&bytes).map_err(|bad| {
        tracing::warn!(delivery.bytes = bytes.len(), code = bad.code(), problem = %bad,
            "a signed delivery cannot be read and was refused");
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            bad.code(),
            format!("nothing was stored: {bad}"),
        )
    })?;
    let pipeline = &hook.pipeline;
    let accepted = accept(
        pipeline.engine.store.pool(),
        pipeline.workflow.workflow_id,
        NewDelivery {
            dedupe_key: &delivery.dedupe_key,
            event: delivery.event.name(),
            task_id: &delivery.task_id,
        },
        what_follows(&delivery, &pipeline.definition.keys),
        pipeline.engine.now(),
    )
    .await?;
    pipeline.wake.notify_one();
    tracing::info!(
        task.id = delivery.task_id,
        delivery.event = delivery.event.name(),
        delivery.result = accepted.name(),
        "a delivery was received"
    );
    Ok(Json(Received { result: accepted.name() }))
}

fn bad_signature() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "bad_signature",
        "nothing was stored: X-Signature must be the HMAC-SHA256 of the body under the webhook's secret, in hex; see that CLICKUP_WEBHOOK_SECRET is the one that `mathesis orchestrate register` printed. The action \"Call webhook\" of ClickUp's automations signs nothing and cannot be used here",
    )
}

/// What a delivery asks for. One that says that the task has another status than the ready one asks for nothing: most of
/// them are about what a run itself has just done.
fn what_follows(delivery: &Delivery, keys: &PipelineKeys) -> Follows {
    match delivery.event {
        Event::TaskDeleted => Follows::Deleted,
        Event::TaskCreated | Event::TaskUpdated | Event::TaskStatusUpdated => {
            let elsewhere = delivery.status_after.as_ref().is_some_and(|s| !keys.is_ready(s));
            if elsewhere { Follows::Nothing } else { Follows::Job { wakes: NO_PICTURE } }
        }
        _ => Follows::Nothing,
    }
}
