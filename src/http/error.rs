//! What clients see of an error: a problem of RFC 9457 with a stable `code`. Causes go to the log only.
//!
//! This is the one file that maps domain errors to HTTP. An answer never holds a statement of SQL, a
//! key, or the text of a cause that is not meant for the caller.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use problem_details::{JsonProblemDetails, ProblemDetails};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::runtime::{AdvanceError, AssignError, OperationError};
use crate::store::StoreError;
use crate::task_log::{BodyError, LogError, Rejection};
use crate::workflow::InvalidName;

/// An error as a client sees it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize)]
struct Extension {
    code: &'static str,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Problem {
    /// A problem with a stable code; `detail` says what happened to the data and what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), extra: Map::new(), headers: Vec::new() }
    }

    /// The problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The problem with a header of its answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds its headers to an answer that tells it in another form.
    pub fn add_headers(&self, response: &mut Response) {
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, value.clone());
        }
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What happened, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// 404: no such route.
    #[must_use]
    pub fn no_such_route(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "no_such_route",
            format!("there is nothing at {path:?}; docs/api.md lists every call"),
        )
    }

    /// 404: no such workflow, with the names that exist.
    #[must_use]
    pub fn unknown_workflow(name: &str, known: Vec<String>) -> Self {
        let known_names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_workflow",
            format!("there is no workflow {name:?}, and nothing was stored; this server knows: {known_names}"),
        )
        .with("workflows", known)
    }

    /// 404: no such model, with the names that exist.
    #[must_use]
    pub fn unknown_model(workflow: &str, model: &str, known: Vec<String>) -> Self {
        let known_names = known.join(", ");
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_model",
            format!("workflow {workflow} has no model {model:?}, so there is no version of it; its models: {known_names}"),
        )
        .with("models", known)
    }

    /// 404: no such cycle.
    #[must_use]
    pub fn unknown_cycle(number: i64) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_cycle",
            format!("there is no cycle {number}; GET …/cycles lists those there are"),
        )
    }

    /// 404: no such version.
    #[must_use]
    pub fn unknown_version(model: &str, version: i32) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_version",
            format!(
                "{model} has no version {version}; GET …/models/{model}/versions lists those it has"
            ),
        )
    }

    /// 404: no such conflict.
    #[must_use]
    pub fn unknown_conflict(number: i64) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_conflict",
            format!("there is no conflict {number}; GET …/conflicts lists those there are"),
        )
    }

    /// 422: a name, number or id in the path cannot be one.
    #[must_use]
    pub fn invalid_name(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_name", detail)
    }

    /// 500: nothing that the caller could have done otherwise.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed at this request, and its log says why; what was committed before stays. Every call is safe to repeat",
        )
    }

    /// 503: the database is away.
    #[must_use]
    pub fn database_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "the database does not answer, so nothing of this request is known to be stored. Send it again in a moment: every call is safe to repeat, and an event counts once",
        )
        .retry_after()
    }

    /// The problem of a body that was sent with one event only.
    #[must_use]
    pub fn of_single_event(rejection: &Rejection) -> Self {
        let status = match rejection.code {
            "event_conflict" => StatusCode::CONFLICT,
            "task_removed" => StatusCode::GONE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, rejection.code, format!("nothing was stored: {}", rejection.detail))
    }

    fn retry_after(self) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

/// What a code means, the same for every problem with that code.
pub(super) const fn title(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read",
        401 => "A key is needed",
        403 => "The key may not do this",
        404 => "There is no such thing",
        405 => "Not with this method",
        408 => "The request took too long to arrive",
        409 => "It does not fit how things stand",
        410 => "It is gone",
        413 => "The body is too large",
        415 => "Not in this format",
        422 => "The request holds a value that cannot be taken",
        429 => "More often than is allowed",
        503 => "Not available just now",
        _ => "The server failed",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = ProblemDetails::from_status_code(self.status)
            .with_title(title(self.status.as_u16()))
            .with_detail(self.detail.clone())
            .with_extensions(Extension { code: self.code, extra: self.extra.clone() });
        let mut response = JsonProblemDetails::from(details).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.add_headers(&mut response);
        // For whoever shows it to a person instead.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(error = %error, "a request was refused since the database is away");
            return Self::database_unavailable();
        }
        tracing::error!(error = %error, "a request failed in the database");
        match error {
            StoreError::Database(sqlx::Error::PoolClosed) => Self::stopping(),
            StoreError::Corrupt { table, row, .. } | StoreError::Newer { table, row, .. } => {
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "unreadable_data",
                    format!(
                        "a stored row cannot be read by this version of the program and was left as it is: {table}, {row}. The log says what is wrong with it"
                    ),
                )
            }
            _ => Self::internal(),
        }
    }
}

impl Problem {
    /// 503: this process is shutting down.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "this server is shutting down and took nothing of this request; send it again",
        )
        .retry_after()
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            error.code,
            format!("nothing was stored: {}", error.detail),
        )
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::UnknownWorkflow(name) => Self::unknown_workflow(&name, Vec::new()),
            LogError::Stopped => Self::stopping(),
            LogError::Store(cause) => Self::from(cause.as_ref()),
        }
    }
}

impl From<AssignError> for Problem {
    fn from(error: AssignError) -> Self {
        match error {
            AssignError::Store(cause) => cause.into(),
            AssignError::UnknownModel { workflow, model } => {
                Self::unknown_model(&workflow, &model, Vec::new())
            }
            AssignError::InvalidId { field, problem } => {
                Self::invalid_name(format!("nothing was dealt: the {field} is {problem}"))
            }
        }
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::invalid_name(error.to_string())
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let said = error.to_string();
        let conflict =
            |code| Self::new(StatusCode::CONFLICT, code, format!("nothing was changed: {said}"));
        match error {
            OperationError::Advance(AdvanceError::Store(cause)) => cause.into(),
            OperationError::Advance(AdvanceError::Invalid(refused)) => {
                conflict("invalid_transition")
                    .with("state", refused.state.as_str())
                    .with("event", refused.event.as_str())
            }
            OperationError::Advance(AdvanceError::NoOpenCycle { .. }) => conflict("no_open_cycle"),
            OperationError::Advance(AdvanceError::CycleEnded { open, .. }) => {
                conflict("cycle_ended").with("open_cycle", open)
            }
            OperationError::NothingToDo(_) | OperationError::HeldOtherwise { .. } => {
                conflict("nothing_to_do")
            }
            OperationError::NoSuchModel(_) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown_model",
                format!("nothing was changed: {said}"),
            ),
            OperationError::NoSuchVersion { model, version } => {
                Self::unknown_version(&model, version)
            }
            OperationError::NoSuchConflict(number) => Self::unknown_conflict(number),
            OperationError::ConflictChanged { now, .. } => {
                conflict("conflict_changed").with("edit_hash", now)
            }
            OperationError::ConflictBegun { .. } => conflict("conflict_begun"),
            OperationError::ModelChanging { .. } => conflict("model_changing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    async fn shown(problem: Problem) -> (StatusCode, String, Value) {
        let response = problem.into_response();
        let status = response.status();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_is_rfc_9457_with_a_code() {
        let (status, kind, body) =
            shown(Problem::unknown_workflow("a", vec!["b".to_owned(), "c".to_owned()])).await;
        assert_eq!((status, kind.as_str()), (StatusCode::NOT_FOUND, "application/problem+json"));
        insta::assert_json_snapshot!(body, @r#"
        {
          "code": "unknown_workflow",
          "detail": "there is no workflow \"a\", and nothing was stored; this server knows: b, c",
          "status": 404,
          "title": "There is no such thing",
          "workflows": [
            "b",
            "c"
          ]
        }
        "#);
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_said_with_when_to_come_back() {
        let problem = Problem::from(StoreError::Database(sqlx::Error::PoolTimedOut));
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn causes_stay_in_the_log() {
        let secret = "SELECT secret_hash FROM api_keys";
        let errors = [
            StoreError::Database(sqlx::Error::Configuration(secret.into())),
            StoreError::corrupt("cycles", "snapshot", "workflow 1 cycle 2", secret),
        ];
        for error in errors {
            let (status, _, body) = shown(Problem::from(error)).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(!body.to_string().contains("SELECT"), "{body}");
        }
    }

    #[test]
    fn a_single_event_answers_by_what_was_wrong_with_it() {
        let status = |code| {
            let rejection = Rejection { index: 0, code, detail: String::new() };
            Problem::of_single_event(&rejection).status().as_u16()
        };
        assert_eq!(
            [status("event_conflict"), status("task_removed"), status("invalid_score")],
            [409, 410, 422]
        );
    }
}
