//! Webhook deliveries: each counts once, and what follows from it is committed with it.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::feedback;
use super::jobs::{self, Source};
use crate::store::StoreError;

/// A delivery whose signature was good.
#[derive(Debug, Clone, Copy)]
pub struct NewDelivery<'d> {
    /// What tells it apart from every other delivery, at most 200 characters.
    pub dedupe_key: &'d str,
    /// The event, by ClickUp's name.
    pub event: &'d str,
    /// The task that it is about.
    pub task_id: &'d str,
}

/// What a delivery asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The task may be ready: a job.
    Job {
        /// An open job of the task that waits for this is made due.
        wakes: &'static str,
    },
    /// The task was deleted: its picture was not kept.
    Deleted,
    /// Nothing.
    Nothing,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It came before, and did nothing now.
    Duplicate,
    /// A job was made.
    Job,
    /// The task's open job takes it in.
    Open,
    /// The task's last winner is known not to be kept.
    Feedback,
    /// Nothing follows from it.
    Ignored,
}

impl Accepted {
    /// The word for logs and for the row.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Job => "job",
            Self::Open => "open",
            Self::Feedback => "feedback",
            Self::Ignored => "ignored",
        }
    }
}

/// Takes a delivery and what follows from it, in one commit. A crash before it leaves nothing, and ClickUp sends
/// again; a crash after it leaves all of it, and what ClickUp sends again is a duplicate.
///
/// # Errors
/// [`StoreError`] when the database fails; nothing was taken then.
pub async fn accept(
    pool: &PgPool,
    workflow_id: i64,
    delivery: NewDelivery<'_>,
    follows: Follows,
    now: DateTime<Utc>,
) -> Result<Accepted, StoreError> {
    let mut tx = pool.begin().await?;
    let new = sqlx::query!(
        "INSERT INTO pipeline_deliveries (workflow_id, dedupe_key, event, task_id, result, received_at)
         VALUES ($1, $2, $3, $4, 'ignored', $5)
         ON CONFLICT (workflow_id, dedupe_key) DO NOTHING",
        workflow_id,
        delivery.dedupe_key,
        delivery.event,
        delivery.task_id,
        now
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if new == 0 {
        return Ok(Accepted::Duplicate);
    }
    let accepted = match follows {
        Follows::Nothing => Accepted::Ignored,
        Follows::Job { wakes } => {
            let task_id = delivery.task_id;
            let made = jobs::want(&mut tx, workflow_id, task_id, Source::Webhook, now).await?;
            if made.is_none() {
                jobs::wake(&mut tx, workflow_id, task_id, wakes, now).await?;
            }
            if made.is_some() { Accepted::Job } else { Accepted::Open }
        }
        Follows::Deleted => {
            let words = "the task was deleted";
            let known =
                feedback::task_deleted(&mut tx, workflow_id, delivery.task_id, words, now).await?;
            if known { Accepted::Feedback } else { Accepted::Ignored }
        }
    };
    if accepted != Accepted::Ignored {
        sqlx::query!(
            "UPDATE pipeline_deliveries SET result = $3 WHERE workflow_id = $1 AND dedupe_key = $2",
            workflow_id,
            delivery.dedupe_key,
            accepted.name()
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(accepted)
}
