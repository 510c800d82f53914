use super::*;
use proptest::prelude::*;

const SECRET: &str = "O94IM25S7PXBPYTMNXLLET230SRP0S89COR7B1YOJ2ZIE8WQNK5UUKEF26W0Z5GA";
const SIGNATURE: &str = "5207b704de52365db29431cdf3cc598ff1f5ebe2ceae7db735e9a1bc5f14f019";
const BODY: &str = include_str!("fixtures/signed_body.json");
const CREATED: &str = include_str!("fixtures/task_created.json");
const UPDATED: &str = include_str!("fixtures/task_updated.json");
const COMMENTED: &str = include_str!("fixtures/task_comment_posted.json");

fn read(body: &str) -> Delivery {
    parse(body.as_bytes()).unwrap()
}

#[test]
fn the_known_signature_fits_its_body_and_nothing_else_does() {
    let valid = |secret, body: &str, header| signature_is_valid(secret, body.as_bytes(), header);
    assert!(valid(SECRET, BODY, Some(SIGNATURE)));
    assert!(!valid(SECRET, &format!("{BODY} "), Some(SIGNATURE)));
    assert!(!valid("another", BODY, Some(SIGNATURE)));
    assert!(!valid(SECRET, BODY, Some(&SIGNATURE[..62])));
    for header in [None, Some(""), Some("not hex"), Some("é")] {
        assert!(!valid(SECRET, BODY, header), "{header:?}");
    }
}

#[test]
fn a_secret_that_was_never_set_fits_nothing() {
    let mac = Hmac::<Sha256>::new_from_slice(b"").unwrap().chain_update(BODY).finalize();
    let signature = hex::encode(mac.into_bytes());
    assert!(!signature_is_valid("", BODY.as_bytes(), Some(&signature)));
}

#[test]
fn a_change_of_status_says_which_status() {
    let delivery = read(BODY);
    assert_eq!(delivery.event, Event::TaskStatusUpdated);
    assert_eq!(delivery.task_id, "1vj38vv");
    assert_eq!(delivery.status_after.as_deref(), Some("ready for edit"));
    assert_eq!(
        delivery.dedupe_key,
        "7fa3ec74-69a8-4530-a251-8a13730bd204:taskStatusUpdated:1vj38vv:2800787326392370170"
    );
}

#[test]
fn every_documented_delivery_is_read() {
    let created = read(CREATED);
    assert_eq!(
        (&created.event, created.status_after.as_deref()),
        (&Event::TaskCreated, Some("to do"))
    );
    let updated = read(UPDATED);
    assert_eq!((&updated.event, updated.status_after), (&Event::TaskUpdated, None));
    assert_eq!(read(COMMENTED).event, Event::Other("taskCommentPosted".to_owned()));
    let deleted = r#"{"event":"taskDeleted","history_items":[],"task_id":"1","webhook_id":"w"}"#;
    assert_eq!(read(deleted).event, Event::TaskDeleted);
}

#[test]
fn before_and_after_may_be_anything() {
    for after in ["null", "\"text\"", "[1]", "{\"status\":7}", "{}", "3.5", "true"] {
        let body = format!(
            r#"{{"event":"taskUpdated","history_items":[{{"id":1,"field":"status","before":{after},"after":{after}}}],"task_id":"1","webhook_id":"w"}}"#
        );
        let delivery = read(&body);
        assert_eq!(delivery.status_after.is_some(), after == "\"text\"", "{after}");
        assert_eq!(delivery.dedupe_key, "w:taskUpdated:1:1");
    }
}

#[test]
fn a_delivery_without_items_is_recognised_by_its_body() {
    let body =
        |extra: &str| format!(r#"{{"event":"taskDeleted","task_id":"1","webhook_id":"w"{extra}}}"#);
    let key = |extra: &str| read(&body(extra)).dedupe_key;
    assert!(key("").starts_with("body:"));
    assert_eq!(key(""), key(""));
    assert_ne!(key(""), key(r#","history_items":null"#));
    assert!(key(r#","history_items":[]"#).starts_with("body:"));
    assert!(key(r#","history_items":[{"id":null}]"#).starts_with("body:"));
}

#[test]
fn what_is_no_delivery_is_refused_with_a_code() {
    for (body, code) in [
        ("", "clickup_delivery_not_json"),
        ("[]", "clickup_delivery_not_json"),
        (r#"{"payload":{"id":"automation"}}"#, "clickup_delivery_not_json"),
        (r#"{"event":"","task_id":"1","webhook_id":"w"}"#, "clickup_delivery_bad_field"),
        (r#"{"event":"e","task_id":"../1","webhook_id":"w"}"#, "clickup_delivery_bad_field"),
        (r#"{"event":"e","task_id":"1","webhook_id":""}"#, "clickup_delivery_bad_field"),
    ] {
        assert_eq!(parse(body.as_bytes()).unwrap_err().code(), code, "{body}");
    }
}

proptest! {
    #[test]
    fn a_key_is_short_and_tells_deliveries_apart(
        event in "[a-zA-Z]{1,64}", task in "[a-z0-9_-]{1,64}", hook in "[a-f0-9-]{1,64}", item in "[ -~]{1,300}",
    ) {
        let body = |item: &str| serde_json::json!({
            "event": event, "task_id": task, "webhook_id": hook, "history_items": [{"id": item}],
        }).to_string();
        let key = read(&body(&item)).dedupe_key;
        prop_assert!(key.len() <= 200);
        prop_assert_eq!(&key, &read(&body(&item)).dedupe_key);
        prop_assert_ne!(key, read(&body(&format!("{item}0"))).dedupe_key);
    }

    #[test]
    fn no_body_makes_it_panic(body: Vec<u8>, header in ".*") {
        let _ = parse(&body);
        let _ = signature_is_valid("secret", &body, Some(&header));
    }
}
