//! Real input: 179 real editing tasks with the real scores that a GPT-4o judge gave to eight models,
//! replayed through the HTTP interface (TIGER-AI-Lab/VIEScore, MIT).
//!
//! InstructPix2Pix's scores stand for the old prompt, MagicBrush's for the new one: a true improvement.
//! The other way round it is a true harm. The six other models are logged as observed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use mathesis::cycle::{ModelResult, StateName};
use mathesis::experiment::deck::{self, DeckRules, Slot};
use mathesis::experiment::{Arm, ByArm};
use mathesis::http::{self, App, HttpSettings};
use mathesis::store::experiments::{self, ExperimentRow};
use mathesis::workflow::Definition;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::stage::NANO;
use crate::support::{Stage, analysis_answer, edit_answer};

const DECK_SEED: u64 = 20_261_123;
pub const OLD: &str = "InstructPix2Pix";
pub const NEW: &str = "MagicBrush";

/// One editing request with the score and the reasoning that each model got.
pub struct RealTask {
    pub uid: String,
    pub instruction: String,
    pub scores: BTreeMap<String, (i64, String)>,
}

pub fn real_tasks() -> Option<Vec<RealTask>> {
    let shared = std::env::var("MATHESIS_SHARED").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/viescore_gpt4o_text_guided_edit.ndjson");
    let Ok(text) = fs::read_to_string(&path) else {
        println!("skipped: the real judge scores are not on this machine");
        return None;
    };
    let mut tasks: BTreeMap<String, RealTask> = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("the data set is NDJSON");
        let text_of = |field: &str| row[field].as_str().expect("a text").to_owned();
        let uid = text_of("uid");
        let task = tasks.entry(uid.clone()).or_insert_with(|| RealTask {
            uid,
            instruction: text_of("instruction"),
            scores: BTreeMap::new(),
        });
        let score = row["score"].as_i64().expect("a score");
        task.scores.insert(text_of("model"), (score, text_of("reasoning")));
    }
    Some(tasks.into_values().collect())
}

/// An orchestrator that replays recorded scores over HTTP.
pub struct Replay {
    pub stage: Stage,
    address: String,
    client: reqwest::Client,
    old: &'static str,
    new: &'static str,
    pub stop: CancellationToken,
}

impl Replay {
    async fn start(old: &'static str, new: &'static str) -> Self {
        Self::start_with(old, new, |_| {}).await
    }

    /// The same with the shipped workflow changed further.
    pub async fn start_with(
        old: &'static str,
        new: &'static str,
        edit: impl FnOnce(&mut Definition) + Send + 'static,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stage = Stage::builder()
            .seed(DECK_SEED)
            .definition(|definition| {
                definition.models.retain(|model| model.name.as_str() == NANO);
                edit(definition);
            })
            .build()
            .await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let app = App::new(
            stage.engine.clone(),
            stage.assigner.clone(),
            stage.logger.clone(),
            HttpSettings { open: true, ..HttpSettings::default() },
        );
        let stop = CancellationToken::new();
        tokio::spawn(http::serve(listener, http::router(app), stop.clone()));
        Self { stage, address, client: reqwest::Client::new(), old, new, stop }
    }

    /// Runs one task as the pipeline would: ask, then log what the recorded judge said.
    pub async fn run(&self, task: &RealTask) -> Option<Arm> {
        self.stage.assigner.refresh().await.expect("the versions are read");
        let path = format!(
            "{}/v1/workflows/image-editing/tasks/{}/assignments/{NANO}",
            self.address, task.uid
        );
        let told: Value =
            self.client.put(path).send().await.expect("an answer").json().await.expect("JSON");
        let arm = told["arm"].as_str().map(|arm| arm.parse().expect("an arm"));
        let source = if arm == Some(Arm::Candidate) { self.new } else { self.old };
        let mut events = vec![json!({
            "type": "task_started", "task_id": task.uid, "original_prompt": task.instruction
        })];
        events.extend(attempt(task, NANO, told["version"].as_i64(), &task.scores[source]));
        for (model, scored) in &task.scores {
            if model != self.old && model != self.new {
                events.extend(attempt(task, model, None, scored));
            }
        }
        events.push(json!({ "type": "completed", "task_id": task.uid }));
        self.send(events).await;
        arm
    }

    pub async fn send(&self, events: Vec<Value>) {
        let number = events.len();
        let path = format!("{}/v1/workflows/image-editing/events", self.address);
        let answer = self.client.post(path).json(&events).send().await.expect("an answer");
        let report: Value = answer.json().await.expect("JSON");
        assert_eq!(report["accepted"], number, "{report}");
    }

    /// Claude finds something in the first 50 tasks and proposes one candidate.
    pub async fn learn(&self, evidence: &str) {
        assert_eq!(self.stage.watch().await, 1, "the 50th task opens the analysis");
        self.stage.claude.answer_json(json!({
            "summary": "s", "model_insights": [], "recommendations": [],
            "patterns": [analysis_answer(&[evidence])["patterns"][1].clone()]
        }));
        self.stage.claude.answer_json(edit_answer("Change only what is asked for."));
        assert_eq!(self.stage.step().await, StateName::Generating);
        assert_eq!(self.stage.step().await, StateName::Testing);
    }

    async fn experiment(&self) -> ExperimentRow {
        let mut conn = self.stage.pool().acquire().await.expect("a connection");
        let rows = experiments::of_cycle(&mut conn, self.stage.id(), 1).await.expect("the tests");
        rows.into_iter().next().expect("one experiment")
    }

    async fn in_window(&self, cycle: i64) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT clickup_task_id FROM tasks WHERE analyzed_in_cycle = $1 ORDER BY 1",
        )
        .bind(cycle)
        .fetch_all(self.stage.pool())
        .await
        .expect("the window")
    }
}

fn attempt(
    task: &RealTask,
    model: &str,
    version: Option<i64>,
    scored: &(i64, String),
) -> [Value; 2] {
    let (score, reasoning) = scored;
    let mut enhancement = json!({
        "type": "enhancement", "task_id": task.uid, "model": model,
        "original_prompt": task.instruction, "enhanced_prompt": task.instruction
    });
    if let Some(version) = version {
        enhancement["version"] = json!(version);
    }
    let validation = json!({
        "type": "validation", "task_id": task.uid, "model": model, "score": score,
        "passed": *score >= 8, "issues": [], "reasoning": reasoning,
        "judge": { "model": "gpt-4o", "prompt_version": "viescore-0shot" }
    });
    [enhancement, validation]
}

/// What the deck of this seed makes of the tasks that draw it, computed apart from the program's path.
fn expected(tasks: &[RealTask], deck: &[Slot], old: &str, new: &str) -> ByArm<i64> {
    let mut sums = ByArm { control: 0, candidate: 0 };
    for (task, slot) in tasks.iter().zip(deck) {
        let source = if slot.arm == Arm::Candidate { new } else { old };
        *sums.get_mut(slot.arm) += task.scores[source].0;
    }
    sums
}

async fn replay(old: &'static str, new: &'static str) -> Option<(Replay, ByArm<i64>)> {
    let tasks = real_tasks()?;
    assert_eq!(tasks.len(), 179);
    let replay = Replay::start(old, new).await;
    for task in &tasks[..50] {
        assert_eq!(replay.run(task).await, None, "no test runs yet");
    }
    replay.learn(&tasks[0].uid).await;
    let deck = deck::shuffle(&DeckRules { per_arm: 10, block: 4 }, DECK_SEED);
    for (task, slot) in tasks[50..70].iter().zip(&deck) {
        assert_eq!(replay.run(task).await, Some(slot.arm), "slot {}", slot.number);
    }
    assert_eq!(replay.run(&tasks[70]).await, None, "the 21st task gets the active version");
    let sums = expected(&tasks[50..70], &deck, old, new);

    assert_eq!(replay.stage.watch().await, 1, "the look is taken");
    assert_eq!(replay.stage.state().await, StateName::Deciding);
    let experiment = replay.experiment().await;
    assert_eq!(experiment.control_count, Some(10));
    assert_eq!(experiment.candidate_count, Some(10));
    assert_eq!(experiment.control_sum.map(i64::from), Some(sums.control));
    assert_eq!(experiment.candidate_sum.map(i64::from), Some(sums.candidate));

    let uids = |tasks: &[RealTask]| {
        let mut uids: Vec<String> = tasks.iter().map(|task| task.uid.clone()).collect();
        uids.sort();
        uids
    };
    assert_eq!(replay.in_window(1).await, uids(&tasks[..50]), "the first window, to the task");
    for task in &tasks[71..] {
        replay.run(task).await;
    }
    while replay.stage.cycle().await.number == 1 {
        replay.stage.step().await;
    }
    assert_eq!(replay.stage.watch().await, 1, "129 tasks wait for the second window");
    assert_eq!(replay.in_window(2).await, uids(&tasks[50..]), "the second window takes the rest");
    Some((replay, sums))
}

#[tokio::test]
async fn real_scores_of_a_better_editor_are_adopted() {
    let Some((replay, sums)) = replay(OLD, NEW).await else { return };
    println!("old {} of 100, new {} of 100", sums.control, sums.candidate);
    assert!(
        sums.candidate * 100 > sums.control * 110,
        "the data of this deck improve by more than 10%"
    );
    let ended = replay.stage.cycle_number(1).await.snapshot.state;
    assert_eq!(ended.name(), StateName::Applied);
    assert_eq!(ended.outcome().expect("an outcome").models[0].result, ModelResult::Adopted);
    assert_eq!(replay.stage.active_version(NANO).await, 2);
    replay.stop.cancel();
}

#[tokio::test]
async fn real_scores_of_a_worse_editor_are_rejected() {
    let Some((replay, sums)) = replay(NEW, OLD).await else { return };
    println!("old {} of 100, new {} of 100", sums.control, sums.candidate);
    assert!(sums.candidate < sums.control, "the data of this deck get worse");
    let ended = replay.stage.cycle_number(1).await.snapshot.state;
    assert_eq!(ended.name(), StateName::Rejected);
    assert_eq!(ended.outcome().expect("an outcome").models[0].result, ModelResult::Rejected);
    assert_eq!(replay.stage.active_version(NANO).await, 1);
    replay.stop.cancel();
}
