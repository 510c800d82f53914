//! A real browser on real scores: each page, each button, and a transition that arrives by itself. Where the
//! real scores are not on the machine, it says so aloud and walks over made-up ones.
//!
//! `tests/browser/walk.mjs` is the person; this file sets the stage and does what the walk asks for. It
//! wants Chromium and Node.js with npm. Where they are missing it says so aloud and passes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::http::{self, App, HttpSettings};
use mathesis::runtime::reconcile;
use mathesis::store::audit::Actor;
use mathesis::store::figures;
use mathesis::store::keys::{self, Role};
use mathesis::workflow::definition::ApprovalAsk;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::real_scores::{NEW, OLD, RealTask, Replay, real_tasks};
use crate::support::Stage;
use crate::support::stage::{NANO, noon};

const BY: Actor<'static> = Actor { name: "test", reason: None };
const HAND_EDITED: &str = "Κράτα το φως όπως είναι. <script>window.taken = true</script>";
const HOSTILE_TASK: &str = "evil/<b>";
const HOSTILE: &str = "<script>window.taken = true; alert(1)</script><img src=x onerror=alert(2)>";

/// Said past the test's capture: a test that did not run must not look like one that did.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: the browser test did not run, since {why}");
}

/// Chromium or a browser of its kind: `MATHESIS_CHROMIUM`, or the first of its names on the path.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MATHESIS_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// The walk's folder with its two packages; none where they cannot be had.
async fn packages() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    if folder.join("node_modules/playwright-core").is_dir() {
        return Some(folder);
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
    let done = npm.stdin(Stdio::null()).output().await.ok()?;
    done.status.success().then_some(folder)
}

/// As many tasks as the real ones, with scores of a true improvement.
fn made_up_tasks() -> Vec<RealTask> {
    let scores = |n: i64| {
        let scored = |score| (score, "as the picture shows".to_owned());
        [(OLD, 3 + n % 3), (NEW, 6 + n % 3), ("flux", 5)]
            .map(|(model, score)| (model.to_owned(), scored(score)))
            .into()
    };
    (0..100)
        .map(|n| RealTask {
            uid: format!("made-up-{n}"),
            instruction: format!("Κάνε το φόντο λευκό, {n}"),
            scores: scores(n),
        })
        .collect()
}

/// The person's requests, each answered once the stage has done it.
async fn carry_out(replay: &Replay, tasks: &[RealTask], asked: &str) {
    let stage = &replay.stage;
    match asked {
        "finish the test" => {
            for task in &tasks[60..80] {
                replay.run(task).await;
            }
            while stage.watch().await > 0 {}
            // Deciding asks before anything is applied.
            for _ in 0..5 {
                if stage.status().await.holds.is_empty() {
                    stage.work().await;
                }
            }
        }
        "apply" => {
            while stage.cycle().await.number == 1 {
                assert_ne!(
                    stage.step().await,
                    StateName::Rejected,
                    "the data of this deck improve"
                );
            }
        }
        "roll back" => {
            stage.work().await;
        }
        "edit a file by hand" => {
            let edit = format!("{}{HAND_EDITED}\n", stage.read(NANO, "research.md"));
            std::fs::write(stage.file(NANO, "research.md"), edit).expect("the file can be written");
            look_at_the_files(stage).await;
        }
        "settle the conflict" => look_at_the_files(stage).await,
        other => panic!("the walk asks for {other:?}"),
    }
    count(replay).await;
}

async fn look_at_the_files(stage: &Stage) {
    reconcile(&stage.engine, &stage.workflow).await.expect("the folder is looked at");
}

async fn count(replay: &Replay) {
    let stage = &replay.stage;
    let zone = stage.workflow.definition.timezone;
    figures::refresh(stage.pool(), stage.id(), zone, stage.engine.now()).await.expect("it counts");
}

/// The stage in its test, and a task that the candidate wrote for.
async fn set_the_stage(tasks: &[RealTask]) -> (Replay, String) {
    let replay = Replay::start_with(OLD, NEW, |definition| {
        definition.approval.ask = ApprovalAsk::BeforeApply;
    })
    .await;
    look_at_the_files(&replay.stage).await;
    for task in &tasks[..50] {
        replay.run(task).await;
    }
    replay.learn(&tasks[0].uid).await;
    let mut tried = None;
    for task in &tasks[50..60] {
        if replay.run(task).await == Some(Arm::Candidate) {
            tried = Some(task.uid.clone());
        }
    }
    replay.stage.watch().await;
    replay
        .send(vec![
            json!({ "type": "task_started", "task_id": HOSTILE_TASK, "original_prompt": HOSTILE,
                    "task_name": HOSTILE, "category": HOSTILE }),
            json!({ "type": "generation", "task_id": HOSTILE_TASK, "model": "flux",
                    "image_url": "javascript:alert(3)" }),
            json!({ "type": "winner", "task_id": HOSTILE_TASK, "winner": "flux", "score": 9,
                    "total_iterations": 1 }),
            json!({ "type": "feedback", "task_id": HOSTILE_TASK, "kept": true, "comment": HOSTILE }),
        ])
        .await;
    count(&replay).await;
    (replay, tried.expect("blocks of four have two of each arm"))
}

#[tokio::test]
async fn a_person_in_a_browser_sees_and_steers_everything() {
    let Some(chromium) = chromium() else {
        return skipped("no Chromium is on this machine (`apt-get install chromium`)");
    };
    let Some(folder) = packages().await else {
        return skipped("npm could not get the packages of tests/browser");
    };
    let tasks = real_tasks().unwrap_or_else(|| {
        let _ = writeln!(
            std::io::stderr(),
            "the browser walks over made-up scores: the real ones are not here"
        );
        made_up_tasks()
    });
    let (replay, tried) = set_the_stage(&tasks).await;
    let stage = &replay.stage;
    let key = keys::create(stage.pool(), "Ελένη", Role::Operate, BY, noon()).await.expect("a key");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let app = App::new(
        stage.engine.clone(),
        stage.assigner.clone(),
        stage.logger.clone(),
        HttpSettings::default(),
    );
    let stop = CancellationToken::new();
    tokio::spawn(http::serve(listener, http::router(app), stop.clone()));

    let mut walk = Command::new("node")
        .arg("walk.mjs")
        .current_dir(folder)
        .env("BASE", &base)
        .env("KEY", key)
        .env("CHROMIUM", chromium)
        .env("HOSTILE_TASK", HOSTILE_TASK)
        .env("REAL_TASK", &tasks[1].uid)
        .env("TRIED_TASK", tried)
        .env("HAND_EDITED", HAND_EDITED)
        .env("REAL_PROMPT", &tasks[1].instruction)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node starts");
    let mut answers = walk.stdin.take().expect("its input");
    let mut lines = BufReader::new(walk.stdout.take().expect("its output")).lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next_line().await.expect("its output reads") {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if let Some(asked) = line["ask"].as_str() {
            carry_out(&replay, &tasks, asked).await;
            answers.write_all(b"done\n").await.expect("it listens");
        } else {
            told.push(line["say"].as_str().unwrap_or_default().to_owned());
        }
    }
    let ended = walk.wait().await.expect("it ends");
    assert!(ended.success(), "the walk broke off after: {told:?}");
    assert_eq!(told.last().map(String::as_str), Some("done"));
    assert_eq!(stage.active_version(NANO).await, 1);
    stop.cancel();
    replay.stop.cancel();
}
