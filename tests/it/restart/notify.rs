//! SIGKILL between the sending of a notification and its mark, on the real binary.

use std::fs;

use crate::support::receiver::{Does, Receiver};
use crate::support::site::{Site, until};

const SECRET: &str = "a secret that the log must never show";

#[tokio::test]
async fn killed_before_it_was_marked_it_is_sent_again_under_the_same_id_and_no_secret_is_logged() {
    let receiver = Receiver::start().await;
    receiver.then(&[Does::Hangs, Does::Answers(500)]);
    let site = Site::new().await;
    site.edit_workflow("\nurl = \"\"\n", &format!("\nurl = \"{}\"\n", receiver.url()));
    site.edit_workflow("allow_private = false", "allow_private = true");
    let dotenv = format!(
        "MATHESIS_NOTIFY_SECRET={SECRET:?}\nMATHESIS_LOG=mathesis=trace,reqwest=trace,info\n"
    );
    fs::write(site.folder().join(".env"), dotenv).expect("the settings are written");
    site.start().await;
    site.operate("pause").await;
    until("the notification is sent", || async { receiver.received().len() == 1 }).await;
    site.kill();
    site.start().await;
    until("it is sent again, and again after a failure", || async {
        receiver.received().len() == 3
    })
    .await;
    let received = receiver.received();
    assert!(received.iter().all(|message| message.id() == received[0].id()));
    assert!(received.iter().all(|message| message.is_signed_by(SECRET)));
    site.until_count(
        "SELECT count(*) FROM notifications WHERE status = 'delivered' AND attempts = 3",
        1,
    )
    .await;
    for told in ["a notification was not delivered", "a notification was delivered"] {
        until(told, || async { site.log().contains(told) }).await;
    }
    assert!(!site.log().contains(SECRET) && !site.log().contains("/hook"), "{}", site.log());
}
