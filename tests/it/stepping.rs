//! The whole walk, one transition a line, with a scripted Claude and a clock in hand.

use mathesis::cycle::StateName;
use mathesis::experiment::Arm;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, edit_answer, nano_edit_answer};

#[tokio::test]
async fn a_cycle_walks_through_its_seven_states_to_applied() {
    let stage = Stage::new().await;
    assert_eq!(stage.state().await, StateName::Collecting);

    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.state().await, StateName::Analyzing);

    stage.claude.answer_json(analysis_answer(&["task-1", "ghost"]));
    assert_eq!(stage.step().await, StateName::Generating);

    stage.claude.answer_json(edit_answer("Name what must stay unchanged."));
    stage.claude.answer_json(nano_edit_answer("Keep the logo."));
    assert_eq!(stage.step().await, StateName::Testing);

    stage.play_test("test", |_, told| if told.arm == Some(Arm::Candidate) { 9 } else { 7 }).await;
    assert_eq!(stage.watch().await, 2, "each model takes its look");
    assert_eq!(stage.state().await, StateName::Deciding);

    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(stage.cycle().await.number, 2, "the next cycle is open");

    for model in [WAN, NANO] {
        assert_eq!(stage.active_version(model).await, 2);
        assert_eq!(stage.backups(model).len(), 1);
    }
    assert!(stage.read(WAN, "research.md").ends_with("Name what must stay unchanged.\n"));
    let walked: Vec<&str> =
        stage.history(1).await.iter().map(|row| row.to_state.as_str()).collect();
    insta::assert_snapshot!(walked.join(" → "));
}
