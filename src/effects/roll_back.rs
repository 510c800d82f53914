//! Putting earlier versions back: for a cycle that reverts, or because an operator said so.

use super::apply::carry_out;
use super::{EffectFailure, context};
use crate::cycle::Event;
use crate::runtime::{Engine, FileChange, What};
use crate::store::changes;
use crate::store::effects::ClaimedEffect;

/// Takes a cycle's adoptions back.
pub(super) async fn revert(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let changes = put_back(engine, claim).await?;
    Ok(What::Files { event: Event::FilesReverted, changes })
}

/// Writes the versions that the transition's intents name. Crash contract as for Applying.
pub(super) async fn put_back(
    engine: &Engine,
    claim: &ClaimedEffect,
) -> Result<Vec<FileChange>, EffectFailure> {
    let (_, definition) = context(engine, claim).await?;
    let folder = engine.config_folder(&definition.config_folder);
    let intents =
        changes::of_transition(engine.store.pool(), claim.workflow_id, claim.cycle, claim.seq)
            .await?;
    let mut done = Vec::with_capacity(intents.len());
    for intent in &intents {
        done.push(carry_out(engine, claim.workflow_id, &folder, intent).await?);
    }
    Ok(done)
}
