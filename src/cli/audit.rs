//! `mathesis audit list`.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Subcommand;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::settings::Settings;
use crate::store::audit::{self, Filter};

/// See what operators did, when and why.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// List the acts of operators, latest first
    ///
    /// Every pause, resume, cancel, retry, step, approval and refusal, every rollback, every move of a switch, every
    /// conflict settled, task forgotten and key made or revoked, with what came of it.
    List {
        /// Only this act, such as `pause` or `rollback`
        #[arg(long)]
        act: Option<String>,
        /// Only what this key or user did
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Only from this moment on, such as 2026-11-26T12:00:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<DateTime<Utc>>,
        /// Only before this moment
        #[arg(long, value_name = "TIME")]
        to: Option<DateTime<Utc>>,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
}

/// Runs the command.
pub async fn run(command: AuditCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| list(command, &context))
}

async fn list(command: AuditCommand, context: &Context) -> Result<(), Failure> {
    let AuditCommand::List { act, by, from, to, limit, of, as_json } = command;
    // Without a name every workflow is meant, and what belongs to none.
    let workflow = of.workflow.is_some().then(|| context.workflow(&of)).transpose()?;
    let filter = Filter {
        workflow_id: workflow.as_ref().map(|workflow| workflow.workflow_id),
        act: act.as_deref(),
        actor: by.as_deref(),
        from,
        to,
        before: None,
    };
    let entries = audit::list(context.engine.store.pool(), &filter, limit).await?;
    if as_json.json {
        return output::say_json(&entries);
    }
    let zone = workflow.as_ref().map_or(Tz::UTC, zone);
    let mut table =
        output::table(&["at", "by", "act", "of", "workflow", "cycle", "result", "what", "why"]);
    for entry in entries {
        table.add_row([
            output::time(entry.at, zone),
            entry.actor,
            entry.act,
            output::or_dash(Some(entry.subject).filter(|subject| !subject.is_empty())),
            output::or_dash(entry.workflow),
            output::or_dash(entry.cycle),
            entry.result,
            output::brief(&entry.said, 100),
            output::or_dash(entry.reason.map(|reason| output::brief(&reason, 80))),
        ]);
    }
    output::say_table(&table, "Nobody has done anything yet.")
}
