//! The worker: claims effects, has them performed outside any transaction, hands in their results.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::advance::{AdvanceError, Advanced, Submission, advance};
use super::claims::{Claimed, KnownClaim};
use super::engine::Engine;
use super::project;
use super::registry::Workflow;
use crate::cycle::StateName;
use crate::effects::{self as performing, EffectFailure, Performed};
use crate::otlp;
use crate::store::effects::{self, ClaimedEffect};
use crate::store::holds::{self, HoldKind, NewHold};
use crate::store::{StoreError, cycles, hints};

/// How often a worker looks for effects without being told: the truth behind every hint.
const POLL: Duration = Duration::from_millis(500);
/// Effects performed at once by one process.
const EFFECTS_AT_ONCE: usize = 4;

/// What one step of a worker came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worked {
    /// There was nothing to do.
    Idle,
    /// An effect was performed and its result committed; the cycle is in this state now, if the
    /// effect moved one.
    Done(Option<StateName>),
    /// An effect failed and will be tried again, or its cycle is held.
    Failed {
        /// The failure's stable code.
        code: String,
        /// True when a hold was placed.
        held: bool,
    },
    /// An effect waits for something that takes its time elsewhere, such as a batch, and is looked at again
    /// later. No try was spent.
    Waits,
    /// Another worker took the effect over, or its cycle dropped it.
    Lost,
}

/// Claims and performs effects. One a process.
pub struct Worker {
    engine: Engine,
    born_claimed: Mutex<VecDeque<(ClaimedEffect, KnownClaim)>>,
}

impl Worker {
    /// A worker of this engine.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine, born_claimed: Mutex::new(VecDeque::new()) }
    }

    /// Takes an effect that was born claimed by this process.
    pub fn take_over(&self, claim: ClaimedEffect) {
        let known = self.engine.claims.note(Claimed::Effect(claim.effect_id));
        self.queue().push_back((claim, known));
        self.engine.work.notify_one();
    }

    /// Performs one effect, if there is one: what a test calls to move a cycle by one transition.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; the effect stays claimed and is rescued.
    pub async fn work_once(&self) -> Result<Worked, StoreError> {
        match self.next_claim().await? {
            Some((claim, _known)) => self.perform(claim).await,
            None => Ok(Worked::Idle),
        }
    }

    /// Works until the token is cancelled, then waits for running effects up to the grace time and
    /// hands the rest back without spending a try of theirs.
    pub async fn run(self: std::sync::Arc<Self>, stop: CancellationToken) {
        let running = TaskTracker::new();
        let abandon = CancellationToken::new();
        while !stop.is_cancelled() {
            let claim = if running.len() < EFFECTS_AT_ONCE {
                self.next_claim().await.unwrap_or_else(|error| {
                    tracing::warn!(error = %error, "looking for work failed; trying again");
                    None
                })
            } else {
                None
            };
            if let Some((claim, known)) = claim {
                let worker = std::sync::Arc::clone(&self);
                let abandon = abandon.clone();
                running.spawn(async move {
                    let _known = known;
                    worker.perform_or_hand_back(claim, abandon).await;
                });
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.engine.work.notified() => {}
                () = self.engine.clock.sleep(POLL) => {}
            }
        }
        running.close();
        let grace = self.engine.settings.shutdown_grace;
        if tokio::time::timeout(grace, running.wait()).await.is_err() {
            abandon.cancel();
            running.wait().await;
        }
        self.hand_back_waiting().await;
    }

    /// Hands back what was born claimed and not begun, without spending a try.
    pub async fn hand_back_waiting(&self) {
        let rest: Vec<_> = self.queue().drain(..).collect();
        for (claim, _known) in rest {
            self.hand_back(&claim).await;
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<(ClaimedEffect, KnownClaim)>> {
        self.born_claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next_claim(&self) -> Result<Option<(ClaimedEffect, KnownClaim)>, StoreError> {
        let born_claimed = self.queue().pop_front();
        if born_claimed.is_some() {
            return Ok(born_claimed);
        }
        let engine = &self.engine;
        let pool = engine.store.pool();
        for workflow_id in effects::workflows_with_work(pool, engine.now()).await? {
            let lease = engine.settings.lease;
            let claim =
                effects::claim(pool, workflow_id, engine.worker_id, lease, engine.now()).await?;
            if let Some(claim) = claim {
                let known = engine.claims.note(Claimed::Effect(claim.effect_id));
                return Ok(Some((claim, known)));
            }
        }
        Ok(None)
    }

    async fn perform_or_hand_back(&self, claim: ClaimedEffect, abandon: CancellationToken) {
        let performed = tokio::select! {
            performed = self.perform(claim.clone()) => Some(performed),
            () = abandon.cancelled() => None,
        };
        match performed {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = %error, effect.id = claim.effect_id,
                    "the effect's result could not be stored; handing the effect back");
                self.hand_back(&claim).await;
            }
            None => self.hand_back(&claim).await,
        }
        self.engine.work.notify_one();
    }

    /// While the database is away nothing can be handed back. The claim is then kept and performed
    /// again once it is back: nobody would rescue it, since this process lives and renews its lease.
    async fn hand_back(&self, claim: &ClaimedEffect) {
        if let Err(error) = effects::hand_back(self.engine.store.pool(), claim).await {
            tracing::warn!(error = %error, effect.id = claim.effect_id,
                "an effect could not be handed back; this worker keeps it and tries it again");
            self.engine.clock.sleep(POLL).await;
            let known = self.engine.claims.note(Claimed::Effect(claim.effect_id));
            self.queue().push_back((claim.clone(), known));
        }
    }

    /// Performs an effect in a span that says what it is, so that every line written on its behalf carries that.
    async fn perform(&self, claim: ClaimedEffect) -> Result<Worked, StoreError> {
        let workflow = self.engine.registry.by_id(claim.workflow_id);
        let span = tracing::info_span!(
            "effect",
            workflow.name = workflow.as_ref().map(Workflow::name),
            cycle.number = claim.cycle,
            cycle.seq = claim.seq,
            effect.id = claim.effect_id,
            effect.kind = claim.effect.kind().as_str(),
            effect.attempt = claim.attempts.saturating_add(1),
        );
        otlp::continue_from(&span, claim.traceparent.as_deref());
        self.perform_here(claim).instrument(span).await
    }

    async fn perform_here(&self, claim: ClaimedEffect) -> Result<Worked, StoreError> {
        if self.kills_its_workers(&claim).await {
            let words = format!(
                "it was begun {} times, and each time its worker died before it ended",
                claim.attempts
            );
            let remedy = "read the log of the process that died last, then `mathesis cycle retry`";
            return self.fail(&claim, EffectFailure::for_good("gave_up", words, remedy)).await;
        }
        match performing::perform(&self.engine, &claim).await {
            Ok(result) => self.hand_in(&claim, result).await,
            Err(failure) => self.did_not_end(&claim, failure).await,
        }
    }

    async fn did_not_end(
        &self,
        claim: &ClaimedEffect,
        failure: EffectFailure,
    ) -> Result<Worked, StoreError> {
        match failure {
            EffectFailure { waits: true, retry_after, code, words, .. } => {
                self.put_off(claim, retry_after.unwrap_or(POLL), code, &words).await
            }
            failure => self.fail(claim, failure).await,
        }
    }

    /// Gives the effect back until it is to be looked at again. The claim is free meanwhile, so no shutdown waits for
    /// it and any process may go on with it.
    async fn put_off(
        &self,
        claim: &ClaimedEffect,
        wait: Duration,
        code: &str,
        words: &str,
    ) -> Result<Worked, StoreError> {
        let run_after = self.engine.now() + wait;
        let pool = self.engine.store.pool();
        match effects::wait_until(pool, claim, run_after, code, words).await {
            Ok(()) => Ok(Worked::Waits),
            Err(StoreError::LeaseLost { .. }) => Ok(Worked::Lost),
            Err(error) => Err(error),
        }
    }

    /// Hands the result in; with it the effect is done and the next one is on record.
    async fn hand_in(
        &self,
        claim: &ClaimedEffect,
        result: Performed,
    ) -> Result<Worked, StoreError> {
        let what = match result {
            Performed::Event(what) => what,
            Performed::FilesPutBack(changes) => {
                return self.finish_rollback(claim, &changes).await;
            }
        };
        let submission = Submission {
            workflow_id: claim.workflow_id,
            cycle: Some(claim.cycle),
            actor: "mathesis",
            reason: None,
            what,
            completes: Some(claim),
            claims_next: true,
        };
        match advance(&self.engine, submission).await {
            Ok(Advanced::Moved(moved)) => {
                if let Some(next) = moved.claimed {
                    self.take_over(next);
                }
                self.engine.watch.ring(claim.workflow_id);
                Ok(Worked::Done(Some(moved.to)))
            }
            Ok(Advanced::NotNow) => Ok(Worked::Done(None)),
            Err(AdvanceError::CycleEnded { .. } | AdvanceError::NoOpenCycle { .. }) => {
                let pool = self.engine.store.pool();
                effects::drop_claimed(pool, claim, self.engine.now()).await?;
                Ok(Worked::Lost)
            }
            Err(AdvanceError::Store(StoreError::LeaseLost { .. })) => {
                tracing::info!(
                    effect.id = claim.effect_id,
                    "the result came too late and was dropped"
                );
                Ok(Worked::Lost)
            }
            Err(AdvanceError::Store(error)) if error.is_transient() => Err(error),
            // Handed back it would fail in the same way for ever; a person must look.
            Err(AdvanceError::Store(error)) => self.did_not_end(claim, error.into()).await,
            Err(AdvanceError::Invalid(refusal)) => {
                let failure = EffectFailure::for_good(
                    "refused_by_the_machine",
                    format!("the cycle did not accept the result: {refusal}"),
                    "this is a defect; please report it with `mathesis cycle history --json`",
                );
                self.fail(claim, failure).await
            }
        }
    }

    /// A rollback moves no cycle: its files and its version agree from this commit on.
    async fn finish_rollback(
        &self,
        claim: &ClaimedEffect,
        changes: &[super::advance::FileChange],
    ) -> Result<Worked, StoreError> {
        let now = self.engine.now();
        let mut tx = self.engine.store.pool().begin().await?;
        match effects::finish(&mut tx, claim, now).await {
            Err(StoreError::LeaseLost { .. }) => return Ok(Worked::Lost),
            done => done?,
        }
        project::files_done(&mut tx, claim.workflow_id, changes, now).await?;
        hints::hint(&mut tx, claim.workflow_id).await?;
        tx.commit().await?;
        Ok(Worked::Done(None))
    }

    async fn fail(
        &self,
        claim: &ClaimedEffect,
        failure: EffectFailure,
    ) -> Result<Worked, StoreError> {
        tracing::warn!(
            workflow.id = claim.workflow_id,
            cycle.number = claim.cycle,
            effect.id = claim.effect_id,
            effect.kind = claim.effect.kind().as_str(),
            effect.code = failure.code,
            "an effect failed"
        );
        let code = failure.code.to_owned();
        let retry = self.retry_delay(claim, &failure).await;
        let outcome = match retry {
            Some(delay) => {
                let run_after = self.engine.now() + delay;
                let pool = self.engine.store.pool();
                effects::retry_later(pool, claim, run_after, &code, &failure.words).await
            }
            None => self.hold(claim, &failure).await,
        };
        match outcome {
            Ok(()) => Ok(Worked::Failed { code, held: retry.is_none() }),
            Err(StoreError::LeaseLost { .. }) => Ok(Worked::Lost),
            Err(error) => Err(error),
        }
    }

    /// How long to wait before the next try; none when the effect has failed for good.
    async fn retry_delay(
        &self,
        claim: &ClaimedEffect,
        failure: &EffectFailure,
    ) -> Option<chrono::Duration> {
        if !failure.retryable {
            return None;
        }
        let retry = performing::retry_rules(&self.engine, claim).await;
        let tries = u32::try_from(claim.attempts).unwrap_or(0).saturating_add(1);
        if tries >= retry.attempts_max {
            return None;
        }
        let doubled = u64::from(retry.first_delay_seconds) << (tries - 1).min(20);
        let seconds = doubled.min(u64::from(retry.delay_max_seconds));
        let asked = failure.retry_after.map_or(0, |wait| wait.as_secs());
        Some(chrono::Duration::seconds(i64::try_from(seconds.max(asked)).unwrap_or(3600)))
    }

    /// Failures end in a hold before they reach this many tries; only deaths of the worker go on
    /// counting, and an effect that kills whoever performs it must not do so for ever.
    async fn kills_its_workers(&self, claim: &ClaimedEffect) -> bool {
        let tries = u32::try_from(claim.attempts).unwrap_or(0);
        tries > 0 && tries > performing::retry_rules(&self.engine, claim).await.attempts_max
    }

    async fn hold(&self, claim: &ClaimedEffect, failure: &EffectFailure) -> Result<(), StoreError> {
        let now = self.engine.now();
        let on_workflow = failure.hold.is_on_workflow();
        let mut tx = self.engine.store.pool().begin().await?;
        // The cycle's lock comes first everywhere, or a cancel at this moment would be a deadlock.
        let open = cycles::lock_open(&mut tx, claim.workflow_id).await?;
        // A rollback may outlive its cycle; its hold stands where people look.
        let cycle = open.map_or(claim.cycle, |open| open.number);
        let hold = NewHold {
            kind: failure.hold,
            cycle: (!on_workflow).then_some(cycle),
            subject: failure
                .subject
                .clone()
                .unwrap_or_else(|| claim.effect.kind().as_str().to_owned()),
            effect_id: Some(claim.effect_id),
            code: failure.code.to_owned(),
            reason: failure.words.clone(),
            remedy: failure.remedy.clone(),
            placed_by: "mathesis".to_owned(),
        };
        if failure.hold == HoldKind::BudgetSpent {
            // Nothing failed: the effect waits for the month's turn and is then done as it stands.
            effects::wait_unspent(&mut tx, claim).await?;
        } else {
            effects::fail(&mut tx, claim, failure.code, &failure.words, now).await?;
        }
        holds::place(&mut tx, claim.workflow_id, &hold, now).await?;
        hints::hint(&mut tx, claim.workflow_id).await?;
        tx.commit().await?;
        Ok(())
    }
}
