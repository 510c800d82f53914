//! A task that is to be forgotten: its texts go from everywhere, what it amounted to stays, and it stays dead.

use chrono_tz::Tz;
use futures::future::join;
use mathesis::runtime::{ForgetError, ForgottenTask, Operation, Operator, forget_task};
use mathesis::store::analytics::{Analytics, AnalyticsQuery, load};
use mathesis::store::audit::{self, Filter};
use mathesis::store::insights::{self, Which};
use mathesis::store::{export, figures};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::stage::{NANO, WAN, noon};
use crate::support::{Stage, TaskRun, analysis_answer, edit_answer, nano_edit_answer};

/// What the person asked for, which nobody else did.
const PROMPT: &str =
    "Γράψε στην κάρτα της Ευγενίας «Χρόνια πολλά από όλους μας» με πράσινα γράμματα";
/// Of each passage that must go, a part by which it is found.
const TRACES: [&str; 6] = [
    "Ευγενίας",
    "Χρόνια πολλά από",
    "private-picture",
    "her sister",
    "leaked by the judge",
    "seed-1",
];

async fn stage() -> Stage {
    Stage::builder().definition(|definition| definition.trigger.tasks = 3).build().await
}

async fn forget(
    stage: &Stage,
    task: &str,
    run: Option<&str>,
) -> Result<ForgottenTask, ForgetError> {
    let operator = Operator { name: "Ελένη", reason: Some("a customer asked"), cycle: None };
    forget_task(&stage.engine, &stage.workflow, task, run, operator).await
}

/// A task whose every text is its own.
fn private_task(task: &str) -> Vec<Value> {
    let run =
        TaskRun { prompt: PROMPT.to_owned(), ..TaskRun::new(task, &[(WAN, 0, 9), (NANO, 0, 7)]) };
    let mut events = run.events();
    for event in &mut events {
        match event["type"].as_str() {
            Some("enhancement") => {
                event["enhanced_prompt"] = json!(format!("{PROMPT}, and nothing else"))
            }
            Some("generation") => {
                event["image_url"] = json!("https://images.example/private-picture.png")
            }
            Some("validation") => {
                event["issues"] = json!(["this was leaked by the judge of the picture"]);
                event["reasoning"] = json!(format!("«{PROMPT}» is drawn"));
            }
            Some("task_started") => event["metadata"] = json!({ "for": "her sister" }),
            _ => {}
        }
    }
    events.push(json!({ "type": "error", "task_id": task, "model": NANO, "error": format!("cannot draw: {PROMPT}") }));
    events.push(json!({ "type": "feedback", "task_id": task, "kept": true, "comment": "her sister loves it" }));
    events
}

/// A cycle that has ended and whose analysis and generation quoted the task.
async fn quoted_in_an_ended_cycle() -> Stage {
    let stage = stage().await;
    stage.log(private_task("seed-1")).await;
    for n in 2..=3 {
        let run = TaskRun::new(format!("seed-{n}"), &[(WAN, 0, 7), (NANO, 0, 7)]);
        stage.log(run.events()).await;
    }
    stage.watch().await;
    let mut analysis = analysis_answer(&["seed-1", "seed-2"]);
    analysis["summary"] = json!(format!("One asked: {PROMPT}. It was lost."));
    analysis["patterns"][0]["description"] = json!(format!("As in «{PROMPT}», names are lost."));
    analysis["recommendations"][0]["text"] = json!(format!("Try it with {PROMPT}!"));
    stage.claude.answer_json(analysis);
    // The first answer quotes the task and is refused, the second is taken.
    stage.claude.answer_json(edit_answer(&format!("Such as: {PROMPT}.")));
    stage.claude.answer_json(edit_answer("Name what must stay unchanged."));
    stage.claude.answer_json(nano_edit_answer("Keep the logo."));
    stage.step().await;
    stage.step().await;
    stage.please(Operation::Cancel).await;
    stage
}

/// Every row of every table that holds this, by table.
async fn where_it_stands(stage: &Stage, trace: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
          WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name",
    )
    .fetch_all(stage.pool())
    .await
    .expect("the tables are listed");
    let mut found = Vec::new();
    for table in tables {
        let count = format!("SELECT count(*) FROM {table} AS t WHERE position($1 IN t::text) > 0");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .bind(trace)
            .fetch_one(stage.pool())
            .await
            .expect("the table reads");
        if rows > 0 {
            found.push(table);
        }
    }
    found
}

async fn dashboard(stage: &Stage) -> Analytics {
    figures::refresh(stage.pool(), stage.id(), Tz::Europe__Athens, noon()).await.expect("figures");
    let query = AnalyticsQuery {
        now: noon(),
        time_zone: Tz::Europe__Athens,
        from: None,
        to: None,
        model: None,
        category: None,
        trigger_tasks: 50,
        score_max: 10,
        budget_usd_per_month: None,
    };
    load(stage.pool(), stage.id(), &query).await.expect("the dashboard reads")
}

#[tokio::test]
async fn no_table_keeps_a_word_of_it_and_the_totals_stay() {
    let stage = quoted_in_an_ended_cycle().await;
    sqlx::raw_sql(
        "INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, run_after, outcome, outcome_words,
                upload_title, created_at, finished_at)
         VALUES (1, 'seed-1', 1, 'webhook', 'done', now(), 'winner', 'her sister', 'private-picture', now(), now());
         INSERT INTO holds (workflow_id, cycle, kind, code, reason, remedy, placed_at, placed_by)
         SELECT 1, 1, 'effect_failed', 'no_usable_answer', 'the last copies a task: «' || original_prompt || '»', 'mend it',
                created_at, 'mathesis'
           FROM tasks WHERE clickup_task_id = 'seed-1';
         INSERT INTO notifications (workflow_id, notification_id, kind, subject, said, status, next_attempt_at, give_up_at,
                created_at)
         SELECT 1, gen_random_uuid(), 'hold', '', reason, 'waiting', placed_at, placed_at, placed_at FROM holds
          WHERE code = 'no_usable_answer';
         UPDATE effects SET last_error = (SELECT reason FROM holds WHERE code = 'no_usable_answer');
         INSERT INTO pipeline_steps (workflow_id, job_id, step, begun_at, ended_at, outcome)
         VALUES (1, 1, 'enhance', now(), now(), '{\"prompt\": \"Ευγενίας\"}')",
    )
    .execute(stage.pool())
    .await
    .expect("the pipeline did it");
    assert!(where_it_stands(&stage, TRACES[0]).await.len() >= 10, "it stands in many places first");
    let before = dashboard(&stage).await;

    let done = forget(&stage, "seed-1", None).await.expect("it is forgotten");
    insta::assert_snapshot!(done.said);

    for trace in TRACES {
        let places = where_it_stands(&stage, trace).await;
        let keys = ["audit_log", "task_tombstones"];
        let left: Vec<_> = places
            .iter()
            .filter(|table| trace != "seed-1" || !keys.contains(&table.as_str()))
            .collect();
        assert!(left.is_empty(), "{trace} is left in {left:?}");
    }
    let after = dashboard(&stage).await;
    assert_eq!((before.task_days, before.model_days), (after.task_days, after.model_days));
    assert_eq!((before.models, before.tasks.total), (after.models, after.tasks.total));
}

#[tokio::test]
async fn evidence_says_forgotten_and_exports_no_longer_hold_it() {
    let stage = quoted_in_an_ended_cycle().await;
    forget(&stage, "seed-1", None).await.expect("it is forgotten");
    let rows = insights::read(stage.pool(), stage.id(), Which::newest(9)).await.expect("they read");
    for row in &rows {
        assert_eq!(row.example_task_ids, ["forgotten", "seed-2"]);
    }
    let told = rows.iter().find(|row| row.model_name == WAN).expect("the insight stands");
    assert_eq!(told.description, "As in «[forgotten]», names are lost.");
    let exported = export::page(stage.pool(), stage.id(), 0, 10).await.expect("the log reads");
    let exported: Vec<_> = exported.into_iter().map(|(_, task)| task.task_id).collect();
    assert_eq!(exported, ["seed-2", "seed-3"]);
}

#[tokio::test]
async fn a_late_event_does_not_revive_it_and_a_second_time_finds_nothing() {
    let stage = quoted_in_an_ended_cycle().await;
    forget(&stage, "seed-1", None).await.expect("it is forgotten");
    let late = stage.try_log(private_task("seed-1")).await;
    assert!(late.rejected.iter().all(|refused| refused.code == "task_removed"), "{late:?}");
    assert_eq!(late.accepted, 0);
    let said = &late.rejected[0].detail;
    assert!(said.contains("cleanup") && said.contains("forgotten"), "whichever it was: {said}");
    let again = forget(&stage, "seed-1", None).await.expect("twice is as good as once");
    assert_eq!(again.said, "nothing of task seed-1 was left to forget");
    let filter = Filter { act: Some("forget"), ..Filter::default() };
    let trail = audit::list(stage.pool(), &filter, 9).await.expect("the trail reads");
    let trail: Vec<_> = trail
        .iter()
        .map(|act| {
            (act.result.as_str(), act.actor.as_str(), act.reason.as_deref(), act.subject.as_str())
        })
        .collect();
    let line = |result| (result, "Ελένη", Some("a customer asked"), "task seed-1");
    assert_eq!(trail, [line("unchanged"), line("done")]);
}

#[tokio::test]
async fn what_an_open_cycle_needs_is_refused_with_when_it_will_be_possible() {
    let stage = stage().await;
    let mut said = Vec::new();
    let refused = async |task: &str| match forget(&stage, task, None).await {
        Err(error @ (ForgetError::InUse(_) | ForgetError::Unknown(_))) => error.to_string(),
        other => panic!("{task} was not refused: {other:?}"),
    };
    said.push(refused("never-seen").await);
    stage.open_test().await;
    said.push(refused("seed-1").await);
    let told = stage.assign("drawn", NANO).await;
    stage.log(TaskRun::new("drawn", &[(NANO, told.version, 8)]).events()).await;
    said.push(refused("drawn").await);
    sqlx::raw_sql(
        "INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, run_after, created_at)
         VALUES (1, 'queued', 2, 'sweep', 'pending', now(), now())",
    )
    .execute(stage.pool())
    .await
    .expect("a job waits");
    said.push(refused("queued").await);
    stage.please(Operation::Cancel).await;
    stage.complete_tasks("next", 3, 7).await;
    stage.watch().await;
    said.push(refused("seed-1").await);
    insta::assert_snapshot!(said.join("\n"));

    assert_eq!(
        stage.number("SELECT count(*) FROM task_tombstones").await,
        0,
        "nothing was changed"
    );
    stage.please(Operation::Cancel).await;
    for task in ["seed-1", "drawn"] {
        forget(&stage, task, None).await.expect("now it can be");
    }
}

#[tokio::test]
async fn one_run_goes_and_the_others_stay_with_their_evidence() {
    let stage = quoted_in_an_ended_cycle().await;
    let mut second = TaskRun::new("seed-1", &[(WAN, 0, 6)]).events();
    second.iter_mut().for_each(|event| event["run_id"] = json!("2"));
    stage.log(second).await;
    forget(&stage, "seed-1", Some("")).await.expect("the first run is forgotten");
    assert_eq!(
        stage.number("SELECT count(*) FROM tasks WHERE clickup_task_id = 'seed-1'").await,
        1
    );
    assert_eq!(where_it_stands(&stage, "Ευγενίας").await, [""; 0]);
    let rows = insights::read(stage.pool(), stage.id(), Which::newest(9)).await.expect("they read");
    assert!(rows.iter().all(|row| row.example_task_ids[0] == "seed-1"), "it still leads somewhere");
}

#[tokio::test]
async fn a_running_task_and_one_that_no_analysis_saw_are_counted_as_such() {
    let stage = stage().await;
    stage.log(private_task("whole")).await;
    let begun = json!({ "type": "task_started", "task_id": "begun", "original_prompt": PROMPT });
    stage.log(vec![begun]).await;
    let of_whole = forget(&stage, "whole", None).await.expect("it is forgotten");
    let of_begun = forget(&stage, "begun", None).await.expect("it is forgotten");
    assert_eq!((of_whole.forgotten.unanalyzed, of_begun.forgotten.unanalyzed), (1, 0));
    let sums = dashboard(&stage).await;
    assert_eq!((sums.tasks.total, sums.tasks.removed_unanalyzed), (2, 1));
    assert_eq!(sums.task_days.iter().map(|day| day.abandoned).sum::<i64>(), 1);
}

#[tokio::test]
async fn without_its_line_in_the_trail_nothing_is_forgotten() {
    let stage = quoted_in_an_ended_cycle().await;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .execute(stage.pool())
    .await
    .expect("the trail is full");
    let before = where_it_stands(&stage, "Ευγενίας").await;
    assert!(forget(&stage, "seed-1", None).await.is_err());
    assert_eq!(where_it_stands(&stage, "Ευγενίας").await, before);
}

#[tokio::test]
async fn events_that_arrive_meanwhile_never_leave_it_alive() {
    let stage = stage().await;
    for n in 0..12 {
        let task = format!("raced-{n}");
        let [first, rest] = [0..2, 2..99].map(|part| {
            let all = private_task(&task).into_iter().enumerate();
            all.filter(|(at, _)| part.contains(at)).map(|(_, event)| event).collect::<Vec<_>>()
        });
        stage.log(first).await;
        let (forgotten, _) = join(forget(&stage, &task, None), stage.try_log(rest)).await;
        forgotten.expect("it is forgotten");
    }
    assert_eq!(stage.number("SELECT count(*) FROM tasks").await, 0);
    assert_eq!(stage.number("SELECT count(*) FROM task_events").await, 0);
    assert_eq!(where_it_stands(&stage, "Ευγενίας").await, [""; 0]);
}
