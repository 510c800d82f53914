//! What the path and the query of a request name, checked before anything else sees it.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::App;
use super::error::Problem;
use crate::runtime::Workflow;
use crate::workflow::{ModelName, WorkflowName};

/// The captures of a path; a refusal is a problem.
#[derive(Debug)]
pub struct PathOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(captures)) => Ok(Self(captures)),
            Err(_) => Err(Problem::invalid_name(
                "nothing was done: the path must be UTF-8, percent-encoded, with whole numbers where versions and cycles stand",
            )),
        }
    }
}

/// The query of a request; a refusal is a problem.
#[derive(Debug)]
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(refused) => {
                let why: String = refused.body_text().chars().take(300).collect();
                Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_query",
                    format!("nothing was done: {why}"),
                ))
            }
        }
    }
}

/// Refuses a text of the query that no database text can equal.
///
/// # Errors
/// `invalid_query`
pub fn without_nul(field: &str, text: Option<&str>) -> Result<(), Problem> {
    if text.is_some_and(|text| text.contains('\0')) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!(
                "nothing was done: `{field}` holds the character U+0000, which nothing is named with"
            ),
        ));
    }
    Ok(())
}

impl App {
    /// The workflow of that name.
    ///
    /// # Errors
    /// `invalid_name` for what no workflow can be named, `unknown_workflow` with the names there are.
    pub(super) fn workflow(&self, name: &str) -> Result<Workflow, Problem> {
        if let Some(workflow) = self.engine.registry.find(name) {
            tracing::Span::current().record("workflow.name", workflow.name());
            return Ok(workflow);
        }
        WorkflowName::new(name)?;
        let known = self.engine.registry.all();
        let known = known.iter().map(|workflow| workflow.name().to_owned()).collect();
        Err(Problem::unknown_workflow(name, known))
    }
}

/// Refuses a model that the workflow does not know.
///
/// # Errors
/// `invalid_name` for what no model can be named, `unknown_model` with the names there are.
pub fn check_model(workflow: &Workflow, model: &str) -> Result<(), Problem> {
    if workflow.knows(model) {
        return Ok(());
    }
    ModelName::new(model)?;
    let known = workflow.models().map(str::to_owned).collect();
    Err(Problem::unknown_model(workflow.name(), model, known))
}
