//! Input from outside, spoiled: each reader is given what is right and then damaged, and must read it or refuse it.
//!
//! `tests/fuzz/<target>/` are the corpora: right inputs, and whatever was once found to go wrong. proptest damages them
//! (bytes set, cut, doubled, words of the formats put in) and shrinks what it finds; the shrunk input is printed and
//! belongs into the corpus. `MATHESIS_FUZZ_CASES=1000000 cargo test --release --test it -- fuzz::` runs for longer.

mod damage;

use mathesis::claude::MessageResponse;
use mathesis::orchestrator::{clickup, enhance, validate, wavespeed};
use mathesis::research::edits::BytesMax;
use mathesis::research::{Document, Edit, EditRules, Texts, apply};
use mathesis::task_log::{EVENTS_MAX, parse_body};
use mathesis::workflow::{AnalysisAnswer, GenerationAnswer, load};
use serde_json::Value;

use damage::{Corpus, is_code};

const SCORE_MAX: u16 = 10;

#[test]
fn a_body_of_events_is_divided_and_each_event_read_or_refused_by_a_code() {
    Corpus::open("events").damaged(|bytes| {
        for content_type in ["application/json", "application/x-ndjson"] {
            let Ok(events) = parse_body(content_type, bytes) else { continue };
            assert!(events.len() <= EVENTS_MAX);
            for event in &events {
                match event {
                    Ok(event) => {
                        assert!(!event.task_id.is_empty() && !event.task_id.contains('\0'));
                        assert!(event.iteration >= 1);
                        assert!(
                            event.check().is_ok(),
                            "it was checked when it was read: {event:?}"
                        );
                    }
                    Err(error) => {
                        assert!(is_code(error.code), "{error:?}");
                        // Eighty characters, and the mark that it was cut.
                        assert!(error.field.chars().count() <= 81, "{error:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn an_answer_of_claude_is_read_or_refused_and_its_edits_keep_the_rules() {
    let parent = Texts {
        template: "For {{task}}: {{original_prompt}}".to_owned(),
        activation: "You enhance prompts.\n".to_owned(),
        research: String::from_utf8(Corpus::open("documents").first()).expect("it is text"),
    };
    let rules = EditRules {
        required_placeholders: vec!["original_prompt".to_owned()],
        size_change_percent_max: 50,
        frozen_sections: vec!["Σταθερά".to_owned()],
        bytes_max: BytesMax { template: 8_000, activation: 8_000, research: 64_000 },
        insights: Vec::new(),
    };
    Corpus::open("answers").damaged(|bytes| {
        let _: Result<MessageResponse, _> = serde_json::from_slice(bytes);
        let _: Result<AnalysisAnswer, _> = serde_json::from_slice(bytes);
        let _: Result<GenerationAnswer, _> = serde_json::from_slice(bytes);
        let text = String::from_utf8_lossy(bytes);
        let _ = enhance::read(&text);
        if let Ok(judged) = validate::read(&text, SCORE_MAX) {
            assert!(judged.score <= SCORE_MAX, "{judged:?}");
        }
        let edits = serde_json::from_slice::<Value>(bytes)
            .ok()
            .and_then(|answer| serde_json::from_value::<Vec<Edit>>(answer["edits"].clone()).ok());
        match edits.map(|edits| apply(&parent, &edits, &rules)) {
            Some(Ok(applied)) => {
                assert!(applied.texts.template.contains("original_prompt"));
                assert!(applied.texts.research.len() <= rules.bytes_max.research);
                assert!(applied.texts.research.contains("## Σταθερά\n\nΜένει όπως είναι.\n"));
                covers(&applied.texts.research);
            }
            Some(Err(refusal)) => assert!(is_code(refusal.code()), "{refusal:?}"),
            None => {}
        }
    });
}

#[test]
fn a_document_is_divided_without_losing_a_byte() {
    Corpus::open("documents").damaged(|bytes| covers(&String::from_utf8_lossy(bytes)));
}

/// The sections follow each other from the first byte to the last, and each has an id of its own.
fn covers(text: &str) {
    let document = Document::parse(text);
    let mut reached = 0;
    let mut ids = std::collections::BTreeSet::new();
    for section in document.sections() {
        assert_eq!(section.range.start, reached, "{text:?}");
        reached = section.range.end;
        assert!(ids.insert(&section.id), "two sections are called {}: {text:?}", section.id);
        assert_eq!(document.text_of(section), &text[section.range.clone()]);
    }
    assert_eq!(reached, text.len(), "{text:?}");
}

#[test]
fn a_workflow_is_read_or_refused_with_its_file_and_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
    let own = folder.path().join("image-editing");
    std::fs::create_dir_all(own.join("prompts")).expect("the folder can be made");
    for prompt in std::fs::read_dir(shipped.join("prompts")).expect("the prompts are there") {
        let prompt = prompt.expect("an entry");
        std::fs::copy(prompt.path(), own.join("prompts").join(prompt.file_name())).expect("copied");
    }
    let file = own.join("workflow.toml");
    Corpus::open("workflows").seldom().damaged(|bytes| {
        std::fs::write(&file, bytes).expect("the file can be written");
        match load::load(&own) {
            Ok(definition) => {
                assert!(!definition.models.is_empty());
                assert!(definition.trigger.tasks >= 1 && definition.split.per_arm >= 1);
                assert!(definition.timeouts.lease_seconds >= 5);
            }
            Err(errors) => {
                assert!(!errors.list().is_empty());
                for error in errors.list() {
                    assert!(error.file.starts_with(&own) && !error.problem.is_empty(), "{error:?}");
                }
            }
        }
    });
}

#[test]
fn a_webhooks_body_is_read_or_refused_and_names_are_what_the_service_may_be_asked_for() {
    Corpus::open("deliveries").damaged(|bytes| {
        match clickup::webhook::parse(bytes) {
            Ok(delivery) => {
                assert!(delivery.dedupe_key.len() <= 200, "{delivery:?}");
                assert!(
                    delivery.task_id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                );
            }
            Err(error) => assert!(is_code(error.code()), "{error:?}"),
        }
        if let Ok(prediction) = wavespeed::webhook::parse(bytes) {
            assert!(!prediction.id.is_empty() && !prediction.id.contains(['/', '?', '#', '.']));
        }
        assert!(!clickup::webhook::signature_is_valid("secret", bytes, Some("00")));
    });
}
