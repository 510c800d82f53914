//! The tables of docs/services.md, made from what the code decides, so that they cannot say anything else.

use std::fmt::Write as _;

use super::asking::AttemptHalt;
use super::record::Stage;
use super::service::{Next, ServiceError};
use super::{claude_calls, clickup, wavespeed};
use crate::task_log::Fault;

/// What a task does when its call certainly cannot succeed, and when it is open whether it did.
#[derive(Clone, Copy)]
struct Ends {
    never: &'static str,
    unknown: &'static str,
}

fn next_in_words(next: Next, ends: Ends) -> &'static str {
    match next {
        Next::Later { after: None } => "waits, and is tried again by itself",
        Next::Later { after: Some(_) } => "waits as long as the service asks, then is tried again",
        Next::Operator => "waits for a person",
        Next::Never { fault: Fault::Infrastructure } => ends.never,
        Next::Never { fault: Fault::Prompt } => {
            "this attempt ends as the prompt's fault: it counts as 0"
        }
        Next::Unknown => ends.unknown,
    }
}

const ATTEMPT_ENDS: &str = "this attempt ends, without a verdict on the prompt";

fn row(table: &mut String, what: &str, call: &str, error: &ServiceError, ends: Ends) {
    let does = next_in_words(error.next, ends);
    writeln!(table, "| {what} | {call} | `{}` | {does} |", error.code).unwrap();
}

fn table(
    title: &str,
    calls: [&str; 2],
    ends: Ends,
    meanings: Vec<(String, [ServiceError; 2])>,
) -> String {
    let mut table = format!(
        "## {title}\n\n| what came back | to | code | what the task does |\n|---|---|---|---|\n"
    );
    for (what, [first, second]) in meanings {
        if (first.code, first.next) == (second.code, second.next) {
            row(&mut table, &what, "any call", &first, ends);
        } else {
            row(&mut table, &what, calls[0], &first, ends);
            row(&mut table, &what, calls[1], &second, ends);
        }
    }
    table
}

/// What an attempt makes of it: a judge that fails says nothing of the prompt.
fn in_stage(stage: Stage, error: &ServiceError) -> ServiceError {
    let next = match AttemptHalt::of(stage, error) {
        AttemptHalt::Failed(failure) => Next::Never { fault: failure.fault() },
        AttemptHalt::Run(_) => error.next,
    };
    ServiceError { next, ..error.clone() }
}

#[test]
fn the_documented_meaning_of_every_error_is_the_real_one() {
    let claude = claude_calls::tests::meanings();
    let claude = claude.into_iter().map(|(what, error)| {
        (what, [Stage::Enhancement, Stage::Validation].map(|stage| in_stage(stage, &error)))
    });
    let claude = claude.collect();
    let tables = [
        table("Claude", ["an enhancement", "a validation"], Ends { never: ATTEMPT_ENDS, unknown: "" }, claude),
        table(
            "WaveSpeed",
            ["a submit", "a look"],
            Ends {
                never: ATTEMPT_ENDS,
                unknown: "this attempt ends, without a verdict; it is not asked for again, for it may be billed",
            },
            wavespeed::tests::meanings(),
        ),
        table(
            "ClickUp",
            ["reading, or a status", "a file, a comment"],
            Ends {
                never: "this step ends, without a verdict on any prompt",
                unknown: "looks first whether it was done, and does it only if it was not",
            },
            clickup::tests::meanings(),
        ),
    ]
    .join("\n");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/services.md");
    let written = std::fs::read_to_string(page).unwrap();
    assert!(
        written.contains(&tables),
        "docs/services.md is stale; from its first table on it must be:\n{tables}"
    );
}
