use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The code and the detail of a refusal.
fn refused(event: &str) -> String {
    parse_event(event).unwrap_err().to_string()
}

fn code(event: &str) -> &'static str {
    parse_event(event).map_or_else(|error| error.code, |_| "accepted")
}

/// The code for an otherwise sound validation with this text as its score.
fn code_of_score(score: &str) -> &'static str {
    code(&format!(
        r#"{{"type":"validation","task_id":"a","model":"m","passed":true,"score":{score}}}"#
    ))
}

/// The code for a `completed` with these further fields.
fn code_with(fields: &str) -> &'static str {
    code(&format!(r#"{{"type":"completed","task_id":"a",{fields}}}"#))
}

#[test]
fn every_type_is_read_with_all_that_it_may_say() {
    let common = json!({
        "task_id": "86c1", "run_id": "2", "at": "2026-11-22T12:00:00.123456789+02:00",
        "event_id": "018f0000-0000-7000-8000-000000000001", "metadata": {"k": [1, null]},
    });
    let events = [
        json!({"type": "task_started", "original_prompt": "p", "task_name": "n", "task_type": "SIMPLE_EDIT", "category": "c"}),
        json!({"type": "enhancement", "model": "wan-2.5-edit", "iteration": 2, "version": 3, "original_prompt": "p", "enhanced_prompt": "q", "latency_ms": 2300}),
        json!({"type": "generation", "model": "nano-banana", "image_url": "https://x/y.png", "generation_time_ms": 12500, "cost_usd": 0.04}),
        json!({"type": "validation", "model": "nano-banana", "score": 10, "passed": true, "issues": ["i"], "reasoning": "r", "judge": {"model": "claude", "prompt_version": 4}}),
        json!({"type": "winner", "winner": "nano-banana", "score": 10, "total_iterations": 1}),
        json!({"type": "completed", "processing_time_ms": 61000}),
        json!({"type": "error", "model": "nano-banana", "iteration": 3, "error": "e", "stage": "generation", "fault": "infrastructure"}),
        json!({"type": "feedback", "kept": false, "comment": "c"}),
    ];
    for (mut event, kind) in events.into_iter().zip(EventType::ALL) {
        for (name, value) in common.as_object().unwrap() {
            event[name] = value.clone();
        }
        let read = parse_event(&event.to_string()).unwrap();
        assert_eq!(read.event_type(), kind);
        assert_eq!(read.run_id, "2");
        assert_eq!(read.at.unwrap().to_rfc3339(), "2026-11-22T10:00:00.123456+00:00");
        assert_eq!(read.metadata["k"], json!([1, null]));
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let read = parse_event(
        r#"{"type":"validation","task_id":"a","model":"m","score":8.0,"passed":true,"issues":null,"at":null}"#,
    )
    .unwrap();
    assert_eq!((read.run_id.as_str(), read.iteration, read.version), ("", 1, None));
    assert_eq!((read.at, read.event_id, read.metadata.len()), (None, None, 0));
    let EventBody::Validation(body) = read.body else { panic!("a validation") };
    assert_eq!(body, Validation { score: 8, passed: true, ..Validation::default() });
}

#[test]
fn a_score_is_a_whole_number_in_whatever_notation() {
    for score in ["0", "8", "8.0", "1e1", "65535"] {
        assert_eq!(code_of_score(score), "accepted", "{score}");
    }
    for score in [
        "7.5",
        "null",
        "-1",
        "\"8\"",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "[8]",
        "65536",
        "1e300",
    ] {
        assert_eq!(code_of_score(score), "invalid_score", "{score}");
    }
    let winner = |score: &str| {
        code(&format!(
            r#"{{"type":"winner","task_id":"a","winner":null,"total_iterations":3,"score":{score}}}"#
        ))
    };
    assert_eq!([winner("null"), winner("8.5")], ["accepted", "invalid_score"]);
}

#[test]
fn a_score_beyond_the_scale_is_refused_by_the_workflow() {
    let event =
        parse_event(r#"{"type":"validation","task_id":"a","model":"m","score":11,"passed":true}"#)
            .unwrap();
    assert_eq!(event.check_score(11), Ok(()));
    insta::assert_snapshot!(event.check_score(10).unwrap_err(), @"score_out_of_range: `score` is 11, and this workflow's scores go from 0 to 10");
}

#[test]
fn unknown_fields_and_types_are_refused_by_name_with_the_nearest_one() {
    insta::assert_snapshot!(refused(r#"{"type":"validaton","task_id":"a"}"#), @r#"unknown_type: there is no event type "validaton"; did you mean `validation`?"#);
    insta::assert_snapshot!(refused(r#"{"type":"x","task_id":"a"}"#), @r#"unknown_type: there is no event type "x"; the types are task_started, enhancement, generation, validation, winner, completed, error, feedback"#);
    insta::assert_snapshot!(refused(r#"{"type":"generation","task_id":"a","model":"m","image_ulr":"u"}"#), @"unknown_field: `generation` has no field `image_ulr`; did you mean `image_url`?");
    insta::assert_snapshot!(refused(r#"{"type":"completed","task_id":"a","temperature":1}"#), @"unknown_field: `completed` has no field `temperature`; put what else is worth keeping into `metadata`");
    insta::assert_snapshot!(refused(r#"{"type":"completed","task_id":"a","score":8}"#), @"unknown_field: `score` does not belong to `completed`");
    insta::assert_snapshot!(refused(r#"{"type":"winner","task_id":"a","winner":"m","model":"m","total_iterations":1}"#), @"unknown_field: `model` does not belong to `winner`");
    insta::assert_snapshot!(refused(r#"{"type":"error","task_id":"a","error":"e","iteration":2}"#), @"unknown_field: `iteration` does not belong to `error` without `model`");
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    for (event, field) in [
        (r#"{"task_id":"a"}"#, "type"),
        (r#"{"type":"completed"}"#, "task_id"),
        (r#"{"type":"completed","task_id":""}"#, "task_id"),
        (r#"{"type":"task_started","task_id":"a"}"#, "original_prompt"),
        (r#"{"type":"generation","task_id":"a","image_url":"u"}"#, "model"),
        (r#"{"type":"validation","task_id":"a","model":"m","passed":true}"#, "score"),
        (r#"{"type":"validation","task_id":"a","model":"m","score":8}"#, "passed"),
        (r#"{"type":"winner","task_id":"a","total_iterations":1}"#, "winner"),
        (r#"{"type":"winner","task_id":"a","winner":null}"#, "total_iterations"),
        (r#"{"type":"feedback","task_id":"a"}"#, "kept"),
    ] {
        let error = parse_event(event).unwrap_err();
        assert_eq!((error.code, error.field.as_str()), ("missing_field", field), "{event}");
    }
}

#[test]
fn every_other_refusal_has_its_code() {
    let long = "α".repeat(201);
    let deep = format!(r#""metadata":{{"a":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    for (fields, expected) in [
        (r#""at":"yesterday""#, "invalid_time"),
        (r#""at":"2026-11-22T10:00:00""#, "invalid_time"),
        (r#""at":"0001-01-01T00:00:00Z""#, "invalid_time"),
        (r#""at":1700000000"#, "wrong_type"),
        (r#""event_id":"7""#, "wrong_type"),
        (r#""metadata":[]"#, "wrong_type"),
        (r#""run_id":7"#, "wrong_type"),
        (r#""run_id":"a\u0000""#, "nul_character"),
        (r#""metadata":{"a\u0000":1}"#, "nul_character"),
        (r#""metadata":{"a":["\u0000"]}"#, "nul_character"),
        (r#""processing_time_ms":-1"#, "number_out_of_range"),
        (r#""processing_time_ms":1.5"#, "number_out_of_range"),
        (r#""processing_time_ms":1e300"#, "number_out_of_range"),
        (r#""processing_time_ms":1e999"#, "number_out_of_range"),
        (r#""processing_time_ms":"1""#, "wrong_type"),
        (r#""metadata":{"a":"\ud800"}"#, "invalid_json"),
        (deep.as_str(), "too_deep"),
        (&format!(r#""run_id":"{long}""#), "text_too_long"),
        (&format!(r#""metadata":{{"a":"{}"}}"#, "a".repeat(300_000)), "text_too_long"),
    ] {
        assert_eq!(code_with(fields), expected, "{fields:.60}");
    }
    assert_eq!(code("7"), "not_an_object");
    assert_eq!(code("{"), "invalid_json");
    assert_eq!(code(r#"{"type":"completed","task_id":"a"} 7"#), "invalid_json");
}

#[test]
fn names_iterations_versions_and_costs_are_held_to_their_rules() {
    let enhancement = |field: &str| {
        code(&format!(
            r#"{{"type":"enhancement","task_id":"a","original_prompt":"p","enhanced_prompt":"q",{field}}}"#
        ))
    };
    assert_eq!(enhancement(r#""model":"wan-2.5-edit","iteration":1000,"version":1"#), "accepted");
    for model in ["../../etc", "a..b", "", "-a", "μ", "a/b"] {
        assert_eq!(enhancement(&format!(r#""model":"{model}""#)), "invalid_name", "{model}");
    }
    for iteration in ["0", "1001", "-1", "1.5", "1e300"] {
        assert_eq!(
            enhancement(&format!(r#""model":"m","iteration":{iteration}"#)),
            "invalid_iteration"
        );
    }
    for version in ["0", "-1", "2.5", "3000000000"] {
        assert_eq!(enhancement(&format!(r#""model":"m","version":{version}"#)), "invalid_version");
    }
    let cost = |cost: &str| {
        code(&format!(
            r#"{{"type":"generation","task_id":"a","model":"m","image_url":"u","cost_usd":{cost}}}"#
        ))
    };
    for good in ["0", "0.04", "4e-2", "\"0.04\"", "1000000", "1e-10", "-0.0"] {
        assert_eq!(cost(good), "accepted", "{good}");
    }
    for bad in ["-0.01", "1000000.01", "1e300", "\"much\""] {
        assert_eq!(cost(bad), "number_out_of_range", "{bad}");
    }
}

#[test]
fn a_field_that_occurs_twice_is_refused_at_every_level() {
    assert_eq!(code_with(r#""run_id":"1","run_id":"1""#), "duplicate_field");
    assert_eq!(code_with(r#""metadata":{"a":{"b":1,"b":2}}"#), "duplicate_field");
    insta::assert_snapshot!(refused(r#"{"type":"completed","task_id":"a","task_id":"b"}"#), @"duplicate_field: the field `task_id` occurs twice in one object at line 1 column 43");
}

#[test]
fn a_prompt_may_have_a_mebibyte_and_no_more() {
    let started = |prompt: String| {
        code(
            &json!({"type": "task_started", "task_id": "a", "original_prompt": prompt}).to_string(),
        )
    };
    assert_eq!(started("a".repeat(1 << 20)), "accepted");
    assert_eq!(started("a".repeat((1 << 20) + 1)), "text_too_long");
}

#[test]
fn two_hundred_characters_are_counted_as_code_points() {
    let id = "ᾧ".repeat(200);
    assert_eq!(code(&json!({"type": "completed", "task_id": id}).to_string()), "accepted");
}

#[test]
fn a_refusal_quotes_no_more_than_the_beginning() {
    let event = json!({"type": "completed", "task_id": "a", "x".repeat(1 << 20): 1});
    assert!(refused(&event.to_string()).len() < 400);
}

proptest! {
    #[test]
    fn texts_are_kept_byte_for_byte(prompt in "[^\0]{0,60}|[ά-ώἀ-ῼe\u{301}🎨 \r\n\t]{0,40}") {
        let event = json!({"type": "task_started", "task_id": "a", "original_prompt": prompt});
        let EventBody::TaskStarted(body) = parse_event(&event.to_string()).unwrap().body else {
            panic!("a start")
        };
        prop_assert_eq!(body.original_prompt, prompt);
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"(?s).{0,80}|[{}\[\]":,a-z0-9.eE+\\u -]{0,80}"#) {
        let _ = parse_event(&text);
        let _ = parse_event(&format!(r#"{{"type":"validation","task_id":"a","model":"m","score":{text}}}"#));
    }
}
