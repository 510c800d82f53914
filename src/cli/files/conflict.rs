//! `mathesis files conflict list|show|keep-mine|take-theirs|cancel`.

use std::io::{self, BufRead as _, IsTerminal, Write as _};

use clap::{Args, Subcommand};

use crate::cli::context::{Context, Need, with_context, zone};
use crate::cli::failure::Failure;
use crate::cli::{AsJson, OfWorkflow, Who, output};
use crate::runtime::{ConflictShown, DocumentShown, Operation, Workflow, conflict_shown};
use crate::settings::Settings;
use crate::store::conflicts::{self, Conflict, Way};

const ROWS_MAX: i64 = 200;

/// See what a person edited in the config files, and decide what becomes of it.
#[derive(Debug, Clone, Subcommand)]
pub enum ConflictCommand {
    /// List the conflicts, those that stand first
    List {
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Show what the edit changed, what changed since, and where the two meet
    Show {
        /// The conflict's number
        conflict: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Make the edited files a version, which then serves; a test of the model that runs ends
    ///
    /// The process that has the files on its disk carries it out, behind a backup. Refused while a change of the model
    /// is under way.
    KeepMine(Decision),
    /// Write the active version over the edited files
    ///
    /// The edit is kept as a version that does not serve, and byte for byte in a backup beside the files.
    TakeTheirs(Decision),
    /// Leave the conflict standing
    ///
    /// No file is touched and the workflow stays held. An order that was not begun is withdrawn.
    Cancel {
        /// The conflict's number
        conflict: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
}

/// Which conflict, and which files were seen.
#[derive(Debug, Clone, Args)]
pub struct Decision {
    /// The conflict's number
    conflict: i64,
    /// The edit that was seen, as `show` names it; without it the edit is shown, and a terminal asks
    #[arg(long, value_name = "HASH")]
    seen: Option<String>,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    who: Who,
}

/// Runs the command.
pub async fn run(command: ConflictCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| carry_out(command, &context))
}

async fn carry_out(command: ConflictCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ConflictCommand::List { of, as_json } => list(context, &of, as_json).await,
        ConflictCommand::Show { conflict, of, as_json } => {
            let workflow = context.workflow(&of)?;
            let shown = find(context, &workflow, conflict).await?;
            if as_json.json {
                return output::say_json(&shown);
            }
            output::say(&in_words(&shown, &workflow))
        }
        ConflictCommand::KeepMine(decision) => settle(context, decision, Way::KeepMine).await,
        ConflictCommand::TakeTheirs(decision) => settle(context, decision, Way::TakeTheirs).await,
        ConflictCommand::Cancel { conflict, of, who } => {
            let workflow = context.workflow(&of)?;
            context.perform(&workflow, Operation::LeaveConflict { conflict }, &who, None).await
        }
    }
}

async fn find(
    context: &Context,
    workflow: &Workflow,
    conflict: i64,
) -> Result<ConflictShown, Failure> {
    conflict_shown(&context.engine, workflow.workflow_id, conflict).await?.ok_or_else(|| {
        Failure::not_found(format!(
            "{} has no conflict {conflict}; `mathesis files conflict list` shows those there are",
            workflow.name()
        ))
    })
}

async fn list(context: &Context, of: &OfWorkflow, as_json: AsJson) -> Result<(), Failure> {
    let workflow = context.workflow(of)?;
    let pool = context.engine.store.pool();
    let found = conflicts::list(pool, workflow.workflow_id, ROWS_MAX).await?;
    if as_json.json {
        return output::say_json(&found);
    }
    let mut table = output::table(&["conflict", "model", "on", "seen", "status", "said"]);
    for conflict in &found {
        table.add_row([
            conflict.conflict_id.to_string(),
            conflict.model_name.clone(),
            conflict.host.clone(),
            output::time(conflict.seen_at, zone(&workflow)),
            conflict.status.clone(),
            conflict.said.clone().unwrap_or_default(),
        ]);
    }
    output::say_table(&table, "Nobody has edited a config file.")
}

async fn settle(context: &Context, decision: Decision, way: Way) -> Result<(), Failure> {
    let workflow = context.workflow(&decision.of)?;
    let shown = find(context, &workflow, decision.conflict).await?;
    let current = &shown.conflict.edit_hash;
    let seen = match decision.seen {
        // `show` prints the whole name; its beginning is as good for a person.
        Some(seen) if seen.len() >= 12 && current.starts_with(&seen) => current.clone(),
        Some(seen) => seen,
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            output::say(&in_words(&shown, &workflow))?;
            if !confirmed(&shown, way)? {
                return Err(Failure::refused("nothing was ordered, and nothing was touched"));
            }
            current.clone()
        }
        None => {
            return Err(Failure::usage(format!(
                "nothing was ordered: look at the edit with `mathesis files conflict show {0}`, and name it with --seen",
                decision.conflict
            )));
        }
    };
    let operation = Operation::SettleConflict { conflict: decision.conflict, way, seen };
    context.perform(&workflow, operation, &decision.who, None).await
}

fn confirmed(shown: &ConflictShown, way: Way) -> Result<bool, Failure> {
    let model = &shown.conflict.model_name;
    let question = match way {
        Way::KeepMine => format!("Make this edit the version of {model} that serves?"),
        Way::TakeTheirs => {
            format!("Write version {} of {model} over this edit?", shown.active_version)
        }
    };
    print!("{question} [y/N] ");
    output::finished(io::stdout().flush())?;
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) => Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")),
        Err(error) => Err(Failure::failed(format!(
            "the answer could not be read: {error}. Nothing was ordered"
        ))),
    }
}

fn in_words(shown: &ConflictShown, workflow: &Workflow) -> String {
    let conflict = &shown.conflict;
    let from = match conflict.base_version {
        Some(base) => format!("version {base}"),
        None => format!("version {} (the folder has no marker)", shown.compared_from),
    };
    let documents: Vec<String> = shown.documents.iter().map(document).collect();
    format!(
        "Conflict {}: {} on {}, seen {}\nFolder  {}\nStatus  {}\nEdit    {}\nFrom    {from}\nServes  version {}\n\n{}\n{}",
        conflict.conflict_id,
        conflict.model_name,
        conflict.host,
        output::time(conflict.seen_at, zone(workflow)),
        conflict.folder,
        standing(conflict),
        conflict.edit_hash,
        shown.active_version,
        documents.join("\n"),
        ways_out(conflict),
    )
}

fn standing(conflict: &Conflict) -> String {
    let said = conflict.said.as_ref().map_or_else(String::new, |said| format!(": {said}"));
    match (&conflict.way, &conflict.ordered_by) {
        (Some(way), Some(by)) => format!("{}, {way} by {by}{said}", conflict.status),
        _ => format!("{}{said}", conflict.status),
    }
}

fn document(document: &DocumentShown) -> String {
    let heading = output::paint(output::Colour::Bold, &format!("--- {} ---", document.file));
    let body = match (&document.compared, document.absent) {
        (None, Some("missing")) => "The file is missing.\n".to_owned(),
        (None, _) => {
            "The file is too long to be shown here; it can be settled all the same.\n".to_owned()
        }
        (Some(three), _) if three.mine.is_empty() && three.theirs.is_empty() => {
            "Nothing was changed.\n".to_owned()
        }
        (Some(three), _) => {
            let part = |title: &str, diff: &str| match diff {
                "" => format!("{title}: nothing.\n"),
                diff => format!("{title}:\n{diff}"),
            };
            let meeting = match three.overlaps {
                0 => "The two changes do not meet.\n".to_owned(),
                n => format!("The two changes meet at {n} places:\n{}", three.merged),
            };
            let mine = part("Changed by hand", &three.mine);
            let theirs = part("Changed since by Mathesis", &three.theirs);
            if three.mine.is_empty() || three.theirs.is_empty() {
                format!("{mine}{theirs}")
            } else {
                format!("{mine}{theirs}{meeting}")
            }
        }
    };
    format!("{heading}\n{body}")
}

fn ways_out(conflict: &Conflict) -> String {
    if conflict.status != "open" {
        return String::new();
    }
    let number = conflict.conflict_id;
    let seen: String = conflict.edit_hash.chars().take(12).collect();
    format!(
        "Ways out:\n  mathesis files conflict keep-mine {number} --seen {seen}\n  mathesis files conflict take-theirs {number} --seen {seen}\n  mathesis files conflict cancel {number}\n"
    )
}
