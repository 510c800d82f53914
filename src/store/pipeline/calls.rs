//! Paid calls of the pipeline: an intent before each, inside the fence, and its end after it, outside of it.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::jobs::ClaimedJob;
use crate::store::StoreError;

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct CallIntent<'c> {
    /// The call.
    pub call_id: Uuid,
    /// The step that it belongs to.
    pub step: &'c str,
    /// `claude` or `wavespeed`.
    pub service: &'c str,
    /// `enhancement`, `generation` or `validation`.
    pub purpose: &'c str,
    /// The Claude model, or the endpoint.
    pub called_model: &'c str,
    /// What is asked, by its hash.
    pub request_hash: &'c str,
    /// What it may cost, in US dollars.
    pub estimated_cost_usd: Decimal,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// No end is on record.
    Begun,
    /// It brought what it was made for.
    Answered,
    /// Certainly nothing was done.
    Refused,
    /// It was answered, and the answer cannot be used.
    Failed,
    /// Whether it was done is not known.
    Lost,
}

impl CallStatus {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Begun, Self::Answered, Self::Refused, Self::Failed, Self::Lost];

    /// The word in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    fn read(word: &str, call_id: Uuid) -> Result<Self, StoreError> {
        Self::ALL.into_iter().find(|status| status.name() == word).ok_or_else(|| {
            let row = format!("call {call_id}");
            StoreError::corrupt("pipeline_calls", "status", row, format!("no status {word:?}"))
        })
    }
}

/// What is written down when a call has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallEnd {
    /// How it ended.
    pub status: CallStatus,
    /// The HTTP status, where an answer came.
    pub http_status: Option<i32>,
    /// The service's name for it.
    pub request_id: Option<String>,
    /// Why Claude's answer ended.
    pub stop_reason: Option<String>,
    /// Tokens read at the full price.
    pub input_tokens: Option<i64>,
    /// Tokens written to the cache.
    pub cache_creation_tokens: Option<i64>,
    /// Tokens read from the cache.
    pub cache_read_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// What it cost, in US dollars.
    pub cost_usd: Decimal,
    /// Whether the cost is a guess.
    pub cost_estimated: bool,
    /// What was answered, as far as a redo needs it.
    pub response_text: Option<String>,
    /// Stable, for programs.
    pub error_code: Option<String>,
    /// For people.
    pub error_message: Option<String>,
    /// How long it took.
    pub duration_ms: Option<i64>,
}

impl CallEnd {
    /// An end about which nothing but its status and its cost is known.
    #[must_use]
    pub const fn new(status: CallStatus, cost_usd: Decimal, cost_estimated: bool) -> Self {
        Self {
            status,
            http_status: None,
            request_id: None,
            stop_reason: None,
            input_tokens: None,
            cache_creation_tokens: None,
            cache_read_tokens: None,
            output_tokens: None,
            cost_usd,
            cost_estimated,
            response_text: None,
            error_code: None,
            error_message: None,
            duration_ms: None,
        }
    }
}

/// A call on record.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRow {
    /// The call.
    pub call_id: Uuid,
    /// What was asked, by its hash.
    pub request_hash: String,
    /// When it was begun.
    pub begun_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended; while it has not, the estimated cost.
    pub end: CallEnd,
}

/// Puts a call on record before it is made.
///
/// # Errors
/// [`StoreError`] when the database fails; the call must not be made then.
pub async fn begin(
    pool: &PgPool,
    job: &ClaimedJob,
    intent: &CallIntent<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "WITH held AS (
             SELECT workflow_id, job_id FROM pipeline_jobs
              WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $3 AND fence = $4
                AND status = 'claimed'
                FOR SHARE)
         INSERT INTO pipeline_calls (
             workflow_id, job_id, worker_id, call_id, step, service, purpose, called_model,
             request_hash, cost_usd, cost_estimated, status, begun_at)
         SELECT workflow_id, job_id, $3, $5, $6, $7, $8, $9, $10, $11, true, 'begun', $12 FROM held",
        job.workflow_id,
        job.job_id,
        job.worker_id,
        job.fence,
        intent.call_id,
        intent.step,
        intent.service,
        intent.purpose,
        intent.called_model,
        intent.request_hash,
        intent.estimated_cost_usd,
        now
    )
    .execute(pool)
    .await?
    .rows_affected();
    // A worker that lost its job must not spend money for it.
    if rows == 1 { Ok(()) } else { Err(job.lost()) }
}

/// Writes down how a call ended, also for a worker that lost its job meanwhile, and also over a `lost` that another
/// worker wrote: what really happened is better than a guess.
///
/// # Errors
/// [`StoreError`] when the database fails; the call then stays begun, and whoever redoes the step treats it as lost.
pub async fn end(
    pool: &PgPool,
    workflow_id: i64,
    call_id: Uuid,
    end: &CallEnd,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_calls
            SET status = $3, http_status = $4, request_id = $5, stop_reason = $6, input_tokens = $7,
                cache_creation_tokens = $8, cache_read_tokens = $9, output_tokens = $10,
                cost_usd = $11, cost_estimated = $12, response_text = $13, error_code = $14,
                error_message = $15, duration_ms = $16, ended_at = $17
          WHERE workflow_id = $1 AND call_id = $2 AND status IN ('begun', 'lost')",
        workflow_id,
        call_id,
        end.status.name(),
        end.http_status,
        end.request_id,
        end.stop_reason,
        end.input_tokens,
        end.cache_creation_tokens,
        end.cache_read_tokens,
        end.output_tokens,
        end.cost_usd,
        end.cost_estimated,
        end.response_text,
        end.error_code,
        end.error_message,
        end.duration_ms,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes off what a step had begun and nobody ended: whether it was done cannot be known, so it is booked with its
/// estimated cost. Returns how many there were. A worker that has lost its job writes nothing off: what is begun then is
/// under way in other hands.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn write_off(
    pool: &PgPool,
    job: &ClaimedJob,
    step: &str,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let written_off = sqlx::query!(
        "WITH held AS (
             SELECT workflow_id, job_id FROM pipeline_jobs
              WHERE workflow_id = $1 AND job_id = $2 AND worker_id = $5 AND fence = $6
                AND status = 'claimed'
                FOR SHARE)
         UPDATE pipeline_calls c
            SET status = 'lost', ended_at = $4, error_code = 'call_lost',
                error_message = 'the process ended inside the call; whether it was done is not known'
           FROM held
          WHERE c.workflow_id = held.workflow_id AND c.job_id = held.job_id
            AND c.workflow_id = $1 AND c.job_id = $2 AND c.step = $3 AND c.status = 'begun'",
        job.workflow_id,
        job.job_id,
        step,
        now,
        job.worker_id,
        job.fence
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(written_off)
}

/// Books a generation that came to nothing: WaveSpeed does not charge for it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn refund(
    pool: &PgPool,
    workflow_id: i64,
    call_id: Uuid,
    code: &str,
    words: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE pipeline_calls SET status = 'failed', cost_usd = 0, error_code = $3, error_message = $4
          WHERE workflow_id = $1 AND call_id = $2 AND status = 'answered'",
        workflow_id,
        call_id,
        code,
        words
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The calls of one step of a job, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn of_step(
    pool: &PgPool,
    workflow_id: i64,
    job_id: i64,
    step: &str,
) -> Result<Vec<CallRow>, StoreError> {
    let rows = sqlx::query!(
        "SELECT call_id, request_hash, begun_at, ended_at, status, http_status, request_id,
                stop_reason, input_tokens, cache_creation_tokens, cache_read_tokens, output_tokens,
                cost_usd, cost_estimated, response_text, error_code, error_message, duration_ms
           FROM pipeline_calls
          WHERE workflow_id = $1 AND job_id = $2 AND step = $3
          ORDER BY begun_at, call_id",
        workflow_id,
        job_id,
        step
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(CallRow {
                call_id: row.call_id,
                request_hash: row.request_hash,
                begun_at: row.begun_at,
                ended_at: row.ended_at,
                end: CallEnd {
                    status: CallStatus::read(&row.status, row.call_id)?,
                    http_status: row.http_status,
                    request_id: row.request_id,
                    stop_reason: row.stop_reason,
                    input_tokens: row.input_tokens,
                    cache_creation_tokens: row.cache_creation_tokens,
                    cache_read_tokens: row.cache_read_tokens,
                    output_tokens: row.output_tokens,
                    cost_usd: row.cost_usd,
                    cost_estimated: row.cost_estimated,
                    response_text: row.response_text,
                    error_code: row.error_code,
                    error_message: row.error_message,
                    duration_ms: row.duration_ms,
                },
            })
        })
        .collect()
}

/// What the calls of a job cost so far, in US dollars.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn cost(pool: &PgPool, workflow_id: i64, job_id: i64) -> Result<Decimal, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT coalesce(sum(cost_usd), 0) AS "cost!" FROM pipeline_calls
            WHERE workflow_id = $1 AND job_id = $2"#,
        workflow_id,
        job_id
    )
    .fetch_one(pool)
    .await?)
}
