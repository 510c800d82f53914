//! The command reference in `docs/cli.md` is what the commands say of themselves.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::Cli;

/// The flags of every command stand once, at the top.
const EVERYWHERE: [&str; 3] = ["database_url", "home", "workflows"];

/// Commands that answer in no JSON, and why. Every other one takes `--json`.
const WITHOUT_JSON: [(&str, &str); 14] = [
    (
        "demo, serve, orchestrate, stand-ins",
        "run until they are stopped; `MATHESIS_LOG_FORMAT=json` is for their log",
    ),
    (
        "migrate, workflow new, orchestrate register, files pull",
        "do one thing and say so; the exit code tells programs",
    ),
    (
        "cycle pause, cycle resume, cycle cancel, cycle approve, cycle refuse, cycle retry, cycle step",
        "the same; `cycle show --json` tells what came of it",
    ),
    ("version rollback", "the same; `version list --json` tells what came of it"),
    ("automation on, automation off", "the same; `automation status --json` tells what came of it"),
    (
        "files conflict keep-mine, files conflict take-theirs, files conflict cancel",
        "the same; `files conflict list --json` tells what came of it",
    ),
    ("task forget", "the same; `audit list --json` tells of it"),
    ("notify test, notify retry", "the same; `notify list --json` tells what came of it"),
    ("key revoke", "the same; `key list --json` tells what came of it"),
    ("export", "is JSON already, one task a line"),
    ("openapi", "is JSON already"),
    ("workflow diagram", "is a picture in Mermaid's language"),
    ("completions", "is a script for a shell"),
    ("man", "writes pages for `man`"),
];

fn reference() -> String {
    let mut page = String::from(
        "<!-- Generated from the commands by `cargo test`; do not edit. `MATHESIS_BLESS=1 cargo test` rewrites it. -->\n\n\
         # The command line\n\n\
         The flags under \"Where the data is\" go with every command; they are shown once, here. `docs/operations.md` \
         has the settings behind them.\n\n",
    );
    let mut root = Cli::command();
    root.build();
    describe(&root, "mathesis", true, &mut page);
    page.push_str("## Without `--json`\n\nEvery other command takes it.\n\n| commands | why not |\n|---|---|\n");
    for (commands, why) in WITHOUT_JSON {
        let commands: Vec<String> = commands.split(", ").map(|it| format!("`{it}`")).collect();
        writeln!(page, "| {} | {why} |", commands.join(", ")).unwrap();
    }
    page
}

fn describe(command: &Command, path: &str, is_root: bool, page: &mut String) {
    let mut shown = command.clone().bin_name(path);
    if !is_root {
        for name in EVERYWHERE {
            shown = shown.mut_arg(name, |argument| argument.hide(true));
        }
    }
    let help = shown.render_long_help().to_string();
    let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    write!(page, "## `{path}`\n\n```text\n{}\n```\n\n", help.trim_end()).unwrap();
    for subcommand in command.get_subcommands() {
        describe(subcommand, &format!("{path} {}", subcommand.get_name()), false, page);
    }
}

#[test]
fn the_command_reference_is_what_the_commands_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let wanted = reference();
    if std::env::var_os("MATHESIS_BLESS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == wanted, "docs/cli.md is stale; `MATHESIS_BLESS=1 cargo test` rewrites it");
}

/// Every command that does something, by its path without `mathesis`, and whether it takes `--json`.
fn leaves(command: &Command, path: &str, found: &mut Vec<(String, bool)>) {
    let acts = !command.is_subcommand_required_set() && !path.is_empty();
    if acts {
        let has_json = command.get_arguments().any(|it| it.get_long() == Some("json"));
        found.push((path.to_owned(), has_json));
    }
    for subcommand in command.get_subcommands() {
        leaves(subcommand, format!("{path} {}", subcommand.get_name()).trim(), found);
    }
}

#[test]
fn every_command_answers_in_json_or_is_named_with_the_reason_why_not() {
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    leaves(&root, "", &mut found);
    assert!(found.len() > 40, "{found:?}");
    let named: Vec<&str> = WITHOUT_JSON.iter().flat_map(|(names, _)| names.split(", ")).collect();
    for (path, has_json) in &found {
        let is_named = named.contains(&path.as_str());
        assert_ne!(*has_json, is_named, "{path}: give it --json, or name it in WITHOUT_JSON");
    }
    for name in named {
        assert!(found.iter().any(|(path, _)| path == name), "there is no command {name:?}");
    }
}

#[test]
fn the_commands_are_sound() {
    Cli::command().debug_assert();
}
