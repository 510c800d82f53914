//! The command line as its user has it: the real program, in a folder of its own.

mod candidates;
mod doctor;
mod names;
mod notify;
mod outputs;
mod pull;
mod rehearse;
mod resuming;
mod secrets;
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support;

const MODELS: [&str; 2] = ["wan-2.5-edit", "nano-banana"];

/// A folder with the shipped workflow and documents for its models, and a database.
struct Place {
    folder: TempDir,
    database_url: String,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Place {
    async fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            database_url: support::database_url().await,
        };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
        let workflow = place.path("workflows/image-editing");
        fs::create_dir_all(workflow.join("prompts")).unwrap();
        fs::copy(shipped.join("workflow.toml"), workflow.join("workflow.toml")).unwrap();
        for prompt in fs::read_dir(shipped.join("prompts")).unwrap() {
            let prompt = prompt.unwrap();
            fs::copy(prompt.path(), workflow.join("prompts").join(prompt.file_name())).unwrap();
        }
        for model in MODELS {
            let folder = place.path("config/deep_research").join(model);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("activation.txt"), "Be exact.\n").unwrap();
            fs::write(folder.join("research.md"), "# Light\n\nsoft\n").unwrap();
        }
        place
    }

    /// A place whose workflow a server has registered.
    async fn registered() -> Self {
        let place = Self::new().await;
        let server = Serving::start(&place);
        assert_eq!(server.stop("TERM"), 0);
        place
    }

    fn path(&self, inside: &str) -> std::path::PathBuf {
        self.folder.path().join(inside)
    }

    fn write(&self, name: &str, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mathesis"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("USER", "eleni")
            .env("DATABASE_URL", &self.database_url)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().expect("the program runs").into()
    }

    /// Runs a command that is to fail, and gives its exit code and its words.
    fn refused(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.out, "", "a failure says nothing on standard output");
        format!("{} {}", said.code, said.err.trim_end())
    }

    fn waiting(&self) -> i64 {
        self.run(&["cycle", "show", "--json"]).json()["tasks_waiting"].as_i64().unwrap()
    }
}

/// A running `mathesis serve`.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    fn start_with(place: &Place, environment: &[(&str, &str)]) -> Self {
        let mut child = place
            .command(&["serve", "--port", "0"])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { child, address }
    }

    fn stop(mut self, signal: &str) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code().expect("an exit code and no signal")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn completed(task: &str) -> Value {
    json!({"type": "completed", "task_id": task})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_steered_from_beside_it_and_ends_in_order() {
    let place = Place::new().await;
    let server = Serving::start(&place);
    assert!(server.address.starts_with("127.0.0.1:"));

    let shown = place.run(&["cycle", "show", "--json"]).json();
    assert_eq!((&shown["cycle"], &shown["state"]), (&json!(1), &json!("collecting")));
    let paused = place.run(&["cycle", "pause", "--reason", "lunch"]);
    assert_eq!(
        (paused.code, paused.out.as_str()),
        (0, "Cycle 1 is paused; what runs will finish, nothing new starts.\n")
    );
    let held = place.run(&["cycle", "show", "--json"]).json();
    assert_eq!(
        (&held["holds"][0]["by"], &held["holds"][0]["reason"]),
        (&json!("eleni"), &json!("lunch"))
    );
    assert_eq!(place.run(&["cycle", "resume"]).code, 0);
    assert_eq!(
        place.refused(&["cycle", "resume"]),
        "4 mathesis: cycle 1 is not paused. Nothing was changed"
    );

    assert_eq!(server.stop("INT"), 0);
    // What the server registered is there without it.
    let versions = place.run(&["version", "list", "--json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), MODELS.len());
    let blame = place.run(&["version", "blame", "nano-banana", "--json"]).json();
    assert_eq!(blame["sections"][0]["since_version"], 1);
    let told = place.run(&["version", "blame", "nano-banana", "1"]);
    assert!(told.out.starts_with("nano-banana version 1\n") && told.code == 0, "{}", told.out);
    assert_eq!(
        place.refused(&["why", "86c1"]),
        "3 mathesis: there is no task \"86c1\": it was never logged here, or it is older than what is kept (unknown_task)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_says_why_and_leaves_nothing_behind() {
    let place = Place::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = place.run(&["serve", "--port", &port]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(&format!("port {port} on 127.0.0.1 is in use by another program")),
        "{}",
        said.err
    );

    let said = place.run(&["serve", "--bind", "0.0.0.0"]);
    assert_eq!(said.code, 4);
    assert!(
        said.err.contains("no key exists, so Mathesis listens on loopback only"),
        "{}",
        said.err
    );

    let file = place.path("workflows/image-editing/workflow.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("\ntasks = 50", "\ntasks = 0").replace("per_arm = 10", "per_am = 10"),
    )
    .unwrap();
    let said = place.run(&["serve"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("trigger.tasks = 0") && said.err.contains("split.per_am"),
        "{}",
        said.err
    );

    assert_eq!(place.run(&["serve", "--workflows", "nowhere"]).code, 3);
    // Nothing of it was registered.
    assert!(
        place
            .refused(&["cycle", "show"])
            .starts_with("3 mathesis: the database knows no workflow yet")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_failures_apart() {
    let place = Place::registered().await;
    assert_eq!(place.run(&["cycle", "no-such-thing"]).code, 2);
    assert_eq!(
        place.refused(&["cycle", "show", "9"]),
        "3 mathesis: there is no cycle 9; `mathesis cycle list` shows them"
    );
    assert_eq!(
        place.refused(&["version", "rollback", "nano-banana", "1"]),
        "4 mathesis: version 1 of nano-banana is active already. Nothing was changed"
    );
    assert_eq!(place.run(&["version", "rollback", "nano-banana", "7"]).code, 3);
    let nowhere = ["--database-url", "postgres://u:hush@127.0.0.1:1/x", "cycle", "show"];
    let said = place.run(&nowhere);
    assert_eq!(said.code, 5);
    assert!(
        said.err.contains("postgres://127.0.0.1:1/x could not be reached")
            && !said.err.contains("hush"),
        "{}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_history_counts_once_and_opens_no_analysis() {
    let place = Place::registered().await;
    let tasks: Vec<Value> = (0..60).map(|task| completed(&format!("old-{task}"))).collect();
    place.write("old.ndjson", &tasks);

    let first = place.run(&["import", "old.ndjson", "--json"]);
    assert_eq!(first.json(), json!({"lines": 60, "accepted": 60, "duplicate": 0, "rejected": 0}));
    let again = place.run(&["import", "old.ndjson", "--json"]);
    assert_eq!(again.json(), json!({"lines": 60, "accepted": 0, "duplicate": 60, "rejected": 0}));
    assert_eq!(place.waiting(), 0);

    let exported = place.run(&["export"]);
    let tasks: Vec<Value> =
        exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tasks.len(), 60);
    assert!(tasks.iter().all(|task| task["analyzed_in_cycle"] == json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_logged_live_still_counts_after_its_history_is_imported() {
    let place = Place::registered().await;
    let started = json!({"type": "task_started", "task_id": "live", "original_prompt": "p"});
    place.write("live.ndjson", &[started.clone(), completed("learnt")]);
    assert_eq!(place.run(&["import", "live.ndjson", "--learn"]).code, 0);
    assert_eq!(place.waiting(), 1);

    place.write("all.ndjson", &[started, completed("live"), completed("learnt"), completed("old")]);
    assert_eq!(place.run(&["import", "all.ndjson"]).code, 0);
    assert_eq!(place.waiting(), 2, "live and learnt, not old");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_events_are_named_and_the_others_are_stored() {
    let place = Place::registered().await;
    let mut child = place
        .command(&["import", "-", "--learn"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    write!(
        input,
        "\u{feff}{}\n\nnonsense\n{}\n{{\"type\":\"completed\"}}\n",
        completed("a"),
        completed("b")
    )
    .unwrap();
    drop(input);
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 1);
    assert_eq!(said.out, "4 events: 2 new, 0 known already, 2 rejected.\n");
    let lines: Vec<&str> = said.err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["line 3", "line 5"]);
    assert_eq!(place.waiting(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_opens_the_server_to_others() {
    let place = Place::registered().await;
    let made = place.run(&["key", "create", "ops", "--role", "operate"]);
    assert_eq!(made.code, 0);
    assert!(made.out.starts_with("mth_operate_") && made.out.lines().count() == 1);
    let listed = place.run(&["key", "list", "--json"]);
    assert!(!listed.out.contains(made.out.trim()));
    assert_eq!(listed.json()[0]["created_by"], json!("eleni"));
    assert_eq!(place.run(&["key", "create", "ops", "--role", "read"]).code, 4);
    assert_eq!(place.run(&["key", "revoke", "ops"]).code, 0);
    assert_eq!(place.run(&["key", "revoke", "ops"]).code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let place = Place::registered().await;
    assert_eq!(place.run(&["doctor"]).code, 0);
    fs::write(place.path("config/deep_research/nano-banana/activation.txt"), "Mine.\n").unwrap();
    let sick = place.run(&["doctor", "--json"]);
    assert_eq!(sick.code, 1);
    let findings = sick.json();
    let wrong: Vec<&Value> =
        findings.as_array().unwrap().iter().filter(|finding| finding["health"] == "bad").collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0]["check"], "files of nano-banana");
    assert_eq!(place.run(&["files", "status"]).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_shows_what_a_pipeline_could_not_deliver() {
    let place = Place::registered().await;
    let spool = place.path("spool/image-editing");
    fs::create_dir_all(&spool).unwrap();
    let doctor = || {
        let mut command = place.command(&["doctor", "--json"]);
        let said = Said::from(command.env("MATHESIS_SPOOL", "spool").output().unwrap());
        let of_spool = |finding: &&Value| finding["check"] == "spool of image-editing";
        let finding = said.json().as_array().unwrap().iter().find(of_spool).cloned();
        (said.code, finding.expect("a finding about the spool"))
    };
    let (code, finding) = doctor();
    assert_eq!((code, &finding["health"]), (0, &json!("good")));
    fs::write(spool.join("segment-1.ndjson"), "{}\n").unwrap();
    let (code, finding) = doctor();
    assert_eq!((code, &finding["health"]), (0, &json!("note")), "waiting is no fault");
    let letter = json!({"code": "invalid_score", "detail": "`score` is 7.5", "event": {}});
    fs::write(spool.join("dead_letters.ndjson"), format!("{letter}\n")).unwrap();
    let (code, finding) = doctor();
    assert_eq!((code, &finding["health"]), (1, &json!("bad")));
    assert!(finding["said"].as_str().unwrap().contains("1 events were refused (invalid_score)"));
}

#[tokio::test]
async fn gate_power_plays_by_the_workflows_rules_where_one_is_named_and_says_whose_they_are() {
    let place = Place::new().await;
    let workflow = place.path("workflows/image-editing/workflow.toml");
    let text = fs::read_to_string(&workflow).unwrap();
    fs::write(&workflow, text.replace("\nper_arm = 10\n", "\nper_arm = 20\n")).unwrap();
    let played = ["gate", "power", "--shape", "mid", "--mode", "off", "--trials", "250"];
    let second = |said: &Said| said.out.lines().nth(1).unwrap_or_default().to_owned();

    let by_default = place.run(&played);
    insta::assert_snapshot!(second(&by_default), @"By the default rules (--workflow takes a workflow's own): 10 tasks an arm in blocks of 4, adopted above 10%; probation: 30 tasks, kept above 5%; strict: 5 looks at most.");
    let named = [played.as_slice(), &["--workflow", "image-editing"]].concat();
    let by_workflow = place.run(&named);
    insta::assert_snapshot!(second(&by_workflow), @"By the rules of the workflow image-editing: 20 tasks an arm in blocks of 4, adopted above 10%; probation: 30 tasks, kept above 5%; strict: 5 looks at most.");
    let answer = place.run(&[named.as_slice(), &["--json"]].concat()).json();
    assert_eq!(answer[0]["rules"]["workflow"], "image-editing");
    assert_eq!(answer[0]["guards"][0]["effects"][0]["figures"]["tasks"], 40.0);
    fs::write(place.path("scores"), "7\n8\n6\n").unwrap();
    let of_a_file = ["gate", "power", "--scores", "scores", "--mode", "off", "-w", "image-editing"];
    assert_eq!(second(&place.run(&of_a_file)), second(&by_workflow));
    let unknown = place.run(&[played.as_slice(), &["-w", "other"]].concat());
    assert_ne!(unknown.code, 0);
    assert!(
        unknown.err.contains("there is no workflow \"other\"; there is image-editing"),
        "{}",
        unknown.err
    );
}
