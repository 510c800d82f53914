//! The pages of hand-edited files, and the form that decides what becomes of an edit.

use axum::Extension;
use axum::extract::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::acts::{Said, checked, finish, incomplete};
use super::answer::As;
use super::asked::{Files, Look};
use super::pages::{place, show};
use crate::dashboard::links;
use crate::dashboard::pages::conflicts as page;
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::error::Problem;
use crate::http::operations::perform;
use crate::http::path::{PathOf, QueryOf};
use crate::runtime::{Operation, conflict_shown};
use crate::store::conflicts::{self as stored, Way};

const ROWS_MAX: i64 = 200;

/// Which way out a person is about to take.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `keep-mine`, `take-theirs` or `cancel`: the page asks before it is done.
    #[serde(default)]
    way: String,
}

/// `GET /analytics/{workflow}/conflicts`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn conflicts(look: Look<Files>) -> Result<Response, Problem> {
    // A person comes here to decide, so the rows are as of now and not from a replica.
    let rows =
        stored::list(look.app.engine.store.pool(), look.workflow.workflow_id, ROWS_MAX).await?;
    look.answer(&page::list(look.place(), &rows), look.asked.wanted()?)
}

/// `GET /analytics/{workflow}/conflicts/{id}`
///
/// # Errors
/// A problem when there is no such conflict or the database is away.
pub async fn conflict(
    State(app): State<App>,
    PathOf((name, number)): PathOf<(String, i64)>,
    QueryOf(wanted): QueryOf<Wanted>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    let shown = conflict_shown(&app.engine, workflow.workflow_id, number).await?;
    let shown = shown.ok_or_else(|| Problem::unknown_conflict(number))?;
    let page = page::one(place(&workflow), &shown, page::Asked::named(&wanted.way));
    show(&page, &caller, &headers, As::Page)
}

/// `POST /analytics/{workflow}/conflicts/{id}/settle`
///
/// # Errors
/// A problem when it was not ordered; nothing was changed then.
pub async fn settle(
    State(app): State<App>,
    PathOf((name, conflict)): PathOf<(String, i64)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Result<Response, Problem> {
    let back = links::conflict(&name, conflict);
    let done = async {
        let said = checked(form, &caller)?;
        let workflow = app.workflow(&name)?;
        let seen = said.seen.clone();
        let operation = match page::Asked::named(&said.way) {
            Some(page::Asked::KeepMine) => {
                Operation::SettleConflict { conflict, way: Way::KeepMine, seen }
            }
            Some(page::Asked::TakeTheirs) => {
                Operation::SettleConflict { conflict, way: Way::TakeTheirs, seen }
            }
            Some(page::Asked::Cancel) => Operation::LeaveConflict { conflict },
            None => return Err(incomplete()),
        };
        perform(&app, &workflow, &operation, &caller, said.reason(), None).await
    };
    finish(done.await.map(|_| back.clone()), &back, &caller, &headers)
}
