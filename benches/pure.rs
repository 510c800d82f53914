//! What the pure parts cost: `cargo bench --bench pure`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mathesis::clock::{Clock as _, SystemClock};
use mathesis::cycle::{Event, Snapshot, Window, sample_events, sample_rules, sample_states, step};
use mathesis::experiment::gate::{Look, decide};
use mathesis::experiment::{ByArm, deck};
use mathesis::research::{BytesMax, Document, Edit, EditRules, Operation, Texts, Which, apply};
use mathesis::task_log::{Arrived, EventError, TaskEvent, fold, parse_body};

/// Events of a batch, as the writer commits under load.
const EVENTS: usize = 1_000;

fn machine(criterion: &mut Criterion) {
    let Some(rules) = sample_rules().into_iter().next() else { return };
    let collecting = Snapshot::open(1, rules.clone());
    let trigger = Event::TriggerReached { window: Window { tasks: 50 } };
    criterion.bench_function("step: the trigger", |bencher| {
        bencher.iter(|| step(black_box(&collecting), black_box(&trigger)));
    });
    let (states, events) = (sample_states(), sample_events());
    criterion.bench_function("step: every state by every event", |bencher| {
        bencher.iter(|| {
            let pairs = states.iter().flat_map(|state| events.iter().map(move |it| (state, it)));
            let snapshots = pairs.filter(|(state, event)| {
                let snapshot = Snapshot { state: (*state).clone(), ..collecting.clone() };
                step(&snapshot, event).is_ok()
            });
            snapshots.count()
        });
    });
    criterion.bench_function("deck: 10 and 10 in blocks of 4", |bencher| {
        let mut seed = 0;
        bencher.iter(|| {
            seed += 1;
            deck::shuffle(&rules.split, black_box(seed))
        });
    });
    let block =
        |arms: [[u16; 2]; 2]| ByArm { control: arms[0].to_vec(), candidate: arms[1].to_vec() };
    let look = Look { blocks: vec![block([[6, 7], [8, 9]]); 5], missed: ByArm::default() };
    criterion.bench_function("gate: 10 and 10 scores", |bencher| {
        bencher.iter(|| decide(black_box(&rules.gate), black_box(&look)));
    });
}

/// A batch of enhancements of 1 KB, as its body.
fn body() -> String {
    let events = (0..EVENTS).map(|number| {
        serde_json::json!({
            "type": "enhancement", "task_id": format!("task-{:06}", number / 4), "model": "nano-banana",
            "iteration": number % 4 + 1, "original_prompt": "Άλλαξε το φόντο σε λευκό",
            "enhanced_prompt": "Replace only the background with white. ".repeat(20), "latency_ms": 2300
        })
    });
    serde_json::Value::from(events.collect::<Vec<_>>()).to_string()
}

fn parsed(body: &str) -> Vec<Result<TaskEvent, EventError>> {
    parse_body("application/json", body.as_bytes()).unwrap_or_default()
}

fn task_log(criterion: &mut Criterion) {
    let body = body();
    criterion.bench_function("parse: 1,000 events of 1 KB", |bencher| {
        bencher.iter(|| parsed(black_box(&body)));
    });
    let now = SystemClock.now();
    let arrive = |events: Vec<Result<TaskEvent, EventError>>| -> Vec<Arrived> {
        events.into_iter().flatten().map(|event| Arrived::new(1, event, now)).collect()
    };
    criterion.bench_function("key and hash: 1,000 events of 1 KB", |bencher| {
        bencher.iter_batched(|| parsed(&body), arrive, BatchSize::LargeInput);
    });
    let (arrived, models) = (arrive(parsed(&body)), ["nano-banana".to_owned()]);
    criterion.bench_function("fold: 1,000 events of 1 KB", |bencher| {
        bencher.iter(|| fold(black_box(&arrived), &models).attempts.len());
    });
}

/// A research document of about 60 KB.
fn research() -> String {
    let section = |number: usize| {
        let line = "- Name what must stay as it is, and say where the light comes from.\n";
        format!(
            "## Section {number}\n\n{}\n### Detail {number}\n\n{}\n",
            line.repeat(8),
            line.repeat(8)
        )
    };
    (1..=55).fold("# Model\n\n".to_owned(), |text, number| text + &section(number))
}

fn documents(criterion: &mut Criterion) {
    let parent = Texts {
        template: "{{original_prompt}}".to_owned(),
        activation: "You enhance prompts.\n".to_owned(),
        research: research(),
    };
    criterion.bench_function("document: 60 KB parsed", |bencher| {
        bencher.iter(|| Document::parse(black_box(&parent.research)).sections().len());
    });
    let edit = |operation, section: &str, text: &str| Edit {
        document: Which::Research,
        operation,
        section: section.to_owned(),
        text: text.to_owned(),
        after: String::new(),
        because: Vec::new(),
    };
    let edits = [
        edit(Operation::Append, "Detail 3", "- One line more.\n"),
        edit(Operation::Replace, "Detail 20", "- Another line.\n"),
        edit(Operation::Remove, "Detail 40", ""),
    ];
    let rules = EditRules {
        required_placeholders: vec!["original_prompt".to_owned()],
        size_change_percent_max: 15,
        frozen_sections: vec!["Section 1".to_owned()],
        bytes_max: BytesMax { template: 10_000, activation: 10_000, research: 100_000 },
        insights: Vec::new(),
    };
    criterion.bench_function("patch: three edits of 60 KB", |bencher| {
        bencher.iter(|| apply(black_box(&parent), black_box(&edits), &rules).is_ok());
    });
}

criterion_group!(benches, machine, task_log, documents);
criterion_main!(benches);
