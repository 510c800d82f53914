//! Every act of an operator is on record, in the transaction that carried it out, and for good.

use mathesis::runtime::Operation;
use mathesis::store::audit::{self, Actor, Entry, Filter, NO_WORKFLOW};
use mathesis::store::holds::{self, HoldKind, NewHold};
use mathesis::store::keys::{self, Role};
use mathesis::workflow::definition::ApprovalAsk;

use crate::support::Stage;
use crate::support::stage::{NANO, WAN, noon};

async fn trail(stage: &Stage, filter: Filter<'_>) -> Vec<Entry> {
    let mut entries = audit::list(stage.pool(), &filter, 100).await.expect("the trail can be read");
    entries.reverse();
    entries
}

/// The trail as people read it, oldest first.
async fn told(stage: &Stage) -> String {
    let filter = Filter { workflow_id: Some(stage.id()), ..Filter::default() };
    let lines = trail(stage, filter).await.into_iter().map(|entry| {
        let cycle = entry.cycle.map_or_else(String::new, |cycle| format!(" cycle {cycle}"));
        let why = entry.reason.unwrap_or_default();
        format!(
            "{} {} [{}]{cycle} {}: {} ({why})\n",
            entry.actor, entry.act, entry.subject, entry.result, entry.said
        )
    });
    lines.collect()
}

#[tokio::test]
async fn each_act_has_its_line_with_who_why_on_what_and_what_came_of_it() {
    let stage = Stage::builder()
        .definition(|definition| definition.approval.ask = ApprovalAsk::BeforeTest)
        .build()
        .await;
    stage.please(Operation::Pause).await;
    stage.please(Operation::Pause).await;
    stage.please(Operation::Resume).await;
    assert!(stage.operate(Operation::Resume).await.is_err());
    stage.please(Operation::Automation { enabled: false }).await;
    stage.please(Operation::Automation { enabled: true }).await;
    stage.start_test("seed").await;
    stage.please(Operation::Refuse { models: vec![WAN.to_owned()] }).await;
    assert!(stage.operate(Operation::Approve { models: vec![NANO.to_owned()] }).await.is_err());
    stage.please(Operation::Approve { models: vec![] }).await;
    stage.please(Operation::Rollback { model: NANO.to_owned(), to: 2 }).await;
    stage.please(Operation::Cancel).await;
    insta::assert_snapshot!(told(&stage).await);
}

#[tokio::test]
async fn a_refused_resume_names_the_hold_and_does_not_quote_it() {
    let stage = Stage::new().await;
    let reason = "Claude said of task seed-1: «βάλε το όνομά μου»";
    let hold = NewHold {
        kind: HoldKind::EffectFailed,
        cycle: Some(1),
        subject: String::new(),
        effect_id: None,
        code: "no_usable_answer".to_owned(),
        reason: reason.to_owned(),
        remedy: "read the calls".to_owned(),
        placed_by: "mathesis".to_owned(),
    };
    let mut conn = stage.pool().acquire().await.expect("a connection");
    holds::place(&mut conn, stage.id(), &hold, noon()).await.expect("it is placed");
    drop(conn);
    let refused = stage.operate(Operation::Resume).await.expect_err("nobody paused it");
    assert!(refused.to_string().contains(reason), "whoever asks is told: {refused}");
    let row = stage.number("SELECT hold_id FROM holds").await;
    let said = trail(&stage, Filter::default()).await.remove(0).said;
    let named = format!("it is held by hold {row} (effect_failed)");
    assert!(said.ends_with(&named), "{said}");
}

#[tokio::test]
async fn a_key_made_and_revoked_belongs_to_no_workflow() {
    let stage = Stage::new().await;
    let by = Actor { name: "Ελένη", reason: Some("a new pipeline") };
    keys::create(stage.pool(), "pipeline", Role::Ingest, by, noon()).await.expect("it is made");
    assert!(keys::create(stage.pool(), "pipeline", Role::Read, by, noon()).await.is_err());
    keys::revoke(stage.pool(), "pipeline", by, noon()).await.expect("it is revoked");
    let filter = Filter { workflow_id: Some(NO_WORKFLOW), ..Filter::default() };
    let acts: Vec<_> =
        trail(&stage, filter).await.into_iter().map(|entry| (entry.act, entry.subject)).collect();
    let line = |act: &str| (act.to_owned(), "pipeline".to_owned());
    assert_eq!(acts, [line("key_create"), line("key_revoke")]);
}

#[tokio::test]
async fn an_act_that_cannot_be_committed_leaves_no_line_and_no_hold() {
    let stage = Stage::new().await;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(stage.pool())
    .await
    .expect("the trail is full");
    for act in [Operation::Pause, Operation::Cancel, Operation::Automation { enabled: false }] {
        assert!(stage.operate(act).await.is_err(), "without its line it is not done");
    }
    assert_eq!(stage.held_by().await, [""; 0]);
    assert_eq!(stage.cycle().await.number, 1, "the cycle goes on as if nobody had asked");
    assert_eq!(stage.number("SELECT count(*) FROM audit_log").await, 0);
}

#[tokio::test]
async fn filters_narrow_and_pages_go_on_where_the_last_one_ended() {
    let stage = Stage::new().await;
    for _ in 0..3 {
        stage.please(Operation::Pause).await;
        stage.please(Operation::Resume).await;
    }
    let of = |filter: Filter<'static>| trail(&stage, filter);
    assert_eq!(of(Filter { act: Some("pause"), ..Filter::default() }).await.len(), 3);
    assert_eq!(of(Filter { actor: Some("nobody"), ..Filter::default() }).await.len(), 0);
    assert_eq!(of(Filter { to: Some(noon()), ..Filter::default() }).await.len(), 0);
    let first = audit::list(stage.pool(), &Filter::default(), 4).await.expect("a page");
    let before = first.last().map(|entry| entry.entry_id);
    let second = of(Filter { before, ..Filter::default() }).await;
    assert_eq!((first.len(), second.len()), (4, 2));
}
