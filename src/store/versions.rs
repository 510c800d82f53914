//! Prompt versions. Numbered per model, never reused, never removed; exactly one is active.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use super::StoreError;
use crate::research::{EditNote, Origin, Texts};

/// A version with its texts.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = StoredVersion)]
pub struct Version {
    /// The image model.
    pub model_name: String,
    /// Its number within the model, from 1.
    pub version: i32,
    /// The template that joins the texts.
    pub prompt_template: String,
    /// Who the enhancer is and how it works.
    pub activation_text: String,
    /// What is known about the model.
    pub research_text: String,
    /// SHA-256 over the three texts.
    pub content_hash: String,
    /// The version that it was made from.
    pub parent_version: Option<i32>,
    /// Unified diff to the parent.
    pub diff: String,
    /// The edits that made it from its parent.
    #[schema(value_type = Vec<EditNote>)]
    pub edits: Json<Vec<EditNote>>,
    /// What changed, in words.
    pub summary: String,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// The candidate's mean score in its test.
    pub a_b_test_score: Option<f64>,
    /// How many tasks that mean is over.
    pub tasks_tested: Option<i32>,
    /// True for the one that serves.
    pub is_active: bool,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

impl Version {
    /// The three texts.
    #[must_use]
    pub fn texts(&self) -> Texts {
        Texts {
            template: self.prompt_template.clone(),
            activation: self.activation_text.clone(),
            research: self.research_text.clone(),
        }
    }
}

/// A version to be stored.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The image model.
    pub model_name: String,
    /// Its number: one more than the greatest so far.
    pub version: i32,
    /// The three texts.
    pub texts: Texts,
    /// SHA-256 over them.
    pub content_hash: String,
    /// The version that it was made from.
    pub parent_version: Option<i32>,
    /// Unified diff to the parent.
    pub diff: String,
    /// The edits that made it from its parent.
    pub edits: Vec<EditNote>,
    /// Where its sections come from, as far as they are not the parent's as they were.
    pub lineage: Vec<Origin>,
    /// What changed, in words.
    pub summary: String,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// The ids of the insights that it rests on.
    pub based_on: Vec<String>,
    /// True for a version taken from the files on the first start.
    pub is_active: bool,
    /// Who made it.
    pub created_by: String,
}

/// A version without its texts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VersionHead {
    /// The image model.
    pub model_name: String,
    /// Its number within the model.
    pub version: i32,
    /// SHA-256 over the three texts.
    pub content_hash: String,
    /// The version that it was made from.
    pub parent_version: Option<i32>,
    /// What changed, in words.
    pub summary: String,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// The candidate's mean score in its test.
    pub a_b_test_score: Option<f64>,
    /// How many tasks that mean is over.
    pub tasks_tested: Option<i32>,
    /// True for the one that serves.
    pub is_active: bool,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

/// Stores a version.
///
/// # Errors
/// [`StoreError`] when the database fails or the number is taken.
pub async fn insert(
    conn: &mut PgConnection,
    workflow_id: i64,
    new: &NewVersion,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO prompt_versions (workflow_id, model_name, version, prompt_template, activation_text,
                research_text, content_hash, parent_version, diff, summary, cycle, based_on, is_active,
                created_at, created_by, edits, lineage)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        workflow_id,
        new.model_name,
        new.version,
        new.texts.template,
        new.texts.activation,
        new.texts.research,
        new.content_hash,
        new.parent_version,
        new.diff,
        new.summary,
        new.cycle,
        serde_json::Value::from(new.based_on.clone()),
        new.is_active,
        now,
        new.created_by,
        Json(&new.edits) as _,
        Json(&new.lineage) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a version the active one: the old one off first, then the new one on, in the caller's
/// transaction. Nothing happens when it already is.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn activate(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    version: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE prompt_versions SET is_active = false
          WHERE workflow_id = $1 AND model_name = $2 AND is_active AND version <> $3",
        workflow_id,
        model,
        version
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE prompt_versions SET is_active = true
          WHERE workflow_id = $1 AND model_name = $2 AND version = $3 AND NOT is_active",
        workflow_id,
        model,
        version
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The active version of a model, with its texts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn active(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
) -> Result<Option<Version>, StoreError> {
    Ok(sqlx::query_as!(
        Version,
        r#"SELECT model_name, version, prompt_template, activation_text, research_text, content_hash,
                parent_version, diff, edits AS "edits: Json<Vec<EditNote>>", summary, cycle, a_b_test_score, tasks_tested, is_active,
                created_at, created_by
           FROM prompt_versions WHERE workflow_id = $1 AND model_name = $2 AND is_active"#,
        workflow_id,
        model
    )
    .fetch_optional(conn)
    .await?)
}

/// The active version's number and content hash, without its texts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn active_head(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
) -> Result<Option<(i32, String)>, StoreError> {
    let row = sqlx::query!(
        "SELECT version, content_hash FROM prompt_versions
          WHERE workflow_id = $1 AND model_name = $2 AND is_active",
        workflow_id,
        model
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.version, row.content_hash)))
}

/// One version with its texts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn find(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
    version: i32,
) -> Result<Option<Version>, StoreError> {
    Ok(sqlx::query_as!(
        Version,
        r#"SELECT model_name, version, prompt_template, activation_text, research_text, content_hash,
                parent_version, diff, edits AS "edits: Json<Vec<EditNote>>", summary, cycle, a_b_test_score, tasks_tested, is_active,
                created_at, created_by
           FROM prompt_versions WHERE workflow_id = $1 AND model_name = $2 AND version = $3"#,
        workflow_id,
        model,
        version
    )
    .fetch_optional(pool)
    .await?)
}

/// The versions of a model, newest first, without their texts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
) -> Result<Vec<VersionHead>, StoreError> {
    Ok(sqlx::query_as!(
        VersionHead,
        "SELECT model_name, version, content_hash, parent_version, summary, cycle, a_b_test_score,
                tasks_tested, is_active, created_at, created_by
           FROM prompt_versions WHERE workflow_id = $1 AND model_name = $2 ORDER BY version DESC",
        workflow_id,
        model
    )
    .fetch_all(pool)
    .await?)
}

/// The newest versions of a model that are older than `before`, at most so many, newest first, without their texts.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn newest(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
    before: Option<i32>,
    limit: i64,
) -> Result<Vec<VersionHead>, StoreError> {
    Ok(sqlx::query_as!(
        VersionHead,
        "SELECT model_name, version, content_hash, parent_version, summary, cycle, a_b_test_score,
                tasks_tested, is_active, created_at, created_by
           FROM prompt_versions
          WHERE workflow_id = $1 AND model_name = $2 AND ($3::integer IS NULL OR version < $3)
          ORDER BY version DESC
          LIMIT $4",
        workflow_id,
        model,
        before,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// The active version of every model of every workflow: workflow, model, version, content hash.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn all_active(pool: &PgPool) -> Result<Vec<(i64, String, i32, String)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT workflow_id, model_name, version, content_hash FROM prompt_versions WHERE is_active"
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.workflow_id, row.model_name, row.version, row.content_hash))
        .collect())
}

/// The greatest version number of a model, or 0. Numbers are never reused, since rows are never
/// removed.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn greatest(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
) -> Result<i32, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) AS "greatest!" FROM prompt_versions
            WHERE workflow_id = $1 AND model_name = $2"#,
        workflow_id,
        model
    )
    .fetch_one(conn)
    .await?)
}

/// The version of a model that has exactly these texts, if one was ever stored.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn by_content(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    content_hash: &str,
) -> Result<Option<i32>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT version FROM prompt_versions
          WHERE workflow_id = $1 AND model_name = $2 AND content_hash = $3
          ORDER BY version LIMIT 1",
        workflow_id,
        model,
        content_hash
    )
    .fetch_optional(conn)
    .await?)
}

/// Notes what a candidate's test gave, whether it was adopted or not.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn note_test(
    conn: &mut PgConnection,
    workflow_id: i64,
    model: &str,
    version: i32,
    mean: Option<f64>,
    tasks: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE prompt_versions SET a_b_test_score = $4, tasks_tested = $5
          WHERE workflow_id = $1 AND model_name = $2 AND version = $3",
        workflow_id,
        model,
        version,
        mean,
        tasks
    )
    .execute(conn)
    .await?;
    Ok(())
}
