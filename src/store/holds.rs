//! Holds: the one orthogonal idea of stopping. A hold stops new claims and new deals, nothing else.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::notifications::{self, News};
use super::{StoreError, parking};
use crate::workflow::definition::NotifyKind;

/// Why something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// An operator paused the cycle.
    Operator,
    /// An effect failed for good.
    EffectFailed,
    /// A person's word is awaited.
    Approval,
    /// Automation is off for the workflow: silent logging.
    AutomationOff,
    /// The month's budget is spent; lifts itself at the month's turn.
    BudgetSpent,
    /// A person edited a config file.
    ConfigConflict,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Operator,
        Self::EffectFailed,
        Self::Approval,
        Self::AutomationOff,
        Self::BudgetSpent,
        Self::ConfigConflict,
    ];

    /// The name as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::EffectFailed => "effect_failed",
            Self::Approval => "approval",
            Self::AutomationOff => "automation_off",
            Self::BudgetSpent => "budget_spent",
            Self::ConfigConflict => "config_conflict",
        }
    }

    /// True for holds on the workflow, which outlive its cycles.
    #[must_use]
    pub const fn is_on_workflow(self) -> bool {
        matches!(self, Self::AutomationOff | Self::BudgetSpent | Self::ConfigConflict)
    }
}

impl fmt::Display for HoldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HoldKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no known kind of hold"))
    }
}

/// A hold to be placed.
#[derive(Debug, Clone)]
pub struct NewHold {
    /// Why.
    pub kind: HoldKind,
    /// The cycle; `None` for a hold on the workflow.
    pub cycle: Option<i64>,
    /// What tells holds of one kind apart: a stage, a model, an effect's kind.
    pub subject: String,
    /// The effect that failed, where one did.
    pub effect_id: Option<i64>,
    /// A stable code for programs.
    pub code: String,
    /// What happened, in words.
    pub reason: String,
    /// What to do about it, in words.
    pub remedy: String,
    /// Who placed it.
    pub placed_by: String,
}

/// A hold as stored.
#[derive(Debug, Clone, Serialize)]
pub struct HoldRow {
    /// The hold's row.
    pub hold_id: i64,
    /// The cycle; `None` for a hold on the workflow.
    pub cycle: Option<i64>,
    /// Why.
    pub kind: String,
    /// What tells holds of one kind apart.
    pub subject: String,
    /// A stable code for programs.
    pub code: String,
    /// What happened, in words.
    pub reason: String,
    /// What to do about it, in words.
    pub remedy: String,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// Who placed it.
    pub placed_by: String,
    /// When it was lifted.
    pub lifted_at: Option<DateTime<Utc>>,
    /// Who lifted it.
    pub lifted_by: Option<String>,
    /// Why it was lifted.
    pub lift_reason: Option<String>,
}

/// Who lifts holds, and why.
#[derive(Debug, Clone, Copy)]
pub struct Lift<'l> {
    /// Who.
    pub by: &'l str,
    /// Why, where a reason was given.
    pub reason: Option<&'l str>,
    /// When.
    pub now: DateTime<Utc>,
}

/// Places a hold, and tells of it. One that stands already stays as it is, and false is returned. Part of the caller's
/// transaction.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn place(
    conn: &mut PgConnection,
    workflow_id: i64,
    hold: &NewHold,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let placed = sqlx::query!(
        "INSERT INTO holds (workflow_id, cycle, kind, subject, effect_id, code, reason, remedy, placed_at, placed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT DO NOTHING",
        workflow_id,
        hold.cycle,
        hold.kind.as_str(),
        hold.subject,
        hold.effect_id,
        hold.code,
        hold.reason,
        hold.remedy,
        now,
        hold.placed_by
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    if placed == 1 {
        let said = format!("{} What helps: {}", sentence(&hold.reason), hold.remedy);
        let subject = hold.kind.as_str();
        let news = News { kind: NotifyKind::Hold, cycle: hold.cycle, subject, said: &said };
        notifications::tell(conn, workflow_id, &news, now).await?;
    }
    Ok(placed == 1)
}

fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// Has the effects looked at again that those holds stopped.
async fn unpark(conn: &mut PgConnection, workflow_id: i64, lifted: u64) -> Result<(), StoreError> {
    if lifted == 0 { Ok(()) } else { parking::unpark(conn, workflow_id).await }
}

/// Lifts the standing holds of one kind; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lift(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: Option<i64>,
    kind: HoldKind,
    lift: Lift<'_>,
) -> Result<u64, StoreError> {
    let lifted = sqlx::query!(
        "UPDATE holds SET lifted_at = $4, lifted_by = $5, lift_reason = $6
          WHERE workflow_id = $1 AND cycle IS NOT DISTINCT FROM $2 AND kind = $3 AND lifted_at IS NULL",
        workflow_id,
        cycle,
        kind.as_str(),
        lift.now,
        lift.by,
        lift.reason
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, lifted).await?;
    Ok(lifted)
}

/// Lifts the standing workflow hold of one kind and subject; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lift_subject(
    conn: &mut PgConnection,
    workflow_id: i64,
    kind: HoldKind,
    subject: &str,
    lift: Lift<'_>,
) -> Result<u64, StoreError> {
    let lifted = sqlx::query!(
        "UPDATE holds SET lifted_at = $4, lifted_by = $5, lift_reason = $6
          WHERE workflow_id = $1 AND kind = $2 AND subject = $3 AND lifted_at IS NULL",
        workflow_id,
        kind.as_str(),
        subject,
        lift.now,
        lift.by,
        lift.reason
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, lifted).await?;
    Ok(lifted)
}

/// Lifts the workflow's hold in whose place this one comes: of its kind and subject, and with another code.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lift_other_codes(
    conn: &mut PgConnection,
    workflow_id: i64,
    hold: &NewHold,
    lift: Lift<'_>,
) -> Result<u64, StoreError> {
    let lifted = sqlx::query!(
        "UPDATE holds SET lifted_at = $5, lifted_by = $6, lift_reason = $7
          WHERE workflow_id = $1 AND kind = $2 AND subject = $3 AND code <> $4 AND lifted_at IS NULL",
        workflow_id,
        hold.kind.as_str(),
        hold.subject,
        hold.code,
        lift.now,
        lift.by,
        lift.reason
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, lifted).await?;
    Ok(lifted)
}

/// True while a workflow hold of that kind and subject stands.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn stands(
    conn: &mut PgConnection,
    workflow_id: i64,
    kind: HoldKind,
    subject: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
                SELECT FROM holds
                 WHERE workflow_id = $1 AND cycle IS NULL AND kind = $2 AND subject = $3
                   AND lifted_at IS NULL) AS "stands!""#,
        workflow_id,
        kind.as_str(),
        subject
    )
    .fetch_one(conn)
    .await?)
}

/// Lifts every standing hold of a cycle that has ended, but for that of a rollback that failed: the
/// rollback outlives its cycle, and [`carry_over`] takes its hold along.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lift_all_of_cycle(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    lift: Lift<'_>,
) -> Result<(), StoreError> {
    let lifted = sqlx::query!(
        "UPDATE holds SET lifted_at = $3, lifted_by = $4, lift_reason = $5
          WHERE workflow_id = $1 AND cycle = $2 AND lifted_at IS NULL
            AND NOT EXISTS (
                SELECT FROM effects e
                 WHERE e.workflow_id = $1 AND e.effect_id = holds.effect_id
                   AND e.kind = 'roll_back' AND e.status = 'failed')",
        workflow_id,
        cycle,
        lift.now,
        lift.by,
        lift.reason
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, lifted).await
}

/// Hands the holds that an ended cycle leaves standing to the next one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn carry_over(
    conn: &mut PgConnection,
    workflow_id: i64,
    from_cycle: i64,
    to_cycle: i64,
) -> Result<(), StoreError> {
    let moved = sqlx::query!(
        "UPDATE holds SET cycle = $3 WHERE workflow_id = $1 AND cycle = $2 AND lifted_at IS NULL",
        workflow_id,
        from_cycle,
        to_cycle
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, moved).await
}

/// The standing holds of a workflow and, where given, of one of its cycles.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn standing(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
) -> Result<Vec<HoldRow>, StoreError> {
    Ok(sqlx::query_as!(
        HoldRow,
        "SELECT hold_id, cycle, kind, subject, code, reason, remedy, placed_at, placed_by,
                lifted_at, lifted_by, lift_reason
           FROM holds
          WHERE workflow_id = $1 AND lifted_at IS NULL AND (cycle IS NULL OR cycle = $2)
          ORDER BY hold_id",
        workflow_id,
        cycle
    )
    .fetch_all(conn)
    .await?)
}

/// Every hold of a cycle and the workflow holds since a moment: what stopped a test's clock.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn since(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    from: DateTime<Utc>,
) -> Result<Vec<HoldRow>, StoreError> {
    Ok(sqlx::query_as!(
        HoldRow,
        "SELECT hold_id, cycle, kind, subject, code, reason, remedy, placed_at, placed_by,
                lifted_at, lifted_by, lift_reason
           FROM holds
          WHERE workflow_id = $1 AND (cycle IS NULL OR cycle = $2)
            AND (lifted_at IS NULL OR lifted_at >= $3)
          ORDER BY hold_id",
        workflow_id,
        cycle,
        from
    )
    .fetch_all(conn)
    .await?)
}

/// The workflows whose standing hold of that kind was placed before a moment.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn workflows_held(
    pool: &PgPool,
    kind: HoldKind,
    placed_before: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT DISTINCT workflow_id FROM holds
          WHERE kind = $1 AND lifted_at IS NULL AND placed_at < $2",
        kind.as_str(),
        placed_before
    )
    .fetch_all(pool)
    .await?)
}

/// Lifts the standing holds that certain effects placed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lift_of_effects(
    conn: &mut PgConnection,
    workflow_id: i64,
    effect_ids: &[i64],
    lift: Lift<'_>,
) -> Result<(), StoreError> {
    let lifted = sqlx::query!(
        "UPDATE holds SET lifted_at = $3, lifted_by = $4, lift_reason = $5
          WHERE workflow_id = $1 AND effect_id = ANY($2) AND lifted_at IS NULL",
        workflow_id,
        effect_ids,
        lift.now,
        lift.by,
        lift.reason
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    unpark(conn, workflow_id, lifted).await
}
