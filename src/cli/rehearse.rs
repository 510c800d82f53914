//! `mathesis rehearse`.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use clap::Args;

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::claude::{ClaudeSettings, HttpClaude};
use crate::runtime::{Engine, Rehearsal, RehearsalError, Rehearsed};
use crate::settings::Settings;

/// See what the next cycle would find and propose, with nothing live touched
///
/// Claude analyses the last finished tasks and writes candidates from them, on a copy that is dropped at the end. No
/// cycle opens, no task counts as analysed, no insight or version is kept. The calls cost what they cost in a cycle, and
/// count into the month.
#[derive(Debug, Clone, Args)]
pub struct Rehearse {
    /// Over how many finished tasks, the latest ones
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    last: i64,
    /// Say what it would cost, and stop there
    #[arg(long)]
    estimate_only: bool,
    /// Do not ask before paying
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// Runs the command.
pub async fn run(command: Rehearse, settings: &Settings) -> Result<(), Failure> {
    let claude = HttpClaude::new(ClaudeSettings::new(
        settings.anthropic_base_url.clone(),
        settings.anthropic_api_key.clone(),
    ))
    .map_err(|error| Failure::usage(error.to_string()))?;
    with_context!(settings, Need::Existing, |context| rehearse(command, &context, Arc::new(claude)))
}

async fn rehearse(
    command: Rehearse,
    context: &Context,
    claude: Arc<HttpClaude>,
) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let engine = Engine { claude, ..context.engine.clone() };
    let mut rehearsal = Rehearsal::prepare(&engine, &workflow, command.last).await.map_err(told)?;
    let price = format!(
        "A rehearsal over {} tasks costs at most about {} US dollars.",
        rehearsal.tasks,
        rehearsal.estimate_usd.round_dp(2)
    );
    if command.estimate_only {
        let said = if command.as_json.json {
            output::say_json(&serde_json::json!({
                "tasks": rehearsal.tasks, "estimate_usd": rehearsal.estimate_usd.normalize()
            }))
        } else {
            output::say(&price)
        };
        rehearsal.put_away().await.map_err(told)?;
        return said;
    }
    if !command.yes && !agreed(&price) {
        rehearsal.put_away().await.map_err(told)?;
        return Err(Failure::refused(format!(
            "{price} Nothing was paid. `--yes` says yes beforehand."
        )));
    }
    let rehearsed = rehearsal.play().await.map_err(told)?;
    if command.as_json.json {
        return output::say_json(&rehearsed);
    }
    output::say(&described(&rehearsed))
}

fn told(error: RehearsalError) -> Failure {
    match error {
        RehearsalError::NoTasks => Failure::not_found(error.to_string()),
        RehearsalError::Budget { .. } => Failure::refused(error.to_string()),
        error => Failure::failed(format!(
            "{}. Nothing live has changed; what was paid is in `mathesis cost`",
            error.to_string().trim_end_matches('.')
        )),
    }
}

/// Asks on the terminal; without one nobody can say yes.
fn agreed(price: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{price} Go on? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

fn described(rehearsed: &Rehearsed) -> String {
    let mut text = format!(
        "{}\n\n{} tasks, {} calls of Claude for {} US dollars (said before: at most {}). Nothing of this is kept.\n",
        rehearsed.summary,
        rehearsed.tasks,
        rehearsed.calls,
        rehearsed.cost_usd.round_dp(4),
        rehearsed.estimate_usd.round_dp(2)
    );
    for insight in &rehearsed.insights {
        text.push_str(&format!(
            "\n{} {} ({}, {:.0}% sure): {}\n",
            insight.handle(),
            insight.model_name,
            insight.insight_type,
            insight.confidence_score * 100.0,
            insight.description
        ));
        if !insight.suggested_change.is_empty() {
            text.push_str(&format!("  suggests: {}\n", insight.suggested_change));
        }
    }
    for model in &rehearsed.models {
        let now = output::or_dash(model.version_now);
        match (&model.summary, &model.diff) {
            (Some(summary), Some(diff)) => text.push_str(&format!(
                "\n{}, version {now}: a candidate would be tested. {summary}\n{diff}",
                model.model
            )),
            _ => text.push_str(&format!("\n{}, version {now}: no candidate\n", model.model)),
        }
    }
    text
}
