//! What is drawn only on a terminal, on one that `script` of util-linux makes.

use std::io::Write as _;
use std::process::Command;

use super::{Place, completed};
use crate::support::Stage;

const CLEARED: &str = "\u{1b}[H\u{1b}[2J";
const BOLD: &str = "\u{1b}[1m";

fn has_script() -> bool {
    let found = Command::new("script").arg("--version").output().is_ok();
    if !found {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: nothing was drawn on a terminal, since `script` of util-linux is not here"
        );
    }
    found
}

/// What a command writes on a terminal of its own.
fn drawn(place: &Place, arguments: &str, environment: &[(&str, &str)]) -> String {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_mathesis"));
    let plain = place.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).current_dir(place.folder.path()).env_clear();
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").envs(environment.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output().expect("script runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_and_an_export_draw_how_far_they_are() {
    if !has_script() {
        return;
    }
    let place = Place::registered().await;
    let lines: Vec<_> = (0..2_000).map(|n| completed(&format!("old-{n}"))).collect();
    place.write("old.ndjson", &lines);
    let imported = drawn(&place, "import old.ndjson", &[]);
    assert!(imported.contains("%") && imported.contains("left"), "{imported:?}");
    assert!(imported.contains("2,000") || imported.contains("2000"), "{imported:?}");
    let exported = drawn(&place, "export > all.ndjson", &[]);
    assert!(exported.contains("%") && exported.contains("tasks"), "{exported:?}");
    let piped = place.run(&["export"]);
    assert_eq!((piped.err.as_str(), piped.out.lines().count()), ("", 2_000), "no bar in a pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_cycle_is_drawn_anew_in_colours_unless_they_are_not_wanted() {
    if !has_script() {
        return;
    }
    let stage = Stage::new().await;
    let place = super::outputs::on(&stage).await;
    stage.complete_tasks("seed", 3, 7).await;
    stage.operate(mathesis::runtime::Operation::Cancel).await.expect("it is cancelled");
    let shown = "cycle show 1 --watch --until-done";
    let drawn_in_colour = drawn(&place, shown, &[]);
    assert!(drawn_in_colour.starts_with(CLEARED), "{drawn_in_colour:?}");
    assert!(drawn_in_colour.contains(&format!("{BOLD}Cycle 1 Cancelled")), "{drawn_in_colour:?}");
    let plain = drawn(&place, shown, &[("NO_COLOR", "1")]);
    assert!(plain.contains("Cycle 1 Cancelled") && !plain.contains(BOLD), "{plain:?}");
}
