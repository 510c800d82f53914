//! What blame is read from: how versions were made, what they rest on, and what they gained.

use serde::Serialize;
use sqlx::PgPool;
use sqlx::types::Json;
use utoipa::ToSchema;

use super::StoreError;
use crate::research::blame::Step;
use crate::research::{EditNote, Origin};

/// A version, its parent, and so on to the first one.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn chain(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
    version: i32,
) -> Result<Vec<Step>, StoreError> {
    let rows = sqlx::query!(
        r#"WITH RECURSIVE chain AS (
               SELECT version, parent_version, cycle, edits, lineage
                 FROM prompt_versions
                WHERE workflow_id = $1 AND model_name = $2 AND version = $3
               UNION ALL
               SELECT v.version, v.parent_version, v.cycle, v.edits, v.lineage
                 FROM prompt_versions v
                 JOIN chain c ON v.version = c.parent_version
                WHERE v.workflow_id = $1 AND v.model_name = $2)
           SELECT version AS "version!", parent_version, cycle,
                  edits AS "edits!: Json<Vec<EditNote>>", lineage AS "lineage!: Json<Vec<Origin>>"
             FROM chain
            -- A version is made from an earlier one.
            ORDER BY version DESC"#,
        workflow_id,
        model,
        version
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Step {
            version: row.version,
            parent: row.parent_version,
            cycle: row.cycle,
            edits: row.edits.0,
            lineage: row.lineage.0,
        })
        .collect())
}

/// An insight that an edit rests on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BlameReason)]
pub struct Reason {
    /// The insight's handle, such as `4.2`.
    pub insight: String,
    /// The claim.
    pub claim: String,
    /// Example tasks that show it.
    pub tasks: Vec<String>,
    /// `new`, `unsupported`, `confirmed`, `weakened` or `retired`.
    pub standing: String,
}

/// The insights of these handles, in no order.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn reasons(
    pool: &PgPool,
    workflow_id: i64,
    handles: &[String],
) -> Result<Vec<Reason>, StoreError> {
    Ok(sqlx::query_as!(
        Reason,
        r#"SELECT cycle || '.' || ordinal AS "insight!", description AS claim, example_task_ids AS tasks, standing
             FROM insights WHERE workflow_id = $1 AND cycle || '.' || ordinal = ANY($2)"#,
        workflow_id,
        handles
    )
    .fetch_all(pool)
    .await?)
}

/// What a version gained in its test.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BlameGain)]
pub struct Gain {
    /// The version.
    pub version: i32,
    /// `testing`, `adopted`, `rejected` or `inconclusive`.
    pub status: String,
    /// True where it was adopted and put back later.
    pub taken_back: bool,
    /// `(new mean - old mean) / old mean`, as measured.
    pub raw: Option<f64>,
    /// The likely true improvement, shrunk towards none.
    pub shrunk: Option<f64>,
    /// The verdict in one sentence.
    pub sentence: Option<String>,
}

impl Gain {
    /// What came of the version: `adopted, +12.9% measured, +6.8% likely`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let percent = |share: f64| format!("{:+.1}%", share * 100.0);
        let mut text = self.status.clone();
        if self.taken_back {
            text.push_str(", then taken back");
        }
        if let Some(raw) = self.raw {
            text.push_str(&format!(", {} measured", percent(raw)));
        }
        if let Some(shrunk) = self.shrunk {
            text.push_str(&format!(", {} likely", percent(shrunk)));
        }
        text
    }
}

/// What these versions of a model gained in their tests.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn gains(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
    versions: &[i32],
) -> Result<Vec<Gain>, StoreError> {
    Ok(sqlx::query_as!(
        Gain,
        r#"SELECT e.candidate_version AS version, e.status,
                  EXISTS (SELECT FROM config_changes c
                           WHERE c.workflow_id = e.workflow_id AND c.model_name = e.model_name
                             AND c.kind IN ('revert', 'roll_back') AND c.status <> 'dropped'
                             AND c.from_version = e.candidate_version) AS "taken_back!",
                  e.improvement AS raw, (e.evidence ->> 'posterior_mean')::double precision AS shrunk, e.sentence
             FROM experiments e
            WHERE e.workflow_id = $1 AND e.model_name = $2 AND e.candidate_version = ANY($3)"#,
        workflow_id,
        model,
        versions
    )
    .fetch_all(pool)
    .await?)
}

/// A run of a task, as far as a picture's reasons go.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BlamedRun)]
pub struct RunRow {
    /// The task's row.
    #[serde(skip)]
    pub id: i64,
    /// The run; empty for the default one.
    pub run_id: String,
    /// The model whose picture was chosen.
    pub winner_model: Option<String>,
    /// The picture's score.
    pub winner_score: Option<i32>,
}

/// The run of that name, or the task's newest.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn run_of(
    pool: &PgPool,
    workflow_id: i64,
    task: &str,
    run: Option<&str>,
) -> Result<Option<RunRow>, StoreError> {
    Ok(sqlx::query_as!(
        RunRow,
        "SELECT id, run_id, winner_model, winner_score FROM tasks
          WHERE workflow_id = $1 AND clickup_task_id = $2 AND ($3::text IS NULL OR run_id = $3)
          ORDER BY created_at DESC, id DESC LIMIT 1",
        workflow_id,
        task,
        run
    )
    .fetch_optional(pool)
    .await?)
}

/// An attempt of a run, as far as a picture's reasons go.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BlamedAttempt)]
pub struct AttemptRow {
    /// The model.
    pub model: String,
    /// The iteration, from 1.
    pub iteration: i32,
    /// The prompt version that made it: the one logged, else the one that the run was told.
    pub version: Option<i32>,
    /// The validator's score.
    pub score: Option<i32>,
    /// True for the picture that was chosen.
    pub selected: bool,
    /// Where the picture is.
    pub image_url: Option<String>,
}

/// The attempts of a run, by model and iteration.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn attempts_of(
    pool: &PgPool,
    workflow_id: i64,
    task_row: i64,
) -> Result<Vec<AttemptRow>, StoreError> {
    Ok(sqlx::query_as!(
        AttemptRow,
        r#"SELECT a.model_name AS model, a.iteration, coalesce(a.prompt_version, s.version) AS version,
                  a.validation_score AS score, a.was_selected AS selected, a.image_url
             FROM attempts a
             JOIN tasks t ON t.workflow_id = a.workflow_id AND t.id = a.task_id
             LEFT JOIN assignments s ON s.workflow_id = t.workflow_id AND s.clickup_task_id = t.clickup_task_id
                                    AND s.run_id = t.run_id AND s.model_name = a.model_name
            WHERE a.workflow_id = $1 AND a.task_id = $2
            ORDER BY a.model_name, a.iteration, a.version"#,
        workflow_id,
        task_row
    )
    .fetch_all(pool)
    .await?)
}
