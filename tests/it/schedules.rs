//! Schedules are rows: due in the workflow's time zone, and run once however many processes there are.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use mathesis::runtime::run_due_schedules;
use mathesis::workflow::CronExpression;

use crate::support::Stage;

async fn run_due(stage: &Stage) -> u32 {
    run_due_schedules(&stage.engine, &stage.worker).await.expect("the schedules run")
}

async fn next_run(stage: &Stage, name: &str) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT next_run_at FROM schedules WHERE name = $1")
        .bind(name)
        .fetch_one(stage.pool())
        .await
        .expect("the schedule is a row")
}

fn at(moment: &str) -> DateTime<Utc> {
    moment.parse().expect("a moment")
}

#[tokio::test]
async fn the_sweep_and_the_cleanup_are_rows_read_in_the_workflows_time_zone() {
    let stage = Stage::new().await;
    let rows = stage
        .text("SELECT string_agg(concat_ws(' ', name, cron, timezone), E'\n' ORDER BY name) FROM schedules")
        .await;
    assert_eq!(rows, "cleanup 0 3 * * * Europe/Athens\nsweep 0 * * * * Europe/Athens");
    assert_eq!(next_run(&stage, "sweep").await, at("2026-11-23T13:00:00Z"));
    assert_eq!(
        next_run(&stage, "cleanup").await,
        at("2026-11-24T01:00:00Z"),
        "three o'clock in winter"
    );
}

#[tokio::test]
async fn a_second_start_moves_no_schedule() {
    let stage = Stage::new().await;
    let before = next_run(&stage, "sweep").await;
    stage.clock.advance(TimeDelta::hours(5));
    stage.another().await;
    assert_eq!(next_run(&stage, "sweep").await, before, "what was missed meanwhile is still due");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_run_each_schedule_once() {
    let stage = Stage::new().await;
    let replica = stage.another().await;
    stage.clock.set(at("2026-11-24T01:00:00Z"));
    let ran =
        join_all([run_due(&stage), run_due(&replica), run_due(&stage), run_due(&replica)]).await;
    assert_eq!(ran.iter().sum::<u32>(), 2, "the sweep and the cleanup, whoever took them: {ran:?}");
    assert_eq!(stage.number("SELECT sum(runs)::bigint FROM schedules").await, 2);
    assert_eq!(run_due(&stage).await + run_due(&replica).await, 0, "nothing is due any more");
}

#[tokio::test]
async fn hours_that_were_slept_through_are_made_up_for_by_one_sweep() {
    let stage = Stage::new().await;
    stage.clock.set(at("2026-11-23T20:30:00Z"));
    assert_eq!(run_due(&stage).await, 1);
    assert_eq!(next_run(&stage, "sweep").await, at("2026-11-23T21:00:00Z"));
}

#[tokio::test]
async fn the_cleanup_keeps_to_three_o_clock_when_summer_comes_and_goes() {
    let stage = Stage::new().await;
    // On 28 March 2027 Athens goes from 02:59 to 04:00; on 31 October 2027 03:00 comes twice.
    let walk = [
        ("2027-03-27T01:00:00Z", "2027-03-28T01:00:00Z"),
        ("2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"),
        ("2027-10-30T00:00:00Z", "2027-10-31T00:00:00Z"),
        ("2027-10-31T00:00:00Z", "2027-11-01T01:00:00Z"),
    ];
    for (now, next) in walk {
        stage.clock.set(at(now));
        run_due(&stage).await;
        assert_eq!(next_run(&stage, "cleanup").await, at(next), "after {now}");
    }
}

#[tokio::test]
async fn how_long_tasks_are_kept_and_when_they_go_is_the_workflows_to_say_and_what_went_is_reported()
 {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.retention.days = 7;
            definition.retention.cleanup = CronExpression::new("30 4 * * *").expect("a time");
        })
        .build()
        .await;
    stage.complete_tasks("old", 3, 7).await;
    let kept = "SELECT count(*) FROM tasks";
    stage.clock.set(at("2026-11-30T02:30:00Z"));
    run_due(&stage).await;
    assert_eq!(stage.number(kept).await, 3, "half past four in Athens, six and a half days later");
    stage.clock.set(at("2026-12-01T02:29:59Z"));
    run_due(&stage).await;
    assert_eq!(stage.number(kept).await, 3, "old enough, and not yet half past four");
    stage.clock.set(at("2026-12-01T02:30:00Z"));
    run_due(&stage).await;
    assert_eq!(stage.number(kept).await, 0);
    let result = stage.text("SELECT last_result FROM schedules WHERE name = 'cleanup'").await;
    assert_eq!(result, "3 tasks removed, 3 of them never analysed");
}

#[tokio::test]
async fn a_process_that_dies_with_a_schedule_in_hand_loses_it() {
    let stage = Stage::new().await;
    stage.clock.set(at("2026-11-23T13:00:00Z"));
    let dead = uuid::Uuid::now_v7();
    mathesis::store::schedules::claim_due(
        stage.pool(),
        stage.id(),
        dead,
        at("2026-11-23T13:00:00Z"),
    )
    .await
    .expect("the database answers")
    .expect("the sweep is due");
    assert_eq!(run_due(&stage).await, 0, "its claim stands");

    stage.by_hand("UPDATE schedules SET claimed_until = now() - interval '1 second' WHERE claimed_by IS NOT NULL").await;
    assert_eq!(run_due(&stage).await, 1);
    assert_eq!(next_run(&stage, "sweep").await, at("2026-11-23T14:00:00Z"));
}

#[tokio::test]
async fn a_process_that_lost_its_schedule_changes_nothing_when_it_comes_back() {
    let stage = Stage::new().await;
    let now = at("2026-11-23T13:00:00Z");
    stage.clock.set(now);
    let stopped = uuid::Uuid::now_v7();
    let due = mathesis::store::schedules::claim_due(stage.pool(), stage.id(), stopped, now)
        .await
        .expect("the database answers")
        .expect("the sweep is due");
    stage.by_hand("UPDATE schedules SET claimed_until = now() - interval '1 second' WHERE claimed_by IS NOT NULL").await;
    assert_eq!(run_due(&stage).await, 1);
    mathesis::store::schedules::finish(
        stage.pool(),
        &due,
        stopped,
        at("2030-01-01T00:00:00Z"),
        "late",
        now,
    )
    .await
    .expect("the database answers");
    assert_eq!(next_run(&stage, "sweep").await, at("2026-11-23T14:00:00Z"));
    assert_eq!(stage.number("SELECT runs FROM schedules WHERE name = 'sweep'").await, 1);
}
