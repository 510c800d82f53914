//! What a command does to all workflows at once.

use super::context::{Context, capitalised};
use super::failure::Failure;
use super::{Who, output};
use crate::runtime::{self, Operation, Operator};

/// Moves the switch over all workflows and says what that did.
///
/// # Errors
/// [`Failure`]; nothing was changed then.
pub async fn switch_automation(context: &Context, enabled: bool, who: &Who) -> Result<(), Failure> {
    let name = who.name();
    let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle: None };
    let switched = runtime::switch_automation(&context.engine, enabled, operator).await?;
    output::say(&format!("{}.", capitalised(&switched.said)))
}

/// Pauses or resumes the open cycle of every workflow and says what each did.
///
/// # Errors
/// [`Failure`] when the database fails, or when no workflow took it.
pub async fn on_every_cycle(
    context: &Context,
    operation: &Operation,
    who: &Who,
) -> Result<(), Failure> {
    let name = who.name();
    let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle: None };
    let all = runtime::on_every_cycle(&context.engine, operation, operator).await?;
    let mut table = output::table(&["workflow", "cycle", "what"]);
    for one in &all {
        table.add_row([one.workflow.clone(), output::or_dash(one.cycle), one.said.clone()]);
    }
    output::say_table(&table, "The database knows no workflow yet.")?;
    if !all.is_empty() && all.iter().all(|one| !one.done) {
        return Err(Failure::refused("no workflow took it; the table says why"));
    }
    Ok(())
}
