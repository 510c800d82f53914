//! The effects: what a cycle wants done in the world. One file an effect.
//!
//! Each is performed outside any transaction, by whoever holds its claim, and may be performed again
//! after a crash at any line. Results go to `runtime::advance`; failures say whether a later try may
//! succeed, and what a person is to do if not.

mod analyze;
mod apply;
mod batched_call;
pub mod deal;
pub mod deal_together;
mod decide;
mod generate;
mod paid_call;
mod roll_back;

pub(crate) use batched_call::settle_abandoned;

use std::time::Duration;

use chrono::{DateTime, Datelike, TimeZone, Utc};

use crate::claude::CallError;
use crate::cycle::Effect;
use crate::research::FilesError;
use crate::runtime::{Engine, FileChange, What};
use crate::store::effects::ClaimedEffect;
use crate::store::holds::HoldKind;
use crate::store::{StoreError, cycles};
use crate::workflow::definition::Retry;
use crate::workflow::{Definition, TemplateError};

/// What performing an effect gave.
#[derive(Debug, Clone)]
pub enum Performed {
    /// Something for the cycle.
    Event(What),
    /// Files that a rollback put back; the cycle itself does not move.
    FilesPutBack(Vec<FileChange>),
}

/// Why an effect gave nothing. The cycle stays where it is, and nothing is lost.
#[derive(Debug, Clone)]
pub struct EffectFailure {
    /// A stable code for programs.
    pub code: &'static str,
    /// What happened, in words.
    pub words: String,
    /// What to do about it once it is held.
    pub remedy: String,
    /// True when a later try may succeed by itself.
    pub retryable: bool,
    /// How long the other side asked to wait.
    pub retry_after: Option<Duration>,
    /// Not a failure where it is true: what the effect asked for takes its time elsewhere. It goes back to the queue for
    /// as long as `retry_after` says, and no try is spent.
    pub waits: bool,
    /// The hold that is placed when it has failed for good.
    pub hold: HoldKind,
    /// What tells the hold apart; the effect's kind where nothing is said.
    pub subject: Option<String>,
}

impl EffectFailure {
    /// A failure that only a person can mend.
    pub fn for_good(
        code: &'static str,
        words: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            words: words.into(),
            remedy: remedy.into(),
            retryable: false,
            retry_after: None,
            waits: false,
            hold: HoldKind::EffectFailed,
            subject: None,
        }
    }

    /// A failure that a later try may get past.
    pub fn for_now(
        code: &'static str,
        words: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { retryable: true, ..Self::for_good(code, words, remedy) }
    }
}

impl From<StoreError> for EffectFailure {
    fn from(error: StoreError) -> Self {
        let remedy = "see that PostgreSQL is up and `mathesis doctor` is content, then `mathesis cycle retry`";
        match error {
            // The newer replica goes on with it; a hold would stop that one, too.
            StoreError::Newer { .. } => Self {
                waits: true,
                ..Self::for_good(
                    "newer_program",
                    error.to_string(),
                    "update this replica, or stop it: the newer one goes on with the cycle",
                )
            },
            // Whoever holds it now goes on; what this one still tries is refused.
            StoreError::LeaseLost { .. } => Self::for_now("claim_lost", error.to_string(), ""),
            error if error.is_transient() => Self::for_now("database", error.to_string(), remedy),
            error => Self::for_good("database", error.to_string(), remedy),
        }
    }
}

impl From<sqlx::Error> for EffectFailure {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error).into()
    }
}

/// How the remedy of a failed call ends: what to do to the cycle once it is mended.
pub(crate) const THEN_RETRY: &str = " Then `mathesis cycle retry`.";

impl From<CallError> for EffectFailure {
    fn from(error: CallError) -> Self {
        Self {
            retryable: error.retryable(),
            retry_after: error.retry_after(),
            ..Self::for_good(
                error.code(),
                error.reason(),
                format!("{}{THEN_RETRY}", error.remedy()),
            )
        }
    }
}

impl From<TemplateError> for EffectFailure {
    fn from(error: TemplateError) -> Self {
        Self::for_good(
            "template",
            format!("the prompt could not be rendered: {error}"),
            "mend the workflow's prompts, cancel this cycle (it keeps the definition it started with), and the next one uses them",
        )
    }
}

/// A failure of a config folder. A hand edit becomes a hold on the workflow, all else on the cycle.
pub(crate) fn files_failure(model: &str, error: &FilesError) -> EffectFailure {
    let words = error.to_string();
    match error {
        FilesError::HandEdited { .. } => EffectFailure {
            hold: HoldKind::ConfigConflict,
            subject: Some(model.to_owned()),
            ..EffectFailure::for_good(
                "config_conflict",
                words,
                "look at it with `mathesis files conflict list`, then keep the edit or take the active version; or put the file back as it was and `mathesis cycle retry`",
            )
        },
        _ => EffectFailure::for_now(
            error.code(),
            words,
            "mend the folder as the message says, then `mathesis cycle retry`",
        ),
    }
}

/// Performs a claimed effect.
///
/// # Errors
/// [`EffectFailure`]; the effect is then tried again later or its cycle is held.
pub async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<Performed, EffectFailure> {
    match &claim.effect {
        Effect::Analyze => analyze::perform(engine, claim).await.map(Performed::Event),
        Effect::Generate => generate::perform(engine, claim).await.map(Performed::Event),
        Effect::Decide => decide::perform(engine, claim).await.map(Performed::Event),
        Effect::Apply { .. } => apply::perform(engine, claim).await.map(Performed::Event),
        Effect::Revert { .. } => roll_back::revert(engine, claim).await.map(Performed::Event),
        Effect::RollBack { .. } => {
            roll_back::put_back(engine, claim).await.map(Performed::FilesPutBack)
        }
        Effect::Deal { .. }
        | Effect::Extend { .. }
        | Effect::AwaitApproval { .. }
        | Effect::OpenNextCycle => Err(EffectFailure::for_good(
            "not_queued",
            "an effect of the transition itself was found in the queue",
            "this is a defect; please report it",
        )),
    }
}

/// How often an effect's cycle wants it tried.
pub async fn retry_rules(engine: &Engine, claim: &ClaimedEffect) -> Retry {
    match context(engine, claim).await {
        Ok((_, definition)) => definition.retry,
        Err(_) => Retry::default(),
    }
}

/// The effect's cycle and the definition that it started with.
async fn context(
    engine: &Engine,
    claim: &ClaimedEffect,
) -> Result<(cycles::CycleRow, Definition), EffectFailure> {
    let cycle = cycles::find(engine.store.pool(), claim.workflow_id, claim.cycle)
        .await?
        .ok_or_else(|| {
            EffectFailure::for_good(
                "no_such_cycle",
                format!("cycle {} is not in the database", claim.cycle),
                "this is a defect; please report it",
            )
        })?;
    let definition = crate::runtime::definition_of_cycle(&engine.store, &cycle).await?;
    Ok((cycle, definition))
}

/// The first moment of the month in the workflow's time zone: budgets are kept by calendar months.
#[must_use]
pub fn month_start(now: DateTime<Utc>, timezone: chrono_tz::Tz) -> DateTime<Utc> {
    let local = now.with_timezone(&timezone);
    timezone
        .with_ymd_and_hms(local.year(), local.month(), 1, 0, 0, 0)
        .earliest()
        .map_or(now, |start| start.with_timezone(&Utc))
}
