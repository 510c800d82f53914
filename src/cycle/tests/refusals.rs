//! What a state does not take.

use super::*;

#[test]
fn every_refusal_names_the_state_the_event_and_why() {
    let mut refusals = 0;
    for rules in sample_rules() {
        for state in sample_states() {
            let cycle = Cycle::standing_at(state.clone(), rules.clone());
            for event in sample_events() {
                let Err(refusal) = step(&cycle.snapshot, &event) else {
                    continue;
                };
                refusals += 1;
                assert_eq!((refusal.state, refusal.event), (state.name(), event.name()));
                let words = refusal.to_string();
                assert!(words.contains(state.name().as_str()), "{words}");
                assert!(words.contains(event.name().as_str()), "{words}");
                assert!(!refusal.why.is_empty());
            }
        }
    }
    assert!(refusals > 0);
}

#[test]
fn a_refusal_reads_as_a_sentence() {
    let cycle = Cycle::open(Guard::Off, Approval::None);
    assert_eq!(
        cycle.refuses(Event::FilesApplied).to_string(),
        "files_applied is not possible while the cycle is collecting: \
         this state does not wait for it"
    );
}

#[test]
fn a_window_smaller_than_the_trigger_opens_no_analysis() {
    let cycle = Cycle::open(Guard::Off, Approval::None);
    let refusal = cycle.refuses(Event::TriggerReached { window: Window { tasks: 49 } });
    assert_eq!(refusal.why, "the window holds fewer tasks than the trigger asks for");
}

#[test]
fn a_second_look_at_the_same_model_is_refused() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(rejecting_look(SEEDREAM));
    let refusal = cycle.refuses(adopting_look(SEEDREAM));
    assert_eq!(refusal.why, "no experiment of that model waits for its look");
    cycle.refuses(adopting_look(FLUX));
}

#[test]
fn candidates_that_name_a_model_twice_are_refused() {
    let mut cycle = Cycle::open(Guard::Off, Approval::None);
    cycle.on(trigger());
    cycle.on(analysed());
    let twice = cycle.refuses(candidates(&[SEEDREAM, SEEDREAM], &[]));
    assert_eq!(twice.why, "a model is named twice");
    cycle.refuses(candidates(&[SEEDREAM], &[SEEDREAM]));
}

#[test]
fn invariant_3_a_candidate_brings_no_verdict_along() {
    let mut cycle = Cycle::open(Guard::Off, Approval::None);
    cycle.on(trigger());
    cycle.on(analysed());
    let adopted = sample_states().into_iter().find_map(|state| match state {
        State::Testing { experiments } => experiments.into_iter().find(|e| e.decision.is_some()),
        _ => None,
    });
    let refusal = cycle.refuses(Event::CandidatesGenerated {
        experiments: adopted.into_iter().collect(),
        without: Vec::new(),
    });
    assert_eq!(refusal.why, "an experiment comes with a verdict before its test");
}

#[test]
fn an_ended_cycle_takes_nothing() {
    for state in sample_states() {
        if !state.name().is_terminal() {
            continue;
        }
        let cycle = Cycle::standing_at(state, rules(Guard::Probation, Approval::None));
        for event in sample_events() {
            assert_eq!(cycle.refuses(event).why, "the cycle has ended");
        }
    }
}
