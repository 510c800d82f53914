//! Dealing: a run's first assignment call during a test takes a slot of the deck, for good.

use crate::broken::Rule;
use crate::experiment::Arm;
use crate::runtime::Engine;
use crate::store::assignments::{self, AssignmentRow, Held, Pin, RunKey};
use crate::store::dealing::deal_at_once;
use crate::store::{StoreError, versions};

/// How often a deal that lost a race against another call of the same run is tried again.
const RACES_MAX: u32 = 5;

/// Tells a run its version while a test runs for that model, in one committed transaction: what it
/// was told before, else a slot of the deck, else the active version, pinned. The usual case is one
/// statement; where that finds nothing, the same is done step by step.
///
/// Crash contract: before COMMIT the slot is open and the run was told nothing; after it both stand.
/// `None` means that the model has no version at all.
///
/// # Errors
/// [`StoreError`] when the database fails; nothing was dealt then.
pub async fn deal(engine: &Engine, key: RunKey<'_>) -> Result<Option<AssignmentRow>, StoreError> {
    // One statement locks its slot whatever the engine is made to forget.
    if !Rule::SlotLock.is_broken() {
        let told = deal_at_once(engine.store.pool(), key, engine.now()).await?;
        if told.is_some() {
            return Ok(told);
        }
    }
    for _ in 0..RACES_MAX {
        match try_deal(engine, key).await? {
            Dealt::Told(assignment) => return Ok(Some(assignment)),
            Dealt::NoVersion => return Ok(None),
            Dealt::LostRace => {}
        }
    }
    // Whoever won the races has committed by now.
    let mut conn = engine.store.pool().acquire().await?;
    assignments::find(&mut conn, key).await
}

enum Dealt {
    Told(AssignmentRow),
    NoVersion,
    LostRace,
}

async fn try_deal(engine: &Engine, key: RunKey<'_>) -> Result<Dealt, StoreError> {
    let now = engine.now();
    let mut tx = engine.store.pool().begin().await?;
    if let Some(told) = assignments::find(&mut tx, key).await? {
        return Ok(Dealt::Told(told));
    }
    if let Some(deck) = assignments::open_deck(&mut tx, key).await?
        && let Some((slot, arm)) = assignments::lock_slot(&mut tx, key, &deck).await?
    {
        if Rule::SlotLock.is_broken() {
            tx.commit().await?;
            tx = engine.store.pool().begin().await?;
        }
        let (version, other) = match arm {
            Arm::Control => (deck.control_version, deck.candidate_version),
            Arm::Candidate => (deck.candidate_version, deck.control_version),
        };
        let pair_version = deck.paired.then_some(other);
        // First the assignment, whose key makes calls of the same run wait for each other, then the slot.
        let held = Held { cycle: deck.cycle, slot, arm, pair_version };
        if !assignments::insert_holder(&mut tx, key, version, held, now).await? {
            return Ok(Dealt::LostRace);
        }
        assignments::take_slot(&mut tx, key, held, now).await?;
        let told = assignments::find(&mut tx, key).await?;
        tx.commit().await?;
        return Ok(told.map_or(Dealt::LostRace, Dealt::Told));
    }
    let Some(active) = versions::active_head(&mut tx, key.workflow_id, key.model).await? else {
        return Ok(Dealt::NoVersion);
    };
    let pin = Pin {
        workflow_id: key.workflow_id,
        task: key.task.to_owned(),
        run: key.run.to_owned(),
        model: key.model.to_owned(),
        version: active.0,
        at: now,
    };
    assignments::insert_pins(&mut tx, std::slice::from_ref(&pin)).await?;
    let told = assignments::find(&mut tx, key).await?;
    tx.commit().await?;
    Ok(told.map_or(Dealt::LostRace, Dealt::Told))
}
