//! The dashboard's figures are what the task log says, whatever changes it and whoever counts.

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use futures::future::{join, join_all};
use mathesis::store::analytics::{Analytics, AnalyticsQuery, load};
use mathesis::store::retention::{Cleanup, cleanup};
use mathesis::store::{figures, task_log};
use serde_json::json;

use crate::support::stage::{NANO, WAN, noon};
use crate::support::{Stage, TaskRun};

const ZONE: Tz = Tz::Europe__Athens;

fn query() -> AnalyticsQuery {
    AnalyticsQuery {
        now: noon(),
        time_zone: ZONE,
        from: None,
        to: None,
        model: None,
        category: None,
        trigger_tasks: 50,
        score_max: 10,
        budget_usd_per_month: None,
    }
}

async fn refresh(stage: &Stage) -> usize {
    figures::refresh(stage.pool(), stage.id(), ZONE, stage.clock_now()).await.expect("it counts")
}

async fn shown(stage: &Stage) -> Analytics {
    load(stage.pool(), stage.id(), &query()).await.expect("the figures read")
}

/// Tasks, kept and score sum of each model as the pages show them.
async fn told(stage: &Stage) -> (i64, i64, i64, i64) {
    let it = shown(stage).await;
    let scores = it.models.iter().map(|model| model.score_sum).sum();
    let wins = it.models.iter().map(|model| model.wins).sum();
    (it.tasks.total, it.tasks.kept, scores, wins)
}

/// The same, counted from the log itself.
async fn counted(stage: &Stage) -> (i64, i64, i64, i64) {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM tasks WHERE feedback_kept),
                (SELECT coalesce(sum(validation_score), 0) FROM attempts)::bigint,
                (SELECT count(winner_model) FROM tasks)",
    )
    .fetch_one(stage.pool())
    .await
    .expect("the log reads")
}

#[tokio::test]
async fn a_task_shows_after_a_refresh_and_again_when_it_changes_on_an_earlier_day() {
    let stage = Stage::new().await;
    stage.complete_tasks("first", 3, 9).await;
    assert_eq!(refresh(&stage).await, 1, "one day has changed");
    assert_eq!(told(&stage).await, (3, 0, 54, 3));
    assert_eq!(refresh(&stage).await, 0, "nothing has changed since");

    stage.clock.advance(Duration::days(3));
    stage.log(vec![json!({ "type": "feedback", "task_id": "first-2", "kept": true })]).await;
    assert_eq!(refresh(&stage).await, 2, "the day of its arrival and the day of its last event");
    assert_eq!(told(&stage).await, (3, 1, 54, 3));
    assert_eq!(shown(&stage).await.task_days.len(), 1);
}

#[tokio::test]
async fn a_run_that_falls_silent_is_counted_as_given_up() {
    let stage = Stage::new().await;
    stage.log(TaskRun::new("quiet", &[(NANO, 0, 7)]).events()[..1].to_vec()).await;
    refresh(&stage).await;
    assert_eq!(shown(&stage).await.tasks.running, 1);
    let before = noon() + Duration::hours(25);
    assert_eq!(task_log::abandon_silent(stage.pool(), stage.id(), before).await.unwrap(), 1);
    assert_eq!(refresh(&stage).await, 1);
    let tasks = shown(&stage).await.tasks;
    assert_eq!((tasks.running, tasks.abandoned), (0, 1));
}

#[tokio::test]
async fn many_refreshers_beside_busy_ingest_miss_nothing_and_count_nothing_twice() {
    let stage = Stage::new().await;
    let ingest = async {
        for batch in 0..12 {
            stage.complete_tasks(&format!("b{batch}"), 5, 4 + batch % 6).await;
        }
    };
    let refreshers = join_all((0..4).map(|_| async {
        for _ in 0..25 {
            refresh(&stage).await;
            tokio::task::yield_now().await;
        }
    }));
    join(ingest, refreshers).await;
    refresh(&stage).await;
    assert_eq!(told(&stage).await, counted(&stage).await);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM figure_marks")
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn ingest_does_not_wait_for_whoever_counts() {
    let stage = Stage::new().await;
    stage.complete_tasks("first", 1, 9).await;
    refresh(&stage).await;
    let mut counting = stage.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM figure_states FOR UPDATE").execute(&mut *counting).await.unwrap();
    stage.complete_tasks("second", 1, 9).await;
    assert_eq!(refresh(&stage).await, 0, "another process counts");
    counting.rollback().await.unwrap();
    assert_eq!(refresh(&stage).await, 1);
    assert_eq!(told(&stage).await, counted(&stage).await);
}

#[tokio::test]
async fn another_time_zone_counts_every_day_anew() {
    let stage = Stage::new().await;
    stage.clock.advance(Duration::hours(10) + Duration::minutes(15));
    stage.complete_tasks("late", 2, 9).await;
    refresh(&stage).await;
    let day = |it: &Analytics| it.task_days[0].day.to_string();
    assert_eq!(day(&shown(&stage).await), "2026-11-24", "22:15 UTC is the next day in Athens");
    let utc = Tz::UTC;
    figures::refresh(stage.pool(), stage.id(), utc, noon()).await.unwrap();
    assert_eq!(day(&shown(&stage).await), "2026-11-23");
    // Half an hour from the full one: the hour of 18:00 UTC lies on two days of Kolkata.
    stage.clock.advance(Duration::hours(-4) + Duration::minutes(30));
    stage.complete_tasks("half", 1, 9).await;
    figures::refresh(stage.pool(), stage.id(), Tz::Asia__Kolkata, noon()).await.unwrap();
    assert_eq!(told(&stage).await, counted(&stage).await);
}

#[tokio::test]
async fn a_category_is_counted_apart_and_a_flood_of_them_is_not() {
    let stage = Stage::new().await;
    let started = |task: String, category: String| json!({ "type": "task_started", "task_id": task, "original_prompt": "x", "category": category });
    let mut events = Vec::new();
    for n in 0..60 {
        events.push(started(format!("one-{n}"), format!("only-{n}")));
        events.push(started(format!("two-{n}"), "Ελληνικά".to_owned()));
    }
    stage.log(events).await;
    refresh(&stage).await;
    let all = shown(&stage).await;
    assert_eq!((all.tasks.total, all.categories.len()), (120, 21));
    let greek = AnalyticsQuery { category: Some("Ελληνικά".to_owned()), ..query() };
    let greek = load(stage.pool(), stage.id(), &greek).await.unwrap();
    assert_eq!(greek.tasks.total, 60);
    let other = AnalyticsQuery { category: Some("other".to_owned()), ..query() };
    assert_eq!(load(stage.pool(), stage.id(), &other).await.unwrap().tasks.total, 41);
}

#[tokio::test]
async fn a_removed_task_keeps_its_category_and_is_never_counted_twice() {
    let stage = Stage::new().await;
    stage.complete_tasks("old", 6, 9).await;
    refresh(&stage).await;
    let before = told(&stage).await;
    let later = noon() + Duration::days(40);
    let all = Cleanup { created_before: later, now: later, time_zone: ZONE, batch: 4 };
    assert_eq!(cleanup(stage.pool(), stage.id(), &all).await.unwrap().removed, 4);
    assert_eq!(told(&stage).await, before, "in the middle, before any refresh");
    cleanup(stage.pool(), stage.id(), &all).await.unwrap();
    refresh(&stage).await;
    assert_eq!(told(&stage).await, before);
    let kept = AnalyticsQuery { category: Some("background".to_owned()), ..query() };
    assert_eq!(load(stage.pool(), stage.id(), &kept).await.unwrap().tasks.total, 6);
}

#[tokio::test]
async fn one_model_is_shown_alone_with_its_share_of_all_wins() {
    let stage = Stage::new().await;
    stage.log(TaskRun::new("a", &[(WAN, 0, 9), (NANO, 0, 6)]).events()).await;
    stage.log(TaskRun::new("b", &[(WAN, 0, 5), (NANO, 0, 8)]).events()).await;
    refresh(&stage).await;
    let only = AnalyticsQuery { model: Some(NANO.to_owned()), ..query() };
    let it = load(stage.pool(), stage.id(), &only).await.unwrap();
    let [nano] = it.models.as_slice() else { panic!("{:?}", it.models) };
    assert_eq!((nano.mean_score, nano.win_rate), (Some(7.0), Some(0.5)));
    assert_eq!(it.tasks.total, 2, "tasks are counted whole");
}

impl Stage {
    fn clock_now(&self) -> DateTime<Utc> {
        self.engine.now()
    }
}
