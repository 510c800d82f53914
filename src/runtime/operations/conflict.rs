//! What an operator decides about a file that a person edited. Only the order is written here: the files
//! may be on another machine's disk, and whoever has them carries it out (`runtime::conflicts`).

use super::OperationError;
use super::turn::Turn;
use crate::store::audit::Outcome;
use crate::store::changes;
use crate::store::conflicts::{self, Conflict, Way};
use crate::store::cycles;

impl Turn<'_> {
    pub(super) async fn settle_conflict(
        &self,
        conflict: i64,
        way: Way,
        seen: &str,
    ) -> Result<String, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        // The cycle's lock comes first everywhere.
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let found =
            standing(conflicts::lock(&mut tx, self.workflow_id, conflict).await?, conflict)?;
        if found.status != "open" {
            return Err(busy(&found));
        }
        if found.edit_hash != seen {
            return Err(OperationError::ConflictChanged { conflict, now: found.edit_hash });
        }
        let model = &found.model_name;
        if way == Way::KeepMine
            && changes::models_changing(&mut *tx, self.workflow_id).await?.contains(model)
        {
            return Err(OperationError::ModelChanging { model: model.clone() });
        }
        let by = (self.operator.name, self.operator.reason);
        let now = self.engine.now();
        conflicts::order(&mut tx, self.workflow_id, conflict, way, by, now).await?;
        let becomes = match way {
            Way::KeepMine => "the edited files become a version, which then serves",
            Way::TakeTheirs => {
                "the edit is kept as a version that does not serve, and the active version is written over it behind a backup"
            }
        };
        let said = format!(
            "ordered: {becomes}. The process on {} carries that out within seconds of running; `mathesis files conflict show {conflict}` says what came of it",
            found.host
        );
        self.note(&mut tx, None, Outcome::Done, &said).await?;
        tx.commit().await?;
        Ok(said)
    }

    pub(super) async fn leave_conflict(&self, conflict: i64) -> Result<String, OperationError> {
        let mut tx = self.engine.store.pool().begin().await?;
        cycles::lock_open(&mut tx, self.workflow_id).await?;
        let found =
            standing(conflicts::lock(&mut tx, self.workflow_id, conflict).await?, conflict)?;
        let (result, withdrawn) = match found.status.as_str() {
            "open" => (Outcome::Unchanged, ""),
            "ordered" => {
                conflicts::reopen(&mut tx, self.workflow_id, conflict, None).await?;
                (Outcome::Done, "the order is withdrawn; ")
            }
            _ => return Err(busy(&found)),
        };
        let said = format!(
            "{withdrawn}conflict {conflict} is left standing: no file is touched, {} stays as edited on {}, the active version goes on serving, and the workflow stays held until the conflict is settled or the files are put back",
            found.model_name, found.host
        );
        self.note(&mut tx, None, result, &said).await?;
        tx.commit().await?;
        Ok(said)
    }
}

fn standing(found: Option<Conflict>, conflict: i64) -> Result<Conflict, OperationError> {
    let found = found.ok_or(OperationError::NoSuchConflict(conflict))?;
    if found.settled_at.is_some() {
        let said = found.said.as_deref().unwrap_or("it has ended");
        return Err(OperationError::NothingToDo(format!(
            "conflict {conflict} is settled already: {said}"
        )));
    }
    Ok(found)
}

fn busy(found: &Conflict) -> OperationError {
    let by = found.ordered_by.clone().unwrap_or_default();
    OperationError::ConflictBegun { conflict: found.conflict_id, by }
}
