//! `…/versions/{n}/blame` and `…/tasks/{task}/why`: where a section, or a picture, comes from.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Problem;
use super::path::{PathOf, QueryOf, check_model, without_nul};
use crate::runtime::blame::{self, BlameError, VersionBlame, Why};

/// Which picture of a task is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// The run, where a task is run more than once.
    pub(super) run: Option<String>,
    /// The model whose picture is meant; the chosen one where it is left out.
    pub(super) model: Option<String>,
}

/// `GET …/models/{model}/versions/{n}/blame`
///
/// # Errors
/// A problem when there is no such version or the database is away.
pub async fn version(
    State(app): State<App>,
    PathOf((workflow, model, number)): PathOf<(String, String, i32)>,
) -> Result<Json<VersionBlame>, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    let store = &app.engine.store;
    let found = blame::version_blame(store, workflow.workflow_id, &model, Some(number)).await?;
    Ok(Json(found))
}

/// `GET …/tasks/{task}/why?run=&model=`: of the picture that was chosen, or of the model's.
///
/// # Errors
/// A problem when there is no such task or picture, or the database is away.
pub async fn task(
    State(app): State<App>,
    PathOf((workflow, task)): PathOf<(String, String)>,
    QueryOf(picture): QueryOf<Picture>,
) -> Result<Json<Why>, Problem> {
    let workflow = app.workflow(&workflow)?;
    if let Some(model) = &picture.model {
        check_model(&workflow, model)?;
    }
    let (run, model) = (picture.run.as_deref(), picture.model.as_deref());
    refuse_nul(&task, run)?;
    let store = &app.engine.store;
    Ok(Json(blame::why(store, workflow.workflow_id, &task, run, model).await?))
}

/// Refuses a task or a run that no row can be named.
///
/// # Errors
/// `invalid_name` for the task of the path, `invalid_query` for the run.
pub(super) fn refuse_nul(task: &str, run: Option<&str>) -> Result<(), Problem> {
    if task.contains('\0') {
        return Err(Problem::invalid_name("nothing was done: a task's name holds no NUL"));
    }
    without_nul("run", run)
}

impl From<BlameError> for Problem {
    fn from(error: BlameError) -> Self {
        let status = match &error {
            BlameError::Store(_) => {
                let BlameError::Store(store) = error else { return Self::internal() };
                return store.into();
            }
            BlameError::NoWinner { .. } | BlameError::NoVersion { .. } => StatusCode::CONFLICT,
            _ => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.code(), error.to_string())
    }
}
