//! Invariants 1 to 3: windows, deals, verdicts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::{join, join_all};
use mathesis::cycle::{Event, StateName};
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, Operation, Worked};
use serde_json::json;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, candidates_win};

async fn all_watch(replicas: &[Stage]) -> u32 {
    join_all(replicas.iter().map(Stage::watch)).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_every_trigger_consumes_its_tasks_once() {
    let stage = Stage::new().await;
    let replicas = [
        stage.another().await,
        stage.another().await,
        stage.another().await,
        stage.another().await,
    ];

    let completing = async {
        for wave in 1..=12 {
            stage.complete_tasks(&format!("wave-{wave}"), 10, 7).await;
        }
    };
    let watching = async {
        let mut opened = 0;
        for _ in 0..25 {
            opened += all_watch(&replicas).await;
        }
        opened + all_watch(&replicas).await
    };
    let ((), mut opened) = join(completing, watching).await;
    opened += all_watch(&replicas).await;

    assert_eq!(opened, 1, "four watchers opened one analysis");
    assert_eq!(stage.effects(1).await.len(), 1, "and asked for it once");
    let first = window_of(&stage, 1).await;
    assert!((50..=120).contains(&first), "the window took {first}");
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1").await, first);
    assert_eq!(
        stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle IS NULL").await,
        120 - first
    );

    stage.please(Operation::Cancel).await;
    stage.complete_tasks("later", 50, 7).await;
    assert_eq!(all_watch(&replicas).await, 1, "the next window opens once, too");
    assert_eq!(window_of(&stage, 2).await, 170 - first, "it takes the rest");
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle IS NULL").await, 0);
}

async fn window_of(stage: &Stage, cycle: i64) -> i64 {
    match &stage.history(cycle).await[0].event {
        Event::TriggerReached { window } => i64::from(window.tasks),
        other => panic!("a cycle begins with its trigger, not with {other:?}"),
    }
}

#[tokio::test]
async fn invariant_1_a_trigger_that_crashes_before_its_commit_takes_no_task() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    stage.crash_before_commit().await;
    mathesis::runtime::check_workflow(&stage.engine, &stage.worker, stage.id())
        .await
        .expect_err("the transaction fails");
    assert_eq!(
        stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle IS NOT NULL").await,
        0
    );
    stage.commit_again().await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(window_of(&stage, 1).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_a_deck_deals_ten_of_each_arm_whoever_asks_at_once() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    let replica = stage.another().await;
    stage.assigner.refresh().await.expect("it learns of the test");
    let desks = [&stage, &replica];

    let ask = |n: usize| {
        let desk = desks[n % 2];
        async move {
            let task = format!("rush-{n}");
            let wan = told(desk, &task, WAN).await;
            (task.clone(), wan, told(desk, &task, NANO).await)
        }
    };
    let mut answers = Vec::new();
    for sixteen in (0..40).collect::<Vec<_>>().chunks(16) {
        answers.extend(join_all(sixteen.iter().map(|n| ask(*n))).await);
    }

    for model in [WAN, NANO] {
        let arms =
            answers.iter().map(|(_, wan, nano)| if model == WAN { wan.arm } else { nano.arm });
        let mut count: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        for arm in arms {
            *count.entry(arm.map(Arm::as_str)).or_default() += 1;
        }
        assert_eq!(
            count,
            BTreeMap::from([(None, 20), (Some("candidate"), 10), (Some("control"), 10)]),
            "{model}"
        );
    }
    let unbalanced = "SELECT count(*) FROM (SELECT 1 FROM deck_slots GROUP BY model_name, block
                      HAVING count(*) <> 4 OR count(*) FILTER (WHERE arm = 'control') <> 2) AS odd";
    assert_eq!(stage.number(unbalanced).await, 0, "each block of four is half and half");
    let holders = "SELECT count(DISTINCT (model_name, clickup_task_id)) FROM deck_slots WHERE state = 'dealt'";
    assert_eq!(stage.number(holders).await, 40, "a slot has one holder, a holder one slot a model");

    for (task, wan, _) in &answers {
        assert_eq!(&told(&replica, task, WAN).await, wan, "{task} keeps its answer");
    }
}

async fn told(stage: &Stage, task: &str, model: &str) -> Assignment {
    stage.assigner.assign(&stage.workflow, task, "", model).await.expect("the assigner answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_a_task_that_asks_eight_times_at_once_gets_one_answer() {
    let stage = Stage::new().await;
    stage.reach_testing().await;
    let replica = stage.another().await;
    stage.assigner.refresh().await.expect("it learns of the test");
    for n in 1..=5 {
        let task = format!("twin-{n}");
        let asked =
            (0..8).map(|call| told(if call % 2 == 0 { &stage } else { &replica }, &task, WAN));
        let answers = join_all(asked).await;
        assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
        assert!(answers[0].arm.is_some(), "it holds a slot");
    }
    assert_eq!(stage.number("SELECT count(*) FROM deck_slots WHERE state = 'dealt'").await, 5);
}

#[tokio::test]
async fn invariant_2_exactly_ten_scores_of_each_arm_count_and_an_arm_is_kept_for_good() {
    let stage = Stage::new().await;
    stage.reach_deciding("count", candidates_win).await;
    for row in stage.experiments(1).await {
        assert_eq!((row.control_count, row.candidate_count), (Some(10), Some(10)));
        assert_eq!((row.control_sum, row.candidate_sum), (Some(60), Some(90)));
    }
    let during = stage.assign("count-test-3", WAN).await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(stage.assign("count-test-3", WAN).await, during, "the test's end changes no answer");
    assert_eq!(stage.assign("newcomer", WAN).await.version, 2);
}

/// Control scores 5; the candidate's ten scores sum up to `sum`.
fn candidate_sums_to(sum: i64) -> impl Fn(&Assignment) -> i64 {
    let dealt = AtomicI64::new(0);
    move |told| match told.arm {
        Some(Arm::Candidate) => {
            sum / 10 + i64::from(dealt.fetch_add(1, Ordering::Relaxed) < sum % 10)
        }
        _ => 5,
    }
}

#[tokio::test]
async fn invariant_3_exactly_ten_percent_is_rejected_and_one_point_more_is_adopted() {
    let stage = Stage::new().await;
    let (ten_percent, one_point_more) = (candidate_sums_to(55), candidate_sums_to(56));
    stage
        .reach_deciding(
            "edge",
            |model, told| if model == WAN { ten_percent(told) } else { one_point_more(told) },
        )
        .await;
    let verdicts: Vec<(String, String, Option<i32>, Option<i32>)> = stage
        .experiments(1)
        .await
        .into_iter()
        .map(|row| (row.model_name, row.status, row.control_sum, row.candidate_sum))
        .collect();
    assert_eq!(
        verdicts,
        [
            (NANO.to_owned(), "adopted".to_owned(), Some(50), Some(56)),
            (WAN.to_owned(), "rejected".to_owned(), Some(50), Some(55)),
        ]
    );
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}

#[tokio::test]
async fn invariant_3_a_committed_verdict_never_changes() {
    let stage = Stage::new().await;
    stage.reach_deciding("fixed", candidates_win).await;
    let row = stage.experiment_as_text(1, WAN).await;
    let snapshot = stage.cycle().await.snapshot;

    stage.by_hand("UPDATE attempts SET validation_score = 0").await;
    stage.log(TaskRun::new("straggler", &[(WAN, 2, 0), (NANO, 2, 0)]).events()).await;
    let again = TaskRun::new("fixed-test-1", &[(WAN, 2, 1)]).events();
    stage.try_log(again).await;
    stage.watch().await;

    assert_eq!(stage.experiment_as_text(1, WAN).await, row);
    assert_eq!(stage.cycle().await.snapshot, snapshot);
    assert_eq!(stage.step().await, StateName::Applying, "the frozen scores stand");
    assert_eq!(stage.experiment_as_text(1, WAN).await, row);
}

#[tokio::test]
async fn invariant_3_a_frozen_score_that_was_changed_by_hand_stops_the_cycle() {
    let stage = Stage::new().await;
    stage.reach_deciding("forged", candidates_win).await;
    stage.by_hand("UPDATE deck_slots SET score = 1 WHERE arm = 'candidate' AND model_name = 'nano-banana'").await;

    let failed = Worked::Failed { code: "verdict_differs".to_owned(), held: true };
    assert_eq!(stage.work().await, failed);
    let hold = stage.the_hold().await;
    assert_eq!((hold.kind.as_str(), hold.code.as_str()), ("effect_failed", "verdict_differs"));
    assert_eq!(stage.work().await, Worked::Idle);
    assert_eq!(stage.active_version(NANO).await, 1);

    stage.by_hand("UPDATE deck_slots SET score = 9 WHERE arm = 'candidate' AND model_name = 'nano-banana'").await;
    stage.please(Operation::Retry).await;
    assert_eq!(stage.step().await, StateName::Applying);
}

#[tokio::test]
async fn invariant_2_a_prompts_fault_scores_zero_and_any_other_is_dealt_again_in_its_arm() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    let fault = |task: &str, version: i32, fault: &str| {
        let mut events = TaskRun::new(task, &[(WAN, version, 0)]).events();
        events.truncate(2);
        events.push(json!({ "type": "error", "task_id": task, "model": WAN, "error": "no picture", "fault": fault }));
        events
    };
    let blamed = stage.assign("blamed", WAN).await;
    let unlucky = stage.assign("unlucky", WAN).await;
    stage.log(fault("blamed", blamed.version, "prompt")).await;
    stage.log(fault("unlucky", unlucky.version, "infrastructure")).await;
    stage.watch().await;
    let scored = "SELECT string_agg(clickup_task_id || ' ' || score, ',') FROM deck_slots WHERE state = 'scored'";
    assert_eq!(stage.text(scored).await, "blamed 0");
    assert_eq!(stage.assign("heir", WAN).await.arm, unlucky.arm, "the slot keeps its arm");
}

#[tokio::test]
async fn invariant_2_a_slot_is_dealt_again_only_so_often_and_then_the_scores_at_hand_decide() {
    let stage = Stage::builder()
        .definition(|definition| definition.timeouts.deals_again_max = 1)
        .build()
        .await;
    stage.start_test("seed").await;
    for n in 1..=2 {
        stage.assign(&format!("lost-{n}"), WAN).await;
    }
    stage.clock.advance(chrono::TimeDelta::hours(7));
    stage.watch().await;
    let states = "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (
                      SELECT state, count(*) AS n FROM deck_slots WHERE model_name = 'wan-2.5-edit' GROUP BY state) AS s";
    assert_eq!(stage.text(states).await, "missing 1, open 19");
    stage.play_test("rest", candidates_win).await;
    assert_eq!(stage.watch().await, 2, "nineteen scores are a complete deck now");
    let wan =
        stage.experiments(1).await.into_iter().find(|row| row.model_name == WAN).expect("tested");
    assert_eq!(wan.control_count.zip(wan.candidate_count).map(|(a, b)| a + b), Some(19));
    assert_eq!((wan.status.as_str(), wan.missed_control + wan.missed_candidate), ("adopted", 2));
}
