//! A paid call that goes into a batch: handed in, recorded, looked at now and then for up to a day.
//!
//! Nobody waits for it with a claim in hand. The effect goes back to the queue, no try of it is spent, and whichever
//! process claims it next looks again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::EffectFailure;
use super::paid_call::{Caller, PaidCallError, check, outcome_of};
use crate::claude::{
    Batch, BatchApi, BatchError, CallError, CallId, Finished, MessageRequest, batch,
};
use crate::runtime::Engine;
use crate::store::StoreError;
use crate::store::claude_batches::{self, OpenBatch};
use crate::store::claude_calls::{self, CallOutcome};

/// The code of an effect that waits for a batch.
pub(crate) const WAITING: &str = "waiting_for_batch";
/// A batch ends within a day; one that has not by then, and some hours more, is not waited for.
const OVERDUE: TimeDelta = TimeDelta::hours(30);
/// A batch whose id was never told is listed by then, whatever became of the request that made it.
const LISTED_WITHIN: TimeDelta = TimeDelta::minutes(15);
/// How far this machine's clock and Anthropic's may be apart.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(15);

/// Hands the request in, or looks at the batch that it was handed in with.
///
/// Crash contract. Before the intent row: nothing happened. Between the intent row and the batch's id: the batch may
/// have been made; the redo looks for it among the account's by the call's id, and if it is not there a quarter of an
/// hour later, writes the call off as lost with its estimated cost and makes it once more. From then on nothing is lost:
/// the batch goes on by itself, any process may look at it, and between its result and the outcome row a redo reads the
/// result again. After the outcome row the answer is on record.
///
/// # Errors
/// A failure that says to wait while the batch has not ended; otherwise as of a call that is answered at once.
pub(super) async fn make_call(
    caller: Caller<'_>,
    api: &dyn BatchApi,
    request: &MessageRequest,
) -> Result<String, PaidCallError> {
    let Caller { engine, claim, purpose, .. } = caller;
    let pool = engine.store.pool();
    let (workflow_id, effect_id) = (claim.workflow_id, claim.effect_id);
    let (name, model) = (purpose.name, purpose.model);
    let open = claude_batches::open_of_effect(pool, workflow_id, effect_id, name, model).await?;
    if let Some(open) = open {
        match settle(engine, api, &open, request).await.map_err(PaidCallError::Effect)? {
            Settled::Waits(words) => {
                return Err(PaidCallError::Effect(waits(words, engine.now() - open.started_at)));
            }
            Settled::Ended(answer) => {
                return answer.map_err(PaidCallError::Call);
            }
            Settled::Lost => {}
        }
    }
    hand_in(caller, api, request).await
}

async fn hand_in(
    caller: Caller<'_>,
    api: &dyn BatchApi,
    request: &MessageRequest,
) -> Result<String, PaidCallError> {
    let Caller { engine, claim, purpose, .. } = caller;
    if !engine.claude.configured() {
        return Err(PaidCallError::Call(CallError::NotConfigured));
    }
    check(caller, request).await?;
    let pool = engine.store.pool();
    let workflow_id = claim.workflow_id;
    let before = claude_batches::asked_so_far(
        pool,
        workflow_id,
        claim.effect_id,
        purpose.name,
        purpose.model,
    )
    .await?;
    let attempt = i32::try_from(before).unwrap_or(i32::MAX).saturating_add(1);
    let call_id = caller.begin(attempt, request).await?;
    let waiting = |words| PaidCallError::Effect(waits(words, TimeDelta::zero()));
    match api.create(&call_id.to_string(), request).await {
        Ok(batch) => {
            claude_batches::know(pool, workflow_id, call_id, &batch.id, engine.now()).await?;
            Err(waiting(since(engine.now())))
        }
        Err(error) if error.may_have_arrived() => Err(waiting(looked_for(engine.now()))),
        Err(error) => {
            let error = error.of_call(request);
            let outcome = CallOutcome {
                status: "failed",
                error_code: Some(error.code().to_owned()),
                error_message: Some(error.to_string()),
                ..CallOutcome::default()
            };
            claude_calls::end(pool, workflow_id, call_id, &outcome, engine.now()).await?;
            Err(PaidCallError::Call(error))
        }
    }
}

/// What a look at a batch showed.
pub(crate) enum Settled {
    /// It has not ended, or that could not be seen; in words.
    Waits(String),
    /// It has, and what it cost is on record.
    Ended(Result<String, CallError>),
    /// It will not end, and is written off with its estimated cost.
    Lost,
}

/// Looks at a batch, and writes down what its call came to if it has ended.
///
/// # Errors
/// [`EffectFailure`] when a person must do something before it can be looked at, or the database fails.
pub(crate) async fn settle(
    engine: &Engine,
    api: &dyn BatchApi,
    open: &OpenBatch,
    request: &MessageRequest,
) -> Result<Settled, EffectFailure> {
    let found = match &open.batch_id {
        Some(id) => api.find(id).await.map(Some),
        None => look_for(engine, api, open).await?,
    };
    let age = engine.now() - open.started_at;
    let batch = match found {
        Ok(Some(batch)) => batch,
        Ok(None) if age < LISTED_WITHIN => return Ok(Settled::Waits(looked_for(open.started_at))),
        Ok(None) => return write_off(engine, open, "batch_not_made").await,
        Err(error) => return not_seen(engine, open, request, &error).await,
    };
    if !batch.has_ended() {
        if age > OVERDUE {
            return write_off(engine, open, "batch_overdue").await;
        }
        return Ok(Settled::Waits(since(open.started_at)));
    }
    let lines = match api.results(&batch).await {
        Ok(lines) => lines,
        Err(error) => return not_seen(engine, open, request, &error).await,
    };
    let name = open.call_id.to_string();
    let Some(line) = lines.into_iter().find(|line| line.custom_id == name) else {
        return write_off(engine, open, "batch_without_the_call").await;
    };
    let took_ms = u64::try_from(age.num_milliseconds()).unwrap_or(0);
    let (answer, finished) = batch::ended(request, line.result, CallId(open.call_id), took_ms);
    end(engine, open, &finished).await?;
    Ok(Settled::Ended(answer.map(|answer| answer.text)))
}

async fn end(engine: &Engine, open: &OpenBatch, finished: &Finished) -> Result<(), StoreError> {
    let outcome = outcome_of(finished);
    let pool = engine.store.pool();
    claude_calls::end(pool, open.workflow_id, open.call_id, &outcome, engine.now()).await
}

/// Looks for the batch of a call among the account's, and writes its id down.
///
/// A listing names no request, so every batch of one request that was made at about that time and belongs to no other
/// call is a candidate: one that has ended is opened, and one that has not is waited for as if it were ours. Somebody
/// else's only costs patience.
async fn look_for(
    engine: &Engine,
    api: &dyn BatchApi,
    open: &OpenBatch,
) -> Result<Result<Option<Batch>, BatchError>, StoreError> {
    let pool = engine.store.pool();
    let candidates = match listed(api, open.started_at).await {
        Ok(candidates) => candidates,
        Err(error) => return Ok(Err(error)),
    };
    let ids: Vec<String> = candidates.iter().map(|batch| batch.id.clone()).collect();
    let taken = claude_batches::known_among(pool, &ids).await?;
    let mut unfinished = None;
    for batch in candidates.into_iter().filter(|batch| !taken.contains(&batch.id)) {
        if !batch.has_ended() {
            unfinished = Some(batch);
            continue;
        }
        let name = open.call_id.to_string();
        match api.results(&batch).await {
            Ok(lines) if lines.iter().any(|line| line.custom_id == name) => {
                let (workflow_id, call_id) = (open.workflow_id, open.call_id);
                claude_batches::know(pool, workflow_id, call_id, &batch.id, engine.now()).await?;
                return Ok(Ok(Some(batch)));
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(unfinished))
}

/// The account's batches of one request that were made about then.
async fn listed(api: &dyn BatchApi, about: DateTime<Utc>) -> Result<Vec<Batch>, BatchError> {
    let (from, to) = (about - CLOCKS_APART, about + CLOCKS_APART + LISTED_WITHIN);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = api.page(after.as_deref()).await?;
        let past = page.data.iter().any(|batch| batch.created_at < from);
        found.extend(page.data.into_iter().filter(|batch| {
            (from..=to).contains(&batch.created_at) && batch.request_counts.total() == 1
        }));
        if past || !page.has_more || page.last_id.is_none() || page.last_id == after {
            return Ok(found);
        }
        after = page.last_id;
    }
}

/// What follows when a batch cannot be looked at.
async fn not_seen(
    engine: &Engine,
    open: &OpenBatch,
    request: &MessageRequest,
    error: &BatchError,
) -> Result<Settled, EffectFailure> {
    if error.is_unknown() && open.batch_id.is_some() {
        return write_off(engine, open, "batch_gone").await;
    }
    let error = error.of_call(request);
    if error.retryable() {
        let waiting = since(open.started_at);
        return Ok(Settled::Waits(format!("{waiting}; the last look at it failed: {error}")));
    }
    Err(error.into())
}

async fn write_off(
    engine: &Engine,
    open: &OpenBatch,
    code: &str,
) -> Result<Settled, EffectFailure> {
    let words = match code {
        "batch_not_made" => "whoever handed it in was cut off, and the account has no such batch",
        "batch_overdue" => "its batch did not end within its day",
        "batch_gone" => "its batch is not there any more",
        _ => "its batch ended without a word of it",
    };
    let outcome = CallOutcome {
        status: "lost",
        cost_usd: open.estimated_cost_usd,
        cost_estimated: true,
        error_code: Some(code.to_owned()),
        error_message: Some(words.to_owned()),
        ..CallOutcome::default()
    };
    let pool = engine.store.pool();
    claude_calls::end(pool, open.workflow_id, open.call_id, &outcome, engine.now()).await?;
    tracing::warn!(claude.call_id = %open.call_id, claude.code = code, "a batched call was written off");
    Ok(Settled::Lost)
}

fn since(asked: DateTime<Utc>) -> String {
    format!("waiting for a batch since {} UTC (up to 24 h)", asked.format("%Y-%m-%d %H:%M"))
}

fn looked_for(asked: DateTime<Utc>) -> String {
    let waiting = since(asked);
    format!("{waiting}; nobody was told its id, so it is looked for among the account's")
}

/// Not a failure: the effect is looked at again after a while.
fn waits(words: String, age: TimeDelta) -> EffectFailure {
    EffectFailure {
        waits: true,
        retry_after: Some(look_again_after(age)),
        ..EffectFailure::for_now(WAITING, words, "nothing to do: it is looked at now and then")
    }
}

/// Often at first, since most batches end within minutes, and every ten minutes in the end.
fn look_again_after(age: TimeDelta) -> Duration {
    let seconds = (age.num_seconds() / 10).clamp(30, 600);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(30))
}

/// Settles the batches whose effect was dropped: asks for each to be cancelled, once, and writes down what it came to,
/// since what was answered by then is paid for. Returns how many are settled.
///
/// # Errors
/// [`StoreError`] when the database fails; the next look goes on.
pub(crate) async fn settle_abandoned(engine: &Engine) -> Result<u32, StoreError> {
    let Some(api) = engine.claude.batches() else { return Ok(0) };
    let pool = engine.store.pool();
    let mut settled = 0;
    for open in claude_batches::abandoned(pool).await? {
        if let (Some(id), None) = (&open.batch_id, open.cancel_asked_at) {
            // One that has ended meanwhile refuses, and is settled below.
            match api.cancel(id).await {
                Err(error) if error.of_call(&question(&open)).retryable() => {}
                Ok(_) | Err(_) => {
                    let now = engine.now();
                    claude_batches::cancel_asked(pool, open.workflow_id, open.call_id, now).await?;
                }
            }
        }
        match settle(engine, api, &open, &question(&open)).await {
            Ok(Settled::Ended(_) | Settled::Lost) => settled += 1,
            Ok(Settled::Waits(_)) => {}
            Err(failure) => tracing::warn!(
                claude.call_id = %open.call_id, claude.code = failure.code,
                "an abandoned batch could not be looked at; trying again"
            ),
        }
    }
    Ok(settled)
}

/// As much of a call's question as its record tells: nobody reads its answer any more.
fn question(open: &OpenBatch) -> MessageRequest {
    let nothing = serde_json::Value::Null;
    MessageRequest::structured(open.claude_model.clone(), 0, Vec::new(), String::new(), nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_looked_at_often_at_first_and_every_ten_minutes_in_the_end() {
        let seconds = |minutes| look_again_after(TimeDelta::minutes(minutes)).as_secs();
        assert_eq!([0, 10, 60, 600, 1440].map(seconds), [30, 60, 360, 600, 600]);
    }
}
