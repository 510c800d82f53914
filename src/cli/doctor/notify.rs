//! What the doctor says of a workflow's webhook; nothing where it has none.

use super::super::context::Context;
use super::{Finding, bad, good, note};
use crate::notify::SigningKey;
use crate::runtime::Workflow;
use crate::settings::secret_of_environment;
use crate::store::notifications;

/// Whether the webhook is told, and whether it can be.
pub(super) async fn of_webhook(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let notify = &workflow.definition.notify;
    if !notify.is_on() {
        return Vec::new();
    }
    let check = format!("webhook of {}", workflow.name());
    let pool = context.engine.store.pool();
    let mut findings = Vec::new();
    match notifications::trouble(pool, workflow.workflow_id).await {
        Err(error) => return vec![bad(check, error.to_string(), "")],
        Ok(Some(trouble)) => findings.push(bad(
            &check,
            trouble.in_words(),
            "Mend what is wrong, try it with `mathesis notify test`, then send again what was given up: `mathesis notify retry`.",
        )),
        Ok(None) => {}
    }
    let name = &notify.secret_env;
    match secret_of_environment(name).map(|secret| SigningKey::new(&secret)) {
        None => findings.push(note(
            &check,
            format!("{name} is not set here, and without it nothing is sent"),
            format!(
                "Set {name} where `mathesis serve` runs; `openssl rand -base64 32` makes a secret."
            ),
        )),
        Some(Err(weak)) => findings.push(bad(&check, format!("{name} cannot sign: {weak}"), "")),
        Some(Ok(_)) => {}
    }
    if findings.is_empty() {
        findings.push(good(check, format!("everything was delivered to {}", notify.host())));
    }
    findings
}
