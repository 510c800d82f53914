//! The one switch over all workflows.
//!
//! While it is off every workflow carries a hold of the kind `automation_off` under the subject
//! [`OVERALL`], beside whatever hold of its own it has. So what stops is what any hold stops, within the
//! moment of the commit and on every replica, and a test's clock stands still.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use super::StoreError;
use super::audit::Actor;
use super::holds::{self, HoldKind, NewHold};

/// The subject of the holds that the switch places.
pub const OVERALL: &str = "overall";

/// How the switch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AutomationSwitch)]
pub struct Switch {
    /// False while nothing learns.
    pub enabled: bool,
    /// When it was last moved.
    pub changed_at: Option<DateTime<Utc>>,
    /// Who moved it.
    pub changed_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// How the switch stands.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn read(pool: &PgPool) -> Result<Switch, StoreError> {
    Ok(sqlx::query_as!(
        Switch,
        "SELECT enabled, changed_at, changed_by, reason FROM automation_switch"
    )
    .fetch_one(pool)
    .await?)
}

/// Locks the switch until the transaction ends: no workflow can be registered meanwhile.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn lock(conn: &mut PgConnection) -> Result<Switch, StoreError> {
    Ok(sqlx::query_as!(
        Switch,
        "SELECT enabled, changed_at, changed_by, reason FROM automation_switch FOR UPDATE"
    )
    .fetch_one(conn)
    .await?)
}

/// Moves the switch; [`lock`] comes first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn set(
    conn: &mut PgConnection,
    enabled: bool,
    actor: Actor<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE automation_switch SET enabled = $1, changed_at = $2, changed_by = $3, reason = $4",
        enabled,
        now,
        actor.name,
        actor.reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The hold that a workflow carries while the switch is off.
#[must_use]
pub fn hold(by: &str, reason: Option<&str>) -> NewHold {
    NewHold {
        kind: HoldKind::AutomationOff,
        cycle: None,
        subject: OVERALL.to_owned(),
        effect_id: None,
        code: "automation_off_overall".to_owned(),
        reason: reason.unwrap_or("automation was switched off for all workflows").to_owned(),
        remedy: "`mathesis automation on --all`".to_owned(),
        placed_by: by.to_owned(),
    }
}

/// How the switch stands, so that nobody moves it until the transaction ends. What registers a workflow
/// begins with this: taken later, it could wait for whoever moves the switch while that one waits for it.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn keep_still(conn: &mut PgConnection) -> Result<Switch, StoreError> {
    Ok(sqlx::query_as!(
        Switch,
        "SELECT enabled, changed_at, changed_by, reason FROM automation_switch FOR SHARE"
    )
    .fetch_one(conn)
    .await?)
}

/// Lets a workflow that is being registered begin held while the switch is off.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn join(
    conn: &mut PgConnection,
    switch: &Switch,
    workflow_id: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if switch.enabled {
        return Ok(());
    }
    let by = switch.changed_by.as_deref().unwrap_or("mathesis");
    holds::place(conn, workflow_id, &hold(by, switch.reason.as_deref()), now).await?;
    Ok(())
}
