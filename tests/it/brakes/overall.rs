//! One switch over all workflows, and pausing them all.

use mathesis::runtime::{Operation, Operator, Worked, on_every_cycle, switch_automation};

use crate::support::Stage;

const BY: Operator<'static> =
    Operator { name: "Ελένη", reason: Some("the provider is down"), cycle: None };

async fn switch(stage: &Stage, enabled: bool) -> String {
    switch_automation(&stage.engine, enabled, BY).await.expect("the switch moves").said
}

/// A second workflow on the same database.
async fn second(stage: &Stage) -> Stage {
    stage
        .restarted_with(|definition| definition.name = "portraits".parse().expect("a good name"))
        .await
}

#[tokio::test]
async fn switched_off_nothing_starts_anywhere_and_a_later_workflow_begins_held() {
    let stage = Stage::new().await;
    assert_eq!(
        switch(&stage, false).await,
        "automation is off for all workflows, 1 now and those that come: logging and counting go on, nothing else starts"
    );
    let later = second(&stage).await;
    for stage in [&stage, &later] {
        stage.complete_tasks("seed", 50, 7).await;
        stage.watch().await;
        assert_eq!(stage.the_hold().await.code, "automation_off_overall");
        assert_eq!(stage.work().await, Worked::Idle, "no Claude call starts");
    }
    let restarted = stage.restarted_with(|_| {}).await;
    assert_eq!(restarted.work().await, Worked::Idle, "a restart changes nothing");
    switch(&stage, true).await;
    assert_eq!(stage.held_by().await, [""; 0]);
    assert_eq!(later.held_by().await, [""; 0]);
}

#[tokio::test]
async fn a_workflow_that_is_off_by_itself_stays_off_when_all_are_switched_on() {
    let stage = Stage::new().await;
    stage.please(Operation::Automation { enabled: false }).await;
    switch(&stage, false).await;
    assert_eq!(stage.held_by().await, ["automation_off", "automation_off"]);
    assert_eq!(
        switch(&stage, true).await,
        "automation is on for all workflows; off by a switch of their own stay image-editing"
    );
    assert_eq!(stage.the_hold().await.code, "automation_off");
}

#[tokio::test]
async fn its_own_switch_does_not_lift_the_one_over_all() {
    let stage = Stage::new().await;
    switch(&stage, false).await;
    let said = stage.operate(Operation::Automation { enabled: true }).await.expect("taken").said;
    assert_eq!(
        said,
        "automation was on already for this workflow; it is off for all workflows until `mathesis automation on --all`"
    );
    assert_eq!(stage.the_hold().await.code, "automation_off_overall");
}

#[tokio::test]
async fn moved_twice_it_says_so_and_places_no_second_hold() {
    let stage = Stage::new().await;
    switch(&stage, false).await;
    assert!(switch(&stage, false).await.starts_with("automation was already off"));
    assert_eq!(stage.held_by().await, ["automation_off"]);
    let results =
        "SELECT count(*) FROM audit_log WHERE subject = 'all workflows' AND result = 'unchanged'";
    assert_eq!(stage.number(results).await, 1);
}

#[tokio::test]
async fn pausing_all_pauses_each_and_resuming_lets_each_go_on() {
    let stage = Stage::new().await;
    let other = second(&stage).await;
    let paused = on_every_cycle(&stage.engine, &Operation::Pause, BY).await.expect("they pause");
    assert!(paused.iter().all(|one| one.done && one.cycle == Some(1)), "{paused:?}");
    assert_eq!(stage.held_by().await, ["operator"]);
    assert_eq!(other.held_by().await, ["operator"]);
    other.please(Operation::Resume).await;
    let resumed = on_every_cycle(&stage.engine, &Operation::Resume, BY).await.expect("they go on");
    let done: Vec<_> = resumed.iter().map(|one| (one.workflow.as_str(), one.done)).collect();
    assert_eq!(
        done,
        [("image-editing", true), ("portraits", false)],
        "one was not paused any more"
    );
    let lines = "SELECT count(*) FROM audit_log WHERE subject = 'all workflows'";
    assert_eq!(stage.number(lines).await, 2);
}
