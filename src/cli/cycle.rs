//! `mathesis cycle …`.

mod report;
mod watch;

use clap::Subcommand;
use serde::Serialize;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::output::{self, Colour};
use super::{AsJson, OfWorkflow, Who, overall};
use crate::runtime::{CycleStatus, ModelStatus, Operation, Workflow, cycle_status};
use crate::settings::Settings;
use crate::store::cycles::{self, CycleRow, TransitionRow};

/// See where the learning cycle stands, and steer it.
#[derive(Debug, Clone, Subcommand)]
pub enum CycleCommand {
    /// Show where the open cycle stands, or how an earlier one ended
    Show {
        /// The cycle's number [default: the open one]
        number: Option<i64>,
        #[command(flatten)]
        watching: watch::Watching,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// List the cycles, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// List every step that a cycle took, oldest first
    History {
        /// The cycle's number [default: the open one]
        number: Option<i64>,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    Report(report::ReportOf),
    /// Pause the cycle: what runs will finish, nothing new starts
    Pause(SteerAll),
    /// Lift the operator's pause, and no other hold
    Resume(SteerAll),
    /// End the cycle; what it is just adopting is put back first
    Cancel(Steer),
    /// Approve what waits for a person's word
    Approve {
        /// The model whose undecided probation is settled; may be given several times [default: all]
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        #[command(flatten)]
        steer: Steer,
    },
    /// Refuse candidates; when none is left, the cycle ends
    Refuse {
        /// The model whose candidate is refused; may be given several times [default: all]
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        #[command(flatten)]
        steer: Steer,
    },
    /// Try what failed once more
    Retry(Steer),
    /// Perform one pending step of a held cycle, then stand still again
    Step(Steer),
}

/// What every operation on a cycle takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Steer {
    /// The cycle that is meant; refused if it is not the open one any more [default: the open one]
    number: Option<i64>,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    who: Who,
}

/// What pausing and resuming take.
#[derive(Debug, Clone, clap::Args)]
pub struct SteerAll {
    /// The open cycle of every workflow
    #[arg(long, conflicts_with_all = ["number", "workflow"])]
    all: bool,
    #[command(flatten)]
    steer: Steer,
}

/// Runs the command.
pub async fn run(command: CycleCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| carry_out(command, &context))
}

async fn carry_out(command: CycleCommand, context: &Context) -> Result<(), Failure> {
    let (operation, steer) = match command {
        CycleCommand::Show { number, watching, of, as_json } => {
            let workflow = context.workflow(&of)?;
            return match watching {
                watch::Watching { watch: true, until_done } => {
                    watch::watch(context, &workflow, number, until_done, as_json).await
                }
                _ => show(context, &workflow, number, as_json).await,
            };
        }
        CycleCommand::List { limit, of, as_json } => {
            return list(context, &context.workflow(&of)?, limit, as_json).await;
        }
        CycleCommand::History { number, of, as_json } => {
            return history(context, &context.workflow(&of)?, number, as_json).await;
        }
        CycleCommand::Report(command) => return report::run(command, context).await,
        CycleCommand::Pause(all) if all.all => {
            return overall::on_every_cycle(context, &Operation::Pause, &all.steer.who).await;
        }
        CycleCommand::Resume(all) if all.all => {
            return overall::on_every_cycle(context, &Operation::Resume, &all.steer.who).await;
        }
        CycleCommand::Pause(SteerAll { steer, .. }) => (Operation::Pause, steer),
        CycleCommand::Resume(SteerAll { steer, .. }) => (Operation::Resume, steer),
        CycleCommand::Cancel(steer) => (Operation::Cancel, steer),
        CycleCommand::Approve { models, steer } => (Operation::Approve { models }, steer),
        CycleCommand::Refuse { models, steer } => (Operation::Refuse { models }, steer),
        CycleCommand::Retry(steer) => (Operation::Retry, steer),
        CycleCommand::Step(steer) => (Operation::Step, steer),
    };
    let workflow = context.workflow(&steer.of)?;
    context.perform(&workflow, operation, &steer.who, steer.number).await
}

fn no_cycle(number: Option<i64>) -> Failure {
    Failure::not_found(number.map_or_else(
        || "no cycle is open; `mathesis serve` opens one".to_owned(),
        |number| format!("there is no cycle {number}; `mathesis cycle list` shows them"),
    ))
}

async fn show(
    context: &Context,
    workflow: &Workflow,
    number: Option<i64>,
    as_json: AsJson,
) -> Result<(), Failure> {
    let status = cycle_status(&context.engine, workflow, number).await?;
    let status = status.ok_or_else(|| no_cycle(number))?;
    if as_json.json {
        return output::say_json(&status);
    }
    tell(&status, workflow)
}

/// Tells where a cycle stands, for people.
fn tell(status: &CycleStatus, workflow: &Workflow) -> Result<(), Failure> {
    output::say(&described(status, workflow))?;
    let mut table = output::table(&["model", "serves", "tested", "old", "new", "verdict"]);
    for model in &status.models {
        table.add_row(model_row(model));
    }
    output::say("")?;
    output::say_table(&table, "The workflow has no model.")?;
    status.models.iter().try_for_each(figures)
}

/// What a verdict rests on, under its sentence.
fn figures(model: &ModelStatus) -> Result<(), Failure> {
    let (Some(sentence), Some(evidence)) = (&model.sentence, &model.evidence) else {
        return Ok(());
    };
    let figures = crate::experiment::figures::of(evidence);
    let width = figures.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let lines: String =
        figures.iter().map(|(label, value)| format!("  {label:width$}  {value}\n")).collect();
    output::say(&format!("\n{sentence}\n{lines}"))
}

fn described(status: &CycleStatus, workflow: &Workflow) -> String {
    let zone = zone(workflow);
    let mut text = format!(
        "{}\n\nWorkflow {}, cycle {}, since {}",
        output::paint(Colour::Bold, &status.sentence),
        status.workflow,
        status.cycle,
        output::time(status.since, zone)
    );
    match status.ended_at {
        Some(ended) => text.push_str(&format!(", ended {}", output::time(ended, zone))),
        None => text.push_str(&format!(
            "\n{} completed tasks wait for an analysis; {} open one",
            status.tasks_waiting, status.trigger_tasks
        )),
    }
    for hold in &status.holds {
        let head = output::paint(Colour::Yellow, "Held");
        text.push_str(&format!(
            "\n\n{head} since {} by {} ({}): {}\n  What helps: {}",
            output::time(hold.since, zone),
            hold.by,
            hold.code,
            hold.reason,
            hold.remedy
        ));
    }
    for outcome in &status.outcome {
        text.push_str(&format!("\n  {}: {}", outcome.model, outcome.result));
        if !outcome.detail.is_empty() {
            text.push_str(&format!(" ({}): {}", outcome.reason, outcome.detail));
        }
    }
    text
}

fn model_row(model: &ModelStatus) -> [String; 6] {
    let tested = match (model.old_version, model.new_version) {
        (Some(old), Some(new)) => format!("{old} against {new}"),
        _ => "-".to_owned(),
    };
    let arm = |scored: u32, size: u32| {
        if size == 0 { "-".to_owned() } else { format!("{scored} of {size} scored") }
    };
    let verdict = model.sentence.clone().or_else(|| model.verdict.clone());
    [
        model.model.clone(),
        output::or_dash(model.active_version),
        tested,
        arm(model.scored.control, model.deck.control),
        arm(model.scored.candidate, model.deck.candidate),
        output::or_dash(verdict),
    ]
}

/// A cycle in a list.
#[derive(Serialize)]
struct CycleLine<'c> {
    cycle: i64,
    state: &'c str,
    opened_at: chrono::DateTime<chrono::Utc>,
    since: chrono::DateTime<chrono::Utc>,
    ended_at: Option<chrono::DateTime<chrono::Utc>>,
    outcome: Vec<crate::cycle::ModelOutcome>,
}

fn line(row: &CycleRow) -> CycleLine<'_> {
    let state = &row.snapshot.state;
    CycleLine {
        cycle: row.number,
        state: state.name().as_str(),
        opened_at: row.opened_at,
        since: row.state_entered_at,
        ended_at: row.ended_at,
        outcome: state.outcome().map(|outcome| outcome.models.clone()).unwrap_or_default(),
    }
}

async fn list(
    context: &Context,
    workflow: &Workflow,
    limit: i64,
    as_json: AsJson,
) -> Result<(), Failure> {
    let rows = cycles::list(context.engine.store.pool(), workflow.workflow_id, limit).await?;
    let lines: Vec<CycleLine<'_>> = rows.iter().map(line).collect();
    if as_json.json {
        return output::say_json(&lines);
    }
    let mut table = output::table(&["cycle", "state", "opened", "ended", "outcome"]);
    for line in lines {
        let outcome: Vec<String> =
            line.outcome.iter().map(|model| format!("{} {}", model.model, model.result)).collect();
        table.add_row([
            line.cycle.to_string(),
            line.state.to_owned(),
            output::time(line.opened_at, zone(workflow)),
            output::time_or_dash(line.ended_at, zone(workflow)),
            if outcome.is_empty() { "-".to_owned() } else { outcome.join(", ") },
        ]);
    }
    output::say_table(&table, "There is no cycle yet.")
}

/// A step of a history.
#[derive(Serialize)]
struct Step<'t> {
    seq: i64,
    at: chrono::DateTime<chrono::Utc>,
    event: &'t crate::cycle::Event,
    from: &'t str,
    to: &'t str,
    actor: &'t str,
    reason: Option<&'t str>,
}

fn step(row: &TransitionRow) -> Step<'_> {
    Step {
        seq: row.seq,
        at: row.at,
        event: &row.event,
        from: row.from_state.as_str(),
        to: row.to_state.as_str(),
        actor: &row.actor,
        reason: row.reason.as_deref(),
    }
}

async fn history(
    context: &Context,
    workflow: &Workflow,
    number: Option<i64>,
    as_json: AsJson,
) -> Result<(), Failure> {
    let pool = context.engine.store.pool();
    let found = match number {
        Some(number) => cycles::find(pool, workflow.workflow_id, number).await?,
        None => cycles::find_open(pool, workflow.workflow_id).await?,
    };
    let cycle = found.ok_or_else(|| no_cycle(number))?;
    let rows = cycles::history(pool, workflow.workflow_id, cycle.number).await?;
    if as_json.json {
        return output::say_json(&rows.iter().map(step).collect::<Vec<_>>());
    }
    let mut table = output::table(&["step", "at", "event", "from", "to", "by", "why"]);
    for row in &rows {
        table.add_row([
            row.seq.to_string(),
            output::time(row.at, zone(workflow)),
            row.event.name().as_str().to_owned(),
            row.from_state.as_str().to_owned(),
            row.to_state.as_str().to_owned(),
            row.actor.clone(),
            output::or_dash(row.reason.as_deref()),
        ]);
    }
    let nothing = format!(
        "Cycle {} has taken no step yet; it opened {}.",
        cycle.number,
        output::time(cycle.opened_at, zone(workflow))
    );
    output::say_table(&table, &nothing)
}
