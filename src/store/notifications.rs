//! The outbox: what a workflow's webhook is to be told, written in the transaction of what it tells of.
//!
//! A row is sent by one process at a time: whoever takes it moves its next moment on by a lease first. If that process
//! dies in the middle, another one sends it again when the lease is out, under the same id.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{StoreError, claude_calls};
use crate::workflow::definition::NotifyKind;

/// For so long a notification is tried, from when it was written or asked for again.
pub const GIVE_UP_AFTER_HOURS: i64 = 72;
/// The kind of a notification that an operator asked for; it is tried once.
pub const TEST: &str = "test";

/// Something to be told.
#[derive(Debug, Clone, Copy)]
pub struct News<'n> {
    /// What it is.
    pub kind: NotifyKind,
    /// The cycle, where it concerns one.
    pub cycle: Option<i64>,
    /// The model, or the kind of the hold.
    pub subject: &'n str,
    /// What happened, in one sentence.
    pub said: &'n str,
}

/// A notification that this process has taken to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The workflow.
    pub workflow_id: i64,
    /// The same however often it is sent.
    pub notification_id: Uuid,
    /// `verdict`, `hold`, `rollback`, `budget` or `test`.
    pub kind: String,
    /// The cycle, where it concerns one.
    pub cycle: Option<i64>,
    /// The model, or the kind of the hold.
    pub subject: String,
    /// What happened, in one sentence.
    pub said: String,
    /// How often it was taken, this time included. A write that names another number changes nothing.
    pub attempts: i32,
    /// The same since it was written or asked for again.
    pub tries: i32,
    /// When it is given up.
    pub give_up_at: DateTime<Utc>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// A notification as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotificationRow {
    /// Goes out as `webhook-id`.
    pub notification_id: Uuid,
    /// `verdict`, `hold`, `rollback`, `budget` or `test`.
    pub kind: String,
    /// The cycle, where it concerns one.
    pub cycle: Option<i64>,
    /// The model, or the kind of the hold.
    pub subject: String,
    /// What happened, in one sentence.
    pub said: String,
    /// `waiting`, `delivered` or `given_up`.
    pub status: String,
    /// How often it was sent.
    pub attempts: i32,
    /// When it is sent next, while it waits.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it is given up, while it waits.
    pub give_up_at: Option<DateTime<Utc>>,
    /// Why the last sending failed; none once it is delivered.
    pub last_error: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What of a workflow's notifications is in trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DeliveryTrouble)]
pub struct Trouble {
    /// Given up.
    pub given_up: i64,
    /// Sent in vain so far, and to be sent again.
    pub failing: i64,
    /// Why the last of them failed.
    pub last_error: Option<String>,
}

impl Trouble {
    /// The same in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let why = self.last_error.as_deref().unwrap_or("nobody knows why");
        format!(
            "{} notifications were given up and {} are still tried; the last error: {why}",
            self.given_up, self.failing
        )
    }
}

/// Writes news into the outbox, if the workflow's definition in force wants news of that kind. Part of the caller's
/// transaction, so that neither exists without the other.
///
/// # Errors
/// [`StoreError`] when the statement fails; the caller's transaction is then to be rolled back.
pub async fn tell(
    conn: &mut PgConnection,
    workflow_id: i64,
    news: &News<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO notifications (workflow_id, notification_id, kind, cycle, subject, said, status,
                next_attempt_at, give_up_at, created_at)
         SELECT w.workflow_id, $2, $3, $4, $5, $6, 'waiting', $7, $8, $7
           FROM workflows w
           JOIN workflow_definitions d
             ON d.workflow_id = w.workflow_id AND d.definition_hash = w.definition_hash
          WHERE w.workflow_id = $1
            AND d.definition #>> '{notify,url}' <> ''
            AND d.definition #> '{notify,kinds}' ? $3",
        workflow_id,
        Uuid::now_v7(),
        news.kind.as_str(),
        news.cycle,
        news.subject,
        news.said,
        now,
        now + TimeDelta::hours(GIVE_UP_AFTER_HOURS)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Tells that 80% of the month's budget is spent, once a month and workflow. Part of the transaction that writes down
/// what a call cost.
///
/// # Errors
/// [`StoreError`] when a statement fails; the caller's transaction is then to be rolled back.
pub async fn tell_of_budget(
    conn: &mut PgConnection,
    workflow_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let month = sqlx::query!(
        r#"SELECT in_force.budget AS "budget!", 'budget ' || to_char(in_force.local, 'YYYY-MM') AS "once_key!",
                  date_trunc('month', in_force.local) AT TIME ZONE in_force.zone AS "since!"
             FROM (SELECT (d.definition #>> '{claude,budget_usd_per_month}')::numeric AS budget,
                          d.definition ->> 'timezone' AS zone,
                          $2::timestamptz AT TIME ZONE (d.definition ->> 'timezone') AS local
                     FROM workflows w
                     JOIN workflow_definitions d
                       ON d.workflow_id = w.workflow_id AND d.definition_hash = w.definition_hash
                    WHERE w.workflow_id = $1
                      AND d.definition #>> '{notify,url}' <> ''
                      AND d.definition #> '{notify,kinds}' ? 'budget') AS in_force
            WHERE NOT EXISTS (
                  SELECT FROM notifications n
                   WHERE n.workflow_id = $1
                     AND n.once_key = 'budget ' || to_char(in_force.local, 'YYYY-MM'))"#,
        workflow_id,
        now
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(month) = month else { return Ok(()) };
    let spent = claude_calls::cost_since(&mut *conn, workflow_id, month.since).await?;
    if spent * Decimal::from(5) < month.budget * Decimal::from(4) {
        return Ok(());
    }
    let said = format!(
        "this month's Claude calls have cost {} USD; the budget is {} USD",
        spent.round_dp(2),
        month.budget
    );
    sqlx::query!(
        "INSERT INTO notifications (workflow_id, notification_id, kind, once_key, subject, said, status,
                next_attempt_at, give_up_at, created_at)
         VALUES ($1, $2, 'budget', $3, '', $4, 'waiting', $5, $6, $5)
         ON CONFLICT (workflow_id, once_key) DO NOTHING",
        workflow_id,
        Uuid::now_v7(),
        month.once_key,
        said,
        now,
        now + TimeDelta::hours(GIVE_UP_AFTER_HOURS)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a notification that an operator asks for, to be taken by [`take`] under its id; nobody else sends it before
/// `not_before`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn ask_for_test(
    conn: &mut PgConnection,
    workflow_id: i64,
    said: &str,
    now: DateTime<Utc>,
) -> Result<Uuid, StoreError> {
    let notification_id = Uuid::now_v7();
    sqlx::query!(
        "INSERT INTO notifications (workflow_id, notification_id, kind, subject, said, status, next_attempt_at,
                give_up_at, created_at)
         VALUES ($1, $2, 'test', '', $3, 'waiting', $4, $4, $4)",
        workflow_id,
        notification_id,
        said,
        now
    )
    .execute(conn)
    .await?;
    Ok(notification_id)
}

/// The workflows that have something to send now.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn workflows_due(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT workflow_id FROM notifications
          WHERE status = 'waiting' AND next_attempt_at <= $1 ORDER BY workflow_id",
        now
    )
    .fetch_all(pool)
    .await?)
}

/// Takes one notification of a workflow that is due, or the one that is named, until `lease_until`. One that another
/// process is taking at this moment is passed over.
///
/// A crash after this and before [`delivered`] leaves the row waiting: it is sent again when the lease is out.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn take(
    pool: &PgPool,
    workflow_id: i64,
    named: Option<Uuid>,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<Taken>, StoreError> {
    Ok(sqlx::query_as!(
        Taken,
        "UPDATE notifications
            SET attempts = attempts + 1, tries = tries + 1, next_attempt_at = $4
          WHERE workflow_id = $1
            AND notification_id = (
                SELECT notification_id FROM notifications
                 WHERE workflow_id = $1 AND status = 'waiting' AND next_attempt_at <= $2
                   AND ($3::uuid IS NULL OR notification_id = $3)
                 ORDER BY next_attempt_at, notification_id
                 LIMIT 1
                   FOR UPDATE SKIP LOCKED)
         RETURNING workflow_id, notification_id, kind, cycle, subject, said, attempts, tries, give_up_at,
                   created_at",
        workflow_id,
        now,
        named,
        lease_until
    )
    .fetch_optional(pool)
    .await?)
}

/// Marks a notification as delivered. False where this process was overtaken.
///
/// # Errors
/// [`StoreError`] when the database fails; it is then sent again.
pub async fn delivered(
    pool: &PgPool,
    taken: &Taken,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let marked = sqlx::query!(
        "UPDATE notifications SET status = 'delivered', finished_at = $4, last_error = NULL
          WHERE workflow_id = $1 AND notification_id = $2 AND attempts = $3 AND status = 'waiting'",
        taken.workflow_id,
        taken.notification_id,
        taken.attempts,
        now
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(marked == 1)
}

/// Notes why a sending failed, and when the next one is; none gives the notification up.
///
/// # Errors
/// [`StoreError`] when the database fails; it is then sent again when its lease is out.
pub async fn failed(
    pool: &PgPool,
    taken: &Taken,
    error: &str,
    next: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE notifications
            SET last_error = $4, next_attempt_at = coalesce($5, next_attempt_at),
                status = CASE WHEN $5::timestamptz IS NULL THEN 'given_up' ELSE 'waiting' END,
                finished_at = CASE WHEN $5::timestamptz IS NULL THEN $6::timestamptz END
          WHERE workflow_id = $1 AND notification_id = $2 AND attempts = $3 AND status = 'waiting'",
        taken.workflow_id,
        taken.notification_id,
        taken.attempts,
        error,
        next,
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Has notifications sent again at once: the one that is named, whether it waits or was given up, or else all that were
/// given up. Tests are not. Returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn send_again(
    conn: &mut PgConnection,
    workflow_id: i64,
    named: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let again = sqlx::query!(
        "UPDATE notifications
            SET status = 'waiting', tries = 0, next_attempt_at = $3, give_up_at = $4, finished_at = NULL
          WHERE workflow_id = $1 AND kind <> 'test'
            AND (status = 'given_up' AND $2::uuid IS NULL
                 OR status IN ('given_up', 'waiting') AND notification_id = $2)",
        workflow_id,
        named,
        now,
        now + TimeDelta::hours(GIVE_UP_AFTER_HOURS)
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(again)
}

/// The notifications, latest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    limit: i64,
) -> Result<Vec<NotificationRow>, StoreError> {
    Ok(sqlx::query_as!(
        NotificationRow,
        r#"SELECT notification_id, kind, cycle, subject, said, status, attempts,
                  CASE WHEN status = 'waiting' THEN next_attempt_at END AS next_attempt_at,
                  CASE WHEN status = 'waiting' THEN give_up_at END AS give_up_at,
                  last_error, created_at, finished_at
             FROM notifications
            WHERE workflow_id = $1 ORDER BY created_at DESC, notification_id DESC LIMIT $2"#,
        workflow_id,
        limit
    )
    .fetch_all(executor)
    .await?)
}

/// What could not be delivered so far; none where nothing is in trouble. Tests do not count.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn trouble(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
) -> Result<Option<Trouble>, StoreError> {
    let found = sqlx::query_as!(
        Trouble,
        r#"SELECT count(*) FILTER (WHERE status = 'given_up') AS "given_up!",
                  count(*) FILTER (WHERE status = 'waiting') AS "failing!",
                  (array_agg(last_error ORDER BY next_attempt_at DESC))[1] AS last_error
             FROM notifications
            WHERE workflow_id = $1 AND kind <> 'test' AND last_error IS NOT NULL
              AND status IN ('given_up', 'waiting')"#,
        workflow_id
    )
    .fetch_one(executor)
    .await?;
    Ok((found.given_up + found.failing > 0).then_some(found))
}

/// Removes at most `batch` notifications that were delivered or given up before that moment; returns how many.
///
/// # Errors
/// [`StoreError`] when the statement fails; nothing is removed then.
pub async fn prune(
    pool: &PgPool,
    workflow_id: i64,
    finished_before: DateTime<Utc>,
    batch: i64,
) -> Result<u64, StoreError> {
    let pruned = sqlx::query!(
        "DELETE FROM notifications AS n
          USING (SELECT notification_id FROM notifications
                  WHERE workflow_id = $1 AND finished_at < $2
                  ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS old
          WHERE n.workflow_id = $1 AND n.notification_id = old.notification_id",
        workflow_id,
        finished_before,
        batch.max(1)
    )
    .execute(pool)
    .await?;
    Ok(pruned.rows_affected())
}
