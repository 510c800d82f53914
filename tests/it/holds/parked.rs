//! The mark on held effects: it spares looks, and never outlives the hold.

use mathesis::runtime::{Operation, Worked};
use mathesis::store::{effects, parking};

use super::{analyzing, off, on};
use crate::support::{Stage, analysis_answer};

const PARKED: &str = "SELECT count(*) FROM effects WHERE parked AND status = 'pending'";

async fn has_work(stage: &Stage) -> bool {
    let found = effects::workflows_with_work(stage.pool(), stage.engine.now()).await;
    !found.expect("somebody looks for work").is_empty()
}

/// A stage whose analysis waits for a worker.
async fn waiting() -> Stage {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.worker.hand_back_waiting().await;
    stage
}

async fn goes_on(stage: &Stage) {
    stage.claude.answer_json(analysis_answer(&[]));
    assert!(matches!(stage.work().await, Worked::Done(_)), "it is found and performed");
}

#[tokio::test]
async fn a_held_effect_is_met_once_and_found_again_when_its_hold_is_lifted() {
    let stage = waiting().await;
    stage.please(Operation::Pause).await;
    assert_eq!(stage.number(PARKED).await, 0);
    assert!(!has_work(&stage).await);
    assert_eq!(stage.number(PARKED).await, 1, "whoever met it has parked it");

    stage.please(off()).await;
    stage.please(Operation::Resume).await;
    assert_eq!(stage.number(PARKED).await, 0, "a lift has it looked at again");
    assert!(!has_work(&stage).await, "the other hold stands");
    assert_eq!(stage.number(PARKED).await, 1);

    stage.please(on()).await;
    assert!(has_work(&stage).await);
    goes_on(&stage).await;
}

#[tokio::test]
async fn a_step_of_a_held_cycle_is_found_though_it_was_parked() {
    let stage = waiting().await;
    stage.please(Operation::Pause).await;
    assert!(!has_work(&stage).await);
    stage.please(Operation::Step).await;
    assert!(has_work(&stage).await);
    goes_on(&stage).await;
}

#[tokio::test]
async fn nobody_parks_under_a_hold_that_is_just_being_lifted() {
    let stage = waiting().await;
    stage.please(Operation::Pause).await;
    let mut lifting = stage.pool().begin().await.expect("a transaction");
    sqlx::query("UPDATE holds SET lifted_at = now(), lifted_by = 'the test'")
        .execute(&mut *lifting)
        .await
        .expect("the hold is lifted");
    // The lift is not committed, so the hold still stands for whoever looks, and yet it is left alone.
    let parked = parking::park(stage.pool(), &[stage.id()]).await.expect("somebody parks");
    assert_eq!(parked, 0);
    lifting.commit().await.expect("committed");
    assert!(has_work(&stage).await);
}

#[tokio::test]
async fn a_mark_that_outlived_its_hold_is_taken_off() {
    let stage = waiting().await;
    stage.please(Operation::Pause).await;
    assert!(!has_work(&stage).await);
    assert_eq!(parking::settle(stage.pool()).await.expect("settled"), 0, "the hold stands");
    stage.by_hand("UPDATE holds SET lifted_at = now(), lifted_by = 'an older version'").await;
    assert!(!has_work(&stage).await, "nobody finds it");
    assert_eq!(parking::settle(stage.pool()).await.expect("settled"), 1);
    assert!(has_work(&stage).await);
}
