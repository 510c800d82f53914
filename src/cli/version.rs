//! `mathesis version list|show|diff|blame|rollback`.

use clap::Subcommand;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::output::{self, Colour};
use super::{AsJson, OfWorkflow, Who};
use crate::research;
use crate::runtime::{Operation, Workflow};
use crate::settings::Settings;
use crate::store::versions::{self, Version, VersionHead};

/// See a model's prompt versions, compare them, go back to one.
#[derive(Debug, Clone, Subcommand)]
pub enum VersionCommand {
    /// List the versions, newest first
    List {
        /// The model [default: all of the workflow]
        model: Option<String>,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Show one version with its texts
    Show {
        /// The model
        model: String,
        /// The version's number
        version: i32,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Show what changed from one version to another, as a unified diff
    Diff {
        /// The model
        model: String,
        /// The version to compare from
        from: i32,
        /// The version to compare to
        to: i32,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Show for each section of a version which cycle, insights and tasks put it there, and what it gained
    Blame {
        /// The model
        model: String,
        /// The version's number [default: the active one]
        version: Option<i32>,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Go back to a version, files included; a test of the model that runs ends
    Rollback {
        /// The model
        model: String,
        /// The version to put back
        version: i32,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
}

/// Runs the command.
pub async fn run(command: VersionCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| carry_out(command, &context))
}

async fn carry_out(command: VersionCommand, context: &Context) -> Result<(), Failure> {
    match command {
        VersionCommand::List { model, of, as_json } => {
            list(context, &context.workflow(&of)?, model.as_deref(), as_json).await
        }
        VersionCommand::Show { model, version, of, as_json } => {
            let workflow = context.workflow(&of)?;
            let found = find(context, &workflow, &model, version).await?;
            show(&found, &workflow, as_json)
        }
        VersionCommand::Diff { model, from, to, of, as_json } => {
            let workflow = context.workflow(&of)?;
            let old = find(context, &workflow, &model, from).await?;
            let new = find(context, &workflow, &model, to).await?;
            let diff = research::version_diff(&old.texts(), &new.texts(), from, to);
            if as_json.json {
                return output::say_json(&serde_json::json!({
                    "model": model, "from": from, "to": to, "diff": diff
                }));
            }
            if diff.is_empty() {
                return output::say(&format!(
                    "Versions {from} and {to} of {model} have the same texts."
                ));
            }
            output::say(&coloured(&diff))
        }
        VersionCommand::Blame { model, version, of, as_json } => {
            super::blame::version(context, (&model, version), &of, as_json).await
        }
        VersionCommand::Rollback { model, version, of, who } => {
            let workflow = context.workflow(&of)?;
            let operation = Operation::Rollback { model, to: version };
            context.perform(&workflow, operation, &who, None).await
        }
    }
}

async fn find(
    context: &Context,
    workflow: &Workflow,
    model: &str,
    version: i32,
) -> Result<Version, Failure> {
    let pool = context.engine.store.pool();
    versions::find(pool, workflow.workflow_id, model, version).await?.ok_or_else(|| {
        Failure::not_found(format!(
            "{model} has no version {version} in {}; `mathesis version list` shows those there are",
            workflow.name()
        ))
    })
}

async fn list(
    context: &Context,
    workflow: &Workflow,
    model: Option<&str>,
    as_json: AsJson,
) -> Result<(), Failure> {
    let models: Vec<&str> = model.map_or_else(|| workflow.models().collect(), |model| vec![model]);
    let mut heads: Vec<VersionHead> = Vec::new();
    for model in models {
        let pool = context.engine.store.pool();
        heads.extend(versions::list(pool, workflow.workflow_id, model).await?);
    }
    if let (Some(model), true) = (model, heads.is_empty()) {
        let known: Vec<&str> = workflow.models().collect();
        return Err(Failure::not_found(format!(
            "{} has no model {model:?}; it has {}",
            workflow.name(),
            known.join(", ")
        )));
    }
    if as_json.json {
        return output::say_json(&heads);
    }
    let mut table = output::table(&[
        "model", "version", "from", "test", "tasks", "cycle", "made", "by", "summary",
    ]);
    for head in &heads {
        let mark = if head.is_active { " (active)" } else { "" };
        table.add_row([
            head.model_name.clone(),
            format!("{}{mark}", head.version),
            output::or_dash(head.parent_version),
            head.a_b_test_score.map_or_else(|| "-".to_owned(), |score| format!("{score:.2}")),
            output::or_dash(head.tasks_tested),
            output::or_dash(head.cycle),
            output::time(head.created_at, zone(workflow)),
            head.created_by.clone(),
            output::brief(&head.summary, 80),
        ]);
    }
    output::say_table(&table, "There is no version yet.")
}

fn show(version: &Version, workflow: &Workflow, as_json: AsJson) -> Result<(), Failure> {
    if as_json.json {
        return output::say_json(version);
    }
    let mark = if version.is_active { ", active" } else { "" };
    let parent = version
        .parent_version
        .map_or_else(String::new, |parent| format!(", made from version {parent}"));
    let test = match (version.a_b_test_score, version.tasks_tested) {
        (Some(score), Some(tasks)) => format!("\nTested on {tasks} tasks, mean score {score:.2}"),
        _ => String::new(),
    };
    let edits: String = version
        .edits
        .iter()
        .map(|edit| format!("\n  {}, because of {}", edit.in_words(), edit.because.join(", ")))
        .collect();
    output::say(&format!(
        "{} version {}{mark}{parent}\nMade {} by {}\n{}{edits}{test}\nContent {}\n\n{}",
        version.model_name,
        version.version,
        output::time(version.created_at, zone(workflow)),
        version.created_by,
        version.summary,
        version.content_hash,
        TEXTS
            .iter()
            .map(|(name, text)| format!(
                "{}\n{}\n",
                output::paint(Colour::Bold, &format!("--- {name} ---")),
                text(version).trim_end()
            ))
            .collect::<Vec<_>>()
            .join("\n")
    ))
}

type TextOf = fn(&Version) -> &str;

/// The texts of a version, by the names that people know.
const TEXTS: [(&str, TextOf); 3] = [
    ("template.txt", |version| &version.prompt_template),
    ("activation.txt", |version| &version.activation_text),
    ("research.md", |version| &version.research_text),
];

/// Byte for byte what `patch` takes, but for the colours on a terminal.
fn coloured(diff: &str) -> String {
    diff.split_inclusive('\n')
        .map(|line| match line.chars().next() {
            Some('+') => output::paint(Colour::Green, line),
            Some('-') => output::paint(Colour::Red, line),
            _ => line.to_owned(),
        })
        .collect()
}
