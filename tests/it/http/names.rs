//! Names that would lead out of their folder, in every capture of every route and in every event that has one.

use std::collections::BTreeMap;
use std::path::Path;

use axum::body::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tower::ServiceExt as _;

use super::matrix::Call;
use super::{EVENTS, Site, request};

/// What is no name, each for a reason of its own.
fn hostile() -> Vec<String> {
    let named = [
        ".",
        "..",
        "../nano-banana",
        "../../etc/passwd",
        "/etc/passwd",
        "nano-banana/../../x",
        "nano-banana/.",
        "..\\x",
        "C:\\x",
        "nano-banana\0.png",
        "nano-banana\n",
        "%2e%2e%2f",
        "~root",
        "$HOME",
        "-rf",
        ".git",
        " nano-banana",
        "nano banana",
        // Dots and a slash of full width; right to left; Cyrillic о; a joined letter; nothing to be seen.
        "\u{ff0e}\u{ff0e}\u{ff0f}x",
        "nano-\u{202e}ananab",
        "nan\u{43e}-banana",
        "nano-bana\u{300}na",
        "nano-banana\u{200b}",
        "nano-banana\u{feff}",
        // What other file systems make of a name.
        "nano-banana.",
        "con",
        "NUL",
        "com1.txt",
        "nano-banana::$DATA",
    ];
    named.into_iter().map(str::to_owned).chain(["a".repeat(65), "a".repeat(300)]).collect()
}

/// Every file below a folder, with its size.
fn files(folder: &Path) -> BTreeMap<std::path::PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder reads") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a kind").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), entry.metadata().expect("its size").len());
        }
    }
    found
}

#[tokio::test]
async fn no_route_takes_a_name_that_leads_out_of_its_folder() {
    let site = Site::unmeasured(true).await;
    let (rows, before) = (super::matrix::fingerprint(&site).await, files(site.stage.folder.path()));
    let mut tried = 0;
    for call in Call::all(&site).await {
        for capture in ["{workflow}", "{model}"].into_iter().filter(|it| call.path.contains(it)) {
            for name in hostile() {
                let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
                let path = call.filled_with(capture, &encoded);
                let sent = call.to(&path).body(Body::from(call.body().to_string()));
                // Only heads are looked at: the body of a stream has no end.
                let answer = site.router.clone().oneshot(sent.expect("a request")).await;
                let status = answer.expect("an answer").status().as_u16();
                assert!(matches!(status, 404 | 422), "{}{name:?}: {status}", call.name());
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
    assert_eq!(rows, super::matrix::fingerprint(&site).await);
    assert_eq!(before, files(site.stage.folder.path()));
}

#[tokio::test]
async fn no_event_takes_a_name_that_leads_out_of_its_folder() {
    let site = Site::unmeasured(true).await;
    for model in hostile() {
        let of = |kind: &str| json!({ "type": kind, "task_id": "86c1", "model": model });
        let mut events = vec![of("generation"), of("error"), of("enhancement"), of("validation")];
        events[0]["image_url"] = json!("https://images.example/1.png");
        events[1]["error"] = json!("it broke");
        events[2]["original_prompt"] = json!("p");
        events[2]["enhanced_prompt"] = json!("q");
        (events[3]["score"], events[3]["passed"]) = (json!(8), json!(true));
        events.push(json!({
            "type": "winner", "task_id": "86c1", "winner": model, "total_iterations": 1
        }));
        for event in events {
            let (status, code) = site.post(EVENTS, event.to_string()).await.problem();
            let code_fits = matches!(code.as_str(), "invalid_name" | "nul_character");
            assert!(status == 422 && code_fits, "{event}: {status} {code}");
        }
    }
    assert_eq!(site.rows_logged().await, 0);
    let fine = json!({"type": "validation", "task_id": "86c1", "model": "nano-banana", "score": 8, "passed": true});
    assert_eq!(
        site.send(request("POST", EVENTS).body(Body::from(fine.to_string())).expect("a request"))
            .await
            .status,
        200
    );
}
