//! `mathesis task forget`.

use clap::Subcommand;

use super::context::{Context, Need, capitalised, with_context};
use super::failure::Failure;
use super::{OfWorkflow, output};
use crate::runtime::{ForgetError, Operator, forget_task};
use crate::settings::Settings;

/// See to a single task.
#[derive(Debug, Clone, Subcommand)]
pub enum TaskCommand {
    /// Delete a task and all its texts, for good
    ///
    /// Its prompts, picture links, scores' reasons, feedback and errors go, and so does every passage of six words or
    /// more that an insight or an answer of Claude quotes. Totals stay, and no late event can bring it back. Evidence
    /// that named it reads "forgotten". Refused while an open cycle needs it; the answer says until when.
    Forget {
        /// The pipeline's name of the task
        #[arg(value_name = "TASK")]
        task: String,
        /// One run of it [default: every run]
        #[arg(long)]
        run: Option<String>,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, for the audit trail [default: the user that is logged in]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[command(flatten)]
        of: OfWorkflow,
    },
}

/// Runs the command.
pub async fn run(command: TaskCommand, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| forget(command, &context))
}

async fn forget(command: TaskCommand, context: &Context) -> Result<(), Failure> {
    let TaskCommand::Forget { task, run, reason, by, of } = command;
    if reason.trim().is_empty() {
        return Err(Failure::usage("--reason says why, for the audit trail. Nothing was changed"));
    }
    let workflow = context.workflow(&of)?;
    let who = super::Who { reason: Some(reason), by };
    let name = who.name();
    let operator = Operator { name: &name, reason: who.reason.as_deref(), cycle: None };
    let done = forget_task(&context.engine, &workflow, &task, run.as_deref(), operator).await?;
    output::say(&format!("{}.", capitalised(&done.said)))
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Store(error) => error.into(),
            ForgetError::Unknown(said) => Self::not_found(format!("{said}. Nothing was changed")),
            ForgetError::InUse(said) => Self::refused(format!("{said}. Nothing was changed")),
        }
    }
}
