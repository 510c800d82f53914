//! Applying: the adopted versions are written to the config folder, behind a backup.

use std::path::{Path, PathBuf};

use super::{EffectFailure, context, files_failure};
use crate::cycle::{Event, State};
use crate::research::{self, Change, FileHashes, FilesError, Written};
use crate::runtime::{Engine, FileChange, What};
use crate::store::changes::{self, ChangeRow};
use crate::store::effects::ClaimedEffect;
use crate::store::versions::{self, Version};

/// Writes every adopted version that still stands.
///
/// Crash contract: see `research::write_version`. The backup's name and the change's id come from the
/// intent row that the transition wrote, so a redo makes the same change and no second backup.
pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (cycle, definition) = context(engine, claim).await?;
    let folder = engine.config_folder(&definition.config_folder);
    let intents =
        changes::of_transition(engine.store.pool(), claim.workflow_id, claim.cycle, claim.seq)
            .await?;
    let dropped: Vec<&str> = match &cycle.snapshot.state {
        State::Applying { verdicts, .. } => verdicts
            .iter()
            .filter(|verdict| !verdict.stands_adopted())
            .map(|verdict| verdict.model.as_str())
            .collect(),
        _ => Vec::new(),
    };
    let mut done = Vec::with_capacity(intents.len());
    for intent in &intents {
        if dropped.contains(&intent.model_name.as_str()) {
            done.push(not_carried_out(intent));
        } else {
            let expected = files_of(engine, claim.workflow_id, intent).await?;
            done.push(carry_out(engine, claim.workflow_id, &folder, intent, expected).await?);
        }
    }
    Ok(What::Files { event: Event::FilesApplied, changes: done })
}

fn not_carried_out(intent: &ChangeRow) -> FileChange {
    FileChange {
        change_id: intent.id,
        model: intent.model_name.clone(),
        version: None,
        backup_path: None,
    }
}

/// The files of the version that an intent replaces.
async fn files_of(
    engine: &Engine,
    workflow_id: i64,
    intent: &ChangeRow,
) -> Result<FileHashes, EffectFailure> {
    let Some(from) = intent.from_version else { return Ok(FileHashes::default()) };
    let pool = engine.store.pool();
    let before = versions::find(pool, workflow_id, &intent.model_name, from).await?;
    Ok(before.map_or_else(FileHashes::default, |version| research::hashes_of(&version.texts())))
}

/// Writes the version that an intent names, over the files that are expected to stand there.
pub(super) async fn carry_out(
    engine: &Engine,
    workflow_id: i64,
    folder: &Path,
    intent: &ChangeRow,
    expected_before: FileHashes,
) -> Result<FileChange, EffectFailure> {
    let pool = engine.store.pool();
    let model = intent.model_name.as_str();
    let to = versions::find(pool, workflow_id, model, intent.to_version)
        .await?
        .ok_or_else(|| no_such_version(model, intent.to_version))?;
    let change = file_change(workflow_id, intent, &to, expected_before);
    let written = write(folder.to_owned(), model.to_owned(), change).await?;
    Ok(FileChange {
        change_id: intent.id,
        model: model.to_owned(),
        version: Some(intent.to_version),
        backup_path: written.backup_path.map(|path| path.display().to_string()),
    })
}

fn file_change(
    workflow_id: i64,
    intent: &ChangeRow,
    to: &Version,
    expected_before: FileHashes,
) -> Change {
    Change {
        change_id: format!("{workflow_id}-{}", intent.id),
        backup_name: intent.backup_name.clone(),
        version: to.version,
        texts: to.texts(),
        expected_before,
        at: intent.intended_at,
    }
}

fn no_such_version(model: &str, version: i32) -> EffectFailure {
    EffectFailure::for_good(
        "no_such_version",
        format!("{model} has no version {version} in the database"),
        "this is a defect; please report it, and `mathesis cycle cancel`",
    )
}

async fn write(
    folder: PathBuf,
    model: String,
    change: Change,
) -> Result<Written, EffectFailure> {
    let name = model.clone();
    let written: Result<Written, FilesError> =
        tokio::task::spawn_blocking(move || research::write_version(&folder, &model, &change))
            .await
            .map_err(|panic| {
                EffectFailure::for_now(
                    "interrupted",
                    format!("writing the files was interrupted: {panic}"),
                    "`mathesis cycle retry`",
                )
            })?;
    written.map_err(|error| files_failure(&name, &error))
}
