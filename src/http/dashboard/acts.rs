//! The buttons of the pages: forms that do what the operators' calls under /v1 do.
//!
//! A signed-in browser may act only through these, and only with the token of its session, which no
//! other site can know. Afterwards the browser is sent to a page that shows what came of it.

use axum::Extension;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, post};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use super::answer::{html, viewer};
use crate::dashboard::{links, page};
use crate::http::App;
use crate::http::auth::{Caller, accepts};
use crate::http::cycles::existing;
use crate::http::error::Problem;
use crate::http::operations::perform;
use crate::http::path::{PathOf, check_model};
use crate::runtime::Operation;

/// A form as sent. Which fields matter is the operation's to say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FormOfPage)]
pub struct Said {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    enabled: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    pub(super) way: String,
    #[serde(default)]
    pub(super) seen: String,
}

impl Said {
    pub(super) fn reason(&self) -> Option<&str> {
        Some(self.reason.trim()).filter(|reason| !reason.is_empty())
    }
}

/// `POST /analytics/{workflow}/cycles/{n}/<operation>`
pub fn on_cycle(operation: Operation) -> MethodRouter<App> {
    post(
        async move |State(app): State<App>,
                    PathOf((name, number)): PathOf<(String, i64)>,
                    Extension(caller): Extension<Caller>,
                    headers: HeaderMap,
                    form: Result<Form<Said>, FormRejection>| {
            let back = links::cycle(&name, number);
            let done = async {
                let said = checked(form, &caller)?;
                let workflow = existing(&app, &name, number).await?;
                perform(&app, &workflow, &operation, &caller, said.reason(), Some(number)).await
            };
            finish(done.await.map(|_| links::workflow(&name)), &back, &caller, &headers)
        },
    )
}

/// `POST /analytics/{workflow}/automation`
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub async fn automation(
    State(app): State<App>,
    PathOf(name): PathOf<String>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Result<Response, Problem> {
    let back = links::workflow(&name);
    let done = async {
        let said = checked(form, &caller)?;
        let workflow = app.workflow(&name)?;
        let enabled = said.enabled.parse().map_err(|_| incomplete())?;
        let operation = Operation::Automation { enabled };
        perform(&app, &workflow, &operation, &caller, said.reason(), None).await
    };
    finish(done.await.map(|_| back.clone()), &back, &caller, &headers)
}

/// `POST /analytics/{workflow}/models/{model}/rollback`
///
/// # Errors
/// A problem when it was not carried out; nothing was changed then.
pub async fn rollback(
    State(app): State<App>,
    PathOf((name, model)): PathOf<(String, String)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Result<Response, Problem> {
    let back = links::model(&name, &model);
    let done = async {
        let said = checked(form, &caller)?;
        let workflow = app.workflow(&name)?;
        check_model(&workflow, &model)?;
        let to = said.to.parse().map_err(|_| incomplete())?;
        let operation = Operation::Rollback { model: model.clone(), to };
        perform(&app, &workflow, &operation, &caller, said.reason(), None).await
    };
    finish(done.await.map(|_| back.clone()), &back, &caller, &headers)
}

/// The form, if it is this session's.
pub(super) fn checked(
    form: Result<Form<Said>, FormRejection>,
    caller: &Caller,
) -> Result<Said, Problem> {
    let Form(said) = form.map_err(|_| incomplete())?;
    let own = |token: &String| bool::from(token.as_bytes().ct_eq(said.csrf.as_bytes()));
    if caller.csrf.as_ref().is_none_or(own) {
        return Ok(said);
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "csrf_token",
        "nothing was done: the form does not belong to this session; load the page again and try once more",
    ))
}

pub(super) fn incomplete() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_body",
        "nothing was done: the form was not complete; load the page again and try once more",
    )
}

/// To the page that shows what came of it; a refusal is a page for browsers, a problem for programs.
pub(super) fn finish(
    done: Result<String, Problem>,
    back: &str,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    match done {
        Ok(page) => Ok(Redirect::to(&page).into_response()),
        Err(problem) if accepts(headers, "text/html") => {
            let page =
                page::problem("That was not done", problem.detail(), (back, "Back to the page"));
            html(&page, &viewer(caller), problem.status())
        }
        Err(problem) => Err(problem),
    }
}
