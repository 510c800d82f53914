//! Conflicts on this machine's disk: reported to the database, and settled as an operator ordered.
//!
//! An order passes through its row: `ordered`, then `begun` with the edited texts stored as a version, then
//! the files behind a backup, then `settled` in the transaction that changes what serves. A process that
//! dies anywhere is followed by one that reads the row on the same machine and goes on; no step done twice
//! differs from one done once. The edited bytes are in the version and in the backup before any file is
//! replaced.

use std::path::Path;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::acts::Act;
use super::advance::{AdvanceError, Submission, What, advance_for};
use super::engine::Engine;
use super::reconciler::{blocking, subject};
use super::registry::Workflow;
use crate::cycle::Event;
use crate::research::{self, FilesError, FolderState, Settlement, Texts, Written};
use crate::store::audit::{self, Actor, NewEntry, Outcome};
use crate::store::changes::{self, ChangeKind, Intent};
use crate::store::conflicts::{self, Begun, Conflict, Place, Report};
use crate::store::holds::{self, HoldKind, Lift};
use crate::store::versions::{self, NewVersion, Version};
use crate::store::{StoreError, cycles, hints};

/// The longest file whose text is reported, in bytes. A longer one is settled all the same, but not shown.
const REPORTED_BYTES_MAX: usize = 1 << 20;

/// A model's folder as this machine names it, wherever the process was started.
pub(super) fn place(folder: &Path, model: &str) -> String {
    let folder = folder.join(model);
    std::path::absolute(&folder).unwrap_or(folder).display().to_string()
}

/// Tells the database what a person edited here.
pub(super) async fn report(
    engine: &Engine,
    workflow_id: i64,
    (folder, model): (&Path, &str),
    state: &FolderState,
) -> Result<(), StoreError> {
    let files = state.hashes();
    let shown = |file: &Option<research::FileText>| {
        let text = file.as_ref().map(|file| &file.text);
        text.filter(|text| text.len() <= REPORTED_BYTES_MAX).cloned()
    };
    let (activation, research) = (shown(&state.activation), shown(&state.research));
    let report = Report {
        place: Place { model, host: &engine.settings.host, folder: &place(folder, model) },
        edit_hash: &research::edit_hash(&files),
        files: &files,
        activation: activation.as_deref(),
        research: research.as_deref(),
        base_version: state.marker.as_ref().map(|marker| marker.version),
    };
    let mut conn = engine.store.pool().acquire().await?;
    conflicts::report(&mut conn, workflow_id, &report, engine.now()).await
}

/// Goes on with an ordered way out, as far as it can be gone on with now.
pub(super) async fn carry_out(
    engine: &Engine,
    workflow: &Workflow,
    folder: &Path,
    conflict: &Conflict,
) -> Result<(), StoreError> {
    let order = Order { engine, workflow_id: workflow.workflow_id, folder };
    if conflict.status == "begun" {
        return order.settle(conflict).await;
    }
    match order.begin(conflict).await? {
        Some(begun) => order.settle(&begun).await,
        None => Ok(()),
    }
}

struct Order<'o> {
    engine: &'o Engine,
    workflow_id: i64,
    folder: &'o Path,
}

impl Order<'_> {
    /// Stores the edited texts as a version and fixes what will be done. Nothing is touched before, so a
    /// crash here leaves the order as it was. None when the order waits or could not be taken.
    async fn begin(&self, conflict: &Conflict) -> Result<Option<Conflict>, StoreError> {
        let (folder, model) = (self.folder.to_owned(), conflict.model_name.clone());
        let state = match blocking(move || research::read_model(&folder, &model)).await {
            Ok(state) => state,
            Err(error) => return self.wait(conflict, &error).map(|()| None),
        };
        if research::edit_hash(&state.hashes()) != conflict.edit_hash {
            self.refuse(conflict, "the files were edited again after the order").await?;
            return Ok(None);
        }
        let (id, now) = (self.workflow_id, self.engine.now());
        let mut tx = self.engine.store.pool().begin().await?;
        // Every version gets its number under the cycle's lock.
        cycles::lock_open(&mut tx, id).await?;
        let locked = conflicts::lock(&mut tx, id, conflict.conflict_id).await?;
        let model = &conflict.model_name;
        let active = versions::active(&mut tx, id, model).await?;
        let (Some(locked), Some(active)) = (locked, active) else { return Ok(None) };
        let changing = changes::models_changing(&mut *tx, id).await?.contains(model);
        if locked.status != "ordered" || (locked.keeps_mine() && changing) {
            return Ok(None);
        }
        let edited = edited_texts(&state, &active);
        let kept_version = keep(&mut tx, id, &locked, &active, edited, now).await?;
        let backup_name = changes::backup_name(now);
        let to_version = if locked.keeps_mine() { kept_version } else { active.version };
        let begun = Begun { kept_version, to_version, backup_name: &backup_name };
        conflicts::begin(&mut tx, id, locked.conflict_id, begun, now).await?;
        let begun = conflicts::find(&mut *tx, id, locked.conflict_id).await?;
        tx.commit().await?;
        Ok(begun)
    }

    /// The files, and then what they mean. A crash between the two is followed by a redo that finds the files
    /// as they should be.
    async fn settle(&self, conflict: &Conflict) -> Result<(), StoreError> {
        let (pool, id) = (self.engine.store.pool(), self.workflow_id);
        let model = conflict.model_name.as_str();
        let (Some(to), Some(backup_name), Some(at)) =
            (conflict.to_version, conflict.backup_name.clone(), conflict.begun_at)
        else {
            return Ok(());
        };
        let Some(version) = versions::find(pool, id, model, to).await? else { return Ok(()) };
        let settlement = Settlement {
            change_id: format!("conflict-{id}-{}", conflict.conflict_id),
            backup_name,
            edited: conflict.files(),
            version: to,
            texts: version.texts(),
            at,
        };
        let (folder, name) = (self.folder.to_owned(), model.to_owned());
        let written = blocking(move || research::settle(&folder, &name, &settlement)).await;
        let written = match written {
            Ok(written) => written,
            Err(error @ FilesError::HandEdited { .. }) => {
                return self.refuse(conflict, &error.to_string()).await;
            }
            Err(error) => return self.wait(conflict, &error),
        };
        let settled = Settled::of(conflict, to, &written, subject(self.engine, model));
        let mut conn = pool.acquire().await?;
        let active = versions::active_head(&mut conn, id, model).await?;
        drop(conn);
        match active {
            Some((from, _)) if from != to && conflict.keeps_mine() => {
                self.activate(&settled, from, to).await
            }
            _ => self.end(&settled).await,
        }
    }

    /// The kept edit serves through the way that every rollback takes: the model's test or probation ends
    /// `superseded`, and other machines' files are written behind their own backups.
    async fn activate(&self, settled: &Settled<'_>, from: i32, to: i32) -> Result<(), StoreError> {
        let conflict = settled.conflict;
        let model = conflict.model_name.clone();
        let subject = format!("conflict {}", conflict.conflict_id);
        let said = |_| settled.said.clone();
        let act =
            Act { act: settled.act(), subject: &subject, said: &said, settles: Some(settled) };
        let submission = Submission {
            workflow_id: self.workflow_id,
            cycle: None,
            actor: conflict.ordered_by.as_deref().unwrap_or("mathesis"),
            reason: conflict.order_reason.as_deref(),
            what: What::Event(Event::RollbackRequested { model, from, to }),
            completes: None,
            claims_next: false,
        };
        match advance_for(self.engine, submission, Some(&act)).await {
            Ok(_) | Err(AdvanceError::Store(StoreError::ConflictSettled { .. })) => Ok(()),
            Err(AdvanceError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(conflict.id = conflict.conflict_id, error = %error,
                    "a kept edit waits for the cycle");
                Ok(())
            }
        }
    }

    async fn end(&self, settled: &Settled<'_>) -> Result<(), StoreError> {
        let now = self.engine.now();
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let locked =
            conflicts::lock(&mut tx, self.workflow_id, settled.conflict.conflict_id).await?;
        if locked.is_none_or(|locked| locked.status != "begun") {
            return Ok(());
        }
        let result = (Outcome::Done, settled.said.as_str());
        note(&mut tx, self.workflow_id, settled.conflict, result, now).await?;
        settled.record(&mut tx, self.workflow_id, now).await?;
        hints::hint(&mut tx, self.workflow_id).await?;
        tx.commit().await?;
        self.engine.work.notify_one();
        Ok(())
    }

    /// The order was for other files than there are now: it ends, and the conflict is open again.
    async fn refuse(&self, conflict: &Conflict, why: &str) -> Result<(), StoreError> {
        let said = format!("the order was not carried out: {why}; look at the files once more");
        let mut tx = self.engine.store.pool().begin().await?;
        let id = self.workflow_id;
        conflicts::reopen(&mut tx, id, conflict.conflict_id, Some(&said)).await?;
        note(&mut tx, id, conflict, (Outcome::Refused, &said), self.engine.now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A disk that cannot be worked on now is tried again at the next look.
    fn wait(&self, conflict: &Conflict, error: &FilesError) -> Result<(), StoreError> {
        tracing::warn!(conflict.id = conflict.conflict_id, host = self.engine.settings.host, error = %error,
            "an ordered conflict waits for its files");
        Ok(())
    }
}

/// The texts that the folder stands for: a file that is missing counts as the active version's, and the template has
/// no file.
fn edited_texts(state: &FolderState, active: &Version) -> Texts {
    let or = |file: &Option<research::FileText>, text: &str| {
        file.as_ref().map_or_else(|| text.to_owned(), |file| file.text.clone())
    };
    Texts {
        template: active.prompt_template.clone(),
        activation: or(&state.activation, &active.activation_text),
        research: or(&state.research, &active.research_text),
    }
}

/// The version that holds the edited texts: one that has them already, or a new one that does not serve.
async fn keep(
    tx: &mut PgConnection,
    workflow_id: i64,
    conflict: &Conflict,
    active: &Version,
    texts: Texts,
    now: DateTime<Utc>,
) -> Result<i32, StoreError> {
    let model = &conflict.model_name;
    let content_hash = research::content_hash(&texts);
    if let Some(known) = versions::by_content(tx, workflow_id, model, &content_hash).await? {
        return Ok(known);
    }
    let number = versions::greatest(tx, workflow_id, model).await? + 1;
    let by = conflict.ordered_by.as_deref().unwrap_or("mathesis");
    let reason = conflict.order_reason.as_ref();
    let version = NewVersion {
        model_name: model.clone(),
        version: number,
        diff: research::version_diff(&active.texts(), &texts, active.version, number),
        content_hash,
        texts,
        parent_version: Some(active.version),
        edits: Vec::new(),
        lineage: Vec::new(),
        summary: format!(
            "edited by hand on {}, kept by {by}{}",
            conflict.host,
            reason.map_or_else(String::new, |reason| format!(": {reason}"))
        ),
        cycle: None,
        based_on: Vec::new(),
        is_active: false,
        created_by: "hand-edited".to_owned(),
    };
    versions::insert(tx, workflow_id, &version, now).await?;
    Ok(number)
}

async fn note(
    tx: &mut PgConnection,
    workflow_id: i64,
    conflict: &Conflict,
    (result, said): (Outcome, &str),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = NewEntry {
        act: act_of(conflict),
        subject: &format!("conflict {}", conflict.conflict_id),
        cycle: None,
        actor: Actor {
            name: conflict.ordered_by.as_deref().unwrap_or("mathesis"),
            reason: conflict.order_reason.as_deref(),
        },
        result,
        said,
    };
    audit::record(tx, workflow_id, &entry, now).await
}

fn act_of(conflict: &Conflict) -> &'static str {
    if conflict.keeps_mine() { "conflict_keep_mine" } else { "conflict_take_theirs" }
}

/// A conflict whose files are as ordered: what its end writes down, in the transaction that makes it so.
pub(super) struct Settled<'s> {
    conflict: &'s Conflict,
    to: i32,
    backup: Option<String>,
    /// What stands on the hold that the reconciler placed.
    subject: String,
    said: String,
}

impl<'s> Settled<'s> {
    fn of(conflict: &'s Conflict, to: i32, written: &Written, subject: String) -> Self {
        let backup = written.backup_path.as_ref().map(|path| path.display().to_string());
        let model = &conflict.model_name;
        let mut said = match (conflict.keeps_mine(), conflict.kept_version) {
            (true, _) => format!("the edited files of {model} are version {to}, which now serves"),
            (false, Some(kept)) => format!(
                "version {to} of {model} stands in the files again; the edit is kept as version {kept}"
            ),
            (false, None) => format!("version {to} of {model} stands in the files again"),
        };
        if let Some(backup) = &backup {
            said.push_str(&format!(". The edited bytes are in {backup} on {}", conflict.host));
        }
        Self { conflict, to, backup, subject, said }
    }

    fn act(&self) -> &'static str {
        act_of(self.conflict)
    }

    /// Ends the conflict: its row, its line among the changes, its holds, and what stopped at it.
    pub(super) async fn record(
        &self,
        tx: &mut PgConnection,
        workflow_id: i64,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let conflict = self.conflict;
        conflicts::settle(tx, workflow_id, conflict.conflict_id, &self.said, now).await?;
        let kind =
            if conflict.keeps_mine() { ChangeKind::KeepMine } else { ChangeKind::TakeTheirs };
        let intent = Intent {
            kind,
            model: &conflict.model_name,
            from_version: conflict.base_version,
            to_version: self.to,
            origin: None,
            backup_name: conflict.backup_name.as_deref().unwrap_or_default(),
            summary: &self.said,
            changed_by: conflict.ordered_by.as_deref().unwrap_or("mathesis"),
            reason: conflict.order_reason.as_deref(),
        };
        let change = changes::intend(tx, workflow_id, &intent, now).await?;
        changes::finish(tx, workflow_id, change, self.backup.as_deref(), now).await?;
        let by = conflict.ordered_by.as_deref().unwrap_or("mathesis");
        let lift = Lift { by, reason: Some("the conflict is settled"), now };
        // The reconciler's own hold, and that of an effect that stopped at the edit.
        for subject in [self.subject.as_str(), conflict.model_name.as_str()] {
            let kind = HoldKind::ConfigConflict;
            holds::lift_subject(tx, workflow_id, kind, subject, lift).await?;
        }
        conflicts::retry_stopped(tx, workflow_id, now).await
    }
}
