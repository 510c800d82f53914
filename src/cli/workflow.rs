//! `mathesis workflow new|check|show|diagram`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::failure::Failure;
use super::output;
use crate::cycle::mermaid;
use crate::orchestrator;
use crate::settings::Settings;
use crate::workflow::load::{DEFINITION_FILE, load, load_all};
use crate::workflow::{Definition, DefinitionErrors, scaffold};

/// Make, check and show workflows.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkflowCommand {
    /// Make a workflow for the models whose documents are in a folder
    ///
    /// Writes workflows/NAME with a commented workflow.toml and the prompts, those of the reference pipeline
    /// among them, and its orchestrator.toml where the shipped one knows every model. Nothing that is there is
    /// overwritten, and the documents themselves are only looked at.
    New {
        /// The folder with one folder a model, each with an activation.txt or a research.md
        #[arg(long, value_name = "FOLDER")]
        from: PathBuf,
        /// The new workflow's name
        #[arg(long, value_name = "NAME", default_value = "image-editing")]
        name: String,
    },
    /// Check a workflow, or all of them, and list everything that is wrong
    Check {
        /// A workflow's folder, or a folder of workflows [default: the folder of the workflows]
        path: Option<PathBuf>,
        /// Answer in JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show everything that is in force, defaults included
    Show {
        /// The workflow's name; not needed while there is only one
        name: Option<String>,
        /// Answer in JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print the state machine of a learning cycle as a Mermaid diagram
    Diagram,
}

/// Runs the command. No workflow command needs a database.
#[expect(clippy::unused_async, reason = "every command is called alike")]
pub async fn run(command: WorkflowCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        WorkflowCommand::New { from, name } => new(&from, &name, &settings.workflows),
        WorkflowCommand::Check { path, json } => {
            check(path.as_deref().unwrap_or(&settings.workflows), json)
        }
        WorkflowCommand::Show { name, json } => show(name.as_deref(), json, &settings.workflows),
        WorkflowCommand::Diagram => output::say(&mermaid()),
    }
}

fn new(from: &Path, name: &str, workflows: &Path) -> Result<(), Failure> {
    let place = scaffold::new_from(from, name, workflows).map_err(Failure::failed)?;
    let pipeline = place.join(orchestrator::definition::FILE);
    let pipeline = if pipeline.exists() {
        format!("{} has the reference pipeline, for `mathesis orchestrate`.", pipeline.display())
    } else {
        format!(
            "It has no {}, which `mathesis orchestrate` needs: the shipped one does not know all of these models.",
            orchestrator::definition::FILE
        )
    };
    output::say(&format!(
        "{} is made. Look through {}, then run `mathesis serve`. {pipeline}",
        place.display(),
        place.join(DEFINITION_FILE).display()
    ))
}

fn check(path: &Path, json: bool) -> Result<(), Failure> {
    let definitions = read(path)?;
    let mut checked = Vec::new();
    for definition in &definitions {
        let models = definition.models.len();
        let plural = if models == 1 { "" } else { "s" };
        let folder = if path.join(DEFINITION_FILE).exists() {
            path.to_owned()
        } else {
            path.join(definition.name.as_str())
        };
        let pipeline = orchestrator::definition::load(&folder, definition)
            .map_err(|errors| Failure::failed(listed(&errors)))?;
        if json {
            checked.push(serde_json::json!({
                "workflow": definition.name.as_str(),
                "models": models,
                "pipeline": pipeline.is_some(),
            }));
            continue;
        }
        let with = if pipeline.is_some() { ", with a pipeline" } else { "" };
        output::say(&format!("{}: well, {models} model{plural}{with}", definition.name))?;
    }
    if json { output::say_json(&checked) } else { Ok(()) }
}

/// Reads one workflow's folder, or every one in a folder of them.
fn read(path: &Path) -> Result<Vec<Definition>, Failure> {
    if !path.is_dir() {
        return Err(Failure::not_found(format!(
            "there is no folder {}; name a workflow's folder, or make one with `mathesis workflow new`",
            path.display()
        )));
    }
    let of_one = path.join(DEFINITION_FILE).exists();
    let read = if of_one { load(path).map(|one| vec![one]) } else { load_all(path) };
    let definitions = read.map_err(|errors| Failure::failed(listed(&errors)))?;
    if definitions.is_empty() {
        return Err(Failure::not_found(format!("{} holds no workflow", path.display())));
    }
    Ok(definitions)
}

fn listed(errors: &DefinitionErrors) -> String {
    let count = errors.list().len();
    let noun = if count == 1 { "error" } else { "errors" };
    let mut text = format!("{count} {noun}:");
    for error in errors.list() {
        text.push_str(&format!("\n  {error}"));
    }
    text
}

fn show(name: Option<&str>, json: bool, workflows: &Path) -> Result<(), Failure> {
    let definition = find(name, workflows)?;
    if json { output::say_json(&definition) } else { output::say(&definition.describe()) }
}

/// A workflow's definition from its folder: the one that is named, or the only one.
///
/// # Errors
/// [`Failure`] where a definition is wrong, no workflow has that name, or there are several and none is named.
pub(super) fn find(name: Option<&str>, workflows: &Path) -> Result<Definition, Failure> {
    let definitions = read(workflows)?;
    let names: Vec<String> =
        definitions.iter().map(|known| known.name.as_str().to_owned()).collect();
    let names = names.join(", ");
    let mut definitions = definitions.into_iter();
    match (name, definitions.next(), definitions.len()) {
        (None, Some(only), 0) => Ok(only),
        (None, _, _) => {
            Err(Failure::usage(format!("there are several workflows; name one: {names}")))
        }
        (Some(name), first, _) => first
            .into_iter()
            .chain(definitions)
            .find(|known| known.name.as_str() == name)
            .ok_or_else(|| {
                Failure::not_found(format!("there is no workflow {name:?}; there is {names}"))
            }),
    }
}
