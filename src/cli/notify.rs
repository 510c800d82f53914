//! `mathesis notify list|test|retry`.

use std::sync::Arc;

use clap::Subcommand;
use uuid::Uuid;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, Who, output};
use crate::notify::{Notifier, send_again};
use crate::runtime::Operator;
use crate::settings::{Settings, secret_of_environment};
use crate::store::notifications;

/// See what the webhook was told, try it, send again what was given up.
#[derive(Debug, Clone, Subcommand)]
pub enum NotifyCommand {
    /// List the notifications, latest first
    List {
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Send a test to the webhook, once, and tell what it answered
    ///
    /// Signed with the secret of this command's environment. Ends with exit code 1 when it was not delivered.
    Test {
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
    /// Have notifications sent again that were given up
    ///
    /// The serving process sends them, within a second, for three more days.
    Retry {
        /// One of them, by its id [default: all that were given up]
        id: Option<Uuid>,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
}

/// Runs the command.
pub async fn run(command: NotifyCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| carry_out(command, &context))
}

async fn carry_out(command: NotifyCommand, context: &Context) -> Result<(), Failure> {
    match command {
        NotifyCommand::List { limit, of, as_json } => list(context, limit, &of, as_json).await,
        NotifyCommand::Test { of, who } => test(context, &of, &who).await,
        NotifyCommand::Retry { id, of, who } => retry(context, id, &of, &who).await,
    }
}

async fn list(
    context: &Context,
    limit: i64,
    of: &OfWorkflow,
    as_json: AsJson,
) -> Result<(), Failure> {
    let workflow = context.workflow(of)?;
    let pool = context.engine.store.pool();
    let rows = notifications::list(pool, workflow.workflow_id, limit).await?;
    if as_json.json {
        return output::say_json(&rows);
    }
    let zone = zone(&workflow);
    let mut table = output::table(&[
        "at", "kind", "cycle", "of", "what", "status", "sent", "next", "error", "id",
    ]);
    for row in rows {
        table.add_row([
            output::time(row.created_at, zone),
            row.kind,
            output::or_dash(row.cycle),
            output::or_dash(Some(row.subject).filter(|subject| !subject.is_empty())),
            output::brief(&row.said, 80),
            row.status,
            row.attempts.to_string(),
            output::time_or_dash(row.next_attempt_at, zone),
            output::or_dash(row.last_error.map(|error| output::brief(&error, 80))),
            row.notification_id.to_string(),
        ]);
    }
    let nothing = if workflow.definition.notify.is_on() {
        "The webhook was told nothing yet; `mathesis notify test` tries it."
    } else {
        "The workflow names no webhook; docs/operations.md says how it does."
    };
    output::say_table(&table, nothing)
}

async fn test(context: &Context, of: &OfWorkflow, who: &Who) -> Result<(), Failure> {
    let workflow = context.workflow(of)?;
    let notify = &workflow.definition.notify;
    if !notify.is_on() {
        return Err(Failure::refused(
            "the workflow names no webhook: set url under [notify] in workflow.toml, and start `mathesis serve` again. Nothing was sent",
        ));
    }
    let name = who.name();
    let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle: None };
    let notifier = Notifier::new(context.engine.clone(), Arc::new(secret_of_environment));
    let tested = notifier.test(&workflow, operator).await?;
    let host = notify.host();
    match tested.outcome {
        Ok(status) => output::say(&format!(
            "Delivered: {host} answered {status} ({}).",
            tested.notification_id
        )),
        Err(words) => {
            Err(Failure::failed(format!("the test was not delivered to {host}: {words}")))
        }
    }
}

async fn retry(
    context: &Context,
    id: Option<Uuid>,
    of: &OfWorkflow,
    who: &Who,
) -> Result<(), Failure> {
    let workflow = context.workflow(of)?;
    let name = who.name();
    let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle: None };
    match (send_again(&context.engine, &workflow, id, operator).await?, id) {
        (0, Some(id)) => Err(Failure::not_found(format!(
            "no notification {id} waits or was given up; `mathesis notify list` shows them. Nothing was changed"
        ))),
        (0, None) => output::say("No notification was given up."),
        (1, _) => output::say("1 notification is sent again, as soon as `mathesis serve` runs."),
        (again, _) => output::say(&format!(
            "{again} notifications are sent again, as soon as `mathesis serve` runs."
        )),
    }
}
