//! `mathesis insight list`.

use clap::Subcommand;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::settings::Settings;
use crate::store::insights;

/// See what Claude found in the tasks.
#[derive(Debug, Clone, Subcommand)]
pub enum InsightCommand {
    /// List the insights, newest first, or those of one cycle
    List {
        /// Of this cycle only
        #[arg(long, value_name = "NUMBER")]
        cycle: Option<i64>,
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
}

/// Runs the command.
pub async fn run(command: InsightCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| list(command, &context))
}

async fn list(command: InsightCommand, context: &Context) -> Result<(), Failure> {
    let InsightCommand::List { cycle, limit, of, as_json } = command;
    let workflow = context.workflow(&of)?;
    let pool = context.engine.store.pool();
    let rows = match cycle {
        Some(cycle) => insights::of_cycle(pool, workflow.workflow_id, cycle).await?,
        None => insights::recent(pool, workflow.workflow_id, limit).await?,
    };
    if as_json.json {
        return output::say_json(&rows);
    }
    let mut table = output::table(&[
        "cycle", "model", "kind", "sure", "insight", "suggests", "tasks", "applied", "found",
    ]);
    for row in &rows {
        table.add_row([
            row.cycle.to_string(),
            row.model_name.clone(),
            row.insight_type.clone(),
            format!("{:.0}%", row.confidence_score * 100.0),
            row.description.clone(),
            row.suggested_change.clone(),
            row.example_task_ids.join(", "),
            if row.applied { "yes" } else { "no" }.to_owned(),
            output::time(row.created_at, zone(&workflow)),
        ]);
    }
    output::say_table(&table, "There is no insight yet; the first analysis writes some.")
}
