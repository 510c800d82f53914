//! ClickUp's errors.

use std::collections::BTreeMap;

use mathesis::stand_in::documented::Documented;
use mathesis::stand_in::fault::Fault;
use mathesis::stand_in::script::Matcher;

use super::{Call, Case, Obstacle, case, hold_to_the_page, play_all, shown};

const READING: &str = "reading, or a status";
const WRITING: &str = "a file, a comment";

fn reading() -> Call {
    let matcher = Matcher::clickup().method("GET").path("/api/v2/task/*");
    Call { name: "reading the task", kind: READING, matcher }
}

fn working_status() -> Call {
    let matcher = Matcher::clickup().method("PUT").body("in progress");
    Call { name: "the working status", kind: READING, matcher }
}

fn done_status() -> Call {
    let matcher = Matcher::clickup().method("PUT").body("review");
    Call { name: "the done status", kind: READING, matcher }
}

fn file() -> Call {
    let matcher = Matcher::clickup().method("POST").path("/api/v2/task/*/attachment");
    Call { name: "attaching the file", kind: WRITING, matcher }
}

fn comment() -> Call {
    let matcher = Matcher::clickup().method("POST").path("/api/v2/task/*/comment");
    Call { name: "writing the comment", kind: WRITING, matcher }
}

fn original() -> Call {
    let matcher = Matcher::clickup().method("GET").path("/attachments/*");
    Call { name: "fetching the original", kind: "a download", matcher }
}

fn every_call() -> Vec<Call> {
    vec![reading(), working_status(), file(), comment(), done_status()]
}

fn elsewhere() -> Fault {
    let headers = BTreeMap::from([("location".to_owned(), "https://example.com/".to_owned())]);
    Fault::Status { status: 302, headers, body: String::new() }
}

/// Nothing is left until so many seconds from now.
fn nothing_left(reset_s: i64) -> Fault {
    let noon = 1_795_435_200;
    let headers = [
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT".to_owned()),
        ("x-ratelimit-limit", "100".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", (noon + reset_s).to_string()),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Fault::Status { status: 429, headers, body: Documented::ClickupRateLimited.body().to_owned() }
}

fn for_a_person() -> Vec<Case> {
    let rows = [
        ("401 `OAUTH_025`", Fault::Documented(Documented::ClickupTokenInvalid)),
        ("401 `OAUTH_023`", Fault::Documented(Documented::ClickupTeamNotAuthorized)),
        ("403", Fault::status(403, "{}")),
        ("404, a page of a proxy", Fault::Html(404)),
        ("302", elsewhere()),
    ];
    let token = rows[0].1.clone();
    let mut cases: Vec<Case> = every_call()
        .into_iter()
        .map(|call| case("401 `OAUTH_025`", call, 1, token.clone()))
        .collect();
    for (row, fault) in rows.into_iter().skip(1) {
        cases.push(case(row, reading(), 1, fault.clone()));
        cases.push(case(row, file(), 1, fault));
    }
    let full = Fault::Documented(Documented::ClickupStorageFull);
    cases.push(case("400 `GBUSED_005`", file(), 1, full));
    let no_status = Fault::Documented(Documented::ClickupStatusNotFound);
    cases.push(case("400 `CRTSK_001`", working_status(), 1, no_status.clone()));
    cases.push(case("400 `CRTSK_001`", done_status(), 1, no_status));
    cases
}

fn passing() -> Vec<Case> {
    let rows = [
        ("500 `INTERNAL_001`", Fault::Documented(Documented::ClickupServerError)),
        ("503 `INTERNAL_002`", Fault::Documented(Documented::ClickupUnavailable)),
        ("502, a page of a proxy", Fault::Html(502)),
        ("200, cut or not JSON", Fault::status(200, "{\"id\":")),
        ("the connection broke", Fault::DropBeforeAnswer),
        ("more: the connection broke, and nothing was done", Fault::DropBeforeWork),
        ("more: the connection broke in the middle of the answer", Fault::CutBody),
    ];
    let mut cases = Vec::new();
    for (row, fault) in rows {
        // Repeated twice at once; the third failure is waited for.
        cases.push(case(row, reading(), 3, fault.clone()));
        cases.push(case(row, done_status(), 2, fault.clone()));
        cases.push(case(row, file(), 1, fault.clone()));
        cases.push(case(row, comment(), 1, fault));
    }
    for (call, times) in [(reading(), 3), (file(), 1), (comment(), 1)] {
        cases.push(case("no answer in time", call, times, Obstacle::Silence));
    }
    for call in every_call() {
        cases.push(case("429 `APP_002`", call, 1, nothing_left(45)));
    }
    cases.push(case("429 `APP_002`", file(), 1, nothing_left(20)));
    cases.push(case("no connection", reading(), 0, Obstacle::Nowhere));
    cases.push(case(
        "more: the address of the original has ended",
        original(),
        1,
        Fault::status(403, "<Error/>"),
    ));
    cases
}

fn ending() -> Vec<Case> {
    let rows = [
        ("400 `INPUT_001`", Fault::Documented(Documented::ClickupBadRequest)),
        ("404 `ITEM_013`", Fault::Documented(Documented::ClickupTaskNotFound)),
        ("413", Fault::status(413, "")),
        ("an answer over 8 MB", Fault::status(200, " ".repeat(9 * 1024 * 1024))),
    ];
    let mut cases = Vec::new();
    for (row, fault) in rows {
        cases.extend(every_call().into_iter().map(|call| case(row, call, 1, fault.clone())));
    }
    cases
}

#[tokio::test]
async fn whatever_clickup_does_there_is_one_picture_one_comment_and_no_task_is_lost() {
    let person = play_all(for_a_person()).await;
    let passes = play_all(passing()).await;
    let ends = play_all(ending()).await;
    insta::assert_snapshot!("for_a_person", shown(&person));
    insta::assert_snapshot!("passes", shown(&passes));
    insta::assert_snapshot!("ends", shown(&ends));
    let all: Vec<_> = [person, passes, ends].into_iter().flatten().collect();
    hold_to_the_page("ClickUp", &all);
}
