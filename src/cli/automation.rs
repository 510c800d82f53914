//! `mathesis automation on|off|status`.

use clap::Subcommand;
use serde::Serialize;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, Who, output, overall};
use crate::runtime::{Operation, Workflow};
use crate::settings::Settings;
use crate::store::cycles;
use crate::store::holds::{self, HoldKind, HoldRow};

/// Switch learning on or off; tasks are logged either way.
#[derive(Debug, Clone, Subcommand)]
pub enum AutomationCommand {
    /// Let the learning cycle go on
    On {
        /// For all workflows; those with a switch of their own off stay off
        #[arg(long, conflicts_with = "workflow")]
        all: bool,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
    /// Silent logging: tasks are logged and counted, nothing else starts, within a second
    Off {
        /// For all workflows, those that are made later included
        #[arg(long, conflicts_with = "workflow")]
        all: bool,
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        who: Who,
    },
    /// Show whether learning is on
    Status {
        #[command(flatten)]
        of: OfWorkflow,
        #[command(flatten)]
        as_json: AsJson,
    },
}

/// Runs the command.
pub async fn run(command: AutomationCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| carry_out(command, &context))
}

async fn carry_out(command: AutomationCommand, context: &Context) -> Result<(), Failure> {
    match command {
        AutomationCommand::On { all: true, who, .. } => {
            overall::switch_automation(context, true, &who).await
        }
        AutomationCommand::Off { all: true, who, .. } => {
            overall::switch_automation(context, false, &who).await
        }
        AutomationCommand::On { of, who, .. } => {
            let operation = Operation::Automation { enabled: true };
            context.perform(&context.workflow(&of)?, operation, &who, None).await
        }
        AutomationCommand::Off { of, who, .. } => {
            let operation = Operation::Automation { enabled: false };
            context.perform(&context.workflow(&of)?, operation, &who, None).await
        }
        AutomationCommand::Status { of, as_json } => {
            status(context, &context.workflow(&of)?, as_json).await
        }
    }
}

#[derive(Serialize)]
struct Status<'s> {
    workflow: &'s str,
    enabled: bool,
    off: Option<&'s HoldRow>,
}

async fn status(context: &Context, workflow: &Workflow, as_json: AsJson) -> Result<(), Failure> {
    let pool = context.engine.store.pool();
    let open = cycles::find_open(pool, workflow.workflow_id).await?;
    let mut conn = pool.acquire().await?;
    let number = open.map_or(0, |cycle| cycle.number);
    let standing = holds::standing(&mut conn, workflow.workflow_id, number).await?;
    drop(conn);
    let off = standing.iter().find(|hold| hold.kind == HoldKind::AutomationOff.as_str());
    if as_json.json {
        let status = Status { workflow: workflow.name(), enabled: off.is_none(), off };
        return output::say_json(&status);
    }
    output::say(&match off {
        None => format!("Automation of {} is on.", workflow.name()),
        Some(hold) => format!(
            "Automation of {} is off since {}, by {}: {}. {} switches it on.",
            workflow.name(),
            output::time(hold.placed_at, zone(workflow)),
            hold.placed_by,
            hold.reason,
            hold.remedy
        ),
    })
}
