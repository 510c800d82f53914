//! `mathesis insight list`.

use clap::Subcommand;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::settings::Settings;
use crate::store::insights::{self, AnalysisRow, InsightRow, Which};

/// See what Claude found in the tasks.
#[derive(Debug, Clone, Subcommand)]
pub enum InsightCommand {
    /// List the insights, newest first, or those of one cycle
    List {
        /// Of this cycle only
        #[arg(long, value_name = "NUMBER")]
        cycle: Option<i64>,
        /// Only those that stand: new, confirmed or weakened
        #[arg(long)]
        living: bool,
        /// How many: those found or judged last
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
    let InsightCommand::List { cycle, living, limit, of, as_json } = command;
    let workflow = context.workflow(&of)?;
    let pool = context.engine.store.pool();
    let which = Which { cycle, living, ..Which::newest(limit) };
    let rows = insights::read(pool, workflow.workflow_id, which).await?;
    if as_json.json {
        return output::say_json(&rows);
    }
    let mut table = output::table(&[
        "id",
        "model",
        "kind",
        "sure",
        "standing",
        "candidates",
        "insight",
        "suggests",
        "tasks",
        "found",
    ]);
    for row in &rows {
        table.add_row([
            row.handle(),
            row.model_name.clone(),
            row.insight_type.clone(),
            format!("{:.0}%", row.confidence_score * 100.0),
            standing(row),
            tried(row),
            row.description.clone(),
            row.suggested_change.clone(),
            row.example_task_ids.join(", "),
            output::time(row.created_at, zone(&workflow)),
        ]);
    }
    output::say_table(&table, "There is no insight yet; the first analysis writes some.")?;
    if let Some(cycle) = cycle
        && let Some(analysis) = insights::analysis(pool, workflow.workflow_id, cycle).await?
    {
        output::say(&about(&analysis))?;
    }
    Ok(())
}

/// `confirmed, cycle 7 (3 for, 1 against)`
fn standing(row: &InsightRow) -> String {
    match row.judged_in_cycle {
        Some(cycle) => format!(
            "{}, cycle {cycle} ({} for, {} against)",
            row.standing, row.confirmed, row.weakened
        ),
        None => row.standing.clone(),
    }
}

fn tried(row: &InsightRow) -> String {
    let applied = if row.applied { ", applied" } else { "" };
    format!("{} helpful, {} harmful{applied}", row.helpful, row.harmful)
}

/// What the analysis saw, and what of its answer was not taken.
fn about(analysis: &AnalysisRow) -> String {
    let mut said = format!(
        "{} tasks in the window, {} of them shown to Claude",
        analysis.tasks_analyzed, analysis.tasks_shown
    );
    if let (Some(tokens), Some(how)) = (analysis.prompt_tokens, &analysis.counted_by) {
        said.push_str(&format!(" in {tokens} tokens ({how}"));
        match &analysis.because {
            Some(because) if !because.is_empty() => said.push_str(&format!(": {because})")),
            _ => said.push(')'),
        }
    }
    said.push_str(&format!(
        ". Dropped: {} task ids that the window does not hold, {} judgements that rest on nothing.\n{}",
        analysis.evidence_dropped, analysis.judgements_dropped, analysis.summary
    ));
    said
}
