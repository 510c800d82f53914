//! The server's clock jumps, forwards and backwards, by an hour or by a day, between the steps of a cycle and within
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use mathesis::cycle::StateName;
use mathesis::runtime::{Worked, run_due_schedules};
use tokio_util::sync::CancellationToken;

use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Record, Stage, TaskRun, candidates_win, until};

const HOURS: i64 = 1;
const DAY_IN_HOURS: i64 = 24;

/// A clock that jumps on to the next place of a round each time it is told to.
struct Jumps<'s> {
    stage: &'s Stage,
    hours: &'static [i64],
    next: AtomicUsize,
}

impl Jumps<'_> {
    fn jump(&self) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(hours) = self.hours.get(next % self.hours.len().max(1)) {
            self.stage.clock.advance(TimeDelta::hours(*hours));
        }
    }
}

/// A whole cycle to its adoption, with a jump between any two steps; what it leaves.
async fn walked(hours: &'static [i64]) -> Record {
    let stage =
        Stage::builder().definition(|definition| definition.trigger.tasks = 3).build().await;
    let clock = Jumps { stage: &stage, hours, next: AtomicUsize::new(0) };
    for n in 1..=3 {
        let run = TaskRun::new(format!("seed-{n}"), &[(WAN, 0, 7), (NANO, 0, 7)]);
        for event in run.events() {
            stage.log(vec![event]).await;
            clock.jump();
        }
    }
    assert_eq!(stage.watch().await, 1, "the trigger opens the analysis");
    clock.jump();
    assert_eq!(stage.watch().await, 0, "once");
    stage.script_candidates("jumping");
    assert_eq!(stage.step().await, StateName::Generating);
    clock.jump();
    assert_eq!(stage.step().await, StateName::Testing);
    for n in 1..=20 {
        clock.jump();
        let task = format!("test-{n}");
        let mut attempts = Vec::new();
        for model in [WAN, NANO] {
            let told = stage.assign(&task, model).await;
            assert!(told.arm.is_some(), "{task} is dealt a slot of {model}");
            attempts.push((model, told.version, candidates_win(model, &told)));
        }
        clock.jump();
        stage.log(TaskRun::new(task, &attempts).events()).await;
        stage.watch().await;
    }
    clock.jump();
    assert_eq!(stage.step().await, StateName::Applying);
    clock.jump();
    assert_eq!(stage.step().await, StateName::Applied);
    Record::of(stage.pool(), &stage.folder.path().join("config/deep_research")).await
}

#[tokio::test]
async fn a_cycle_whose_clock_jumps_between_all_its_steps_ends_as_any_other() {
    let undisturbed = walked(&[]).await;
    walked(&[HOURS, -HOURS]).await.assert_is(&undisturbed);
    // Each task is given its slot and its score on one day: no jump between the two is longer than a slot's patience.
    walked(&[-DAY_IN_HOURS, HOURS, -HOURS]).await.assert_is(&undisturbed);
}

#[tokio::test]
async fn a_day_forwards_deals_unanswered_slots_again_and_a_day_back_takes_nothing_from_anybody() {
    let stage = testing_stage().await;
    let first = stage.assign("before", WAN).await;
    assert!(first.arm.is_some());
    stage.clock.advance(TimeDelta::hours(DAY_IN_HOURS));
    stage.watch().await;
    let lost = "SELECT count(*) FROM assignments WHERE lost_because = 'timed_out'";
    assert_eq!(stage.number(lost).await, 1, "its patience is over by the clock there is");

    let second = stage.assign("ahead", WAN).await;
    stage.clock.advance(TimeDelta::hours(-DAY_IN_HOURS));
    stage.watch().await;
    assert_eq!(stage.number(lost).await, 1, "a slot that was dealt in the future keeps its holder");
    stage.log(TaskRun::new("ahead", &[(WAN, second.version, 8)]).events()).await;
    stage.watch().await;
    let scored = "SELECT count(*) FROM deck_slots WHERE state = 'scored'";
    assert_eq!(stage.number(scored).await, 1, "and its score counts");

    stage.play_test("then", candidates_win).await;
    stage.watch().await;
    let waits = "SELECT count(*) FROM experiments WHERE status = 'testing'";
    assert_eq!(stage.number(waits).await, 0, "nothing waits for the day that was taken back");
}

#[tokio::test]
async fn schedules_run_once_for_each_moment_and_soon_again_after_a_jump() {
    let stage = Stage::new().await;
    let run_due =
        async || run_due_schedules(&stage.engine, &stage.worker).await.expect("the schedules run");
    run_due().await;
    stage.clock.advance(TimeDelta::hours(DAY_IN_HOURS));
    assert_eq!(
        run_due().await,
        2,
        "the sweep and the cleanup, once each for all that was passed over"
    );
    assert_eq!(run_due().await, 0);
    stage.clock.advance(TimeDelta::hours(-DAY_IN_HOURS));
    assert_eq!(run_due().await, 0, "what ran does not run again");
    stage.clock.advance(TimeDelta::hours(DAY_IN_HOURS + 1));
    assert_eq!(run_due().await, 1, "and the hourly one goes on");
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_cost_a_worker_its_lease() {
    let stage =
        Stage::builder().definition(|definition| definition.trigger.tasks = 3).build().await;
    stage.complete_tasks("seed", 3, 7).await;
    assert_eq!(stage.watch().await, 1, "the analysis is claimed by who found the trigger");
    let stop = CancellationToken::new();
    let rescuing = tokio::spawn(stage.rescuer().run(stop.clone()));
    let held = "SELECT count(*) FROM effects WHERE status = 'claimed' AND lease_until > now() + interval '30 seconds'";

    stage.by_hand("UPDATE effects SET lease_until = now() + interval '5 seconds'").await;
    // Renewed at once, and not when the clock has caught up with the day that was taken from it.
    until(async || {
        stage.clock.advance(TimeDelta::hours(-DAY_IN_HOURS));
        stage.number(held).await == 1
    })
    .await;
    stop.cancel();
    rescuing.await.expect("the rescuer ends");

    let other = Arc::new(stage.another().await);
    assert_eq!(other.work().await, Worked::Idle, "nobody else may take it");
    stage.script_candidates("later");
    assert_eq!(stage.step().await, StateName::Generating);
}
