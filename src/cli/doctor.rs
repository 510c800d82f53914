//! `mathesis doctor`.

mod database;
mod disk;
mod models;
mod notify;
mod pipeline;
mod schedules;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{self, Colour};
use super::{AsJson, spool};
use crate::settings::Settings;
use crate::workflow::load::load_all;

/// Check everything that Mathesis needs, and say what to do about what is wrong.
///
/// Looks at the workflows, the folders and their disks, the pipeline and its spool, Claude's key and models (which
/// it asks about at the Models API, free of charge), the database with its clock and schema, the keys, each cycle,
/// what runs by the clock, and each model's files. Changes nothing. Ends with exit code 1 when something is wrong.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    #[command(flatten)]
    as_json: AsJson,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Good,
    Note,
    Bad,
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    check: String,
    health: Health,
    said: String,
    /// What to do about it; empty when there is nothing to do.
    remedy: String,
}

fn good(check: impl Into<String>, said: impl Into<String>) -> Finding {
    Finding { check: check.into(), health: Health::Good, said: said.into(), remedy: String::new() }
}

fn note<C: Into<String>, S: Into<String>, R: Into<String>>(
    check: C,
    said: S,
    remedy: R,
) -> Finding {
    Finding { check: check.into(), health: Health::Note, said: said.into(), remedy: remedy.into() }
}

fn bad<C: Into<String>, S: Into<String>, R: Into<String>>(check: C, said: S, remedy: R) -> Finding {
    Finding { health: Health::Bad, ..note(check, said, remedy) }
}

/// Runs the command.
pub async fn run(command: Doctor, settings: &Settings) -> Result<(), Failure> {
    let mut findings = of_workflows(settings);
    findings.extend(disk::of_folders(settings));
    findings.extend(pipeline::of_settings(settings));
    findings.extend(models::of_claude(settings).await);
    findings.extend(of_spool(settings));
    match Context::look(settings).await {
        Ok(mut context) => {
            findings.extend(database::of_database(&mut context, settings).await);
            context.close().await;
        }
        // The words of a failure say what to do.
        Err(failure) => {
            let (said, remedy) = parted(&failure.message);
            let told = if failure.exit == Exit::NotFound { note } else { bad };
            findings.push(told("database", said, remedy));
        }
    }
    let sick = findings.iter().any(|finding| finding.health == Health::Bad);
    if command.as_json.json {
        output::say_json(&findings)?;
    } else {
        output::say(&in_words(&findings))?;
    }
    if sick { Err(Failure::told()) } else { Ok(()) }
}

/// What is wrong, and the sentences that say what to do about it.
fn parted(message: &str) -> (&str, &str) {
    message.split_once(". ").unwrap_or((message, ""))
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.health {
            Health::Good => output::paint(Colour::Green, "well "),
            Health::Note => output::paint(Colour::Yellow, "note "),
            Health::Bad => output::paint(Colour::Red, "wrong"),
        };
        text.push_str(&format!("{mark}  {}: {}\n", finding.check, finding.said));
        if !finding.remedy.is_empty() {
            text.push_str(&format!("       {}\n", finding.remedy));
        }
    }
    let count = |health| findings.iter().filter(|finding| finding.health == health).count();
    text.push_str(&format!(
        "\n{} well, {} to note, {} wrong.\n",
        count(Health::Good),
        count(Health::Note),
        count(Health::Bad)
    ));
    text
}

fn of_workflows(settings: &Settings) -> Vec<Finding> {
    let folder = &settings.workflows;
    if !folder.is_dir() {
        return vec![bad(
            "workflows",
            format!("there is no folder {}", folder.display()),
            "Make a workflow with `mathesis workflow new --from config/deep_research`, or set MATHESIS_WORKFLOWS.",
        )];
    }
    let definitions = match load_all(folder) {
        Err(errors) => {
            return vec![bad(
                "workflows",
                errors.to_string(),
                "Mend the lines that are named; `mathesis workflow check` looks at them again.",
            )];
        }
        Ok(definitions) => definitions,
    };
    if definitions.is_empty() {
        return vec![bad(
            "workflows",
            format!("{} holds no workflow", folder.display()),
            "Make one with `mathesis workflow new --from config/deep_research`.",
        )];
    }
    definitions
        .iter()
        .map(|definition| good(format!("workflow {}", definition.name), "valid"))
        .collect()
}

/// A pipeline's spool, where this machine has one.
fn of_spool(settings: &Settings) -> Vec<Finding> {
    let Some(folder) = &settings.spool else {
        return Vec::new();
    };
    let states = match spool::read(folder) {
        Ok(states) => states,
        Err(error) => {
            return vec![note(
                "spool",
                format!("{} cannot be read: {error}", folder.display()),
                "It is made by the pipeline's first call; see that MATHESIS_SPOOL names its folder.",
            )];
        }
    };
    let mut findings = Vec::new();
    for state in states {
        let check = format!("spool of {}", state.workflow);
        for (code, (count, detail)) in &state.refused {
            findings.push(bad(
                &check,
                format!("{count} events were refused ({code}), the last because {detail}"),
                format!(
                    "Mend what sends them. They are in {}, each as `event`; once mended, those can be logged with `mathesis import`. Then move the file away.",
                    folder.join(&state.workflow).join("dead_letters.ndjson").display()
                ),
            ));
        }
        if state.waiting_bytes > 0 {
            let said = format!("{} bytes of events have not arrived yet", state.waiting_bytes);
            findings.push(note(&check, said, "The pipeline sends them once the service answers."));
        } else if state.refused.is_empty() {
            findings.push(good(check, "everything has arrived"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_failure_are_parted_into_what_is_wrong_and_what_to_do() {
        assert_eq!(parted("it is away. See that it runs"), ("it is away", "See that it runs"));
        assert_eq!(parted("it is away"), ("it is away", ""));
    }
}
