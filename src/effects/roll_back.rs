//! Putting earlier versions back: for a cycle that reverts, or because an operator said so.

use std::path::Path;

use super::apply::carry_out;
use super::{EffectFailure, context, files_failure};
use crate::cycle::Event;
use crate::research::{self, FileHashes, FilesError};
use crate::runtime::{Engine, FileChange, What};
use crate::store::effects::ClaimedEffect;
use crate::store::{changes, versions};

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
        let expected =
            what_stands(engine, claim.workflow_id, &folder, &intent.model_name).await?;
        done.push(carry_out(engine, claim.workflow_id, &folder, intent, expected).await?);
    }
    Ok(done)
}

/// The files that a change back may replace. The intent cannot know them: the change that it undoes may
/// have come to nothing, to half, or to all of its files. So they are what the marker says, if that is
/// a version of ours, and the active version's where there is no marker yet.
async fn what_stands(
    engine: &Engine,
    workflow_id: i64,
    folder: &Path,
    model: &str,
) -> Result<FileHashes, EffectFailure> {
    let pool = engine.store.pool();
    let (folder, name) = (folder.to_owned(), model.to_owned());
    let state = tokio::task::spawn_blocking(move || research::read_model(&folder, &name))
        .await
        .unwrap_or_else(|panic| Err(FilesError::interrupted(panic)))
        .map_err(|error| files_failure(model, &error))?;
    if let Some(marker) = state.marker {
        let known = versions::find(pool, workflow_id, model, marker.version).await?;
        let files = known.map(|version| research::hashes_of(&version.texts()));
        if files.as_ref() == Some(&marker.files) {
            return Ok(marker.files);
        }
    }
    let mut conn = pool.acquire().await?;
    let active = versions::active(&mut conn, workflow_id, model).await?;
    Ok(active.map_or_else(FileHashes::default, |version| research::hashes_of(&version.texts())))
}
