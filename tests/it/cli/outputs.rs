//! What people read of each command, on a database with one adopted cycle behind it (`doctor` has its own file); and the
//! cycle as it is watched.

use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use mathesis::cycle::StateName;
use mathesis::store::audit::Actor;
use mathesis::store::keys::{self, Role};

use super::{Place, Said};
use crate::support::stage::{noon, testing_stage};
use crate::support::{Stage, candidates_win};

const NANO: &str = "nano-banana";

/// A place on a stage's database and documents.
pub(super) async fn on(stage: &Stage) -> Place {
    let mut place = Place::new().await;
    place.database_url.clone_from(&stage.url);
    let own = place.path("config");
    std::fs::remove_dir_all(&own).expect("the folder goes");
    let copied = std::process::Command::new("cp")
        .args(["-a", &stage.folder.path().join("config").display().to_string()])
        .arg(&own)
        .status();
    assert!(copied.expect("cp runs").success());
    place
}

/// A stage whose first cycle is over, with both candidates adopted.
async fn adopted() -> Stage {
    let stage = testing_stage().await;
    stage.play_test("test", candidates_win).await;
    while stage.watch().await > 0 {}
    while stage.cycle_number(1).await.ended_at.is_none() {
        stage.step().await;
    }
    let by = Actor { name: "Ελένη", reason: Some("for the pipeline") };
    keys::create(stage.pool(), "pipeline", Role::Ingest, by, noon()).await.expect("a key");
    stage
}

/// The text without what differs from run to run: folders, databases, secrets, versions of others.
fn steady(text: &str, place: &Place) -> String {
    let folder = place.folder.path().display().to_string();
    let text = text.replace(&folder, "HERE").replace(&place.database_url, "DATABASE");
    let word = |word: &str| match word {
        word if word.starts_with("mth_ingest_") => "mth_ingest_…".to_owned(),
        word if word.starts_with("postgres") => "DATABASE".to_owned(),
        word => word.to_owned(),
    };
    text.lines()
        .map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ").trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_command_says() {
    let stage = adopted().await;
    let place = on(&stage).await;
    let mut told = String::new();
    let commands: [&[&str]; 22] = [
        &["cycle", "show"],
        &["cycle", "show", "1"],
        &["cycle", "list"],
        &["cycle", "history", "1"],
        &["cycle", "report", "1"],
        &["version", "list"],
        &["version", "show", NANO, "2"],
        &["version", "diff", NANO, "1", "2"],
        &["version", "blame", NANO, "2"],
        &["why", "test-1", "--model", NANO],
        &["insight", "list"],
        &["cost"],
        &["audit", "list"],
        &["key", "list"],
        &["automation", "status"],
        &["files", "status"],
        &["workflow", "check"],
        &["workflow", "show"],
        &["gate", "power", "--shape", "mid", "--mode", "off", "--trials", "200"],
        &["gate", "replay"],
        &["gate", "noise-floor"],
        &["gate", "watch"],
    ];
    for arguments in commands {
        let said = place.run(arguments);
        assert!(!said.out.contains('\x1b'), "colour where there is no terminal: {arguments:?}");
        writeln!(told, "$ mathesis {}\n{}", arguments.join(" "), steady(&said.out, &place))
            .unwrap();
        if said.code != 0 {
            writeln!(told, "[{}] {}", said.code, steady(&said.err, &place)).unwrap();
        }
        told.push('\n');
        let as_json = place.run(&[arguments, &["--json"]].concat());
        assert_eq!(as_json.code, said.code, "{arguments:?} --json: {}", as_json.err);
        assert!(as_json.json().is_object() || as_json.json().is_array(), "{arguments:?}");
    }
    insta::assert_snapshot!(told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_says_what_to_do_next() {
    let stage = adopted().await;
    let place = on(&stage).await;
    let mut told = String::new();
    let commands: [&[&str]; 8] = [
        &["cycle", "show", "99"],
        &["cycle", "resume"],
        &["version", "show", NANO, "99"],
        &["version", "rollback", "dall-e", "1"],
        &["why", "nothing"],
        &["insight", "list", "--workflow", "other"],
        &["key", "revoke", "nobody"],
        &["workflow", "check", "nowhere"],
    ];
    for arguments in commands {
        let said = place.refused(arguments);
        writeln!(told, "$ mathesis {}\n{}\n", arguments.join(" "), steady(&said, &place)).unwrap();
    }
    insta::assert_snapshot!(told);
}

fn watching(place: &Place, more: &[&str]) -> Child {
    place
        .command(&[&["cycle", "show", "1", "--watch", "--until-done"], more].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
}

async fn ended(child: Child) -> Said {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    output.expect("it ends").expect("it is awaited").expect("it is read").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_cycle_is_told_a_line_a_change_until_it_has_ended() {
    let stage = testing_stage().await;
    let place = on(&stage).await;
    let (for_people, for_programs) = (watching(&place, &[]), watching(&place, &["--json"]));
    stage.play_test("test", candidates_win).await;
    while stage.watch().await > 0 {}
    while stage.cycle_number(1).await.ended_at.is_none() {
        stage.step().await;
    }
    let (people, programs) = (ended(for_people).await, ended(for_programs).await);
    assert_eq!((people.code, programs.code), (0, 0), "{} {}", people.err, programs.err);
    let last = people.out.lines().last().expect("a line");
    assert!(last.contains("  Cycle 1 Applied: "), "{last}");
    assert_eq!(last.matches("ycle 1").count(), 1, "its number is told once: {last}");
    assert!(!people.out.contains('\x1b'), "no terminal is drawn on: {}", people.out);
    let states: Vec<String> = programs
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|status| status["state"].as_str().expect("a state").to_owned())
        .collect();
    assert_eq!(states.last().map(String::as_str), Some(StateName::Applied.as_str()), "{states:?}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let run = |arguments: &[&str]| -> Said {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mathesis"));
        command.args(arguments).output().expect("the program runs").into()
    };
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.out.contains("noise-floor") && said.out.contains("until-done"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(run(&["man", "--out", &pages.display().to_string()]).code, 0);
    let page = std::fs::read_to_string(pages.join("mathesis-cycle-show.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("until"), "{page}");
    assert!(pages.join("mathesis.1").exists());
    let refused = run(&["man", "--out", "/dev/null/pages"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("name a folder of yours with --out"), "{}", refused.err);
}
