use chrono::TimeDelta;
use proptest::prelude::*;

use super::super::parse_event;
use super::*;

fn time(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_800_000, 0).unwrap() + TimeDelta::seconds(second)
}

/// Events as they are sent, the first arriving in second 0, the next in second 1, and so on.
fn arrived(events: &[&str]) -> Vec<Arrived> {
    let seconds = 0..;
    let events = events.iter().map(|event| parse_event(event).unwrap());
    events.zip(seconds).map(|(event, second)| Arrived::new(1, event, time(second))).collect()
}

/// A time of the day of `time`, as JSON text.
fn at(second: i64) -> String {
    format!(r#""at":"{}""#, time(second).to_rfc3339())
}

fn models() -> Vec<String> {
    vec!["m".to_owned()]
}

#[test]
fn a_run_ends_at_the_earliest_and_by_the_strongest_of_its_ends() {
    let events = arrived(&[
        &format!(r#"{{"type":"error","task_id":"a","error":"e",{}}}"#, at(20)),
        &format!(r#"{{"type":"completed","task_id":"a",{}}}"#, at(30)),
        &format!(
            r#"{{"type":"winner","task_id":"a","winner":null,"total_iterations":3,{}}}"#,
            at(25)
        ),
    ]);
    let folded = fold(&events, &models());
    assert_eq!(folded.tasks[0].end, Some(End { at: time(20), by: EndedBy::Completed }));
}

#[test]
fn an_event_without_a_time_happened_when_it_arrived() {
    let events = arrived(&[
        r#"{"type":"task_started","task_id":"a","original_prompt":"p"}"#,
        r#"{"type":"completed","task_id":"a"}"#,
    ]);
    let task = &fold(&events, &models()).tasks[0];
    assert_eq!(task.started.unwrap().at, time(0));
    assert_eq!(task.end.unwrap().at, time(1));
    assert_eq!((task.created_at, task.last_event_at), (time(0), time(1)));
}

#[test]
fn an_error_with_a_model_is_the_attempts_and_ends_nothing() {
    let events = arrived(&[r#"{"type":"error","task_id":"a","model":"m","error":"e"}"#]);
    let folded = fold(&events, &models());
    assert_eq!((folded.tasks[0].end, folded.tasks[0].error), (None, None));
    assert_eq!(folded.attempts[0].error.unwrap().body.error, "e");
}

#[test]
fn of_several_errors_the_prompts_fault_is_kept_then_the_latest() {
    let events = arrived(&[
        r#"{"type":"error","task_id":"a","model":"m","error":"early","fault":"prompt"}"#,
        r#"{"type":"error","task_id":"a","model":"m","error":"late","fault":"prompt"}"#,
        r#"{"type":"error","task_id":"a","model":"m","error":"outage","fault":"infrastructure"}"#,
        r#"{"type":"error","task_id":"a","model":"m","error":"unknown"}"#,
    ]);
    assert_eq!(fold(&events, &models()).attempts[0].error.unwrap().body.error, "late");
    assert_eq!(fold(&events[2..], &models()).attempts[0].error.unwrap().body.error, "outage");
}

#[test]
fn the_greatest_version_is_kept_with_its_texts() {
    let enhancement = |version: &str| {
        format!(
            r#"{{"type":"enhancement","task_id":"a","model":"m","original_prompt":"p","enhanced_prompt":"of {version}","version":{version}}}"#
        )
    };
    let events = arrived(&[&enhancement("3"), &enhancement("null"), &enhancement("2")]);
    let folded = fold(&events, &models());
    let kept = folded.attempts[0].enhancement.unwrap();
    assert_eq!((kept.version, kept.body.enhanced_prompt.as_str()), (Some(3), "of 3"));
    assert_eq!(folded.attempts.len(), 1);
}

#[test]
fn the_latest_feedback_by_its_own_time_is_kept() {
    let events = arrived(&[
        &format!(r#"{{"type":"feedback","task_id":"a","kept":true,{}}}"#, at(90)),
        &format!(r#"{{"type":"feedback","task_id":"a","kept":false,{}}}"#, at(60)),
    ]);
    assert_eq!(fold(&events, &models()).tasks[0].feedback.unwrap().body.kept, Some(true));
}

#[test]
fn metadata_is_merged_by_name_and_the_latest_value_counts() {
    let events = arrived(&[
        &format!(
            r#"{{"type":"completed","task_id":"a","metadata":{{"x":"late","y":1}},{}}}"#,
            at(90)
        ),
        &format!(
            r#"{{"type":"feedback","task_id":"a","kept":true,"metadata":{{"x":"early","z":2}},{}}}"#,
            at(60)
        ),
        r#"{"type":"error","task_id":"a","model":"m","error":"e","metadata":{"x":"of the attempt"}}"#,
    ]);
    let folded = fold(&events, &models());
    let values: Vec<_> = folded.tasks[0]
        .metadata
        .iter()
        .map(|(name, (_, value))| (*name, (*value).clone()))
        .collect();
    assert_eq!(values, [("x", "late".into()), ("y", 1.into()), ("z", 2.into())]);
    assert_eq!(folded.attempts[0].metadata["x"].1, "of the attempt");
}

#[test]
fn a_model_that_the_workflow_does_not_know_is_observed() {
    let events = arrived(&[
        r#"{"type":"generation","task_id":"a","model":"m","image_url":"u"}"#,
        r#"{"type":"generation","task_id":"a","model":"stranger","image_url":"u"}"#,
    ]);
    let folded = fold(&events, &models());
    let observed: Vec<_> = folded.attempts.iter().map(|a| (a.model, a.observed)).collect();
    assert_eq!(observed, [("m", false), ("stranger", true)]);
}

#[test]
fn rows_come_in_key_order() {
    let events = arrived(&[
        r#"{"type":"generation","task_id":"b","model":"z","image_url":"u"}"#,
        r#"{"type":"generation","task_id":"b","model":"m","iteration":2,"image_url":"u"}"#,
        r#"{"type":"generation","task_id":"b","model":"m","image_url":"u"}"#,
        r#"{"type":"completed","task_id":"a","run_id":"2"}"#,
        r#"{"type":"completed","task_id":"a"}"#,
    ]);
    let folded = fold(&events, &models());
    let tasks: Vec<_> = folded.tasks.iter().map(|t| (t.task_id, t.run_id)).collect();
    assert_eq!(tasks, [("a", ""), ("a", "2"), ("b", "")]);
    let attempts: Vec<_> = folded.attempts.iter().map(|a| (a.model, a.iteration)).collect();
    assert_eq!(attempts, [("m", 1), ("m", 2), ("z", 1)]);
}

/// Any event of a small world, so that many fall on the same rows.
fn any_event() -> impl Strategy<Value = String> {
    let body = prop_oneof![
        (0..3_i32).prop_map(|v| match v {
            0 => r#""type":"enhancement","model":"m","original_prompt":"p","enhanced_prompt":"q""#.to_owned(),
            v => format!(r#""type":"enhancement","model":"m","original_prompt":"p","enhanced_prompt":"q","version":{v}"#),
        }),
        (0..3_i32, prop_oneof![Just("null"), Just("\"prompt\""), Just("\"infrastructure\"")])
            .prop_map(|(n, fault)| format!(r#""type":"error","model":"m","error":"e{n}","fault":{fault}"#)),
        (0..3_i32, prop_oneof![Just("null"), Just("\"prompt\"")])
            .prop_map(|(n, fault)| format!(r#""type":"error","error":"e{n}","fault":{fault}"#)),
        (0..3_i32).prop_map(|n| format!(r#""type":"feedback","comment":"c{n}""#)),
        Just(r#""type":"completed""#.to_owned()),
        Just(r#""type":"winner","winner":"m","total_iterations":1"#.to_owned()),
        Just(r#""type":"validation","model":"m","score":8,"passed":true"#.to_owned()),
    ];
    (body, prop_oneof![Just("a"), Just("b")], 0..4_i64, 0..3_i32, any::<bool>()).prop_map(
        |(body, task, second, value, timed)| {
            let time = if timed { format!(",{}", at(second)) } else { String::new() };
            format!(
                r#"{{{body},"task_id":"{task}","metadata":{{"x":{value},"y{value}":1}}{time}}}"#
            )
        },
    )
}

proptest! {
    #[test]
    fn the_order_of_events_does_not_matter(
        (sent, shuffled) in prop::collection::vec(any_event(), 0..12).prop_flat_map(|sent| {
            let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
            let mut events = arrived(&sent);
            let mut seen = std::collections::HashSet::new();
            events.retain(|event| seen.insert(event.key.clone()));
            (Just(events.clone()), Just(events).prop_shuffle())
        })
    ) {
        prop_assert_eq!(fold(&sent, &models()), fold(&shuffled, &models()));
    }
}
