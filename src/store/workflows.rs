//! Workflows and the definitions that their cycles started with.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// A workflow as stored.
#[derive(Debug, Clone)]
pub struct WorkflowRow {
    /// Its id, the distribution column of every table.
    pub workflow_id: i64,
    /// Its name.
    pub name: String,
    /// The hash of the definition in force.
    pub definition_hash: String,
}

/// Registers a workflow or takes over its edited definition; returns its row as it was before.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn register(
    conn: &mut PgConnection,
    name: &str,
    definition_hash: &str,
    definition: &Value,
    now: DateTime<Utc>,
) -> Result<WorkflowRow, StoreError> {
    sqlx::query!(
        "INSERT INTO workflows (name, definition_hash, created_at, updated_at)
         VALUES ($1, $2, $3, $3) ON CONFLICT (name) DO NOTHING",
        name,
        definition_hash,
        now
    )
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query_as!(
        WorkflowRow,
        "SELECT workflow_id, name, definition_hash FROM workflows WHERE name = $1 FOR NO KEY UPDATE",
        name
    )
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO workflow_definitions (workflow_id, definition_hash, definition, created_at)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        row.workflow_id,
        definition_hash,
        definition,
        now
    )
    .execute(&mut *conn)
    .await?;
    if row.definition_hash != definition_hash {
        sqlx::query!(
            "UPDATE workflows SET definition_hash = $2, updated_at = $3 WHERE workflow_id = $1",
            row.workflow_id,
            definition_hash,
            now
        )
        .execute(conn)
        .await?;
    }
    Ok(row)
}

/// A definition by its hash.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn definition_by_hash(
    conn: &mut PgConnection,
    workflow_id: i64,
    definition_hash: &str,
) -> Result<Option<Value>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT definition FROM workflow_definitions WHERE workflow_id = $1 AND definition_hash = $2",
        workflow_id,
        definition_hash
    )
    .fetch_optional(conn)
    .await?)
}

/// The hash and the definition that are in force.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn in_force(
    conn: &mut PgConnection,
    workflow_id: i64,
) -> Result<(String, Value), StoreError> {
    let row = sqlx::query!(
        "SELECT w.definition_hash, d.definition
           FROM workflows w
           JOIN workflow_definitions d
             ON d.workflow_id = w.workflow_id AND d.definition_hash = w.definition_hash
          WHERE w.workflow_id = $1",
        workflow_id
    )
    .fetch_one(conn)
    .await?;
    Ok((row.definition_hash, row.definition))
}

/// Every workflow, by name, with the definition in force.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(pool: &PgPool) -> Result<Vec<(WorkflowRow, Value)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT w.workflow_id, w.name, w.definition_hash, d.definition
           FROM workflows w
           JOIN workflow_definitions d
             ON d.workflow_id = w.workflow_id AND d.definition_hash = w.definition_hash
          ORDER BY w.name"
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let workflow = WorkflowRow {
                workflow_id: row.workflow_id,
                name: row.name,
                definition_hash: row.definition_hash,
            };
            (workflow, row.definition)
        })
        .collect())
}

/// The workflows' ids and names, in the order of their ids, which is the order in which all of them are locked.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn ids(conn: &mut PgConnection) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query!("SELECT workflow_id, name FROM workflows ORDER BY workflow_id")
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.workflow_id, row.name)).collect())
}
