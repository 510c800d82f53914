//! `DELETE …/tasks/{task}`: one task is forgotten, on an operator's word.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::auth::Caller;
use super::body::JsonBody;
use super::error::Problem;
use super::operations::check_reason;
use super::path::{PathOf, QueryOf};
use crate::runtime::{ForgetError, ForgottenTask, Operator, forget_task};

/// Which run is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// One run; every run where it is left out.
    run: Option<String>,
}

/// What an operator says about it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SaidOfTask)]
pub struct Said {
    reason: String,
}

/// Forgets a task, or one run of it. Twice is as good as once.
///
/// # Errors
/// `unknown_task`, `task_in_use` with when it will be possible, or `invalid_reason`; nothing was changed then.
pub async fn forget(
    State(app): State<App>,
    PathOf((workflow, task)): PathOf<(String, String)>,
    QueryOf(which): QueryOf<Which>,
    Extension(caller): Extension<Caller>,
    JsonBody(said): JsonBody<Said>,
) -> Result<Json<ForgottenTask>, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_reason(Some(&said.reason))?;
    if said.reason.trim().is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_reason",
            "nothing was changed: `reason` says why the task is to be forgotten, for the audit trail",
        ));
    }
    let names = [Some(&task), which.run.as_ref()];
    if names.into_iter().flatten().any(|name| name.contains('\0')) {
        return Err(Problem::invalid_name("nothing was changed: a task's name holds no NUL"));
    }
    let operator = Operator { name: &caller.name, reason: Some(&said.reason), cycle: None };
    let done = forget_task(&app.engine, &workflow, &task, which.run.as_deref(), operator).await?;
    Ok(Json(done))
}

impl From<ForgetError> for Problem {
    fn from(error: ForgetError) -> Self {
        let said = format!("nothing was changed: {error}");
        match error {
            ForgetError::Store(cause) => cause.into(),
            ForgetError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "unknown_task", said),
            ForgetError::InUse(_) => Self::new(StatusCode::CONFLICT, "task_in_use", said),
        }
    }
}
