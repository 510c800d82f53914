//! What operators do to cycles, to versions and to the whole workflow; who and why are kept.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

use super::App;
use super::auth::Caller;
use super::body::JsonBody;
use super::cycles::existing;
use super::error::Problem;
use super::path::{PathOf, check_model};
use crate::runtime::{Operation, Operator, Performed, Workflow};

const REASON_CHARS_MAX: usize = 2_000;

/// What an operator says about an operation on a cycle.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SaidOfCycle)]
pub(super) struct Said {
    reason: Option<String>,
    models: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackTo {
    to: i32,
    reason: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AutomationWanted)]
pub(super) struct Automation {
    enabled: bool,
    reason: Option<String>,
}

/// The operations on a cycle, by the last segment of their paths.
pub const CYCLE_OPERATIONS: [(&str, Operation); 7] = [
    ("pause", Operation::Pause),
    ("resume", Operation::Resume),
    ("cancel", Operation::Cancel),
    ("approve", Operation::Approve { models: Vec::new() }),
    ("refuse", Operation::Refuse { models: Vec::new() }),
    ("retry", Operation::Retry),
    ("step", Operation::Step),
];

/// `POST …/cycles/{n}/<operation>`
pub fn on_cycle(operation: Operation) -> MethodRouter<App> {
    post(
        async move |State(app): State<App>,
                    PathOf((workflow, number)): PathOf<(String, i64)>,
                    Extension(caller): Extension<Caller>,
                    JsonBody(said): JsonBody<Said>| {
            let workflow = existing(&app, &workflow, number).await?;
            let operation = with_models(&workflow, operation, said.models)?;
            perform(&app, &workflow, &operation, &caller, said.reason.as_deref(), Some(number))
                .await
        },
    )
}

fn with_models(
    workflow: &Workflow,
    operation: Operation,
    models: Option<Vec<String>>,
) -> Result<Operation, Problem> {
    match (operation, models) {
        (operation @ (Operation::Approve { .. } | Operation::Refuse { .. }), Some(models)) => {
            for model in &models {
                check_model(workflow, model)?;
            }
            Ok(match operation {
                Operation::Approve { .. } => Operation::Approve { models },
                _ => Operation::Refuse { models },
            })
        }
        (_, Some(_)) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_body",
            "nothing was changed: `models` belongs to `approve` and `refuse` only",
        )),
        (operation, None) => Ok(operation),
    }
}

/// `POST …/models/{model}/rollback`
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub async fn rollback(
    State(app): State<App>,
    PathOf((workflow, model)): PathOf<(String, String)>,
    Extension(caller): Extension<Caller>,
    JsonBody(wish): JsonBody<RollbackTo>,
) -> Result<Json<Performed>, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    let operation = Operation::Rollback { model, to: wish.to };
    perform(&app, &workflow, &operation, &caller, wish.reason.as_deref(), None).await
}

/// `POST …/automation`
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub async fn automation(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    Extension(caller): Extension<Caller>,
    JsonBody(wish): JsonBody<Automation>,
) -> Result<Json<Performed>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let operation = Operation::Automation { enabled: wish.enabled };
    perform(&app, &workflow, &operation, &caller, wish.reason.as_deref(), None).await
}

/// Carries an operation out for a caller.
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub(super) async fn perform(
    app: &App,
    workflow: &Workflow,
    operation: &Operation,
    caller: &Caller,
    reason: Option<&str>,
    cycle: Option<i64>,
) -> Result<Json<Performed>, Problem> {
    check_reason(reason)?;
    let operator = Operator { name: &caller.name, reason, cycle };
    let performed = operation.perform(&app.engine, workflow.workflow_id, operator).await?;
    tracing::info!(
        workflow = workflow.name(),
        cycle.number = performed.cycle,
        operator.name = caller.name,
        "an operator's call was carried out: {}",
        performed.said
    );
    Ok(Json(performed))
}

/// Refuses a reason that cannot be kept.
///
/// # Errors
/// A problem; nothing was changed.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), Problem> {
    let unusable =
        |reason: &str| reason.contains('\0') || reason.chars().count() > REASON_CHARS_MAX;
    if reason.is_some_and(unusable) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_reason",
            format!(
                "nothing was changed: `reason` holds at most {REASON_CHARS_MAX} characters and no NUL"
            ),
        ));
    }
    Ok(())
}
