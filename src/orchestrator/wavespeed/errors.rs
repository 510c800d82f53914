//! What a failed call of WaveSpeed means, and what a failed prediction does.
//!
//! Whose fault a failed prediction is follows one careful rule, for a score of 0 hangs on it: the prompt's only if
//! WaveSpeed's words speak of a content policy and of no outage. All else, and all that is not understood, is the
//! infrastructure's, which says nothing about the prompt.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::wire::{Envelope, Finished, Prediction};
use crate::orchestrator::service::{Next, Service, ServiceError};
use crate::outbound::{Failure, FailureKind, Reply, shorten};
use crate::task_log::Fault;

/// The code of a connection that was not made.
pub(super) const UNREACHABLE: &str = "wavespeed_unreachable";

const WORDS_CHARS_MAX: usize = 300;
const NEVER: Next = Next::Never { fault: Fault::Infrastructure };

/// A synchronous wait ran out, and the prediction goes on.
const SYNC_TIMED_OUT: i64 = 5004;

/// Which call it was: they differ in what may follow an open end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It bills.
    Submit,
    /// It changes nothing.
    Look,
    /// It costs nothing.
    Upload,
}

impl Step {
    const fn open_end(self) -> Next {
        match self {
            Self::Submit => Next::Unknown,
            Self::Look | Self::Upload => Next::Later { after: None },
        }
    }

    const fn maybe_billed(self) -> &'static str {
        match self {
            Self::Submit => {
                " The picture may have been made and billed, so it is not asked for again."
            }
            Self::Look | Self::Upload => " It is tried again by itself; nothing is billed for it.",
        }
    }
}

/// An error of WaveSpeed's.
pub(super) fn error(code: &'static str, words: impl Into<String>, next: Next) -> ServiceError {
    ServiceError::new(Service::WaveSpeed, code, words, next)
}

/// That calls must keep still for this long, by WaveSpeed's word.
pub(super) fn rate_limited(after: Option<Duration>) -> ServiceError {
    error(
        "wavespeed_rate_limited",
        "WaveSpeed's rate limit is reached. Nothing was asked for; it is tried again by itself.",
        Next::Later { after },
    )
}

/// That the account's submits a minute are used up, by our own count.
pub(super) fn own_limit(wait: Duration) -> ServiceError {
    error(
        "wavespeed_submits_used_up",
        format!(
            "The pictures that may be asked for in a minute are used up; the next may be in {} s. Nothing was asked for.",
            wait.as_secs().max(1)
        ),
        Next::Later { after: Some(wait) },
    )
}

/// A prediction that is still going when its time is over.
pub(super) fn not_finished() -> ServiceError {
    error(
        "wavespeed_not_finished",
        "WaveSpeed has not finished the picture in time. It may yet finish, and can be waited for again.",
        Next::Later { after: None },
    )
}

/// A submit that was answered without the id of what it made.
pub(super) fn no_id() -> ServiceError {
    error(
        "wavespeed_no_id",
        "WaveSpeed answered without the picture's id. It may have been made and billed, so it is not asked for again.",
        Next::Unknown,
    )
}

/// An id that is none.
pub(super) fn bad_id() -> ServiceError {
    error(
        "wavespeed_bad_id",
        "What should be the id of a prediction is none; nothing was sent.",
        NEVER,
    )
}

/// An endpoint that is none.
pub(super) fn bad_endpoint(endpoint: &str) -> ServiceError {
    error(
        "wavespeed_bad_endpoint",
        format!(
            "{:?} is no endpoint of WaveSpeed's; write it like google/nano-banana/edit in orchestrator.toml. Nothing was sent.",
            shorten(endpoint, 80)
        ),
        Next::Operator,
    )
}

/// A file over WaveSpeed's limit.
pub(super) fn media_too_large(bytes: usize) -> ServiceError {
    error(
        "wavespeed_too_large",
        format!("The picture of {bytes} bytes is larger than WaveSpeed takes."),
        NEVER,
    )
}

/// An upload target that cannot be used.
pub(super) fn bad_upload(problem: &str) -> ServiceError {
    error(
        "wavespeed_bad_upload",
        format!("WaveSpeed named a place for the picture that cannot be used: {problem}."),
        NEVER,
    )
}

/// A signed address that did not take the file. It is made anew with each try, so even a 403 may pass.
pub(super) fn put_refused(status: u16) -> ServiceError {
    let next = if status == 413 { NEVER } else { Next::Later { after: None } };
    error(
        "wavespeed_upload_refused",
        format!("The place that WaveSpeed named for the picture answered {status}."),
        next,
    )
}

/// A call that brought no answer.
pub(super) fn of_failure(step: Step, failure: &Failure) -> ServiceError {
    let words = &failure.words;
    let open = step.maybe_billed();
    match failure.kind {
        FailureKind::NotSent => error(
            "wavespeed_not_sent",
            format!("The call to WaveSpeed was not sent: {words}. Report this as a bug."),
            NEVER,
        ),
        FailureKind::NoConnection => error(
            UNREACHABLE,
            format!(
                "WaveSpeed cannot be reached: {words}. Nothing was sent; it is tried again by itself."
            ),
            Next::Later { after: None },
        ),
        FailureKind::TimedOut => error(
            "wavespeed_timed_out",
            format!("WaveSpeed did not answer in time: {words}.{open}"),
            step.open_end(),
        ),
        FailureKind::Interrupted => error(
            "wavespeed_interrupted",
            format!("The connection to WaveSpeed broke before its answer was here: {words}.{open}"),
            step.open_end(),
        ),
        FailureKind::TooLarge => error(
            "wavespeed_answer_too_large",
            format!("WaveSpeed's answer was dropped: {words}."),
            if step == Step::Submit { Next::Unknown } else { NEVER },
        ),
    }
}

/// What an answer brought: what was asked for, or why not. An error may come under HTTP status 200.
pub(super) fn read<T: DeserializeOwned>(
    step: Step,
    reply: &Reply,
    envelope: Result<Envelope, String>,
    limited_wait: Duration,
) -> Result<T, ServiceError> {
    let unreadable = |problem: &str| {
        error(
            "wavespeed_unreadable",
            format!(
                "WaveSpeed's answer of {} bytes cannot be read: {}.{}",
                reply.body.len(),
                shorten(problem, WORDS_CHARS_MAX),
                step.maybe_billed()
            ),
            step.open_end(),
        )
    };
    let success = (200..300).contains(&reply.status);
    match envelope {
        Ok(envelope) if success && matches!(envelope.code, None | Some(200 | SYNC_TIMED_OUT)) => {
            envelope.data().map_err(|problem| unreadable(&problem))
        }
        Ok(envelope) => {
            let code = envelope.code.and_then(|code| u16::try_from(code).ok());
            let status = if success { code.unwrap_or(0) } else { reply.status };
            Err(of_status(step, status, &envelope.message, limited_wait))
        }
        Err(problem) if success => Err(unreadable(&problem)),
        Err(_) => Err(of_status(step, reply.status, "", limited_wait)),
    }
}

/// What a status, or the number in an envelope that stands for one, means.
fn of_status(step: Step, status: u16, message: &str, limited_wait: Duration) -> ServiceError {
    let words = shorten(message.trim().trim_end_matches('.'), WORDS_CHARS_MAX);
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    match status {
        400 | 403 | 422 if speaks_of_content_policy(message) => content_policy(&words),
        401 => error(
            "wavespeed_key_invalid",
            format!(
                "WaveSpeed does not accept the key{said}. Set a valid WAVESPEED_API_KEY; a new key works only after the first top-up."
            ),
            Next::Operator,
        ),
        402 => error(
            "wavespeed_balance",
            format!("WaveSpeed asks for money{said}. Top up the account, or raise its level."),
            Next::Operator,
        ),
        403 => error(
            "wavespeed_forbidden",
            format!("WaveSpeed does not allow this{said}. Look at the account and its level."),
            Next::Operator,
        ),
        404 if step == Step::Look => error(
            "wavespeed_prediction_gone",
            format!("WaveSpeed no longer knows the picture that was asked for{said}."),
            NEVER,
        ),
        404 => error(
            "wavespeed_no_such_model",
            format!(
                "WaveSpeed has no such model{said}. Name one that it has in orchestrator.toml."
            ),
            Next::Operator,
        ),
        413 => error("wavespeed_too_large", format!("WaveSpeed takes no such size{said}."), NEVER),
        429 => rate_limited(Some(limited_wait)),
        400..=407 | 409..=499 => error(
            "wavespeed_bad_request",
            format!("WaveSpeed turned the request down with status {status}{said}."),
            NEVER,
        ),
        300..=399 => error(
            "wavespeed_redirected",
            format!(
                "WaveSpeed answered {status}, another address. See that WAVESPEED_BASE_URL is right."
            ),
            Next::Operator,
        ),
        _ => error(
            "wavespeed_server_failed",
            format!(
                "WaveSpeed, or something on the way to it, failed with status {status}{said}.{}",
                step.maybe_billed()
            ),
            step.open_end(),
        ),
    }
}

/// What a prediction that has ended brought.
pub(super) fn of_end(prediction: Prediction) -> Result<Finished, ServiceError> {
    let inference_ms = prediction.inference_ms();
    let words = shorten(prediction.error.trim().trim_end_matches('.'), WORDS_CHARS_MAX);
    if prediction.status != "completed" {
        if prediction.status == "failed" && speaks_of_content_policy(&prediction.error) {
            return Err(content_policy(&words));
        }
        let said = if words.is_empty() { "without a reason" } else { &words };
        return Err(error(
            "wavespeed_prediction_failed",
            format!("WaveSpeed ended the picture as {}: {said}.", prediction.status),
            NEVER,
        ));
    }
    match prediction.outputs.into_iter().find(|output| !output.trim().is_empty()) {
        Some(output) => match picture_address(output.trim()) {
            Some(url) => Ok(Finished { url, inference_ms }),
            None => Err(error(
                "wavespeed_bad_output",
                "WaveSpeed finished with something that is neither an address nor a picture.",
                NEVER,
            )),
        },
        None if prediction.has_nsfw_contents.contains(&true) => {
            Err(content_policy("the result was flagged as unsafe and withheld"))
        }
        None => Err(error("wavespeed_no_output", "WaveSpeed finished without a picture.", NEVER)),
    }
}

fn content_policy(words: &str) -> ServiceError {
    error(
        "wavespeed_content_policy",
        format!("WaveSpeed refused the prompt: {words}."),
        Next::Never { fault: Fault::Prompt },
    )
}

/// An address as it is; a picture as base64 text becomes one that holds it.
fn picture_address(output: &str) -> Option<String> {
    if ["https://", "http://", "data:"].iter().any(|start| output.starts_with(start)) {
        return Some(output.to_owned());
    }
    let is_picture = STANDARD.decode(output).is_ok_and(|bytes| !bytes.is_empty());
    is_picture.then(|| format!("data:application/octet-stream;base64,{output}"))
}

/// The careful rule of the module's documentation.
fn speaks_of_content_policy(words: &str) -> bool {
    const POLICY: [&str; 9] = [
        "content policy",
        "content_policy",
        "content-policy",
        "policy violation",
        "nsfw",
        "prohibited content",
        "sensitive content",
        "inappropriate content",
        "flagged as unsafe",
    ];
    const OUTAGE: [&str; 8] = [
        "timeout",
        "timed out",
        "time out",
        "unavailable",
        "internal error",
        "overloaded",
        "try again",
        "could not be checked",
    ];
    let words = words.to_lowercase();
    let speaks_of = |list: &[&str]| list.iter().any(|phrase| words.contains(phrase));
    speaks_of(&POLICY) && !speaks_of(&OUTAGE)
}
