//! A page as HTML, as its data, or as one of its tables.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::dashboard::CONTENT_SECURITY_POLICY;
use crate::dashboard::page::{Page, Viewer};
use crate::dashboard::table::Table;
use crate::http::auth::{Caller, accepts};
use crate::http::error::Problem;
use crate::store::keys::Role;

/// What is asked for beside the page itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum As {
    /// The page, or its data where the `Accept` header says so.
    Page,
    /// One table as CSV.
    Csv(String),
    /// One table as JSON.
    Json(String),
}

impl As {
    /// Reads `?table=` and `&as=`.
    ///
    /// # Errors
    /// `invalid_query` for a form that no table has.
    pub fn of(table: &str, form: &str) -> Result<Self, Problem> {
        match (table, form) {
            ("", "") => Ok(Self::Page),
            (table, "csv") if !table.is_empty() => Ok(Self::Csv(table.to_owned())),
            (table, "json") if !table.is_empty() => Ok(Self::Json(table.to_owned())),
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "a table is asked for by `table=NAME&as=csv` or `table=NAME&as=json`",
            )),
        }
    }
}

/// Who looks.
pub fn viewer(caller: &Caller) -> Viewer {
    Viewer {
        name: caller.name.clone(),
        may_operate: caller.role == Role::Operate,
        csrf: caller.csrf.clone().unwrap_or_default(),
        signed_in: caller.csrf.is_some(),
    }
}

/// The answer to a page's address.
///
/// # Errors
/// A problem when the page has no such table, or a template is broken.
pub fn answer(
    page: &Page,
    viewer: &Viewer,
    headers: &HeaderMap,
    as_what: As,
) -> Result<Response, Problem> {
    match as_what {
        As::Csv(name) => csv(found(page, &name)?),
        As::Json(name) => Ok((no_store(), Json(found(page, &name)?.json())).into_response()),
        As::Page if accepts(headers, "application/json") && !accepts(headers, "text/html") => {
            Ok((no_store(), Json(&page.data)).into_response())
        }
        As::Page => html(page, viewer, StatusCode::OK),
    }
}

/// The page as HTML, under its policy.
///
/// # Errors
/// A problem when a template is broken.
pub fn html(page: &Page, viewer: &Viewer, status: StatusCode) -> Result<Response, Problem> {
    let html = page.html(viewer).map_err(|error| {
        tracing::error!(error = %error, "the dashboard could not be written");
        Problem::internal()
    })?;
    Ok((status, no_store(), policy(), Html(html)).into_response())
}

fn found<'p>(page: &'p Page, name: &str) -> Result<&'p Table, Problem> {
    page.table(name).ok_or_else(|| {
        let known: Vec<&str> = page.tables.iter().map(|table| table.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Problem::new(
            StatusCode::NOT_FOUND,
            "unknown_table",
            format!("this page has no table {name:?}; its tables: {known}"),
        )
    })
}

fn csv(table: &Table) -> Result<Response, Problem> {
    let bytes = table.csv().map_err(|error| {
        tracing::error!(error = %error, table = table.name, "a table could not be written as CSV");
        Problem::internal()
    })?;
    let name = format!("attachment; filename=\"{}.csv\"", table.name);
    let mut response = (no_store(), bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The policy that pages are shown under.
pub fn policy() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ]
}

/// What is shown to one caller is kept by no cache.
pub fn no_store() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
