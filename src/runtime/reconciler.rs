//! The reconciler: keeps this machine's config folders the image of the database.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::conflicts as conflict_orders;
use super::engine::Engine;
use super::registry::Workflow;
use crate::research::{
    self, Change, ConfigFile, Expected, FileHashes, FilesError, FolderState, Standing, Written,
};
use crate::store::StoreError;
use crate::store::changes::{self, ChangeKind, Intent};
use crate::store::conflicts::{self, Conflict};
use crate::store::holds::{self, HoldKind, Lift, NewHold};
use crate::store::versions::{self, Version};

/// How often the folders are looked at.
const POLL: Duration = Duration::from_secs(5);

/// Reconciles until the token is cancelled.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    while !stop.is_cancelled() {
        for workflow in engine.registry.all() {
            if let Err(error) = reconcile(&engine, &workflow).await {
                tracing::warn!(workflow.name = workflow.name(), error = %error,
                    "the config folder could not be compared with the database; trying again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.clock.sleep(POLL) => {}
        }
    }
}

/// Brings one workflow's folder in step with its active versions: missing files are written, stale
/// ones replaced behind a backup, and a hand-edited one is left as it is and holds the workflow.
///
/// # Errors
/// [`StoreError`] when the database fails. Trouble with files becomes a hold or a warning.
pub async fn reconcile(engine: &Engine, workflow: &Workflow) -> Result<(), StoreError> {
    let folder = engine.config_folder(&workflow.definition.config_folder);
    let (pool, id) = (engine.store.pool(), workflow.workflow_id);
    let standing = conflicts::standing_on(pool, id, &engine.settings.host).await?;
    let changing = changes::models_changing(pool, id).await?;
    for model in workflow.models() {
        let known = standing.iter().find(|known| is_here(known, &folder, model));
        if let Some(ordered) = known.filter(|known| known.status != "open") {
            conflict_orders::carry_out(engine, workflow, &folder, ordered).await?;
            continue;
        }
        if changing.iter().any(|name| name == model) {
            look_while_changing(engine, id, (&folder, model), known).await?;
            continue;
        }
        let mut conn = engine.store.pool().acquire().await?;
        let active = versions::active(&mut conn, workflow.workflow_id, model).await?;
        drop(conn);
        let Some(active) = active else { continue };
        match reconcile_model(engine, workflow, &folder, active).await? {
            Ok(()) => {
                put_back(engine, id, known).await?;
                lift_conflict(engine, id, model).await?;
            }
            Err(error) => report(engine, id, model, &error).await?,
        }
    }
    Ok(())
}

fn is_here(conflict: &Conflict, folder: &Path, model: &str) -> bool {
    conflict.model_name == model && conflict.folder == conflict_orders::place(folder, model)
}

/// While a change of the model is under way its files are the change's, and only an edit is told: the change
/// stops at it and waits for a person.
async fn look_while_changing(
    engine: &Engine,
    workflow_id: i64,
    (folder, model): (&Path, &str),
    known: Option<&Conflict>,
) -> Result<(), StoreError> {
    let mut conn = engine.store.pool().acquire().await?;
    let active = versions::active(&mut conn, workflow_id, model).await?;
    drop(conn);
    let Some(active) = active else { return Ok(()) };
    let (root, name) = (folder.to_owned(), model.to_owned());
    // What cannot be read is told by the change itself.
    let Ok(state) = blocking(move || research::read_model(&root, &name)).await else {
        return Ok(());
    };
    let edited =
        matches!(research::standing(&state, &expected(&active), false), Standing::HandEdited(_));
    // A fresh container may ship the files of an older version.
    let known_texts = state.marker.is_none()
        && known_version(engine, workflow_id, model, &state.hashes()).await?.is_some();
    if edited && !known_texts {
        return conflict_orders::report(engine, workflow_id, (folder, model), &state).await;
    }
    put_back(engine, workflow_id, known).await
}

async fn put_back(
    engine: &Engine,
    workflow_id: i64,
    known: Option<&Conflict>,
) -> Result<(), StoreError> {
    let Some(known) = known else { return Ok(()) };
    let mut conn = engine.store.pool().acquire().await?;
    conflicts::gone(&mut conn, workflow_id, known.conflict_id, engine.now()).await
}

fn expected(active: &Version) -> Expected {
    let hashes = research::hashes_of(&active.texts());
    Expected {
        version: active.version,
        activation_hash: hashes.activation.unwrap_or_default(),
        research_hash: hashes.research.unwrap_or_default(),
    }
}

type Reconciled = Result<(), FilesError>;

async fn reconcile_model(
    engine: &Engine,
    workflow: &Workflow,
    folder: &Path,
    active: Version,
) -> Result<Reconciled, StoreError> {
    let model = active.model_name.clone();
    let expected = expected(&active);
    let state = {
        let (folder, model) = (folder.to_owned(), model.clone());
        match blocking(move || research::read_model(&folder, &model)).await {
            Ok(state) => state,
            Err(error) => return Ok(Err(error)),
        }
    };
    let present = state.hashes();
    match research::standing(&state, &expected, false) {
        Standing::InStep => Ok(Ok(())),
        Standing::Unmarked => Ok(mark(engine, folder, &active, active.version, present).await),
        Standing::HandEdited(files) if state.marker.is_none() => {
            // A fresh container may ship the files of an older version: known texts are no edit.
            match known_version(engine, workflow.workflow_id, &model, &present).await? {
                Some(version) => {
                    if let Err(error) = mark(engine, folder, &active, version, present).await {
                        return Ok(Err(error));
                    }
                    write(engine, workflow, folder, active).await
                }
                None => edited(engine, workflow, folder, &model, (&state, &files)).await,
            }
        }
        Standing::HandEdited(files) => {
            edited(engine, workflow, folder, &model, (&state, &files)).await
        }
        // Half written and no change under way: a repair died there, and is done again.
        Standing::Missing(_) | Standing::Stale | Standing::HalfWritten { .. } => {
            if is_changing(engine, workflow.workflow_id, &active).await? {
                return Ok(Ok(()));
            }
            write(engine, workflow, folder, active).await
        }
    }
}

async fn edited(
    engine: &Engine,
    workflow: &Workflow,
    folder: &Path,
    model: &str,
    (state, files): (&FolderState, &[ConfigFile]),
) -> Result<Reconciled, StoreError> {
    conflict_orders::report(engine, workflow.workflow_id, (folder, model), state).await?;
    Ok(Err(hand_edited(folder, model, files)))
}

/// True when a change began, or ended, since the active version was read: what the folder holds may
/// then be newer than what we know, and is looked at again later. The questions follow the way of a kept
/// edit: its order, then its change, then its version.
async fn is_changing(
    engine: &Engine,
    workflow_id: i64,
    read: &Version,
) -> Result<bool, StoreError> {
    let pool = engine.store.pool();
    let model = &read.model_name;
    let standing = conflicts::standing_on(pool, workflow_id, &engine.settings.host).await?;
    if standing.iter().any(|known| known.model_name == *model && known.status != "open") {
        return Ok(true);
    }
    if changes::models_changing(pool, workflow_id).await?.contains(model) {
        return Ok(true);
    }
    let mut conn = pool.acquire().await?;
    let active = versions::active_head(&mut conn, workflow_id, model).await?;
    Ok(active.is_none_or(|(version, _)| version != read.version))
}

async fn known_version(
    engine: &Engine,
    workflow_id: i64,
    model: &str,
    present: &FileHashes,
) -> Result<Option<i32>, StoreError> {
    let pool = engine.store.pool();
    for head in versions::list(pool, workflow_id, model).await? {
        let version = versions::find(pool, workflow_id, model, head.version).await?;
        let Some(version) = version else { continue };
        let known = research::hashes_of(&version.texts());
        let same = |file: &Option<String>, of: &Option<String>| file.is_none() || file == of;
        if same(&present.activation, &known.activation) && same(&present.research, &known.research)
        {
            return Ok(Some(version.version));
        }
    }
    Ok(None)
}

async fn mark(
    engine: &Engine,
    folder: &Path,
    active: &Version,
    version: i32,
    present: FileHashes,
) -> Reconciled {
    let (folder, model, at) = (folder.to_owned(), active.model_name.clone(), engine.now());
    let change_id = format!("adopt-{version}");
    blocking(move || research::adopt(&folder, &model, version, &present, &change_id, at)).await
}

async fn write(
    engine: &Engine,
    workflow: &Workflow,
    folder: &Path,
    active: Version,
) -> Result<Reconciled, StoreError> {
    let now = engine.now();
    let model = active.model_name.clone();
    let backup_name = changes::backup_name(now);
    let change = Change {
        change_id: format!("repair-{}-{}", active.version, now.timestamp_millis()),
        backup_name: backup_name.clone(),
        version: active.version,
        texts: active.texts(),
        expected_before: FileHashes::default(),
        at: now,
    };
    let (folder, name) = (folder.to_owned(), model.clone());
    let written = match blocking(move || research::write_missing(&folder, &name, &change)).await {
        Ok(written) => written,
        Err(error) => return Ok(Err(error)),
    };
    note_repair(engine, workflow.workflow_id, &active, &backup_name, &written).await?;
    Ok(Ok(()))
}

async fn note_repair(
    engine: &Engine,
    workflow_id: i64,
    active: &Version,
    backup_name: &str,
    written: &Written,
) -> Result<(), StoreError> {
    if !written.replaced {
        return Ok(());
    }
    let now = engine.now();
    let summary = format!("version {} written again on {}", active.version, engine.settings.host);
    let intent = Intent {
        kind: ChangeKind::Repair,
        model: &active.model_name,
        from_version: None,
        to_version: active.version,
        origin: None,
        backup_name,
        summary: &summary,
        changed_by: "mathesis",
        reason: None,
    };
    let mut tx = engine.store.pool().begin().await?;
    let id = changes::intend(&mut tx, workflow_id, &intent, now).await?;
    let backup = written.backup_path.as_ref().map(|path| path.display().to_string());
    changes::finish(&mut tx, workflow_id, id, backup.as_deref(), now).await?;
    tx.commit().await?;
    tracing::info!(
        model.name = active.model_name,
        version = active.version,
        "the files were written again from the database"
    );
    Ok(())
}

fn hand_edited(folder: &Path, model: &str, files: &[ConfigFile]) -> FilesError {
    let file = files.first().copied().unwrap_or(ConfigFile::Activation);
    FilesError::hand_edited(folder.join(model).join(file.file_name()), file)
}

pub(super) fn subject(engine: &Engine, model: &str) -> String {
    format!("{model} on {}", engine.settings.host)
}

async fn report(
    engine: &Engine,
    workflow_id: i64,
    model: &str,
    error: &FilesError,
) -> Result<(), StoreError> {
    if !error.is_for_a_person() {
        tracing::warn!(model.name = model, error = %error, "the config folder cannot be kept in step");
        return Ok(());
    }
    let failure = crate::effects::files_failure(model, error);
    let remedy = match error {
        FilesError::HandEdited { .. } => failure.remedy,
        _ => format!("put it right on {}; the hold then lifts by itself", engine.settings.host),
    };
    let hold = NewHold {
        kind: HoldKind::ConfigConflict,
        cycle: None,
        subject: subject(engine, model),
        effect_id: None,
        code: failure.code.to_owned(),
        reason: failure.words,
        remedy,
        placed_by: "mathesis".to_owned(),
    };
    let mut tx = engine.store.pool().begin().await?;
    let lift =
        Lift { by: "mathesis", reason: Some("something else holds it now"), now: engine.now() };
    holds::lift_other_codes(&mut tx, workflow_id, &hold, lift).await?;
    holds::place(&mut tx, workflow_id, &hold, engine.now()).await?;
    tx.commit().await?;
    Ok(())
}

async fn lift_conflict(engine: &Engine, workflow_id: i64, model: &str) -> Result<(), StoreError> {
    let mut conn = engine.store.pool().acquire().await?;
    let lift =
        Lift { by: "mathesis", reason: Some("the file is in step again"), now: engine.now() };
    let lifted = holds::lift_subject(
        &mut conn,
        workflow_id,
        HoldKind::ConfigConflict,
        &subject(engine, model),
        lift,
    )
    .await?;
    if lifted > 0 {
        engine.work.notify_one();
    }
    Ok(())
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(FilesError::interrupted(panic)),
    }
}
