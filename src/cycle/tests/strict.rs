//! The guard `strict`: further looks at longer decks, one model at a time.

use super::*;
use crate::experiment::gate::{Decision, Reason, Status};

/// `looks` decks of ten an arm, whose candidate is better by more than the rule asks, within what chance does.
fn noisy(model: &str, looks: usize) -> Event {
    let block = ByArm { control: vec![2, 10], candidate: vec![4, 10] };
    long_look(model, &block, looks)
}

fn even(model: &str, looks: usize) -> Event {
    let block = ByArm { control: vec![7, 8], candidate: vec![8, 7] };
    long_look(model, &block, looks)
}

fn long_look(model: &str, block: &ByArm<Vec<u16>>, looks: usize) -> Event {
    Event::LookTaken {
        model: model.to_owned(),
        look: Look { blocks: vec![block.clone(); 5 * looks], missed: ByArm::default() },
        judge_changed: false,
    }
}

fn lengthens(model: &str) -> Effect {
    let deck = DeckRules { per_arm: 10, block: 4 };
    Effect::Deal { model: model.to_owned(), phase: Phase::Test, deck }
}

fn decided(cycle: &Cycle, model: &str) -> Option<Decision> {
    match &cycle.snapshot.state {
        State::Testing { experiments } => {
            experiments.iter().find(|e| e.model == model).and_then(|e| e.decision)
        }
        State::Deciding { verdicts } => {
            verdicts.iter().find(|v| v.model == model).map(|v| v.decision)
        }
        _ => None,
    }
}

#[test]
fn a_look_that_cannot_tell_lengthens_that_models_deck_and_the_other_waits() {
    let mut cycle = Cycle::testing(Guard::Strict, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(rejecting_look(QWEN)).is(StateName::Testing, &[]);
    cycle.on(noisy(SEEDREAM, 1)).is(StateName::Testing, &[lengthens(SEEDREAM)]);
    assert_eq!(decided(&cycle, SEEDREAM), None);
    cycle.refuses(noisy(QWEN, 2));
    cycle.on(noisy(SEEDREAM, 2)).is(StateName::Testing, &[lengthens(SEEDREAM)]);
}

#[test]
fn the_last_look_rejects_what_is_still_not_proven() {
    let mut cycle = Cycle::testing(Guard::Strict, Approval::None, &[SEEDREAM]);
    for looks in 1..5 {
        cycle.on(noisy(SEEDREAM, looks)).is(StateName::Testing, &[lengthens(SEEDREAM)]);
    }
    cycle.on(noisy(SEEDREAM, 5)).is(StateName::Deciding, &[Effect::Decide]);
    let not_proven = Decision { status: Status::Rejected, reason: Reason::NotProven };
    assert_eq!(decided(&cycle, SEEDREAM), Some(not_proven));
}

#[test]
fn a_workflow_may_allow_fewer_looks() {
    let mut cycle = Cycle::open(Guard::Strict, Approval::None);
    cycle.snapshot.rules.strict_looks_max = 2;
    for event in [trigger(), analysed(), candidates(&[SEEDREAM], &[]), noisy(SEEDREAM, 1)] {
        cycle.on(event);
    }
    cycle.on(noisy(SEEDREAM, 2)).is(StateName::Deciding, &[Effect::Decide]);
}

#[test]
fn a_later_look_at_no_difference_rejects() {
    let mut cycle = Cycle::testing(Guard::Strict, Approval::None, &[SEEDREAM]);
    cycle.on(noisy(SEEDREAM, 1));
    cycle.on(even(SEEDREAM, 2)).is(StateName::Deciding, &[Effect::Decide]);
}

#[test]
fn an_adoption_under_strict_is_final() {
    let mut cycle = Cycle::testing(Guard::Strict, Approval::None, &[SEEDREAM]);
    let block = ByArm { control: vec![5, 5], candidate: vec![9, 9] };
    cycle.on(long_look(SEEDREAM, &block, 1)).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled);
    cycle.on(Event::FilesApplied).is(StateName::Applied, &[Effect::OpenNextCycle]);
}

#[test]
fn a_judge_that_changed_decides_nothing_under_any_guard() {
    for &guard in Guard::ALL {
        let mut cycle = Cycle::testing(guard, Approval::None, &[SEEDREAM]);
        let Event::LookTaken { model, look, .. } = adopting_look(SEEDREAM) else {
            panic!("a look")
        };
        cycle.on(Event::LookTaken { model, look, judge_changed: true });
        let changed = Decision { status: Status::Inconclusive, reason: Reason::JudgeChanged };
        assert_eq!(decided(&cycle, SEEDREAM), Some(changed), "{guard}");
    }
}
