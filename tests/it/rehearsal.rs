//! A rehearsal: it says what the next cycle would find and propose, pays for it, and touches nothing else.

use mathesis::runtime::{Rehearsal, RehearsalError, Rehearsed};
use mathesis::store::costs;
use rust_decimal::Decimal;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, edit_answer, no_edit_answer};

/// Every live table with a digest of its rows.
async fn digests(stage: &Stage) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename",
    )
    .fetch_all(stage.pool())
    .await
    .expect("the database answers");
    let mut digests = Vec::new();
    for table in tables {
        let sql = format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM public.{table} t"
        );
        let digest: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(stage.pool())
            .await
            .expect("the database answers");
        digests.push((table, digest));
    }
    digests
}

fn changed(before: &[(String, String)], after: &[(String, String)]) -> Vec<String> {
    let pairs = before.iter().zip(after);
    pairs.filter(|(before, after)| before != after).map(|(before, _)| before.0.clone()).collect()
}

async fn schemas_left(stage: &Stage) -> i64 {
    stage
        .number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mathesis\\_rehearsal\\_%'")
        .await
}

async fn prepared(stage: &Stage, last: i64) -> Rehearsal {
    Rehearsal::prepare(&stage.engine, &stage.workflow, last).await.expect("it can be rehearsed")
}

async fn played(stage: &Stage, last: i64) -> Rehearsed {
    prepared(stage, last).await.play().await.expect("it is played")
}

#[tokio::test]
async fn it_says_what_would_be_found_and_proposed_and_touches_nothing_but_the_cost() {
    // A cycle in Testing, with insights and candidates of its own, must stand as it is.
    let stage = Stage::new().await;
    stage.reach_testing().await;
    stage.complete_tasks("later", 10, 6).await;
    let before = digests(&stage).await;
    let spent = stage.calls(1).await.len();
    stage.claude.answer_json(analysis_answer(&["later-1", "later-2", "seed-1"]));
    stage.claude.answer_json(edit_answer("Say the colour of the logo."));
    stage.claude.answer_json(no_edit_answer());

    let rehearsal = prepared(&stage, 12).await;
    let most = rehearsal.estimate_usd;
    assert_eq!(rehearsal.tasks, 12);
    let rehearsed = rehearsal.play().await.expect("it is played");

    assert_eq!(changed(&before, &digests(&stage).await), ["claude_call_outcomes", "claude_calls"]);
    assert_eq!((stage.calls(1).await.len(), schemas_left(&stage).await), (spent, 0));
    assert!(rehearsed.cost_usd > Decimal::ZERO && rehearsed.cost_usd < most);
    let asked = stage.claude.requests();
    let analysis = format!("{:?}", asked[3]);
    assert!(analysis.contains("later-10") && !analysis.contains("seed-47"), "the last twelve");
    assert_eq!(rehearsed.insights.len(), 2);
    let evidence = &rehearsed.insights[0].example_task_ids;
    assert_eq!(evidence, &["later-1", "later-2"], "evidence outside of the window is dropped");
    let told: Vec<String> = rehearsed
        .models
        .iter()
        .map(|model| {
            let diff = model.diff.as_deref().unwrap_or("no candidate\n");
            format!("{} {:?}: {diff}", model.model, model.version_now)
        })
        .collect();
    assert!(told[0].starts_with(&format!("{WAN} Some(1)")));
    assert!(told[0].contains("+Say the colour of the logo."), "{}", told[0]);
    assert_eq!(told[1], format!("{NANO} Some(1): no candidate\n"));

    let months = costs::by_month(stage.pool(), stage.id(), chrono_tz::UTC, 1).await;
    let month = months.expect("the database answers").remove(0);
    assert_eq!((month.calls, month.rehearsed), (6, 3), "and the month counts it");
}

#[tokio::test]
async fn an_estimate_alone_pays_nothing_and_leaves_nothing() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 5, 7).await;
    let before = digests(&stage).await;
    prepared(&stage, 50).await.put_away().await.expect("it is put away");
    assert_eq!(changed(&before, &digests(&stage).await), [""; 0]);
    assert_eq!((schemas_left(&stage).await, stage.claude.requests().len()), (0, 0));
}

#[tokio::test]
async fn nothing_recorded_or_no_money_is_said_before_anything_is_paid() {
    let stage = Stage::new().await;
    let none = Rehearsal::prepare(&stage.engine, &stage.workflow, 50).await;
    assert!(matches!(none, Err(RehearsalError::NoTasks)));
    let build = Stage::builder().definition(|definition| {
        definition.claude.budget_usd_per_month = Decimal::new(1, 2);
    });
    let poor = build.build().await;
    poor.complete_tasks("task", 5, 7).await;
    let refused = Rehearsal::prepare(&poor.engine, &poor.workflow, 50).await;
    assert!(matches!(refused, Err(RehearsalError::Budget { .. })));
    assert_eq!((poor.held_by().await, schemas_left(&poor).await), (Vec::new(), 0));
}

#[tokio::test]
async fn a_call_that_fails_ends_it_with_words_and_its_cost_on_record() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 5, 7).await;
    stage.claude.answer_text("no JSON").answer_text("none again").answer_text("nor now");
    let failed = prepared(&stage, 50).await.play().await.expect_err("no answer can be used");
    assert!(failed.to_string().contains("no answer could be used"), "{failed}");
    assert_eq!(
        stage.number("SELECT count(*) FROM claude_calls WHERE rehearsal IS NOT NULL").await,
        3
    );
    assert_eq!((stage.held_by().await, schemas_left(&stage).await), (Vec::new(), 0));
}

#[tokio::test]
async fn one_that_died_is_put_on_record_and_cleared_away_by_the_next() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 5, 7).await;
    let died = prepared(&stage, 50).await;
    drop(died);
    assert_eq!(schemas_left(&stage).await, 1);
    stage.claude.answer_json(analysis_answer(&[]));
    stage.claude.answer_json(no_edit_answer()).answer_json(no_edit_answer());
    crate::support::until(async || {
        prepared(&stage, 50).await.put_away().await.expect("it is put away");
        schemas_left(&stage).await == 0
    })
    .await;
    let rehearsed = played(&stage, 50).await;
    assert_eq!((rehearsed.calls, schemas_left(&stage).await), (3, 0));
}
