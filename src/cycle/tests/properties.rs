//! What holds on every path, over random histories of one to three models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::experiment::gate::Decision;

/// One accepted event.
#[derive(Debug, Clone)]
struct Line {
    before: Snapshot,
    event: Event,
    after: Snapshot,
    effects: Vec<Effect>,
}

/// A cycle from its opening, with the events that it took; those it refused left no line.
#[derive(Debug, Clone)]
struct History {
    opened: Snapshot,
    lines: Vec<Line>,
    last: Snapshot,
}

/// The events to draw from. Those that lead on are in it more often, so that walks get far.
fn pool() -> Vec<Event> {
    let mut leading_on = vec![
        trigger(),
        analysed(),
        Event::VerdictsSettled,
        Event::FilesApplied,
        Event::FilesReverted,
        candidates(&[SEEDREAM], &[FLUX]),
        candidates(&[SEEDREAM, QWEN], &[FLUX]),
        candidates(&[SEEDREAM, QWEN, FLUX], &[]),
    ];
    let mut rare =
        vec![Event::TestTimedOut, refused(&[]), cancelled(), candidates(&[], &[SEEDREAM])];
    for model in [SEEDREAM, QWEN, FLUX] {
        leading_on.extend([adopting_look(model), keeping_look(model), regressing_look(model)]);
        rare.extend([
            rejecting_look(model),
            undecided_look(model),
            settled(model, true),
            settled(model, false),
            refused(&[model]),
            rollback(model),
            retired(model),
        ]);
    }
    let often = (0..4).flat_map(|_| leading_on.clone());
    often.chain(rare).chain(sample_events()).collect()
}

/// Random histories. Most draws are among the events that the state takes, the rest among all.
fn histories() -> impl Strategy<Value = History> {
    let draws = prop::collection::vec((prop::bool::weighted(0.8), any::<Index>()), 0..40);
    (prop::sample::select(sample_rules()), draws).prop_map(|(rules, draws)| {
        let pool = pool();
        let opened = Snapshot::open(7, rules);
        let mut last = opened.clone();
        let mut lines = Vec::new();
        for (of_the_accepted, index) in draws {
            let accepted = |event: &&Event| !of_the_accepted || step(&last, event).is_ok();
            let choice: Vec<&Event> = pool.iter().filter(accepted).collect();
            if choice.is_empty() {
                continue;
            }
            let event = (*index.get(&choice)).clone();
            if let Ok((after, effects)) = step(&last, &event) {
                let before = std::mem::replace(&mut last, after.clone());
                lines.push(Line { before, event, after, effects });
            }
        }
        History { opened, lines, last }
    })
}

fn decisions(state: &State) -> BTreeMap<String, Decision> {
    match state {
        State::Testing { experiments } => {
            experiments.iter().filter_map(|e| Some((e.model.clone(), e.decision?))).collect()
        }
        State::Deciding { verdicts }
        | State::Applying { verdicts, .. }
        | State::Probation { verdicts, .. }
        | State::Reverting { verdicts, .. } => {
            verdicts.iter().map(|v| (v.model.clone(), v.decision)).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// The models whose adoption was refused, superseded or retired.
fn dropped(state: &State) -> BTreeSet<String> {
    match state {
        State::Testing { experiments } => {
            experiments.iter().filter(|e| e.dropped.is_some()).map(|e| e.model.clone()).collect()
        }
        State::Deciding { verdicts }
        | State::Applying { verdicts, .. }
        | State::Probation { verdicts, .. }
        | State::Reverting { verdicts, .. } => {
            verdicts.iter().filter(|v| v.dropped.is_some()).map(|v| v.model.clone()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// The models whose files a line's effects, or the state it leads to, still mean to change or keep.
fn adoptions_under_way(line: &Line) -> BTreeSet<String> {
    let mut models = BTreeSet::new();
    for effect in &line.effects {
        if let Effect::Apply { adoptions: changes } | Effect::Revert { reverts: changes } = effect {
            models.extend(changes.iter().map(|change| change.model.clone()));
        }
    }
    match &line.after.state {
        State::Probation { on_probation, .. } => {
            let watched = on_probation.iter().filter(|w| w.decision.is_none());
            models.extend(watched.map(|w| w.adoption.model.clone()));
        }
        State::Reverting { kept, .. } => models.extend(kept.iter().map(|k| k.model.clone())),
        state => {
            let ended = state.outcome().into_iter().flat_map(|o| &o.models);
            let adopted = ended.filter(|m| m.result == ModelResult::Adopted);
            models.extend(adopted.map(|m| m.model.clone()));
        }
    }
    models
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_in_any_state_panics(history in histories()) {
        for line in &history.lines {
            for event in pool() {
                let _ = step(&line.after, &event);
            }
        }
    }

    #[test]
    fn invariant_7_seq_grows_by_one_with_every_event_taken(history in histories()) {
        for (line, seq) in history.lines.iter().zip(1_i64..) {
            prop_assert_eq!(line.before.seq, seq - 1);
            prop_assert_eq!(line.after.seq, seq);
        }
    }

    #[test]
    fn invariant_7_replaying_the_events_gives_the_stored_state(history in histories()) {
        let mut replayed = history.opened.clone();
        for line in &history.lines {
            let stored = serde_json::to_string(&line.event).unwrap();
            let event: Event = serde_json::from_str(&stored).unwrap();
            let (next, effects) = step(&replayed, &event).unwrap();
            prop_assert_eq!(&effects, &line.effects);
            replayed = Snapshot::from_json(serde_json::to_value(&next).unwrap()).unwrap();
        }
        prop_assert_eq!(replayed, history.last);
    }

    #[test]
    fn an_ended_cycle_takes_no_event_whatever_its_history(history in histories()) {
        if history.last.state.name().is_terminal() {
            for event in pool() {
                prop_assert!(step(&history.last, &event).is_err());
            }
        }
    }

    #[test]
    fn invariant_3_a_verdict_once_committed_never_changes(history in histories()) {
        let mut committed: BTreeMap<String, Decision> = BTreeMap::new();
        for line in &history.lines {
            let now = decisions(&line.after.state);
            if !line.after.state.name().is_terminal() {
                for (model, decision) in &committed {
                    prop_assert_eq!(now.get(model), Some(decision));
                }
            }
            committed.extend(now);
        }
    }

    #[test]
    fn the_next_cycle_opens_once_and_on_the_ending_transition(history in histories()) {
        for line in &history.lines {
            let opens = line.effects.iter().filter(|e| **e == Effect::OpenNextCycle).count();
            let ends = line.after.state.name().is_terminal();
            prop_assert_eq!(opens, usize::from(ends));
        }
    }

    #[test]
    fn an_outcome_lists_each_model_of_the_cycle_once(history in histories()) {
        let Some(outcome) = history.last.state.outcome() else { return Ok(()) };
        let listed: Vec<&String> = outcome.models.iter().map(|m| &m.model).collect();
        let generated = history.lines.iter().find_map(|line| match &line.event {
            Event::CandidatesGenerated { experiments, without } => Some((experiments, without)),
            _ => None,
        });
        let expected: Vec<&String> = generated.map_or_else(Vec::new, |(experiments, without)| {
            let tested = experiments.iter().map(|e| &e.model);
            tested.chain(without.iter().map(|none| &none.model)).collect()
        });
        prop_assert_eq!(listed, expected);
    }

    #[test]
    fn an_ended_cycle_stands_adopted_only_where_it_says_applied(history in histories()) {
        let Some(outcome) = history.last.state.outcome() else { return Ok(()) };
        let adopted = outcome.models.iter().any(|m| m.result == ModelResult::Adopted);
        prop_assert_eq!(adopted, history.last.state.name() == StateName::Applied);
    }

    #[test]
    fn a_dropped_model_is_never_among_the_adoptions_again(history in histories()) {
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for line in &history.lines {
            gone.extend(dropped(&line.after.state));
            let under_way = adoptions_under_way(line);
            prop_assert!(gone.is_disjoint(&under_way), "{:?} of {:?}", under_way, gone);
        }
    }

    #[test]
    fn files_are_changed_only_for_verdicts_that_stand_adopted(history in histories()) {
        for line in &history.lines {
            for effect in &line.effects {
                let Effect::Apply { adoptions } = effect else { continue };
                prop_assert!(!adoptions.is_empty());
                let State::Deciding { verdicts } = &line.before.state else {
                    return Err(TestCaseError::fail("applied from elsewhere than Deciding"));
                };
                for adoption in adoptions {
                    let stands = |v: &ModelVerdict| v.stands_adopted() && v.adoption() == *adoption;
                    prop_assert!(verdicts.iter().any(stands));
                }
            }
        }
    }
}

#[test]
fn the_random_histories_reach_every_state_and_take_every_event() {
    let mut runner = TestRunner::deterministic();
    let mut states = BTreeSet::new();
    let mut events = BTreeSet::new();
    for _ in 0..2_000 {
        let history = histories().new_tree(&mut runner).unwrap().current();
        states.insert(history.opened.state.name());
        for line in &history.lines {
            states.insert(line.after.state.name());
            events.insert(line.event.name());
        }
    }
    assert!(states.iter().eq(StateName::ALL), "{states:?}");
    assert!(events.iter().eq(EventName::ALL), "{events:?}");
}
