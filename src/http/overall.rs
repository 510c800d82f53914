//! What operators do to all workflows at once.

use axum::extract::State;
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::auth::Caller;
use super::body::JsonBody;
use super::error::Problem;
use super::operations::check_reason;
use crate::runtime::{AllOf, Operation, Operator, SwitchedAll, on_every_cycle, switch_automation};
use crate::store::automation::{self, Switch};

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SaidToAll)]
pub(super) struct Why {
    reason: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SwitchWanted)]
pub(super) struct Wish {
    enabled: bool,
    reason: Option<String>,
}

/// What became of every workflow's open cycle.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DoneToAll)]
pub(super) struct All {
    workflows: Vec<AllOf>,
}

/// `GET /v1/automation`
///
/// # Errors
/// A problem when the database is away.
pub async fn switch(State(app): State<App>) -> Result<Json<Switch>, Problem> {
    Ok(Json(automation::read(app.engine.store.pool()).await?))
}

/// `POST /v1/automation`
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub async fn move_switch(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    JsonBody(wish): JsonBody<Wish>,
) -> Result<Json<SwitchedAll>, Problem> {
    check_reason(wish.reason.as_deref())?;
    let operator = Operator { name: &caller.name, reason: wish.reason.as_deref(), cycle: None };
    let switched = switch_automation(&app.engine, wish.enabled, operator).await?;
    tracing::info!(operator.name = caller.name, "an operator moved the switch: {}", switched.said);
    Ok(Json(switched))
}

/// `POST /v1/cycles/pause` and `/resume`
pub fn on_all(operation: Operation) -> MethodRouter<App> {
    post(
        async move |State(app): State<App>,
                    Extension(caller): Extension<Caller>,
                    JsonBody(why): JsonBody<Why>| {
            check_reason(why.reason.as_deref())?;
            let operator =
                Operator { name: &caller.name, reason: why.reason.as_deref(), cycle: None };
            let workflows = on_every_cycle(&app.engine, &operation, operator).await?;
            Ok::<_, Problem>(Json(All { workflows }))
        },
    )
}
