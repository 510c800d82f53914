//! Cancel, rollback and a retired model, in every state.

use super::*;
use crate::experiment::gate::{Reason, Status};

/// Every sample state under every variant of the rules.
fn everywhere() -> impl Iterator<Item = Cycle> {
    let states = sample_states();
    sample_rules().into_iter().flat_map(move |rules| {
        let at = |state: &State| Cycle::standing_at(state.clone(), rules.clone());
        states.iter().map(at).collect::<Vec<_>>()
    })
}

#[test]
fn a_cancel_ends_the_cycle_at_once_or_reverts_first() {
    for mut cycle in everywhere() {
        let from = cycle.stands();
        match from {
            StateName::Collecting
            | StateName::Analyzing
            | StateName::Generating
            | StateName::Testing
            | StateName::Deciding => {
                cycle.on(cancelled()).is(StateName::Cancelled, &[Effect::OpenNextCycle]);
            }
            StateName::Applying | StateName::Probation => {
                cycle.on(cancelled());
                assert_eq!(cycle.stands(), StateName::Reverting);
                assert!(matches!(cycle.effects[..], [Effect::Revert { .. }]));
                cycle.on(Event::FilesReverted).is(StateName::Cancelled, &[Effect::OpenNextCycle]);
            }
            _ => {
                let refusal = cycle.refuses(cancelled());
                assert_eq!((refusal.state, refusal.event), (from, EventName::CancelRequested));
                continue;
            }
        }
        let State::Cancelled { outcome, reason } = &cycle.snapshot.state else {
            panic!("cancelled")
        };
        assert_eq!(reason, "the judge was wrong");
        assert!(outcome.models.iter().all(|m| m.result != ModelResult::Adopted));
    }
}

#[test]
fn a_cancelled_test_tells_its_verdicts_and_what_the_cancel_cut_short() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN, FLUX]);
    cycle.on(rollback(SEEDREAM));
    cycle.on(rejecting_look(QWEN));
    cycle.on(cancelled());
    assert_eq!(
        cycle.ended(),
        [
            "seedream: superseded (superseded)",
            "qwen: rejected (not_improved)",
            "flux: cancelled (cancelled)",
        ]
    );
}

#[test]
fn a_cancel_of_probation_reverts_even_what_was_kept() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM, QWEN, FLUX]);
    cycle.on(keeping_look(SEEDREAM));
    cycle.on(rollback(FLUX));
    cycle.on(cancelled()).is(StateName::Reverting, &[reverts(&[SEEDREAM, QWEN])]);
    cycle.on(Event::FilesReverted);
    assert_eq!(
        cycle.ended(),
        [
            "seedream: cancelled (cancelled)",
            "qwen: cancelled (cancelled)",
            "flux: superseded (superseded)",
        ]
    );
}

#[test]
fn a_cancel_of_applying_leaves_the_version_that_an_operator_named() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(adopting_look(QWEN));
    cycle.on(Event::VerdictsSettled);
    cycle.on(rollback(QWEN)).is(StateName::Applying, &[rolls_back(QWEN)]);
    cycle.on(cancelled()).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
}

#[test]
fn a_rollback_is_performed_once_from_every_state_that_has_not_ended() {
    for mut cycle in everywhere() {
        if cycle.stands().is_terminal() {
            let refusal = cycle.refuses(rollback(SEEDREAM));
            assert_eq!(refusal.why, "the cycle has ended");
            continue;
        }
        cycle.on(rollback(SEEDREAM));
        let asked = |effect: &&Effect| **effect == rolls_back(SEEDREAM);
        assert_eq!(cycle.effects.iter().filter(asked).count(), 1);
    }
}

#[test]
fn a_retired_model_is_noted_in_every_state_that_has_not_ended_and_puts_nothing_back() {
    for mut cycle in everywhere() {
        if cycle.stands().is_terminal() {
            cycle.refuses(retired(SEEDREAM));
            continue;
        }
        cycle.on(retired(SEEDREAM));
        let kinds: Vec<EffectKind> = cycle.effects.iter().map(Effect::kind).collect();
        assert!(!kinds.contains(&EffectKind::RollBack));
    }
}

#[test]
fn a_model_without_a_test_may_be_rolled_back_beside_the_cycle() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM]);
    let before = cycle.snapshot.state.clone();
    cycle.on(rollback(FLUX)).is(StateName::Testing, &[rolls_back(FLUX)]);
    assert_eq!(cycle.snapshot.state, before);
}

#[test]
fn a_rollback_ends_that_models_test_superseded_and_the_other_goes_on() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(rollback(SEEDREAM)).is(StateName::Testing, &[rolls_back(SEEDREAM)]);
    cycle.refuses(adopting_look(SEEDREAM));
    cycle.on(retired(QWEN)).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled);
    assert_eq!(
        cycle.ended(),
        ["seedream: superseded (superseded)", "qwen: retired (model_retired)"]
    );
}

#[test]
fn invariant_3_a_rollback_after_the_look_leaves_the_verdict_and_drops_the_adoption() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN, FLUX]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(rejecting_look(QWEN));
    cycle.on(rollback(SEEDREAM));
    cycle.on(rollback(QWEN));
    cycle.on(retired(SEEDREAM));
    let State::Testing { experiments } = &cycle.snapshot.state else { panic!("testing") };
    let statuses = experiments.iter().map(|e| e.decision.map(|d| d.status));
    assert!(statuses.eq([Some(Status::Adopted), Some(Status::Rejected), None]));
    let dropped = experiments.iter().map(|e| e.dropped);
    assert!(dropped.eq([Some(Reason::Superseded), None, None]));
    cycle.on(Event::TestTimedOut);
    cycle.on(Event::VerdictsSettled).is(StateName::Rejected, &[Effect::OpenNextCycle]);
}

#[test]
fn a_rollback_while_deciding_takes_the_adoption_out() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(adopting_look(QWEN));
    cycle.on(rollback(SEEDREAM)).is(StateName::Deciding, &[rolls_back(SEEDREAM)]);
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[QWEN])]);
}

#[test]
fn a_rollback_while_applying_keeps_the_model_off_probation() {
    let mut cycle = Cycle::testing(Guard::Probation, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(adopting_look(QWEN));
    cycle.on(Event::VerdictsSettled);
    cycle.on(rollback(SEEDREAM));
    cycle.on(Event::FilesApplied).is(StateName::Probation, &[deals(QWEN)]);
    cycle.refuses(keeping_look(SEEDREAM));
    cycle.on(keeping_look(QWEN));
    assert_eq!(cycle.ended(), ["seedream: superseded (superseded)", "qwen: adopted (improved)"]);
}

#[test]
fn a_rollback_of_all_that_is_being_applied_ends_rolled_back() {
    let mut cycle = Cycle::testing(Guard::Probation, Approval::None, &[SEEDREAM]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(Event::VerdictsSettled);
    cycle.on(rollback(SEEDREAM));
    cycle.on(Event::FilesApplied).is(StateName::RolledBack, &[Effect::OpenNextCycle]);
}
