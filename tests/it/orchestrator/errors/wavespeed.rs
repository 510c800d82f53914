//! WaveSpeed's errors.

use std::collections::BTreeMap;

use mathesis::stand_in::documented::Documented;
use mathesis::stand_in::fault::{Fault, Prediction};
use mathesis::stand_in::script::Matcher;
use serde_json::json;

use super::{Call, Case, Obstacle, case, hold_to_the_page, play_all, shown};

/// The original is put where WaveSpeed can read it.
fn upload() -> Call {
    let matcher = Matcher::wavespeed().method("POST").path("/api/v3/media/uploads");
    Call { name: "the original's upload", kind: "an upload", matcher }
}

/// The original's bytes go to the address that was named for them.
fn put() -> Call {
    let matcher = Matcher::wavespeed().method("PUT").path("/upload/*");
    Call { name: "the upload of the original's bytes", kind: "an upload", matcher }
}

/// The picture of wan-2.5-edit is asked for.
fn submit() -> Call {
    let matcher = Matcher::wavespeed().method("POST").path("/api/v3/alibaba/wan-2.5/image-edit");
    Call { name: "wan-2.5-edit's submit", kind: "a submit", matcher }
}

/// Both pictures are asked for.
fn submits() -> Call {
    let matcher = Matcher::wavespeed().method("POST").path("/api/v3/*edit");
    Call { name: "both submits", kind: "a submit", matcher }
}

/// Both pictures are looked for.
fn looks() -> Call {
    let matcher = Matcher::wavespeed().method("GET").path("/api/v3/predictions/*");
    Call { name: "the looks at both pictures", kind: "a look", matcher }
}

/// The picture is fetched, to be judged.
fn download() -> Call {
    let matcher = Matcher::wavespeed().method("GET").path("/outputs/*");
    Call { name: "the download of both pictures", kind: "a download", matcher }
}

/// Looks that fail are repeated five times at once.
const LOOKS: u32 = 6;

fn in_an_envelope(code: u16, message: &str) -> Fault {
    Fault::status(200, json!({"code": code, "message": message}).to_string())
}

fn tier_too_low() -> Fault {
    Fault::status(403, r#"{"code": 403, "message": "tier too low"}"#)
}

fn elsewhere() -> Fault {
    let headers = BTreeMap::from([("location".to_owned(), "https://example.com/".to_owned())]);
    Fault::Status { status: 302, headers, body: String::new() }
}

fn asked_to_wait(header: Option<&str>) -> Fault {
    let headers = header.map(|seconds| ("retry-after".to_owned(), seconds.to_owned()));
    let body = r#"{"code": 429, "message": "Too Many Requests"}"#.to_owned();
    Fault::Status { status: 429, headers: headers.into_iter().collect(), body }
}

fn seen_as(status: &str) -> Fault {
    let data = json!({"id": "45b3", "status": status, "outputs": [], "error": ""});
    Fault::status(200, json!({"code": 200, "message": "success", "data": data}).to_string())
}

fn failed(words: &str) -> Fault {
    Fault::Prediction(Prediction::Failed { words: words.to_owned() })
}

/// Refused before anything is billed, or not about one picture: waited for.
fn waited_for() -> Vec<Case> {
    let documented = Fault::Documented;
    let for_a_person = [
        ("401 “invalid authentication”", documented(Documented::WavespeedInvalidKey)),
        ("402 “insufficient balance”", documented(Documented::WavespeedBalance)),
        ("403 “tier too low”", tier_too_low()),
        ("302", elsewhere()),
    ];
    let mut cases = Vec::new();
    for (row, fault) in for_a_person {
        cases.push(case(row, upload(), 1, fault.clone()));
        cases.push(case(row, submits(), 2, fault.clone()));
        cases.push(case(row, looks(), 2, fault));
    }
    let no_model = documented(Documented::WavespeedUnknownModel);
    cases.push(case("404 “not found”", submits(), 2, no_model.clone()));
    // One model's picture is judged, so the other is not waited for.
    cases.push(case("404 “not found”", submit(), 1, no_model));
    // None at a look: it would close the door for the other model's submit too, whenever that comes, and so be chance.
    let row = "429 “Too Many Requests”";
    cases.push(case(row, upload(), 3, documented(Documented::WavespeedTooManyRequests)));
    cases.push(case(row, submit(), 1, documented(Documented::WavespeedTooManyRequests)));
    cases.push(case(row, submit(), 1, asked_to_wait(Some("120"))));
    cases.push(case("no connection", upload(), 0, Obstacle::Nowhere));
    cases
}

/// The end of a call is not known: a picture is never asked for twice, and everything else is repeated.
fn open_ends() -> Vec<Case> {
    let rows = [
        ("500 “Internal Server Error”", Fault::Documented(Documented::WavespeedServerError)),
        ("503 “Service Unavailable”", Fault::Documented(Documented::WavespeedUnavailable)),
        ("200 with code 500 inside", in_an_envelope(500, "the model is warming up")),
        ("502, a page of a proxy", Fault::Html(502)),
        ("200, cut or not JSON", Fault::status(200, "{\"code\":200,")),
        ("the connection broke", Fault::DropBeforeAnswer),
        ("more: the connection broke, and nothing was done", Fault::DropBeforeWork),
        ("more: the connection broke in the middle of the answer", Fault::CutBody),
    ];
    let mut cases = Vec::new();
    for (row, fault) in rows {
        cases.push(case(row, upload(), 3, fault.clone()));
        cases.push(case(row, submit(), 1, fault.clone()));
        cases.push(case(row, looks(), 2 * LOOKS, fault));
    }
    cases.push(case("no answer in time", submit(), 1, Obstacle::Silence));
    cases.push(case("no answer in time", looks(), 2 * LOOKS, Obstacle::Silence));
    cases.push(case("more: the storage fails", put(), 3, Fault::Html(503)));
    cases.push(case("more: the storage fails", download(), 2, Fault::Html(503)));
    let warming_up = Fault::Prediction(Prediction::CodeNot200);
    cases.push(case("200 with code 500 inside", submit(), 1, warming_up));
    cases
}

/// The attempt ends.
fn ending() -> Vec<Case> {
    let rows = [
        ("400 “property \"images\" is missing”", Fault::Documented(Documented::WavespeedBadField)),
        ("403 “content policy violation”", Fault::Documented(Documented::WavespeedPolicy)),
        ("413 “Payload Too Large”", Fault::Documented(Documented::WavespeedTooLarge)),
        ("200 with code 400 inside", in_an_envelope(400, "why")),
    ];
    let mut cases = Vec::new();
    for (row, fault) in rows {
        cases.push(case(row, upload(), 1, fault.clone()));
        cases.push(case(row, submit(), 1, fault.clone()));
        // Which picture is looked for first is open, so both looks meet it, and the next round is undisturbed.
        cases.push(case(row, looks(), 2, fault));
    }
    let gone = Fault::Documented(Documented::WavespeedUnknownModel);
    cases.push(case("404 “not found”", looks(), 2, gone));
    let fates = [
        ("failed: “content policy violation”", failed("content policy violation")),
        ("failed: anything else", failed("CUDA out of memory")),
        (
            "more: failed, by an outage of its policy's check",
            failed("content policy could not be checked, try again"),
        ),
        ("completed without a picture", Fault::Prediction(Prediction::EmptyOutputs)),
        (
            "more: completed with a picture that is none",
            Fault::Prediction(Prediction::BrokenPicture),
        ),
        ("more: 5004, the synchronous wait is over", Fault::Prediction(Prediction::SyncTimedOut)),
    ];
    cases.extend(fates.map(|(row, fault)| case(row, submit(), 1, fault)));
    for status in ["cancelled", "timeout", "deleted"] {
        let row = match status {
            "cancelled" => "more: ended as cancelled",
            "timeout" => "more: ended as timeout",
            _ => "more: ended as deleted",
        };
        cases.push(case(row, looks(), 2, seen_as(status)));
    }
    let going_on = Obstacle::UntilTheDeadline;
    let never = Fault::Prediction(Prediction::NeverFinishes);
    cases.push(case("still going at the deadline", submit(), 1, going_on(never)));
    let unknown = Fault::Prediction(Prediction::UnknownStatus);
    cases.push(case("more: a status that nobody knows", submit(), 1, going_on(unknown)));
    cases
}

#[tokio::test]
async fn whatever_wavespeed_does_no_picture_is_asked_for_twice_and_no_task_is_lost() {
    let waits = play_all(waited_for()).await;
    let open = play_all(open_ends()).await;
    let ends = play_all(ending()).await;
    insta::assert_snapshot!("waits", shown(&waits));
    insta::assert_snapshot!("open_ends", shown(&open));
    insta::assert_snapshot!("ends", shown(&ends));
    let all: Vec<_> = [waits, open, ends].into_iter().flatten().collect();
    hold_to_the_page("WaveSpeed", &all);
}
