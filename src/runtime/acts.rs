//! Operators' acts on record: each in the transaction that carries it out.

use sqlx::PgConnection;

use super::conflicts::Settled;
use super::project::Turn;
use crate::cycle::StateName;
use crate::store::StoreError;
use crate::store::audit::{self, Actor, NewEntry, Outcome};

/// An operator's act that a submission to a cycle carries out.
pub(super) struct Act<'a> {
    /// The act, a stable word.
    pub act: &'a str,
    /// What it is done to, beside the cycle.
    pub subject: &'a str,
    /// What came of it in one sentence, by the state that it led to.
    pub said: &'a (dyn Fn(StateName) -> String + Send + Sync),
    /// The conflict that ends with it, if it keeps a hand edit.
    pub settles: Option<&'a Settled<'a>>,
}

impl Act<'_> {
    /// Puts it on record beside the transition that it led to.
    pub(super) async fn record(
        &self,
        tx: &mut PgConnection,
        turn: &Turn<'_>,
    ) -> Result<(), StoreError> {
        let said = (self.said)(turn.after.state.name());
        let entry = NewEntry {
            act: self.act,
            subject: self.subject,
            cycle: Some(turn.before.number),
            actor: Actor {
                name: &turn.transition.actor,
                reason: turn.transition.reason.as_deref(),
            },
            result: Outcome::Done,
            said: &said,
        };
        audit::record(tx, turn.workflow_id, &entry, turn.now).await?;
        match self.settles {
            Some(settled) => settled.record(tx, turn.workflow_id, turn.now).await,
            None => Ok(()),
        }
    }
}
