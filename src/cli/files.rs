//! `mathesis files status|conflict|pull`.

mod conflict;
mod pull;
mod service;

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::research::{self, Expected, Standing};
use crate::runtime::Workflow;
use crate::settings::Settings;
use crate::store::versions;

/// Compare the models' files with their active versions, or bring them in step from elsewhere.
#[derive(Debug, Clone, Subcommand)]
pub enum FilesCommand {
    /// Show for each model whether its files are its active version
    ///
    /// Looks only; a running server brings the files in step by itself. Ends with exit code 1 when a
    /// person has to look at one.
    Status {
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// See what a person edited in the config files, and decide what becomes of it
    #[command(subcommand)]
    Conflict(conflict::ConflictCommand),
    /// Bring a config folder in step with the active versions of a service elsewhere
    ///
    /// For a pipeline that reads files on a machine of its own; the folder that a server keeps by itself
    /// needs it not. Asks over HTTP, and needs no database. A file is replaced whole and behind a backup,
    /// and one that was edited by hand is left as it is: that is said, and the exit code is 1.
    Pull(pull::Pull),
}

/// How the files of one model stand.
#[derive(Debug, Clone, Serialize)]
pub struct FileStanding {
    /// The model.
    pub model: String,
    /// Its active version.
    pub active_version: Option<i32>,
    /// Where its files are.
    pub folder: PathBuf,
    /// A stable word: `in_step`, `missing`, `stale`, `hand_edited`, `half_written`, `unmarked` or `unreadable`.
    pub standing: &'static str,
    /// What that means, in words.
    pub said: String,
    /// True when a person has to do something.
    pub needs_a_person: bool,
}

/// Runs the command.
pub async fn run(command: FilesCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        FilesCommand::Status { of, as_json } => {
            with_context!(settings, Need::Existing, |context| status(of, as_json, &context))
        }
        FilesCommand::Conflict(command) => conflict::run(command, settings).await,
        FilesCommand::Pull(pull) => pull::run(pull, settings).await,
    }
}

async fn status(of: OfWorkflow, as_json: AsJson, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&of)?;
    let standings = standings(context, &workflow).await?;
    if as_json.json {
        output::say_json(&standings)?;
    } else {
        let mut table = output::table(&["model", "version", "files", "folder"]);
        for standing in &standings {
            table.add_row([
                standing.model.clone(),
                output::or_dash(standing.active_version),
                standing.said.clone(),
                standing.folder.display().to_string(),
            ]);
        }
        output::say_table(&table, "The workflow has no model.")?;
    }
    if standings.iter().any(|standing| standing.needs_a_person) {
        return Err(Failure::told());
    }
    Ok(())
}

/// How the files of every model of a workflow stand on this machine.
///
/// # Errors
/// When the database cannot be read. Files that cannot be read are a standing of their own.
pub async fn standings(
    context: &Context,
    workflow: &Workflow,
) -> Result<Vec<FileStanding>, Failure> {
    let engine = &context.engine;
    let folder = engine.config_folder(&workflow.definition.config_folder);
    let mut standings = Vec::new();
    for model in workflow.models() {
        let mut conn = engine.store.pool().acquire().await?;
        let active = versions::active(&mut conn, workflow.workflow_id, model).await?;
        drop(conn);
        let version = active.as_ref().map(|active| active.version);
        let expected = active.map(|active| {
            let hashes = research::hashes_of(&active.texts());
            Expected {
                version: active.version,
                activation_hash: hashes.activation.unwrap_or_default(),
                research_hash: hashes.research.unwrap_or_default(),
            }
        });
        let (standing, said, needs_a_person) = match expected {
            None => ("missing", "there is no active version to compare with".to_owned(), true),
            Some(expected) => {
                let (folder, model) = (folder.clone(), model.to_owned());
                let read =
                    tokio::task::spawn_blocking(move || research::read_model(&folder, &model));
                match read.await {
                    Ok(Ok(state)) => in_words(&research::standing(&state, &expected, false)),
                    Ok(Err(error)) => ("unreadable", error.to_string(), true),
                    Err(panic) => ("unreadable", panic.to_string(), true),
                }
            }
        };
        standings.push(FileStanding {
            model: model.to_owned(),
            active_version: version,
            folder: folder.join(model),
            standing,
            said,
            needs_a_person,
        });
    }
    Ok(standings)
}

fn in_words(standing: &Standing) -> (&'static str, String, bool) {
    let names = |files: &[research::ConfigFile]| {
        files.iter().map(|file| file.file_name()).collect::<Vec<_>>().join(" and ")
    };
    match standing {
        Standing::InStep => ("in_step", "in step".to_owned(), false),
        Standing::Missing(files) => (
            "missing",
            format!("{} missing; a running server writes it again", names(files)),
            false,
        ),
        Standing::Stale => {
            ("stale", "an older version; a running server brings it in step".to_owned(), false)
        }
        Standing::HandEdited(files) => (
            "hand_edited",
            format!(
                "{} edited by hand, and left so; see `mathesis files conflict list`",
                names(files)
            ),
            true,
        ),
        Standing::HalfWritten { .. } => ("half_written", "a change is under way".to_owned(), false),
        Standing::Unmarked => {
            ("unmarked", "the active version, not yet written by Mathesis".to_owned(), false)
        }
    }
}
