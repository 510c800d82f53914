//! A month of thirty cycles, through the real effects and the real client: what it costs, by the stand-in's counts of
//! tokens and the real prices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use mathesis::claude::cost::prices_as_of;
use mathesis::claude::{ApiKey, ClaudeSettings, HttpClaude};
use mathesis::cycle::StateName;
use mathesis::runtime::{Engine, Operation, Worked, Worker, check_workflow};
use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use mathesis::stand_in::script::Script;
use mathesis::store::costs;
use mathesis::workflow::Definition;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::support::stage::{NANO, WAN, shipped_definition};
use crate::support::{Stage, edit_because};

const CYCLES: i64 = 30;
const WINDOW: usize = 50;

/// What people ask for, of the length that they write.
const REQUESTS: [&str; 6] = [
    "Άλλαξε τον ουρανό σε ηλιοβασίλεμα με ζεστά χρώματα, χωρίς να πειράξεις το κτίριο και τους ανθρώπους μπροστά. Το λογότυπο κάτω δεξιά να μείνει όπως είναι.",
    "Βγάλε το φόντο και βάλε σκέτο λευκό για το e-shop. Η σκιά κάτω από το προϊόν να φαίνεται φυσική.",
    "Στην πινακίδα γράψε «ΚΑΦΕΝΕΙΟΝ Η ΕΛΛΑΣ» αντί για το αγγλικό κείμενο, με την ίδια γραμματοσειρά και τους τόνους σωστούς όπου χρειάζονται.",
    "Κάνε το αυτοκίνητο κόκκινο σκούρο μεταλλικό, αλλά οι αντανακλάσεις στα τζάμια και οι ζάντες να μην αλλάξουν. Αν γίνεται, καθάρισε και τη λάσπη από τα λάστιχα.",
    "Πρόσθεσε ένα τραπέζι με δύο καρέκλες στη βεράντα, στο στυλ των επίπλων που υπάρχουν ήδη, και κράτα τη θάλασσα πίσω.",
    "Η κοπέλα να κοιτάζει προς την κάμερα και να χαμογελάει ελαφρά· το πρόσωπό της να παραμείνει το ίδιο, και τα μαλλιά το ίδιο.",
];

/// A research document of 60 KB, as they grow: English rules with Greek examples, in sections.
fn research() -> String {
    let mut text = String::from("# What is known about the model\n");
    let mut section = 0;
    while text.len() < 60_000 {
        section += 1;
        text.push_str(&format!("\n## Pattern {section}\n\n"));
        for rule in 1..=6 {
            text.push_str(&format!(
                "- Rule {section}.{rule}: name first what must stay unchanged, then the one change, in the present tense; short prompts score higher here than long ones.\n  Example: «κράτα το λογότυπο όπως είναι» becomes \"keep the logo exactly as it is\".\n"
            ));
        }
    }
    text
}

/// The events of one task: two models, and every fourth task a second iteration.
fn task(id: &str, number: usize) -> Vec<Value> {
    let request = REQUESTS[number % REQUESTS.len()];
    let mut events = vec![json!({
        "type": "task_started", "task_id": id, "original_prompt": request,
        "task_type": "SIMPLE_EDIT", "category": "background"
    })];
    let iterations = if number.is_multiple_of(4) { 2 } else { 1 };
    for iteration in 1..=iterations {
        for (at, model) in [WAN, NANO].into_iter().enumerate() {
            let score = 5 + (number + iteration + at) % 4;
            let about = |kind: &str| json!({"type": kind, "task_id": id, "model": model, "iteration": iteration});
            let with = |mut event: Value, fields: Value| {
                let fields = fields.as_object().cloned().unwrap_or_default();
                event.as_object_mut().expect("an event").extend(fields);
                event
            };
            let enhanced = format!(
                "Edit the photograph as follows. {} Preserve the composition, the camera angle, the lighting direction and every face exactly as they are. Do not add, remove or restyle anything that is not named here. Keep all lettering legible, with its accents, and every logo pixel for pixel. Variation {number}.",
                "Replace only the sky with a warm sunset gradient from amber to deep blue, matching the light on the facade. ".repeat(4)
            );
            events.push(with(
                about("enhancement"),
                json!({"original_prompt": request, "enhanced_prompt": enhanced, "latency_ms": 2300, "version": 1}),
            ));
            events.push(with(
                about("generation"),
                json!({"image_url": format!("https://images.example/{id}/{model}/{iteration}.png"), "generation_time_ms": 12_500}),
            ));
            events.push(with(
                about("validation"),
                json!({
                    "score": score, "passed": score >= 8,
                    "issues": ["the logo changed its colour slightly", "a halo at the treeline"],
                    "reasoning": "The sky was replaced as asked and its colours fit the light on the building. The people in front are the same. The logo at the lower right has lost a part of its blue and its edge is soft; a bright halo of two or three pixels runs along the treeline, where the old sky shows through the leaves. Nothing else was changed."
                }),
            ));
        }
    }
    events.push(json!({"type": "completed", "task_id": id, "processing_time_ms": 31_000}));
    events
}

/// An analysis of the length that a thorough one has: eight insights, and a word on each earlier one that is shown.
fn analysis(asked: &str) -> Value {
    let ids: Vec<&str> = (0..5)
        .filter_map(|n| asked.split("month-").nth(1 + n * 7))
        .filter_map(|rest| rest.split(['"', ' ', '\n', ',']).next())
        .collect();
    let evidence: Vec<String> = ids.iter().map(|id| format!("month-{id}")).collect();
    let pattern = |n: usize| {
        json!({
            "insight_type": "failure_mode", "model": if n.is_multiple_of(2) { WAN } else { NANO },
            "description": format!("Finding {n}: logos and lettering lose colour or sharpness when the prompt describes the change before it says what must stay; prompts that open with what stays score a point higher on average in this window."),
            "confidence": 0.7, "evidence_task_ids": evidence,
            "suggested_change": "In the section on logos, put the sentence that keeps them first, and give one example with a Greek inscription."
        })
    };
    let model = |name: &str| {
        json!({
            "model": name,
            "strengths": ["Follows short prompts closely.", "Keeps faces."],
            "weaknesses": ["Softens logos.", "Leaves halos where sky meets leaves."],
            "best_prompt_length": {"from": 300, "to": 600},
            "greek_text": "Quote the Greek words exactly, with their accents, and say which lettering they replace.",
            "what_scores_high": "Prompts that say first what stays, and then one change in plain words.",
            "what_fails": "Long descriptions of light, and lettering that is asked for without its quotation marks.",
        })
    };
    json!({
        "summary": "Logos and lettering are what fails most in this window; prompts that say first what stays do better, for both models, and length hurts beyond six hundred characters.",
        "patterns": (0..8).map(pattern).collect::<Vec<_>>(),
        "model_insights": [model(WAN), model(NANO)],
        "recommendations": [
            {"model": "all", "text": "Say first what must stay unchanged."},
            {"model": WAN, "text": "Name the blue of the logo."},
            {"model": NANO, "text": "Ask for clean edges along leaves and hair."}
        ],
        "earlier": []
    })
}

/// The words of a request to Claude, all of them.
fn words(request: &Value) -> String {
    request["messages"][0]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

struct Month {
    stage: Stage,
    worker: Worker,
    engine: Engine,
    _stand_in: ClaudeStandIn,
}

impl Month {
    async fn begin(set: fn(&mut Definition)) -> Self {
        let build = Stage::builder().research(research()).definition(move |definition| {
            set(definition);
            // What it costs is what is asked here.
            definition.claude.budget_usd_per_month = Decimal::from(1_000);
        });
        let stage = build.build().await;
        let answers = AtomicUsize::new(0);
        let answer = move |request: &Value| {
            let number = answers.fetch_add(1, Ordering::SeqCst);
            let schema = request["output_config"]["format"]["schema"].to_string();
            let answer = if schema.contains("patterns") {
                analysis(&words(request))
            } else {
                let line = format!(
                    "- Rule of answer {number}: {}",
                    "say first which logo, lettering and faces stay, then the one change that is asked for. ".repeat(12)
                );
                let asked = words(request);
                let shown = asked.split("<insights>\nid ").nth(1).unwrap_or_default();
                edit_because(&line, shown.split(',').next().unwrap_or_default())
            };
            Reply::ThinkingThenText(answer.to_string())
        };
        let settings = StandInSettings { api_key: "sk".to_owned(), port: 0 };
        let clock = stage.clock.clone();
        let stand_in = ClaudeStandIn::start_by_clock(settings, Script::new(1), answer, clock)
            .await
            .expect("it starts");
        let key = ApiKey::new("sk").expect("a key");
        let claude =
            HttpClaude::new(ClaudeSettings::new(stand_in.base_url(), Some(key))).expect("a client");
        let engine = Engine { claude: Arc::new(claude), ..stage.engine.clone() };
        Self { worker: Worker::new(engine.clone()), engine, stage, _stand_in: stand_in }
    }

    /// From Collecting through both kinds of calls; the test that follows costs nothing, and is cut short.
    async fn cycle(&self, number: i64) {
        let events = (0..WINDOW).flat_map(|n| task(&format!("month-{number}-{n}"), n)).collect();
        self.stage.log(events).await;
        let moved = check_workflow(&self.engine, &self.worker, self.stage.id()).await;
        assert_eq!(moved.expect("the watcher looks"), 1);
        loop {
            match self.worker.work_once().await.expect("the worker works") {
                Worked::Done(Some(StateName::Testing)) => break,
                Worked::Done(_) => {}
                Worked::Waits => {
                    self.stage.clock.advance(TimeDelta::minutes(11));
                }
                other => panic!("cycle {number} does not go on: {other:?}"),
            }
        }
        self.stage.please(Operation::Cancel).await;
        self.stage.clock.advance(TimeDelta::hours(23));
    }

    async fn cost_usd(&self) -> Decimal {
        for number in 1..=CYCLES {
            self.cycle(number).await;
        }
        let cycles = costs::by_cycle(self.stage.pool(), self.stage.id(), CYCLES).await;
        let cycles = cycles.expect("the database answers");
        assert_eq!(
            (cycles.len() as i64, cycles.iter().map(|c| c.calls).sum()),
            (CYCLES, 3 * CYCLES)
        );
        let sum = |of: fn(&costs::CycleCost) -> i64| cycles.iter().map(of).sum::<i64>();
        println!(
            "{} calls: {} tokens read, {} written to the cache, {} read from it, {} written",
            sum(|c| c.calls),
            sum(|c| c.input_tokens),
            sum(|c| c.cache_creation_tokens),
            sum(|c| c.cache_read_tokens),
            sum(|c| c.output_tokens)
        );
        let calls = self.stage.calls(CYCLES).await;
        for call in calls {
            println!(
                "  the last cycle's {} {}: {} in, {} out, {} USD",
                call.purpose,
                call.model_name,
                call.input_tokens.unwrap_or_default(),
                call.output_tokens.unwrap_or_default(),
                call.cost_usd.unwrap_or_default().round_dp(4)
            );
        }
        cycles.iter().map(|cycle| cycle.cost_usd).sum()
    }
}

#[tokio::test]
async fn thirty_cycles_with_two_documents_of_60_kb_cost_less_than_ten_dollars_a_month() {
    println!("prices as of {}, three bytes a token", prices_as_of());
    let batched = Month::begin(|definition| definition.claude.batch = true).await.cost_usd().await;
    println!("{CYCLES} cycles, every call in a batch: {} USD", batched.round_dp(2));
    assert!(batched < Decimal::TEN, "{batched} USD a month");

    let smaller = Month::begin(|definition| {
        definition.claude.analysis_model = definition.claude.generation_model.clone();
    });
    let smaller = smaller.await.cost_usd().await;
    println!(
        "{CYCLES} cycles, analysed by the smaller model, at once: {} USD",
        smaller.round_dp(2)
    );
    assert!(smaller < Decimal::TEN, "{smaller} USD a month");

    // Two thirds of it are the tasks that the larger model reads, each once, so that no cache helps.
    let at_once = Month::begin(|_| {}).await.cost_usd().await;
    println!("{CYCLES} cycles as shipped, every call at once: {} USD", at_once.round_dp(2));
    let budget = shipped_definition().claude.budget_usd_per_month;
    assert!(at_once < budget, "{at_once} USD a month, and the budget is {budget} USD");
    let ratio = (batched / at_once).round_dp(2);
    assert_eq!(ratio, Decimal::new(50, 2), "a batch costs half");
}

#[tokio::test]
async fn what_is_marked_for_the_cache_is_the_same_for_every_model_and_cycle() {
    let stage =
        Stage::builder().definition(|definition| definition.trigger.tasks = 3).build().await;
    for cycle in ["first", "second"] {
        stage.complete_tasks(cycle, 3, 7).await;
        assert_eq!(stage.watch().await, 1);
        stage.script_candidates(cycle);
        stage.step().await;
        assert_eq!(stage.step().await, StateName::Testing);
        stage.please(Operation::Cancel).await;
    }
    let asked = stage.claude.requests();
    assert_eq!(asked.len(), 6, "an analysis and two candidates a cycle");
    for (first, later) in [(0, 3), (1, 2), (1, 4), (1, 5)] {
        assert_eq!(asked[first].system, asked[later].system);
    }
    for request in &asked {
        let last = request.system.last().expect("a system prompt");
        assert!(
            last.cache_control.is_some() && last.text.len() > 3 * 512,
            "long enough to be kept"
        );
    }
}
