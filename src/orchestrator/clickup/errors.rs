//! What a failed call of ClickUp means: one match over what came back, for every call.

use std::time::Duration;

use reqwest::Method;

use super::wire::ErrorBody;
use crate::orchestrator::service::{Next, Service, ServiceError};
use crate::outbound::{Failure, FailureKind, Reply, shorten};
use crate::task_log::Fault;

/// The code of an answer that says: there is no such thing.
pub(super) const NOT_FOUND: &str = "clickup_not_found";
/// The code of an answer that says: this request is wrong.
pub(super) const BAD_REQUEST: &str = "clickup_bad_request";

const WORDS_CHARS_MAX: usize = 300;
const NEVER: Next = Next::Never { fault: Fault::Infrastructure };

/// An error of ClickUp's.
pub(super) fn error(code: &'static str, words: impl Into<String>, next: Next) -> ServiceError {
    ServiceError::new(Service::ClickUp, code, words, next)
}

/// That calls must keep still for this long.
pub(super) fn rate_limited(after: Option<Duration>) -> ServiceError {
    let words = match after {
        Some(after) => format!(
            "ClickUp's rate limit is reached; it opens again in {} s. Nothing is lost.",
            after.as_secs().max(1)
        ),
        None => "ClickUp's rate limit is reached. Nothing is lost.".to_owned(),
    };
    error("clickup_rate_limited", words, Next::Later { after })
}

/// A list that does not know the status that was to be set.
pub(super) fn status_refused(status: &str, words: &str) -> ServiceError {
    let status = shorten(status, 60);
    error(
        "clickup_status_refused",
        format!(
            "ClickUp did not take the status {status:?}: {words} Add it to the list, or name one of the list's own in orchestrator.toml."
        ),
        Next::Operator,
    )
}

/// What may follow when it is open whether the call was carried out.
fn open_end(method: &Method) -> Next {
    if repeatable(method) { Next::Later { after: None } } else { Next::Unknown }
}

/// Whether the same call twice is the same as once.
pub(super) fn repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::PUT)
}

/// A call that brought no answer.
pub(super) fn of_failure(method: &Method, failure: &Failure) -> ServiceError {
    let words = &failure.words;
    match failure.kind {
        FailureKind::NotSent => error(
            "clickup_not_sent",
            format!("The call to ClickUp was not sent: {words}. Report this as a bug."),
            NEVER,
        ),
        FailureKind::NoConnection => error(
            "clickup_unreachable",
            format!("ClickUp cannot be reached: {words}. It is tried again by itself."),
            Next::Later { after: None },
        ),
        FailureKind::TimedOut => error(
            "clickup_timed_out",
            format!("ClickUp did not answer in time: {words}."),
            open_end(method),
        ),
        FailureKind::Interrupted => error(
            "clickup_interrupted",
            format!("The connection to ClickUp broke before its answer was here: {words}."),
            open_end(method),
        ),
        FailureKind::TooLarge => error(
            "clickup_answer_too_large",
            format!("ClickUp's answer was dropped: {words}."),
            if repeatable(method) { NEVER } else { Next::Unknown },
        ),
    }
}

/// An answer with status 200 that is not what was asked for.
pub(super) fn unreadable(method: &Method, bytes: usize, problem: &str) -> ServiceError {
    let problem = shorten(problem, WORDS_CHARS_MAX);
    error(
        "clickup_unreadable",
        format!("ClickUp's answer of {bytes} bytes cannot be read: {problem}."),
        open_end(method),
    )
}

/// An answer with any other status than one of success. `after` is how long its headers ask to wait.
pub(super) fn of_reply(method: &Method, reply: &Reply, after: Option<Duration>) -> ServiceError {
    let ErrorBody { words, code } = serde_json::from_slice(&reply.body).unwrap_or_default();
    let by_clickup = !words.is_empty() || !code.is_empty();
    let status = reply.status;
    let said = said(&words, &code);
    match (status, code.as_str()) {
        (429, _) => rate_limited(after),
        (400..=499, "GBUSED_005") => error(
            "clickup_storage_full",
            format!(
                "The ClickUp workspace has no storage left{said}. Free some or raise the plan; nothing is lost."
            ),
            Next::Operator,
        ),
        (401, "OAUTH_023") => error(
            "clickup_not_authorized",
            format!(
                "The ClickUp token may not see this workspace{said}. Give it access, or set another CLICKUP_API_TOKEN."
            ),
            Next::Operator,
        ),
        (401, _) => error(
            "clickup_token_invalid",
            format!(
                "ClickUp does not accept the token{said}. Make one in ClickUp and set it as CLICKUP_API_TOKEN."
            ),
            Next::Operator,
        ),
        (402 | 403, _) => error(
            "clickup_forbidden",
            format!(
                "ClickUp does not allow this{said}. Look at the token's rights and the workspace's plan."
            ),
            Next::Operator,
        ),
        (404 | 410, _) if by_clickup => {
            error(NOT_FOUND, format!("ClickUp has no such thing{said}."), NEVER)
        }
        (413, _) => error("clickup_too_large", format!("ClickUp takes no such size{said}."), NEVER),
        (408 | 500.., _) => error(
            "clickup_server_failed",
            format!("ClickUp, or something on the way to it, failed with status {status}{said}."),
            match open_end(method) {
                Next::Later { .. } => Next::Later { after },
                other => other,
            },
        ),
        (400..=499, _) if by_clickup => error(
            BAD_REQUEST,
            format!("ClickUp turned the request down with status {status}{said}."),
            NEVER,
        ),
        // Something else than ClickUp's interface: a proxy's page, a redirect, a wrong address.
        _ => error(
            "clickup_not_clickup",
            format!(
                "Status {status} came back without ClickUp's own words. See that CLICKUP_BASE_URL is right and that no proxy stands between."
            ),
            Next::Operator,
        ),
    }
}

fn said(words: &str, code: &str) -> String {
    let words = shorten(words.trim().trim_end_matches('.'), WORDS_CHARS_MAX);
    match (words.is_empty(), code.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(": {words}"),
        (true, false) => format!(" ({})", shorten(code, 40)),
        (false, false) => format!(": {words} ({})", shorten(code, 40)),
    }
}
