//! The stored forms: names, states, events and snapshots.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn snapshot() -> Snapshot {
    Cycle::testing(Guard::Probation, Approval::None, &[SEEDREAM]).snapshot
}

#[test]
fn every_state_and_event_has_a_sample() {
    let states: BTreeSet<_> = sample_states().iter().map(State::name).collect();
    let events: BTreeSet<_> = sample_events().iter().map(Event::name).collect();
    assert!(states.iter().eq(StateName::ALL));
    assert!(events.iter().eq(EventName::ALL));
}

#[test]
fn every_state_is_read_back_as_it_was_stored_and_under_its_name() {
    for state in sample_states() {
        let stored = serde_json::to_value(&state).unwrap();
        assert_eq!(stored["name"], state.name().as_str());
        assert_eq!(serde_json::from_value::<State>(stored).unwrap(), state);
    }
}

#[test]
fn every_event_is_read_back_as_it_was_stored_and_under_its_name() {
    for event in sample_events() {
        let stored = serde_json::to_value(&event).unwrap();
        assert_eq!(stored["name"], event.name().as_str());
        assert_eq!(serde_json::from_value::<Event>(stored).unwrap(), event);
    }
}

#[test]
fn every_effect_is_read_back_as_it_was_stored_and_under_its_kind() {
    for rules in sample_rules() {
        for state in sample_states() {
            let cycle = Cycle::standing_at(state, rules.clone());
            for event in sample_events() {
                let Ok((_, effects)) = step(&cycle.snapshot, &event) else {
                    continue;
                };
                for effect in effects {
                    let stored = serde_json::to_value(&effect).unwrap();
                    assert_eq!(stored["kind"], effect.kind().as_str());
                    assert_eq!(serde_json::from_value::<Effect>(stored).unwrap(), effect);
                }
            }
        }
    }
}

#[test]
fn every_name_is_parsed_from_what_it_is_stored_as() {
    for name in StateName::ALL {
        assert_eq!(name.as_str().parse(), Ok(*name));
        assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
    }
    for name in EventName::ALL {
        assert_eq!(name.as_str().parse(), Ok(*name));
        assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
    }
    for kind in EffectKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert_eq!(
        "paused".parse::<StateName>().unwrap_err().to_string(),
        "\"paused\" is no known StateName; was it written by a newer version of the program?"
    );
}

#[test]
fn every_snapshot_is_read_back_as_it_was_stored() {
    for rules in sample_rules() {
        for state in sample_states() {
            let snapshot = Cycle::standing_at(state, rules.clone()).snapshot;
            let stored = serde_json::to_value(&snapshot).unwrap();
            assert_eq!(Snapshot::from_json(stored).unwrap(), snapshot);
        }
    }
}

#[test]
fn a_snapshot_keeps_its_stored_shape() {
    insta::assert_json_snapshot!("stored_snapshot", snapshot());
}

#[test]
fn a_snapshot_of_format_0_is_upcast() {
    let mut old = serde_json::to_value(snapshot()).unwrap();
    let fields = old.as_object_mut().unwrap();
    fields.remove("without");
    fields.insert("format".to_owned(), json!(0));
    let rules = fields["rules"].as_object_mut().unwrap();
    rules.remove("split");
    rules.remove("probation");
    rules.remove("strict_looks_max");
    assert_eq!(Snapshot::from_json(old).unwrap(), snapshot());
}

#[test]
fn a_snapshot_of_format_1_is_upcast() {
    let mut old = serde_json::to_value(snapshot()).unwrap();
    old["format"] = json!(1);
    let rules = old["rules"].as_object_mut().unwrap();
    rules.remove("split");
    rules.remove("probation");
    rules.remove("strict_looks_max");
    assert_eq!(Snapshot::from_json(old).unwrap(), snapshot());
}

#[test]
fn a_snapshot_from_the_future_asks_for_the_program_that_wrote_it() {
    let mut newer = serde_json::to_value(snapshot()).unwrap();
    newer["format"] = json!(3);
    assert_eq!(
        Snapshot::from_json(newer).unwrap_err().to_string(),
        "the snapshot has format 3, this program knows up to 2; \
         run the newer version that wrote it"
    );
}

#[test]
fn a_malformed_snapshot_says_what_is_wrong_with_it() {
    let mut broken = serde_json::to_value(snapshot()).unwrap();
    broken["state"] = json!({ "name": "paused" });
    let error = Snapshot::from_json(broken).unwrap_err();
    assert!(matches!(error, SnapshotError::Malformed { format: 2, .. }));
    assert!(error.to_string().contains("paused"), "{error}");
}

#[test]
fn a_snapshot_without_a_format_is_none() {
    for value in
        [json!({}), json!({ "format": "1" }), json!({ "format": -1 }), json!([1, 2]), Value::Null]
    {
        let error = Snapshot::from_json(value).unwrap_err();
        assert!(matches!(error, SnapshotError::NoFormat), "{error}");
    }
}
