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
            done.push(carry_out(engine, claim.workflow_id, &folder, intent).await?);
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

/// Writes the version that an intent names.
pub(super) async fn carry_out(
    engine: &Engine,
    workflow_id: i64,
    folder: &Path,
    intent: &ChangeRow,
) -> Result<FileChange, EffectFailure> {
    let pool = engine.store.pool();
    let model = intent.model_name.as_str();
    let to = versions::find(pool, workflow_id, model, intent.to_version)
        .await?
        .ok_or_else(|| no_such_version(model, intent.to_version))?;
    let mut conn = pool.acquire().await?;
    let active = versions::active(&mut conn, workflow_id, model).await?;
    drop(conn);
    let mut change = file_change(workflow_id, intent, &to, active.as_ref());
    if let Some(written_last) = written_last(folder, model).await? {
        change.expected_before = written_last;
    }
    let written = write(folder.to_owned(), model.to_owned(), change).await?;
    Ok(FileChange {
        change_id: intent.id,
        model: model.to_owned(),
        version: Some(intent.to_version),
        backup_path: written.backup_path.map(|path| path.display().to_string()),
    })
}

/// What this program last wrote to the model's folder, if it ever did; else the files are the active
/// version. An intent may be older than that: a rollback
/// waits for the Apply before it, a cancelled Apply may have written one model of two, and another
/// machine's folder may be versions behind. Hand edits are told by the marker, not by the intent.
async fn written_last(folder: &Path, model: &str) -> Result<Option<FileHashes>, EffectFailure> {
    let (folder, name) = (folder.to_owned(), model.to_owned());
    let state = tokio::task::spawn_blocking(move || research::read_model(&folder, &name))
        .await
        .map_err(|panic| interrupted("reading", &panic))?
        .map_err(|error| files_failure(model, &error))?;
    Ok(state.marker.map(|marker| marker.files))
}

fn interrupted(doing: &str, panic: &tokio::task::JoinError) -> EffectFailure {
    EffectFailure::for_now(
        "interrupted",
        format!("{doing} the files was interrupted: {panic}"),
        "`mathesis cycle retry`",
    )
}

fn file_change(
    workflow_id: i64,
    intent: &ChangeRow,
    to: &Version,
    active: Option<&Version>,
) -> Change {
    Change {
        change_id: format!("{workflow_id}-{}", intent.id),
        backup_name: intent.backup_name.clone(),
        version: to.version,
        texts: to.texts(),
        expected_before: active
            .map_or_else(FileHashes::default, |version| research::hashes_of(&version.texts())),
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

async fn write(folder: PathBuf, model: String, change: Change) -> Result<Written, EffectFailure> {
    let name = model.clone();
    let written: Result<Written, FilesError> =
        tokio::task::spawn_blocking(move || research::write_version(&folder, &model, &change))
            .await
            .map_err(|panic| interrupted("writing", &panic))?;
    written.map_err(|error| files_failure(&name, &error))
}
