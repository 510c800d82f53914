//! Taking events: each key counts once, and what is new lands in `tasks` and `attempts`, all in one
//! transaction.
//!
//! Rows are written in key order, keys first, then tasks, then attempts, so that replicas with the
//! same tasks wait for each other. The number of statements does not depend on the number of events.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoreError;
use super::figures;
use super::import;
use super::imports::{self, Counted, Step};
pub use super::task_log_read::{AttemptRecord, TaskRecord, abandon_silent, load_task};
use super::task_log_write::{self, StoredTask};
use crate::task_log::{Arrived, EventKey, fold};

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It was new, and is committed.
    Accepted,
    /// The same event is committed already.
    Duplicate,
    /// Another event holds its key or its event id. The first one stands, this one was not stored.
    Conflict {
        /// What it clashes with, for people.
        detail: String,
    },
    /// Retention has removed the task, or an operator had it forgotten; a late event does not revive it.
    TaskRemoved,
}

/// Records events of one workflow in one transaction, and says for each what became of it.
///
/// Safe to repeat: after a crash at any line either nothing of the batch is stored, or all of it is
/// and the repetition answers `Duplicate`.
///
/// # Errors
/// [`StoreError`] when a statement fails; nothing of the batch is stored then, unless the connection
/// broke while COMMIT was under way. A deadlock or a serialisation failure may be repeated at once.
pub async fn record(
    pool: &PgPool,
    workflow_id: i64,
    known_models: &[String],
    events: &[Arrived],
) -> Result<Vec<Recorded>, StoreError> {
    record_as((Origin::Live, None), pool, workflow_id, known_models, events).await
}

/// Records events of a file, and in the same transaction how far the file is done with. Without `learn` the runs that
/// they make are marked as analysed in the transaction that makes them, so that no trigger, however
/// close behind, can count one of them. A run that is there already stays as it is marked: one that the
/// pipeline logged live still counts towards its analysis.
///
/// Safe to repeat, as [`record`] is; a step that is taken already is refused, and the batch with it.
///
/// # Errors
/// Those of [`record`], and [`StoreError::ImportMoved`].
pub async fn record_import(
    pool: &PgPool,
    workflow_id: i64,
    known_models: &[String],
    events: &[Arrived],
    learn: bool,
    step: Option<&Step>,
) -> Result<Vec<Recorded>, StoreError> {
    let origin = if learn { Origin::Live } else { Origin::History };
    record_as((origin, step), pool, workflow_id, known_models, events).await
}

/// Where events come from, and so whether the runs that they make wait for an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Live,
    History,
}

async fn record_as(
    (origin, step): (Origin, Option<&Step>),
    pool: &PgPool,
    workflow_id: i64,
    known_models: &[String],
    events: &[Arrived],
) -> Result<Vec<Recorded>, StoreError> {
    let batch = Batch::of(events);
    if batch.candidates.is_empty() && step.is_none() {
        return Ok(Vec::new());
    }
    // A further round is needed only when a task of the batch is removed just now, which happens to
    // a task once; so the rounds end.
    loop {
        let how = (origin, step);
        let recorded = try_record(how, pool, workflow_id, known_models, events, &batch).await?;
        if let Some(fates) = recorded {
            return Ok(batch.verdicts(events, &fates));
        }
    }
}

fn counted(verdicts: &[Recorded]) -> Counted {
    let mut counted = Counted::default();
    for verdict in verdicts {
        match verdict {
            Recorded::Accepted => counted.accepted += 1,
            Recorded::Duplicate => counted.duplicate += 1,
            Recorded::Conflict { .. } | Recorded::TaskRemoved => counted.rejected += 1,
        }
    }
    counted
}

/// One round. `None` when a removed task would have come back to life; nothing is stored then.
async fn try_record(
    (origin, step): (Origin, Option<&Step>),
    pool: &PgPool,
    workflow_id: i64,
    known_models: &[String],
    events: &[Arrived],
    batch: &Batch<'_>,
) -> Result<Option<Vec<Fate>>, StoreError> {
    let candidates: Vec<&Arrived> =
        batch.candidates.values().filter_map(|index| events.get(*index)).collect();
    let mut transaction = pool.begin().await?;
    let fates = take_keys(&mut transaction, workflow_id, &candidates).await?;
    let new = candidates.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::New);
    let folded = fold(new.map(|(arrived, _)| *arrived), known_models);
    if let Some(step) = step {
        let counted = counted(&batch.verdicts(events, &fates));
        imports::advance(&mut transaction, workflow_id, step, counted).await?;
    }
    if folded.tasks.is_empty() {
        if step.is_some() {
            transaction.commit().await?;
        }
        return Ok(Some(fates));
    }
    if origin == Origin::History {
        import::begin_analysed(&mut transaction, workflow_id, &folded.tasks).await?;
    }
    let tasks = task_log_write::upsert_tasks(&mut transaction, workflow_id, &folded.tasks).await?;
    // Only now are the task rows locked, so that no cleanup can remove them any more.
    if any_was_removed(&mut transaction, workflow_id, &folded.tasks).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    task_log_write::upsert_attempts(&mut transaction, workflow_id, &folded.attempts, &tasks)
        .await?;
    let decided = folded.tasks.iter().filter(|task| task.winner.is_some());
    let decided: Vec<&StoredTask> =
        decided.filter_map(|task| tasks.get(&(task.task_id, task.run_id))).collect();
    task_log_write::mark_selected(&mut transaction, workflow_id, &decided).await?;
    // Both ends: a run whose first event has only now arrived may have stood under the hour of a later one.
    let arrivals = tasks.values().flat_map(|task| task.arrived);
    figures::mark(&mut transaction, workflow_id, arrivals).await?;
    transaction.commit().await?;
    Ok(Some(fates))
}

/// What became of the first event of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    New,
    Known(Vec<u8>),
    TaskRemoved,
    EventIdTaken,
}

/// Which event of the batch speaks for each key, in key order, and which ones cannot.
struct Batch<'a> {
    candidates: BTreeMap<&'a EventKey, usize>,
    clashing: HashSet<usize>,
}

impl<'a> Batch<'a> {
    fn of(events: &'a [Arrived]) -> Self {
        let mut candidates = BTreeMap::new();
        let mut clashing = HashSet::new();
        let mut keys_by_event_id: HashMap<Uuid, &EventKey> = HashMap::new();
        for (index, arrived) in events.iter().enumerate() {
            if let Some(event_id) = arrived.event.event_id
                && **keys_by_event_id.entry(event_id).or_insert(&arrived.key) != arrived.key
            {
                clashing.insert(index);
                continue;
            }
            candidates.entry(&arrived.key).or_insert(index);
        }
        Self { candidates, clashing }
    }

    fn verdicts(&self, events: &[Arrived], fates: &[Fate]) -> Vec<Recorded> {
        let by_key: HashMap<&EventKey, (usize, &Fate)> = self
            .candidates
            .iter()
            .zip(fates)
            .map(|((key, index), fate)| (*key, (*index, fate)))
            .collect();
        let verdict = |(index, arrived): (usize, &Arrived)| {
            let known = by_key.get(&arrived.key).filter(|_| !self.clashing.contains(&index));
            let Some((first, fate)) = known else {
                return event_id_clash(arrived);
            };
            let known_hash = match fate {
                Fate::TaskRemoved => return Recorded::TaskRemoved,
                Fate::EventIdTaken => return event_id_clash(arrived),
                Fate::New if *first == index => return Recorded::Accepted,
                Fate::New => events.get(*first).map(|first| first.hash.0.as_slice()),
                Fate::Known(hash) => Some(hash.as_slice()),
            };
            if known_hash == Some(arrived.hash.0.as_slice()) {
                Recorded::Duplicate
            } else {
                content_clash(arrived)
            }
        };
        events.iter().enumerate().map(verdict).collect()
    }
}

fn event_id_clash(arrived: &Arrived) -> Recorded {
    let event_id = arrived.event.event_id.unwrap_or_default();
    Recorded::Conflict {
        detail: format!(
            "the event id {event_id} belongs to another event, which stands; give each event an id of its own"
        ),
    }
}

fn content_clash(arrived: &Arrived) -> Recorded {
    let key = &arrived.key;
    let attempt = if key.model.is_empty() {
        String::new()
    } else {
        format!(" of {} in iteration {}", key.model, key.iteration)
    };
    Recorded::Conflict {
        detail: format!(
            "a `{}`{attempt} with other content was logged for this run before; the first one stands",
            key.event_type
        ),
    }
}

/// Claims the keys and says for each event what became of its key, in the order of `events`.
async fn take_keys(
    connection: &mut PgConnection,
    workflow_id: i64,
    events: &[&Arrived],
) -> Result<Vec<Fate>, StoreError> {
    let taken = task_log_write::insert_keys(connection, workflow_id, events).await?;
    let mut fates: Vec<Fate> = events
        .iter()
        .map(|arrived| if taken.contains(&arrived.key) { Fate::New } else { Fate::EventIdTaken })
        .collect();
    if taken.len() == events.len() {
        return Ok(fates);
    }
    let (places, rest): (Vec<usize>, Vec<&Arrived>) = events
        .iter()
        .enumerate()
        .filter(|(_, arrived)| !taken.contains(&arrived.key))
        .map(|(place, arrived)| (place, *arrived))
        .unzip();
    let known = task_log_write::look_up_keys(connection, workflow_id, &rest).await?;
    for (place, (hash, removed)) in places.into_iter().zip(known) {
        if let Some(fate) = fates.get_mut(place) {
            *fate = match (hash, removed) {
                (Some(hash), _) => Fate::Known(hash),
                (None, true) => Fate::TaskRemoved,
                // Neither the key nor a tombstone was in the way: it was the event id.
                (None, false) => Fate::EventIdTaken,
            };
        }
    }
    Ok(fates)
}

async fn any_was_removed(
    connection: &mut PgConnection,
    workflow_id: i64,
    tasks: &[crate::task_log::TaskChange<'_>],
) -> Result<bool, StoreError> {
    let (names, runs): (Vec<&str>, Vec<&str>) =
        tasks.iter().map(|task| (task.task_id, task.run_id)).unzip();
    let removed = sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT 1
            FROM unnest($2::text[], $3::text[]) AS ours (task, run)
            WHERE (
                SELECT true FROM task_tombstones AS gone
                WHERE gone.workflow_id = $1
                  AND gone.clickup_task_id = ours.task
                  AND gone.run_id = ours.run)
        ) AS "removed!"
        "#,
        workflow_id,
        names as _,
        runs as _,
    )
    .fetch_one(connection)
    .await?;
    Ok(removed)
}
