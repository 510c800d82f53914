//! `mathesis doctor`.

mod pipeline;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::context::{Context, Need};
use super::failure::{Exit, Failure};
use super::output::{self, Colour};
use super::{AsJson, files, spool};
use crate::claude::cost;
use crate::postgres::OLDEST_MAJOR;
use crate::runtime::{Workflow, cycle_status};
use crate::settings::{Host, Settings};
use crate::store::keys;
use crate::store::schema::{self, ServerFacts};
use crate::workflow::load::load_all;

/// A clock that is further off than this makes windows, leases and tests wrong.
const CLOCK_SKEW_SECONDS_MAX: i64 = 5;

/// Check everything that Mathesis needs, and say what to do about what is wrong.
///
/// Changes nothing. Ends with exit code 1 when something is wrong.
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

fn note(check: impl Into<String>, said: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check: check.into(), health: Health::Note, said: said.into(), remedy: remedy.into() }
}

fn bad(check: impl Into<String>, said: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { health: Health::Bad, ..note(check, said, remedy) }
}

/// Runs the command.
pub async fn run(command: Doctor, settings: &Settings) -> Result<(), Failure> {
    let mut findings = of_workflows(settings);
    findings.extend(pipeline::of_settings(settings));
    findings.extend(of_claude(settings));
    findings.extend(of_spool(settings));
    match Context::open(settings, Need::Existing).await {
        Ok(context) => {
            let found = of_database(&context, settings).await;
            context.close().await;
            findings.extend(found);
        }
        Err(failure) if failure.exit == Exit::NotFound => {
            findings.push(note("database", failure.message, ""));
        }
        Err(failure) => findings.push(bad("database", failure.message, "")),
    }
    let sick = findings.iter().any(|finding| finding.health == Health::Bad);
    if command.as_json.json {
        output::say_json(&findings)?;
    } else {
        output::say(&in_words(&findings))?;
    }
    if sick { Err(Failure::told()) } else { Ok(()) }
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
        Err(errors) => return vec![bad("workflows", errors.to_string(), "")],
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
        .map(|definition| {
            let check = format!("workflow {}", definition.name);
            let unpriced: Vec<&str> =
                [&definition.claude.analysis_model, &definition.claude.generation_model]
                    .into_iter()
                    .filter(|model| !cost::is_known_model(model))
                    .map(String::as_str)
                    .collect();
            if unpriced.is_empty() {
                return good(check, "valid, and its Claude models have prices");
            }
            note(
                check,
                format!(
                    "valid; {} is not on the price list of {}, so its costs are guessed from the dearest model",
                    unpriced.join(" and "),
                    cost::prices_as_of()
                ),
                "Correct the model's name in workflow.toml if it is mistyped.",
            )
        })
        .collect()
}

fn of_claude(settings: &Settings) -> Option<Finding> {
    Some(match &settings.anthropic_api_key {
        Some(_) => good("Claude", format!("a key is set, for {}", settings.anthropic_base_url)),
        None => note(
            "Claude",
            "ANTHROPIC_API_KEY is not set: tasks are logged and counted, and learning waits",
            "Set ANTHROPIC_API_KEY and start `mathesis serve` again; what waited goes on by itself.",
        ),
    })
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

async fn of_database(context: &Context, settings: &Settings) -> Vec<Finding> {
    let pool = context.engine.store.pool();
    let before = context.engine.now();
    let mut findings = match schema::server_facts(pool).await {
        Err(error) => {
            return vec![bad("database", error.to_string(), "See that PostgreSQL is up.")];
        }
        Ok(facts) => of_server(context, &facts, before, context.engine.now()),
    };
    findings.push(good("schema", "up to date"));
    findings.push(of_keys(context, settings).await);
    for workflow in context.engine.registry.all() {
        findings.extend(of_cycle(context, &workflow).await);
        findings.extend(of_files(context, &workflow).await);
        findings.extend(pipeline::of_jobs(context, &workflow).await);
    }
    findings
}

fn of_server(
    context: &Context,
    facts: &ServerFacts,
    before: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let major = facts.version_number / 10_000;
    let said = format!("PostgreSQL {}, {}, {}", facts.version, facts.encoding, context.database());
    findings.push(if u32::try_from(major).unwrap_or(0) < OLDEST_MAJOR {
        bad("database", said, format!("Mathesis needs PostgreSQL {OLDEST_MAJOR} or later."))
    } else if facts.encoding != "UTF8" {
        bad("database", said, "Create the database with ENCODING 'UTF8'.")
    } else if facts.read_only {
        bad(
            "database",
            format!("{said}, a standby that takes no writes"),
            "Let DATABASE_URL name the primary.",
        )
    } else {
        good("database", said)
    });
    // Within the moment that the question took nobody can tell.
    let skew = if facts.now < before {
        facts.now - before
    } else if facts.now > after {
        facts.now - after
    } else {
        chrono::TimeDelta::zero()
    };
    findings.push(if skew.num_seconds().abs() > CLOCK_SKEW_SECONDS_MAX {
        bad(
            "clock",
            format!(
                "this machine's clock and the database's are {} s apart",
                skew.num_seconds().abs()
            ),
            "Let both be set by NTP.",
        )
    } else {
        good("clock", "in step with the database's")
    });
    findings
}

async fn of_keys(context: &Context, settings: &Settings) -> Finding {
    let exists = match keys::any_key_exists(context.engine.store.pool()).await {
        Ok(exists) => exists || settings.bootstrap_key.is_some(),
        Err(error) => return bad("keys", error.to_string(), ""),
    };
    let beyond = match settings.host {
        Host::Given(address) => !address.is_loopback(),
        Host::Platform | Host::Loopback => false,
    };
    if exists {
        good("keys", "there is one, so callers are asked for it")
    } else if beyond {
        bad(
            "keys",
            "there is none, and MATHESIS_HOST is not loopback: the server will refuse to start",
            "Set MATHESIS_BOOTSTRAP_KEY, or make a key with `mathesis key create NAME --role operate`.",
        )
    } else {
        note(
            "keys",
            "there is none, so the server listens on loopback only, open to whoever uses this machine",
            "To let others in: `mathesis key create NAME --role operate`.",
        )
    }
}

async fn of_cycle(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let check = format!("cycle of {}", workflow.name());
    match cycle_status(&context.engine, workflow, None).await {
        Err(error) => vec![bad(check, error.to_string(), "")],
        Ok(None) => {
            vec![bad(check, "no cycle is open", "Start `mathesis serve`, which opens one.")]
        }
        Ok(Some(status)) if status.holds.is_empty() => vec![good(check, status.sentence)],
        Ok(Some(status)) => status
            .holds
            .iter()
            .map(|hold| {
                let said =
                    format!("cycle {} is held ({}): {}", status.cycle, hold.code, hold.reason);
                // What a person wanted is no fault; what failed is.
                match hold.kind.as_str() {
                    "effect_failed" | "config_conflict" => bad(&check, said, &hold.remedy),
                    _ => note(&check, said, &hold.remedy),
                }
            })
            .collect(),
    }
}

async fn of_files(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let standings = match files::standings(context, workflow).await {
        Ok(standings) => standings,
        Err(failure) => return vec![bad("files", failure.message, "")],
    };
    standings
        .into_iter()
        .map(|standing| {
            let check = format!("files of {}", standing.model);
            let said = format!("{} ({})", standing.said, standing.folder.display());
            match (standing.needs_a_person, standing.standing) {
                (true, _) => bad(check, said, ""),
                (false, "in_step" | "unmarked") => good(check, said),
                (false, _) => note(check, said, ""),
            }
        })
        .collect()
}
