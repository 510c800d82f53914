//! A paid call to Claude as an effect makes it: within the budget, on record before and after, and
//! never paid twice for the same answer.

use std::collections::HashMap;

use futures::future::BoxFuture;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{EffectFailure, batched_call, month_start};
use crate::claude::{
    self, BatchApi, CallError, CallId, CallJournal, Finished, JournalError, MessageRequest,
    RetryPolicy,
};
use crate::runtime::Engine;
use crate::store::StoreError;
use crate::store::analysis_plans::AnalysisPlan;
use crate::store::claude_calls::{self, CallIntent, CallOutcome, Payer, RecordedAnswer};
use crate::store::effects::{self, ClaimedEffect};
use crate::store::holds::HoldKind;
use crate::workflow::Definition;

/// What a call is for, as its rows say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'p> {
    /// `analysis` or `generation`.
    pub name: &'p str,
    /// The image model that it is about, or empty.
    pub model: &'p str,
}

/// Why an answer cannot be used, in words that Claude or a person can act on.
#[derive(Debug, Clone)]
pub(super) struct Unusable(pub String);

/// Asks Claude until an answer can be used, as often as the workflow allows.
///
/// `build` makes the request from the reasons why earlier answers were refused; `judge` reads an
/// answer, knowing those reasons, or says why it cannot be used.
///
/// Crash contract. Before the intent row: nothing happened, and a worker that has lost its claim by then
/// writes none. Between the intent row and the outcome row: the call may have been made; the redo writes
/// it off as lost with its estimated cost and makes it once more. After the outcome row: the redo reads
/// the answer on record and pays nothing, refused answers included, since judging is deterministic. A
/// call in a batch outlives whoever made it: see [`batched_call::make_call`].
///
/// # Errors
/// [`EffectFailure`] when the budget is spent, a call failed, no answer could be used, or a batch has not
/// ended yet.
pub(super) async fn ask<T>(
    caller: Caller<'_>,
    build: impl Fn(&[String]) -> Result<MessageRequest, EffectFailure>,
    judge: impl Fn(&str, &[String]) -> Result<T, Unusable>,
) -> Result<T, EffectFailure> {
    let pool = caller.engine.store.pool();
    claude_calls::write_off_lost(pool, caller.claim, caller.engine.now()).await?;
    let mut rejected: Vec<String> = Vec::new();
    let mut read: HashMap<String, usize> = HashMap::new();
    loop {
        let request = build(&rejected)?;
        // A batch is asked once, and its answer is taken though its question would be another one by now.
        let hash = caller.batches().map_or_else(|| request.request_hash(), |_| String::new());
        let on_record = answers_on_record(caller, &hash).await?;
        let seen = read.entry(hash).or_default();
        let refused = match on_record.get(*seen) {
            Some(record) => {
                *seen += 1;
                match (&record.error_message, judge(&record.text, &rejected)) {
                    (None, Ok(usable)) => return Ok(usable),
                    // Refused before a person asked to try again: it no longer counts.
                    _ if record.started_at < caller.claim.asks_since => continue,
                    (Some(error), _) => error.clone(),
                    (None, Err(Unusable(why))) => why,
                }
            }
            None => {
                *seen += 1;
                match make_call(caller, &request).await {
                    Ok(text) => match judge(&text, &rejected) {
                        Ok(usable) => return Ok(usable),
                        Err(Unusable(why)) => why,
                    },
                    Err(error) if error.is_about_the_answer() => error.words(),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        rejected.push(refused);
        if rejected.len() > caller.definition.claude.answers_refused_max as usize {
            return Err(no_usable_answer(&rejected));
        }
    }
}

async fn answers_on_record(
    caller: Caller<'_>,
    hash: &str,
) -> Result<Vec<RecordedAnswer>, EffectFailure> {
    let Caller { engine, claim, purpose, .. } = caller;
    let (pool, workflow_id, effect_id) = (engine.store.pool(), claim.workflow_id, claim.effect_id);
    Ok(match caller.batches() {
        None => claude_calls::answers_on_record(pool, workflow_id, effect_id, hash).await?,
        Some(_) => {
            let Purpose { name, model } = purpose;
            claude_calls::answers_for_purpose(pool, workflow_id, effect_id, name, model).await?
        }
    })
}

/// Who asks, and for what.
#[derive(Clone, Copy)]
pub(super) struct Caller<'c> {
    pub engine: &'c Engine,
    pub claim: &'c ClaimedEffect,
    pub definition: &'c Definition,
    pub purpose: Purpose<'c>,
    /// What an analysis shows; fixed with the first intent.
    pub plan: Option<&'c AnalysisPlan>,
}

impl<'c> Caller<'c> {
    /// Where batches are handed in, if the workflow wants its calls in batches.
    pub(super) fn batches(self) -> Option<&'c dyn BatchApi> {
        if self.definition.claude.batch { self.engine.claude.batches() } else { None }
    }

    /// What a call is booked at before its answer is here.
    fn estimate(self, request: &MessageRequest) -> Decimal {
        let guess =
            if self.batches().is_some() { claude::estimate_in_batch } else { claude::estimate };
        guess(&request.model, request.prompt_bytes(), request.max_tokens)
    }

    /// Writes down that a call is about to be made.
    pub(super) async fn begin(
        self,
        attempt: i32,
        request: &MessageRequest,
    ) -> Result<Uuid, StoreError> {
        let Caller { engine, claim, purpose, .. } = self;
        let call_id = Uuid::now_v7();
        let intent = CallIntent {
            call_id,
            payer: Payer::Effect(claim),
            purpose: purpose.name,
            model_name: purpose.model,
            attempt,
            batch: self.batches().is_some(),
            claude_model: &request.model,
            request_hash: &request.request_hash(),
            estimated_cost_usd: self.estimate(request),
            worker_id: claim.worker_id,
            plan: self.plan,
        };
        let pool = engine.store.pool();
        claude_calls::begin(pool, claim.workflow_id, &intent, engine.now()).await?;
        Ok(call_id)
    }
}

fn no_usable_answer(rejected: &[String]) -> EffectFailure {
    let last = rejected.last().map_or("", String::as_str);
    EffectFailure::for_good(
        "no_usable_answer",
        format!(
            "Claude was asked {} times, and no answer could be used; the last: {last}",
            rejected.len()
        ),
        "read the calls with `mathesis cycle show`; then `mathesis cycle retry` to ask again, or `mathesis cycle cancel`",
    )
}

async fn make_call(caller: Caller<'_>, request: &MessageRequest) -> Result<String, PaidCallError> {
    if let Some(api) = caller.batches() {
        return batched_call::make_call(caller, api, request).await;
    }
    check(caller, request).await?;
    let journal = Journal { caller };
    let policy = RetryPolicy { retries_max: caller.definition.claude.request_retries_max };
    let engine = caller.engine;
    let answer =
        claude::call(engine.claude.as_ref(), request, &policy, &journal, engine.pause.as_ref())
            .await
            .map_err(PaidCallError::Call)?;
    Ok(answer.text)
}

/// Whether the call may be made at all.
pub(super) async fn check(
    caller: Caller<'_>,
    request: &MessageRequest,
) -> Result<(), PaidCallError> {
    check_claim(caller).await.map_err(PaidCallError::Effect)?;
    check_budget(caller, request).await.map_err(PaidCallError::Effect)
}

/// Why a call brought no text.
pub(super) enum PaidCallError {
    Call(CallError),
    Effect(EffectFailure),
}

impl PaidCallError {
    fn is_about_the_answer(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_about_the_answer())
    }

    /// What Claude is told: the words on record, so that a redo asks the very same question; and not
    /// the remedy, which is for people.
    fn words(&self) -> String {
        match self {
            Self::Call(error) => error.to_string(),
            Self::Effect(failure) => failure.words.clone(),
        }
    }
}

impl From<StoreError> for PaidCallError {
    fn from(error: StoreError) -> Self {
        Self::Effect(error.into())
    }
}

impl From<PaidCallError> for EffectFailure {
    fn from(error: PaidCallError) -> Self {
        match error {
            PaidCallError::Call(error) => error.into(),
            PaidCallError::Effect(failure) => failure,
        }
    }
}

/// Reads an answer of a schema.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unusable> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        Unusable(format!(
            "the answer does not have the asked shape, at {}: {}",
            error.path(),
            error.inner()
        ))
    })?;
    json.end().map_err(|_| Unusable("the answer goes on after its JSON".to_owned()))?;
    Ok(read)
}

/// Spends nothing for a cycle that was cancelled meanwhile, or that another worker took over.
async fn check_claim(caller: Caller<'_>) -> Result<(), EffectFailure> {
    if effects::stands(caller.engine.store.pool(), caller.claim).await? {
        return Ok(());
    }
    Err(StoreError::LeaseLost { effect_id: caller.claim.effect_id }.into())
}

/// Holds the next paid effect when the month's money is spent; a running one is never stopped.
async fn check_budget(caller: Caller<'_>, request: &MessageRequest) -> Result<(), EffectFailure> {
    let Caller { engine, claim, definition, .. } = caller;
    let since = month_start(engine.now(), definition.timezone);
    let spent = claude_calls::cost_since(engine.store.pool(), claim.workflow_id, since).await?;
    let next = caller.estimate(request);
    // The definition in force sets the budget, so that an operator can raise it at once.
    let budget = engine
        .registry
        .by_id(claim.workflow_id)
        .map_or(definition.claude.budget_usd_per_month, |workflow| {
            workflow.definition.claude.budget_usd_per_month
        });
    if spent + next <= budget {
        return Ok(());
    }
    Err(EffectFailure {
        hold: HoldKind::BudgetSpent,
        subject: Some(String::new()),
        ..EffectFailure::for_good(
            "budget_spent",
            format!(
                "this month's Claude calls cost {} USD, the next may cost up to {} USD, and the budget is {} USD",
                spent.round_dp(2),
                next.round_dp(2),
                budget
            ),
            "nothing to do: it goes on when the month turns. To go on now, raise claude.budget_usd_per_month, restart, then `mathesis cycle retry`",
        )
    })
}

struct Journal<'j> {
    caller: Caller<'j>,
}

impl CallJournal for Journal<'_> {
    fn begin<'a>(
        &'a self,
        attempt_no: u32,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<CallId, JournalError>> {
        Box::pin(async move {
            let attempt = i32::try_from(attempt_no).unwrap_or(i32::MAX);
            let begun = self.caller.begin(attempt, request).await;
            begun.map(CallId).map_err(|error| JournalError(error.to_string()))
        })
    }

    fn end<'a>(
        &'a self,
        id: CallId,
        finished: &'a Finished,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let Caller { engine, claim, .. } = self.caller;
            let outcome = outcome_of(finished);
            let pool = engine.store.pool();
            claude_calls::end(pool, claim.workflow_id, id.0, &outcome, engine.now())
                .await
                .map_err(|error| JournalError(error.to_string()))
        })
    }
}

/// How a call is written down.
pub(super) fn outcome_of(finished: &Finished) -> CallOutcome {
    let tokens = finished.tokens();
    CallOutcome {
        status: if finished.error_code.is_none() { "answered" } else { "failed" },
        http_status: finished.status.map(i32::from),
        stop_reason: finished.stop_reason.clone(),
        request_id: finished.request_id.clone(),
        input_tokens: tokens.input,
        cache_creation_tokens: tokens.cache_creation,
        cache_read_tokens: tokens.cache_read,
        output_tokens: tokens.output,
        cost_usd: finished.cost_usd,
        cost_estimated: finished.estimated,
        response_text: finished.response_text.clone(),
        error_code: finished.error_code.map(str::to_owned),
        error_message: finished.error_message.clone(),
        duration_ms: Some(i64::try_from(finished.duration_ms).unwrap_or(i64::MAX)),
    }
}
