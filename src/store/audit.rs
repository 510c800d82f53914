//! The audit trail: what operators did, each with who, when, why and what came of it.
//!
//! Only ever added to. [`record`] is called in the transaction that carries an act out, so that neither
//! exists without the other.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use super::StoreError;

/// Stands in the place of a workflow for what belongs to no single one: keys, and acts on all of them.
pub const NO_WORKFLOW: i64 = 0;

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Things stood so already.
    Unchanged,
    /// It was refused, and nothing was changed.
    Refused,
}

impl Outcome {
    /// The name as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Who acts, and why.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The key's name, or the user at the command line.
    pub name: &'a str,
    /// Why, where a reason was given.
    pub reason: Option<&'a str>,
}

/// An act to be put on record.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// The act, a stable word such as `pause`.
    pub act: &'a str,
    /// What it was done to, beside the cycle; empty where nothing else was named.
    pub subject: &'a str,
    /// The cycle, where it concerned one.
    pub cycle: Option<i64>,
    /// Who, and why.
    pub actor: Actor<'a>,
    /// What came of it.
    pub result: Outcome,
    /// The same in one sentence.
    pub said: &'a str,
}

/// An act as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    /// Its place: later acts have greater numbers.
    pub entry_id: i64,
    /// The workflow's name; none for what belongs to no single one.
    pub workflow: Option<String>,
    /// The act, a stable word.
    pub act: String,
    /// What it was done to, beside the cycle.
    pub subject: String,
    /// The cycle, where it concerned one.
    pub cycle: Option<i64>,
    /// The key's name, or the user at the command line.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// done, unchanged or refused.
    pub result: String,
    /// What came of it, in one sentence.
    pub said: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which acts are asked for; what is left out does not narrow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'f> {
    /// The workflow, or [`NO_WORKFLOW`].
    pub workflow_id: Option<i64>,
    /// The act.
    pub act: Option<&'f str>,
    /// Who.
    pub actor: Option<&'f str>,
    /// From this moment on.
    pub from: Option<DateTime<Utc>>,
    /// Up to, and without, this moment.
    pub to: Option<DateTime<Utc>>,
    /// Acts older than this entry, for the next page.
    pub before: Option<i64>,
}

/// Puts an act on record, in the caller's transaction.
///
/// # Errors
/// [`StoreError`] when the database fails; the caller's transaction is then to be rolled back.
pub async fn record(
    conn: &mut PgConnection,
    workflow_id: i64,
    entry: &NewEntry<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO audit_log (workflow_id, act, subject, cycle, actor, reason, result, said, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        workflow_id,
        entry.act,
        entry.subject,
        entry.cycle,
        entry.actor.name,
        entry.actor.reason,
        entry.result.as_str(),
        entry.said,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The acts that a filter lets through, latest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    pool: &PgPool,
    filter: &Filter<'_>,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    Ok(sqlx::query_as!(
        Entry,
        r#"SELECT a.entry_id, w.name AS "workflow?", a.act, a.subject, a.cycle, a.actor, a.reason,
                  a.result, a.said, a.at
             FROM audit_log a
             LEFT JOIN workflows w ON w.workflow_id = a.workflow_id
            WHERE ($1::bigint IS NULL OR a.workflow_id = $1)
              AND ($2::text IS NULL OR a.act = $2)
              AND ($3::text IS NULL OR a.actor = $3)
              AND ($4::timestamptz IS NULL OR a.at >= $4)
              AND ($5::timestamptz IS NULL OR a.at < $5)
              AND ($6::bigint IS NULL OR a.entry_id < $6)
            ORDER BY a.entry_id DESC LIMIT $7"#,
        filter.workflow_id,
        filter.act,
        filter.actor,
        filter.from,
        filter.to,
        filter.before,
        limit
    )
    .fetch_all(pool)
    .await?)
}
