//! How a notification gets there: again and again, once by each, under one id, and nowhere it must not.

use std::collections::BTreeSet;

use chrono::Duration;
use futures::future::join_all;
use mathesis::notify::send_again;
use mathesis::runtime::{Operation, Operator, prune};
use mathesis::store::notifications::trouble;

use super::{SECRET, deliver, notifier, outbox, stage};
use crate::support::Stage;
use crate::support::receiver::{Does, Receiver};
use crate::support::until;

/// A stage with one hold in its outbox.
async fn with_news(receiver: &Receiver) -> Stage {
    let stage = stage(receiver, |_| {}).await;
    stage.please(Operation::Pause).await;
    stage
}

#[tokio::test]
async fn one_whose_sender_died_before_it_was_marked_is_sent_again_under_the_same_id() {
    let receiver = Receiver::start().await;
    let stage = with_news(&receiver).await;
    receiver.then(&[Does::Hangs]);
    let dying = notifier(&stage);
    let sending = tokio::spawn(async move { dying.deliver_due().await });
    until(async || receiver.received().len() == 1).await;
    sending.abort();
    let replica = stage.another().await;
    assert_eq!(deliver(&replica).await, 0, "it belongs to the dead one until its lease is out");
    stage.clock.advance(Duration::seconds(21));
    assert_eq!(deliver(&replica).await, 1);
    let received = receiver.received();
    assert_eq!(received[0].id(), received[1].id(), "so that the receiver can tell");
    assert!(received.iter().all(|message| message.is_signed_by(SECRET)));
    let row = outbox(&stage).await.remove(0);
    assert_eq!((row.status.as_str(), row.attempts), ("delivered", 2));
}

#[tokio::test]
async fn what_fails_is_tried_again_for_three_days_then_given_up_and_told() {
    let receiver = Receiver::start().await;
    let stage = with_news(&receiver).await;
    receiver.then(&[Does::Answers(500); 99]);
    let mut pauses = Vec::new();
    loop {
        deliver(&stage).await;
        let row = outbox(&stage).await.remove(0);
        let Some(next) = row.next_attempt_at else { break };
        let pause = next - stage.engine.now();
        assert_eq!(deliver(&stage).await, 0, "not before its time");
        assert_eq!(receiver.received().len(), pauses.len() + 1);
        pauses.push(pause.num_seconds());
        stage.clock.advance(pause);
    }
    assert_eq!(&pauses[..5], [10, 30, 90, 270, 810]);
    assert!((19..=26).contains(&pauses.len()), "{}", pauses.len());
    let row = outbox(&stage).await.remove(0);
    assert_eq!(row.status, "given_up");
    assert!(row.finished_at.expect("a moment") - row.created_at > Duration::hours(66));
    let told =
        trouble(stage.pool(), stage.id()).await.expect("it reads").expect("there is trouble");
    insta::assert_snapshot!(told.in_words(), @"1 notifications were given up and 0 are still tried; the last error: it answered 500");

    let operator = Operator { name: "Ελένη", reason: None, cycle: None };
    let receiver = Receiver::start().await;
    let stage = stage.restarted_with(|definition| definition.notify.url = receiver.url()).await;
    let again = send_again(&stage.engine, &stage.workflow, None, operator).await;
    assert_eq!(again.expect("it is asked for"), 1);
    assert_eq!(deliver(&stage).await, 1);
    assert_eq!(trouble(stage.pool(), stage.id()).await.expect("it reads"), None);
    stage.clock.advance(Duration::days(91));
    prune(&stage.engine, &stage.workflow).await.expect("old rows go");
    assert_eq!(outbox(&stage).await.len(), 0);
}

#[tokio::test]
async fn of_many_senders_each_notification_has_one() {
    let receiver = Receiver::start().await;
    let stage = stage(&receiver, |_| {}).await;
    for _ in 0..6 {
        stage.please(Operation::Pause).await;
        stage.please(Operation::Resume).await;
    }
    let replicas = join_all((0..4).map(|_| stage.another())).await;
    let sent = join_all(replicas.iter().map(deliver)).await;
    assert_eq!(sent.iter().sum::<u32>(), 6);
    let ids: BTreeSet<String> =
        receiver.received().iter().map(|message| message.id().to_owned()).collect();
    assert_eq!((ids.len(), receiver.received().len()), (6, 6));
}

#[tokio::test]
async fn neither_a_private_address_nor_a_redirect_is_followed() {
    let receiver = Receiver::start().await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = format!("http://{host}:{}/hook", receiver.port());
        let stage = stage(&receiver, |definition| {
            definition.notify.url = url;
            definition.notify.allow_private = false;
        })
        .await;
        stage.please(Operation::Pause).await;
        assert_eq!(deliver(&stage).await, 0);
        let error = outbox(&stage).await.remove(0).last_error.expect("it says why");
        assert!(error.contains("is not a public address"), "{host}: {error}");
    }
    assert_eq!(receiver.received().len(), 0, "nothing ever arrived");

    let stage = with_news(&receiver).await;
    receiver.then(&[Does::Redirects]);
    assert_eq!(deliver(&stage).await, 0);
    let paths: Vec<_> = receiver.received().into_iter().map(|message| message.path).collect();
    assert_eq!(paths, ["/hook"]);
    let error = outbox(&stage).await.remove(0).last_error;
    assert_eq!(error.as_deref(), Some("it answered 302, and redirects are not followed"));
}

#[tokio::test]
async fn without_a_secret_nothing_is_sent() {
    let receiver = Receiver::start().await;
    let stage =
        stage(&receiver, |definition| definition.notify.secret_env = "NOBODY_SET_IT".to_owned())
            .await;
    stage.please(Operation::Pause).await;
    assert_eq!(deliver(&stage).await, 0);
    assert_eq!(receiver.received().len(), 0);
    let error = outbox(&stage).await.remove(0).last_error;
    assert_eq!(error.as_deref(), Some("the environment variable NOBODY_SET_IT is not set"));
}

/// The log is searched where the real program writes it, in `restart::notify`.
#[tokio::test]
async fn the_database_never_holds_the_secret_or_the_webhooks_path() {
    let receiver = Receiver::start().await;
    let stage = with_news(&receiver).await;
    receiver.then(&[Does::Answers(500)]);
    deliver(&stage).await;
    let stored =
        stage.text("SELECT coalesce(string_agg(n::text, ' '), '') FROM notifications n").await;
    assert!(stored.contains("it answered 500"), "{stored}");
    assert!(!stored.contains(SECRET) && !stored.contains("/hook"), "{stored}");
}
