//! Helpful and harmful under a guard: nothing counts before its probation is over, and what a guard takes back,
//! even long after, did harm.

use chrono::TimeDelta;
use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, Operation, check_harm};
use mathesis::workflow::OnAlarm;

use super::tried;
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

/// Helpful and harmful of the two insights that the candidates rest on, one each, added up.
async fn counts(stage: &Stage) -> (i64, i64) {
    let tried = tried(stage).await;
    let own = |handle: &str| handle == "1.1" || handle == "1.2";
    assert!(tried.iter().all(|(handle, helpful, harmful)| own(handle) || helpful + harmful == 0));
    let of = |count: fn(&(String, i64, i64)) -> i64| tried.iter().map(count).sum();
    (of(|row| row.1), of(|row| row.2))
}

/// Both candidates adopted, and on probation.
async fn on_probation() -> Stage {
    let stage = Stage::builder().on_probation().build().await;
    stage.reach_testing().await;
    stage.play_test("test", |_, told| if told.arm == Some(Arm::Candidate) { 9 } else { 6 }).await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(counts(&stage).await, (0, 0), "a verdict alone helps nobody");
    assert_eq!(stage.step().await, StateName::Applying);
    stage.clock.advance(TimeDelta::minutes(1));
    assert_eq!(stage.step().await, StateName::Probation);
    stage
}

fn wan_holds_and_nano_regresses(model: &str, told: &Assignment) -> i64 {
    match (model, told.arm == Some(Arm::Candidate)) {
        (WAN, true) | (_, false) => 8,
        (_, true) => 5,
    }
}

#[tokio::test]
async fn an_adoption_is_neither_before_its_probation_is_over() {
    let stage = on_probation().await;
    assert_eq!(counts(&stage).await, (0, 0));
    stage.play("watch", 30, wan_holds_and_nano_regresses).await;
    assert_eq!(counts(&stage).await, (0, 0), "its scores alone say nothing yet");
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Reverting);
    assert_eq!(counts(&stage).await, (1, 1), "one is kept, one is taken back");
    stage.step().await;
    assert_eq!(counts(&stage).await, (1, 1));
}

#[tokio::test]
async fn a_probation_that_a_person_ends_says_nothing_of_the_insight() {
    let stage = on_probation().await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.step().await, StateName::Cancelled);
    assert_eq!(counts(&stage).await, (0, 0));
}

/// Both candidates adopted without a guard, and nano-banana's did badly since.
async fn alarmed(on_alarm: OnAlarm) -> Stage {
    let stage = Stage::builder().definition(move |d| d.watch.on_alarm = on_alarm).build().await;
    stage.reach_testing().await;
    stage.play_test("test", |_, told| if told.version == 2 { 9 } else { 7 }).await;
    while stage.cycle().await.number == 1 {
        stage.watch().await;
        stage.work().await;
    }
    look(&stage).await;
    assert_eq!(counts(&stage).await, (2, 0), "without a probation, once the files are written");
    stage.clock.advance(TimeDelta::seconds(1));
    let runs = (1..=30).map(|n| TaskRun::new(format!("bad-{n}"), &[(NANO, 2, 2)]));
    stage.log(runs.flat_map(|run| run.events()).collect()).await;
    stage.clock.advance(TimeDelta::seconds(20));
    stage
}

async fn look(stage: &Stage) {
    check_harm(&stage.engine, &stage.workflow).await.expect("the watch goes on");
}

async fn put_back(stage: &Stage) {
    while stage.active_version(NANO).await == 2 {
        stage.work().await;
    }
}

#[tokio::test]
async fn what_the_standing_watch_puts_back_did_harm() {
    let stage = alarmed(OnAlarm::RollBack).await;
    look(&stage).await;
    assert_eq!(counts(&stage).await, (1, 1), "as soon as it is decided");
    put_back(&stage).await;
    look(&stage).await;
    assert_eq!(counts(&stage).await, (1, 1), "and once");
}

#[tokio::test]
async fn so_did_what_a_person_puts_back_after_the_alarm_and_not_what_he_puts_back_before_it() {
    let stage = alarmed(OnAlarm::Tell).await;
    stage.please(Operation::Rollback { model: WAN.to_owned(), to: 1 }).await;
    look(&stage).await;
    assert_eq!(counts(&stage).await, (2, 0), "nothing was rung for wan");
    stage.please(Operation::Rollback { model: NANO.to_owned(), to: 1 }).await;
    put_back(&stage).await;
    assert_eq!(counts(&stage).await, (1, 1));
}
