//! `mathesis completions` and `mathesis man`: what a shell and a reader know of the commands.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::Failure;
use super::{Cli, output};

/// Print completions for a shell
///
/// For bash: `mathesis completions bash > /etc/bash_completion.d/mathesis`, then open a new shell.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages, one a command
///
/// `mathesis man --out /usr/local/share/man/man1`, then `man mathesis-cycle-show`.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The folder to write them into; it is made where it is missing
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Prints the completions. It needs no database.
pub fn completions(command: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "mathesis", &mut text);
    output::say(&String::from_utf8_lossy(&text))
}

/// Writes the manual pages. It needs no database.
pub fn man(command: &Man) -> Result<(), Failure> {
    let folder = &command.out;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| {
        Failure::failed(format!(
            "the manual pages could not be written to {}: {error}; name a folder of yours with --out",
            folder.display()
        ))
    })?;
    output::say(&format!(
        "The manual pages are in {}; read one with `man {}`.",
        folder.display(),
        folder.join("mathesis.1").display()
    ))
}
