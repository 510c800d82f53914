//! The webhook: told of what happened in the transaction in which it happened, at least once, signed, and never where it
//! must not reach.

mod delivery;

use std::sync::Arc;

use chrono::Duration;
use mathesis::notify::Notifier;
use mathesis::report::Language;
use mathesis::runtime::Operation;
use mathesis::settings::Secret;
use mathesis::store::claude_calls::{self, CallIntent, CallOutcome, Payer};
use mathesis::store::notifications::{self, NotificationRow};
use mathesis::workflow::definition::{Definition, NotifyKind};
use rust_decimal::Decimal;
use serde_json::Value;
use uuid::Uuid;

use crate::support::receiver::Receiver;
use crate::support::stage::NANO;
use crate::support::{Stage, asking, candidates_win};

const SECRET: &str = "a secret that only these two know";

/// A stage whose webhook is the receiver.
async fn stage(receiver: &Receiver, edit: impl FnOnce(&mut Definition) + Send + 'static) -> Stage {
    let url = receiver.url();
    let build = Stage::builder().definition(move |definition| {
        definition.notify.url = url;
        definition.notify.allow_private = true;
        edit(definition);
    });
    build.build().await
}

/// What of a stage sends.
fn notifier(stage: &Stage) -> Notifier {
    let secrets = |name: &str| (name == "MATHESIS_NOTIFY_SECRET").then(|| Secret::new(SECRET));
    Notifier::new(stage.engine.clone(), Arc::new(secrets))
}

async fn deliver(stage: &Stage) -> u32 {
    notifier(stage).deliver_due().await.expect("the outbox is looked at")
}

/// The outbox, oldest first.
async fn outbox(stage: &Stage) -> Vec<NotificationRow> {
    let rows = notifications::list(stage.pool(), stage.id(), 500).await;
    let mut rows = rows.expect("the outbox reads");
    rows.reverse();
    rows
}

fn of_kind<'r>(received: &'r [Value], kind: &str) -> Vec<&'r Value> {
    received.iter().filter(|message| message["type"] == format!("mathesis.{kind}")).collect()
}

#[tokio::test]
async fn verdicts_rollbacks_and_holds_are_told_signed_with_the_report_and_where_to_act() {
    let receiver = Receiver::start().await;
    let stage = stage(&receiver, |definition| {
        definition.notify.dashboard_url = "https://mathesis.example/".to_owned();
    })
    .await;
    stage.reach_deciding("tested", candidates_win).await;
    stage.step().await;
    stage.step().await;
    stage.please(Operation::Rollback { model: NANO.to_owned(), to: 1 }).await;
    stage.please(Operation::Pause).await;
    assert_eq!(deliver(&stage).await, 4);
    let received = receiver.received();
    assert!(received.iter().all(|message| message.is_signed_by(SECRET)), "each is signed");
    assert!(!received[0].is_signed_by("another secret, of another sender"));
    let told: Vec<Value> = received.iter().map(|message| message.json()).collect();
    let verdicts = of_kind(&told, "verdict");
    assert_eq!(verdicts.len(), 2, "one a model");
    insta::assert_json_snapshot!("a_verdict_as_it_is_told", verdicts[0]);
    let [rollback] = of_kind(&told, "rollback")[..] else { panic!("one rollback: {told:?}") };
    insta::assert_snapshot!(rollback["data"]["detail"].as_str().expect("a text"));
    let [hold] = of_kind(&told, "hold")[..] else { panic!("one hold: {told:?}") };
    insta::assert_snapshot!(
        hold["text"].as_str().and_then(|text| text.split("\n\n").next()).expect("a text")
    );
    assert_eq!(deliver(&stage).await, 0, "each is sent once");
}

#[tokio::test]
async fn a_hold_that_waits_for_a_word_is_told_in_greek_with_links_to_give_it() {
    let receiver = Receiver::start().await;
    let stage = stage(&receiver, |definition| {
        definition.approval.ask = mathesis::workflow::definition::ApprovalAsk::BeforeTest;
        definition.notify.language = Language::Greek;
        definition.notify.dashboard_url = "https://mathesis.example".to_owned();
    })
    .await;
    stage.start_test("asked").await;
    assert_eq!(deliver(&stage).await, 1);
    insta::assert_snapshot!(receiver.received()[0].json()["text"].as_str().expect("a text"));
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_written() {
    let receiver = Receiver::start().await;
    let quiet =
        stage(&receiver, |definition| definition.notify.kinds = vec![NotifyKind::Verdict]).await;
    quiet.please(Operation::Pause).await;
    let silent = stage(&receiver, |definition| definition.notify.url = String::new()).await;
    silent.please(Operation::Pause).await;
    assert_eq!((outbox(&quiet).await.len(), outbox(&silent).await.len()), (0, 0));
}

#[tokio::test]
async fn without_its_notification_nothing_happens_and_without_it_no_notification() {
    let receiver = Receiver::start().await;
    let stage = stage(&receiver, |_| {}).await;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(stage.pool())
    .await
    .expect("the outbox is full");
    assert!(stage.operate(Operation::Pause).await.is_err());
    assert_eq!(stage.held_by().await, [""; 0]);
    stage.by_hand("DROP TRIGGER full_disk ON notifications").await;
    sqlx::raw_sql(
        "CREATE TRIGGER full_disk BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(stage.pool())
    .await
    .expect("the trail is full");
    assert!(stage.operate(Operation::Pause).await.is_err());
    assert_eq!(outbox(&stage).await.len(), 0, "what was undone is not told");
}

/// Puts a call on record that cost so many cents.
async fn spend(stage: &Stage, cents: i64) {
    let call_id = Uuid::now_v7();
    let intent = CallIntent { call_id, ..asking(Payer::Rehearsal(call_id)) };
    let now = stage.engine.now();
    claude_calls::begin(stage.pool(), stage.id(), &intent, now).await.expect("it is begun");
    let outcome = CallOutcome {
        status: "answered",
        cost_usd: Decimal::new(cents, 2),
        ..CallOutcome::default()
    };
    claude_calls::end(stage.pool(), stage.id(), call_id, &outcome, now).await.expect("it is ended");
}

#[tokio::test]
async fn four_fifths_of_the_budget_are_told_once_a_month() {
    let receiver = Receiver::start().await;
    let stage =
        stage(&receiver, |definition| definition.claude.budget_usd_per_month = Decimal::from(10))
            .await;
    spend(&stage, 799).await;
    assert_eq!(outbox(&stage).await.len(), 0, "not yet");
    spend(&stage, 1).await;
    spend(&stage, 150).await;
    let told = outbox(&stage).await;
    let [told] = &told[..] else { panic!("once: {told:?}") };
    insta::assert_snapshot!(told.said, @"this month's Claude calls have cost 8.00 USD; the budget is 10 USD");
    // From Monday 23 November into December.
    stage.clock.advance(Duration::days(9));
    spend(&stage, 100).await;
    assert_eq!(outbox(&stage).await.len(), 1, "a new month has a budget of its own");
    spend(&stage, 800).await;
    assert_eq!(outbox(&stage).await.len(), 2);
}
