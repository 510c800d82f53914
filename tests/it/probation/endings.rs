//! How a probation ends: its scores, its time, the next trigger, a person.

use chrono::Duration;
use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, Operation};

use super::{documents, holds, on_probation, regresses, stands, watch_adoptions};
use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

#[tokio::test]
async fn one_model_is_kept_and_the_other_put_back_and_the_cycle_ends_applied() {
    let stage = on_probation().await;
    stage
        .play(
            "watch",
            30,
            |model, told| {
                if model == WAN { holds(model, told) } else { regresses(model, told) }
            },
        )
        .await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (2, 1));
    assert_eq!(stands(&stage, WAN).await.0, "kept");
    assert_eq!(stands(&stage, NANO).await.0, "regressed");
}

#[tokio::test]
async fn after_fourteen_days_it_decides_by_eight_scores_an_arm() {
    let stage = on_probation().await;
    let much_worse = |_: &str, told: &Assignment| {
        if told.arm == Some(Arm::Candidate) { 5 } else { 8 }
    };
    stage.play("watch", 20, much_worse).await;
    stage.clock.advance(Duration::days(14));
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Reverting);
    let counted = "SELECT control_count::bigint FROM probations WHERE model_name = 'nano-banana'";
    assert_eq!(stage.number(counted).await, 10);
}

#[tokio::test]
async fn its_clock_stands_still_under_a_hold() {
    let stage = on_probation().await;
    stage.play("watch", 20, holds).await;
    stage.please(Operation::Pause).await;
    stage.clock.advance(Duration::days(10));
    stage.please(Operation::Resume).await;
    stage.clock.advance(Duration::days(13));
    assert_eq!(stage.watch().await, 0);
    stage.clock.advance(Duration::days(1));
    assert_eq!(stage.watch().await, 2);
}

#[tokio::test]
async fn it_ends_when_as_many_tasks_have_come_and_gone_as_open_the_next_analysis() {
    let stage = on_probation().await;
    stage.play("watch", 20, holds).await;
    // Runs without these models: they draw no slot.
    let run = |n| TaskRun::new(format!("other-{n}"), &[]);
    stage.log((1..=29).flat_map(|n| run(n).events()).collect()).await;
    assert_eq!(stage.watch().await, 0, "49 of 50");
    stage.log(run(30).events()).await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
}

#[tokio::test]
async fn a_score_after_the_end_changes_nothing() {
    let stage = on_probation().await;
    stage.play("watch", 20, holds).await;
    let told = stage.assign("slow", WAN).await;
    assert!(told.arm.is_some());
    stage.clock.advance(Duration::days(14));
    // What was dealt 14 days ago has lost its slot, so it is dealt once more and just in time.
    stage.watch().await;
    assert_eq!(stage.cycle().await.number, 2, "the first cycle has ended");
    let before = stands(&stage, WAN).await;
    stage.log(TaskRun::new("slow", &[(WAN, told.version, 3)]).events()).await;
    stage.watch().await;
    assert_eq!(stands(&stage, WAN).await, before);
}

#[tokio::test]
async fn an_operators_rollback_ends_that_probation_and_the_other_goes_on() {
    let stage = on_probation().await;
    stage.please(Operation::Rollback { model: WAN.to_owned(), to: 1 }).await;
    stage.work().await;
    let (status, sentence) = stands(&stage, WAN).await;
    assert_eq!(status, "superseded");
    insta::assert_snapshot!(sentence.unwrap(), @"The probation of wan-2.5-edit v2 ended undecided, because a person put another version back.");
    assert_eq!(stage.assign("later", WAN).await.arm, None, "nothing is dealt for it any more");
    stage.play("watch", 30, |model, told| if model == NANO { holds(model, told) } else { 5 }).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}

#[tokio::test]
async fn a_cancel_puts_the_adoptions_back_first_and_keeps_the_window_consumed() {
    let stage = Stage::builder().on_probation().build().await;
    let files = documents(&stage);
    watch_adoptions(&stage).await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.state().await, StateName::Reverting);
    assert_eq!(stage.step().await, StateName::Cancelled);
    assert_eq!(documents(&stage), files);
    assert_eq!(stands(&stage, WAN).await.0, "cancelled");
    assert_eq!(stage.number("SELECT count(*) FROM tasks WHERE analyzed_in_cycle = 1").await, 50);
}

#[tokio::test]
async fn a_model_that_leaves_the_workflow_ends_retired_and_keeps_no_deck() {
    let stage = on_probation().await;
    let smaller = stage.restarted_with(|d| d.models.retain(|m| m.name.as_str() != NANO)).await;
    mathesis::runtime::advance(
        &smaller.engine,
        mathesis::runtime::Submission {
            workflow_id: smaller.id(),
            cycle: Some(1),
            actor: "mathesis",
            reason: None,
            what: mathesis::runtime::What::Event(mathesis::cycle::Event::ModelRetired {
                model: NANO.to_owned(),
            }),
            completes: None,
            claims_next: false,
        },
    )
    .await
    .expect("the cycle takes it");
    assert_eq!(stands(&smaller, NANO).await.0, "retired");
    assert_eq!(smaller.state().await, StateName::Probation, "the other one is still watched");
}

#[tokio::test]
async fn a_run_of_the_old_arm_is_told_the_old_version_while_the_new_one_serves() {
    let stage = on_probation().await;
    for n in 1..=4 {
        let told = stage.assign(&format!("watch-{n}"), WAN).await;
        let version = stage.assigner.version(stage.id(), WAN, told.version).await.unwrap().unwrap();
        assert_eq!(version.is_active, told.arm == Some(Arm::Candidate));
    }
}
