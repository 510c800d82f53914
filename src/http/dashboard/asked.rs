//! What the addresses of the pages ask for, and how it is read. An empty field is one that was left
//! out, as forms send them.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use utoipa::IntoParams;

use super::answer::{As, answer, viewer};
use crate::dashboard::page::Page;
use crate::dashboard::pages::Place;
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::error::Problem;
use crate::http::path::{PathOf, QueryOf};
use crate::runtime::Workflow;

const TEXT_CHARS_MAX: usize = 400;

/// Which days, and which workflow. An empty field is one that was left out, as forms send them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Its first day, in the workflow's time zone.
    #[param(value_type = Option<NaiveDate>)]
    #[serde(default)]
    pub from: String,
    /// Its last day.
    #[param(value_type = Option<NaiveDate>)]
    #[serde(default)]
    pub to: String,
    /// Only this workflow.
    #[serde(default)]
    pub workflow: String,
    /// Only this model; of tasks, those that it won.
    #[serde(default)]
    pub model: String,
    /// A category; of the first page, `none` for tasks without one.
    #[serde(default)]
    pub category: String,
    /// One of the page's tables, as a file.
    #[serde(default)]
    pub table: String,
    /// The file's form: `csv` or `json`.
    #[serde(default)]
    pub r#as: String,
}

/// Which of a page's tables is wanted as a file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// One of the page's tables, as a file.
    #[serde(default)]
    pub table: String,
    /// The file's form: `csv` or `json`.
    #[serde(default)]
    pub r#as: String,
}

impl Files {
    /// The page, or one of its tables.
    ///
    /// # Errors
    /// `invalid_query` for a form that no table has.
    pub fn wanted(&self) -> Result<As, Problem> {
        As::of(&self.table, &self.r#as)
    }
}

/// What a model's page compares or puts back, beside its tables.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// The version to compare.
    pub from: Option<i32>,
    /// The version to compare it with.
    pub to: Option<i32>,
    /// The version that would be put back.
    pub rollback: Option<i32>,
    /// The version that the link to older versions names.
    pub after: Option<i32>,
    /// One of the page's tables, as a file.
    #[serde(default)]
    pub table: String,
    /// The file's form: `csv` or `json`.
    #[serde(default)]
    pub r#as: String,
}

/// Which tasks are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only runs of this task.
    #[serde(default)]
    pub task: String,
    /// Its first day, in the workflow's time zone.
    #[param(value_type = Option<NaiveDate>)]
    #[serde(default)]
    pub from: String,
    /// Its last day.
    #[param(value_type = Option<NaiveDate>)]
    #[serde(default)]
    pub to: String,
    /// Only this model; of tasks, those that it won.
    #[serde(default)]
    pub model: String,
    /// A category; of the first page, `none` for tasks without one.
    #[serde(default)]
    pub category: String,
    /// The place in the list that the link to older tasks names.
    #[serde(default)]
    pub after: String,
    /// One of the page's tables, as a file.
    #[serde(default)]
    pub table: String,
    /// The file's form: `csv` or `json`.
    #[serde(default)]
    pub r#as: String,
}

/// Which run of a task.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The run; the latest where it is left out.
    pub run: Option<String>,
    /// One of the page's tables, as a file.
    #[serde(default)]
    pub table: String,
    /// The file's form: `csv` or `json`.
    #[serde(default)]
    pub r#as: String,
}

/// The language of a report.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct InLanguage {
    /// `en` or `el`.
    #[serde(default)]
    pub lang: String,
}

/// A look at one of a workflow's lists: what was asked for, of which workflow, and by whom.
pub struct Look<Q> {
    /// What every handler shares.
    pub app: App,
    /// The workflow.
    pub workflow: Workflow,
    /// What the query asks for.
    pub asked: Q,
    caller: Caller,
    headers: HeaderMap,
}

impl<Q: DeserializeOwned> FromRequestParts<App> for Look<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathOf(name) = PathOf::<String>::from_request_parts(parts, app).await?;
        let QueryOf(asked) = QueryOf::from_request_parts(parts, app).await?;
        // The gate of these routes has put it there.
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(Problem::internal)?;
        let workflow = app.workflow(&name)?;
        Ok(Self { app: app.clone(), workflow, asked, caller, headers: parts.headers.clone() })
    }
}

impl<Q> Look<Q> {
    /// Where the list's page belongs.
    pub fn place(&self) -> Place<'_> {
        Place { workflow: self.workflow.name(), zone: self.workflow.definition.timezone }
    }

    /// Where lists are read, and the workflow's id there.
    pub fn reads(&self) -> (&PgPool, i64) {
        (self.app.engine.store.reads(), self.workflow.workflow_id)
    }

    /// The answer: the list's page, its data, or one of its tables.
    ///
    /// # Errors
    /// A problem when the page has no such table, or a template is broken.
    pub fn answer(&self, page: &Page, wanted: As) -> Result<Response, Problem> {
        answer(page, &viewer(&self.caller), &self.headers, wanted)
    }
}

/// A day of the query, none where it is empty.
///
/// # Errors
/// `invalid_query` for what is no day.
pub fn day(field: &str, text: &str) -> Result<Option<NaiveDate>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| invalid(format!("`{field}` is a day such as 2026-11-23")))
}

/// The first instant of a day. Where clocks skip midnight, the first that there is.
pub fn midnight(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let local = day.and_time(chrono::NaiveTime::MIN);
    let instant = (0..24).find_map(|hour| {
        (local + chrono::Duration::hours(hour)).and_local_timezone(zone).earliest()
    });
    instant.map_or_else(|| local.and_utc(), |instant| instant.with_timezone(&Utc))
}

/// A text of the query, none where it is empty.
///
/// # Errors
/// `invalid_query` for one that is too long or cannot be stored.
pub fn text(field: &str, value: &str) -> Result<Option<String>, Problem> {
    if value.contains('\0') || value.chars().count() > TEXT_CHARS_MAX {
        return Err(invalid(format!(
            "`{field}` holds at most {TEXT_CHARS_MAX} characters and no NUL"
        )));
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// A place in the list of tasks: microseconds and a row.
///
/// # Errors
/// `invalid_query` for what no link says.
pub fn cursor(text: &str) -> Result<Option<(DateTime<Utc>, i64)>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text.rsplit_once('-').and_then(|(at, id)| {
        Some((DateTime::from_timestamp_micros(at.parse().ok()?)?, id.parse().ok()?))
    });
    let unusable = || invalid("`after` is what the link to older tasks says".to_owned());
    place.map(Some).ok_or_else(unusable)
}

/// 400: the address asks for something that there is not.
pub fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_of_its_zone_or_after_it() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let athens = midnight(day("2026-11-10"), Tz::Europe__Athens);
        assert_eq!(athens.to_rfc3339(), "2026-11-09T22:00:00+00:00");
        let skipped = midnight(day("2018-11-04"), Tz::America__Sao_Paulo);
        assert_eq!(skipped.to_rfc3339(), "2018-11-04T03:00:00+00:00");
    }

    #[test]
    fn a_place_in_the_list_reads_back() {
        let place = cursor("1700000000000001-42").unwrap().unwrap();
        assert_eq!((place.0.timestamp_micros(), place.1), (1_700_000_000_000_001, 42));
        for wrong in ["1", "a-b", "99999999999999999999-1", "--"] {
            assert!(cursor(wrong).is_err(), "{wrong}");
        }
    }
}
