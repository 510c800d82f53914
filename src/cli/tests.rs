//! The command reference in `docs/cli.md` is what the commands say of themselves.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::Cli;

/// The flags of every command stand once, at the top.
const EVERYWHERE: [&str; 3] = ["database_url", "home", "workflows"];

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

#[test]
fn the_commands_are_sound() {
    Cli::command().debug_assert();
}
