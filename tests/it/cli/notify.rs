//! `mathesis notify`, and what the doctor says of a webhook.

use std::fs;

use serde_json::Value;

use super::{Place, Said, Serving};
use crate::support::receiver::{Does, Receiver};

const SECRET: &str = "sixteen bytes and more";

/// A place whose workflow tells the receiver.
async fn telling(receiver: &Receiver) -> Place {
    let place = Place::new().await;
    let file = place.path("workflows/image-editing/workflow.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text
        .replace("\nurl = \"\"\n", &format!("\nurl = \"{}\"\n", receiver.url()))
        .replace("allow_private = false", "allow_private = true");
    fs::write(&file, text).unwrap();
    let server = Serving::start(&place);
    assert_eq!(server.stop("TERM"), 0);
    place
}

/// The notification that was written last.
fn listed(place: &Place) -> Value {
    place.run(&["notify", "list", "--limit", "1", "--json"]).json()[0].clone()
}

fn with_secret(place: &Place, arguments: &[&str]) -> Said {
    let mut command = place.command(arguments);
    command.env("MATHESIS_NOTIFY_SECRET", SECRET).output().expect("the program runs").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_sent_at_once_and_says_what_came_of_it() {
    let receiver = Receiver::start().await;
    let place = telling(&receiver).await;
    let refused = place.refused(&["notify", "test"]);
    assert!(
        refused.contains("the environment variable MATHESIS_NOTIFY_SECRET is not set"),
        "{refused}"
    );
    let said = with_secret(&place, &["notify", "test", "--reason", "is it there?"]);
    let host = format!("127.0.0.1:{}", receiver.port());
    assert!(
        said.out.starts_with(&format!("Delivered: {host} answered 200")),
        "{}{}",
        said.out,
        said.err
    );
    let [received] = &receiver.received()[..] else { panic!("one message") };
    assert!(received.is_signed_by(SECRET));
    assert_eq!(received.json()["type"], "mathesis.test");
    receiver.then(&[Does::Answers(503)]);
    let said = with_secret(&place, &["notify", "test"]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!(said.err.replace(&host, "HOST"), @"mathesis: the test was not delivered to HOST: it answered 503");
    let listed = place.run(&["notify", "list", "--json"]).json();
    let statuses: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| row["status"].as_str()).collect();
    assert_eq!(
        statuses,
        [Some("given_up"), Some("delivered"), Some("given_up")],
        "a test is tried once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_listed_told_by_the_doctor_and_sent_again_on_request() {
    let receiver = Receiver::start().await;
    let place = telling(&receiver).await;
    assert!(place.run(&["notify", "list"]).out.starts_with("The webhook was told nothing yet"));
    assert_eq!(place.run(&["notify", "retry"]).out, "No notification was given up.\n");
    assert!(
        place
            .refused(&["notify", "retry", "01a20615-3791-7369-8761-57187ff21fef"])
            .starts_with("3 ")
    );
    assert_eq!(place.run(&["cycle", "pause"]).code, 0);
    receiver.then(&[Does::Answers(500)]);
    let server = Serving::start_with(&place, &[("MATHESIS_NOTIFY_SECRET", SECRET)]);
    crate::support::until(async || listed(&place)["last_error"].is_string()).await;
    assert_eq!(server.stop("TERM"), 0);
    let doctor = with_secret(&place, &["doctor"]).out;
    let told = doctor.lines().find(|line| line.contains("webhook of image-editing"));
    insta::assert_snapshot!(told.unwrap_or(&doctor));
    let id = listed(&place)["notification_id"].clone();
    let retried = place.run(&["notify", "retry", id.as_str().unwrap()]);
    assert_eq!(retried.out, "1 notification is sent again, as soon as `mathesis serve` runs.\n");
    let server = Serving::start_with(&place, &[("MATHESIS_NOTIFY_SECRET", SECRET)]);
    crate::support::until(async || listed(&place)["status"] == "delivered").await;
    assert_eq!(server.stop("TERM"), 0);
    let doctor = with_secret(&place, &["doctor"]).out;
    assert!(doctor.contains("webhook of image-editing: everything was delivered"), "{doctor}");
}
