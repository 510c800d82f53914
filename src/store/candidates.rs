//! Candidates that came to nothing: refused by a rule, rejected by their test, or adopted and taken back.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use crate::research::EditNote;

/// A candidate that broke a rule, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCandidate {
    /// The image model.
    pub model_name: String,
    /// Which of the generation's refused answers it was, from 1.
    pub ordinal: i32,
    /// The rule's stable name.
    pub code: String,
    /// What it broke, in the words that Claude was told.
    pub reason: String,
    /// What it was to change, in its author's words.
    pub summary: String,
    /// Its edits.
    pub edits: Vec<EditNote>,
}

/// A candidate that came to nothing, as the next generation and people read of it.
#[derive(Debug, Clone, Serialize)]
pub struct EarlierCandidate {
    /// The cycle that it was made in.
    pub cycle: i64,
    /// Its version; none for one that a rule refused.
    pub version: Option<i32>,
    /// `refused`, `rejected` or `rolled_back`.
    pub ended: String,
    /// What it changed, in its author's words.
    pub summary: String,
    /// Its edits.
    pub edits: Json<Vec<EditNote>>,
    /// Why it came to nothing.
    pub why: String,
}

/// Stores the candidates that broke a rule, in the transaction that ends their generation.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn insert_refused(
    conn: &mut PgConnection,
    workflow_id: i64,
    cycle: i64,
    refused: &[RefusedCandidate],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for candidate in refused {
        sqlx::query!(
            "INSERT INTO refused_candidates (workflow_id, cycle, model_name, ordinal, code, reason, summary, edits,
                    created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            workflow_id,
            cycle,
            candidate.model_name,
            candidate.ordinal,
            candidate.code,
            candidate.reason,
            candidate.summary,
            Json(&candidate.edits) as _,
            now
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A model's candidates that came to nothing, those of the newest cycles first.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn earlier(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
    limit: i64,
) -> Result<Vec<EarlierCandidate>, StoreError> {
    Ok(sqlx::query_as!(
        EarlierCandidate,
        r#"SELECT cycle AS "cycle!", version, ended AS "ended!", summary AS "summary!",
                  edits AS "edits!: Json<Vec<EditNote>>", why AS "why!"
             FROM (
                 SELECT r.cycle, NULL::integer AS version, 'refused' AS ended, r.summary, r.edits, r.reason AS why,
                        r.ordinal
                   FROM refused_candidates r
                  WHERE r.workflow_id = $1 AND r.model_name = $2
                 UNION ALL
                 -- Taken back after its adoption: by its guard, by the watch, or by a person who gave a reason.
                 SELECT e.cycle, e.candidate_version,
                        CASE WHEN e.status = 'rejected' THEN 'rejected' ELSE 'rolled_back' END,
                        v.summary, v.edits, coalesce(back.why, e.sentence, e.reason, ''), 0
                   FROM experiments e
                   JOIN prompt_versions v ON v.workflow_id = e.workflow_id AND v.model_name = e.model_name
                                         AND v.version = e.candidate_version
                   LEFT JOIN LATERAL (
                       SELECT coalesce(c.reason, c.summary) AS why
                         FROM config_changes c
                        WHERE c.workflow_id = e.workflow_id AND c.model_name = e.model_name
                          AND c.kind IN ('revert', 'roll_back') AND c.status <> 'dropped'
                          AND c.from_version = e.candidate_version
                        ORDER BY c.id LIMIT 1
                   ) AS back ON true
                  WHERE e.workflow_id = $1 AND e.model_name = $2
                    AND (e.status = 'rejected' OR (e.status = 'adopted' AND back.why IS NOT NULL))
             ) AS ended_badly
            ORDER BY cycle DESC, ordinal DESC
            LIMIT $3"#,
        workflow_id,
        model,
        limit
    )
    .fetch_all(pool)
    .await?)
}
