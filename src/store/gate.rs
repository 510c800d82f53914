//! What the gate's self-examination reads: recorded scores, and how they spread from window to window.

use serde::Serialize;
use sqlx::{PgExecutor, PgPool};
use utoipa::ToSchema;

use super::StoreError;
use crate::experiment::Arm;
use crate::experiment::noise::{NoiseFloor, Window};

/// The effect that a workflow hopes to see: 10%.
const HOPED_FOR_BASIS_POINTS: u32 = 1000;

/// A score that a task's first picture by a model got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstScore {
    /// The score.
    pub score: u16,
    /// True when it was made with the version that is active now.
    pub active: bool,
}

/// How far one version's scores differ from window to window.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct VersionNoise {
    /// The image model.
    pub model: String,
    /// The version that its enhancements named.
    pub version: i32,
    /// The floor.
    #[serde(flatten)]
    pub floor: NoiseFloor,
    /// True when an effect of 10% between windows cannot be told from noise.
    pub hides_ten_percent: bool,
}

/// Every first-iteration score of a model, in the order of its attempts.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn first_scores(
    pool: &PgPool,
    workflow_id: i64,
    model: &str,
) -> Result<Vec<FirstScore>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT a.id, a.validation_score AS "score!", (v.version IS NOT NULL) AS "active!"
             FROM attempts a
             LEFT JOIN prompt_versions v
               ON v.workflow_id = a.workflow_id AND v.model_name = a.model_name
              AND v.version = a.prompt_version AND v.is_active
            WHERE a.workflow_id = $1 AND a.model_name = $2 AND a.iteration = 1
              AND a.validation_score IS NOT NULL
            ORDER BY a.id"#,
        workflow_id,
        model
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let score = u16::try_from(row.score).map_err(|cause| {
                let key = format!("workflow {workflow_id} attempt {}", row.id);
                StoreError::corrupt("attempts", "validation_score", key, cause)
            })?;
            Ok(FirstScore { score, active: row.active })
        })
        .collect()
}

/// The noise floor of each version that has an analysis window with enough first-iteration scores, over
/// the windows of the cycles after `after_cycle`.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn noise_floors(
    executor: impl PgExecutor<'_>,
    workflow_id: i64,
    after_cycle: i64,
) -> Result<Vec<VersionNoise>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT a.model_name AS model, a.prompt_version AS "version!", count(*) AS "count!",
                  sum(a.validation_score)::bigint AS "sum!",
                  sum(a.validation_score::bigint * a.validation_score)::bigint AS "sum_of_squares!"
             FROM tasks t
             JOIN attempts a ON a.workflow_id = t.workflow_id AND a.task_id = t.id
            WHERE t.workflow_id = $1 AND t.analyzed_in_cycle > greatest(0, $2::bigint) AND a.iteration = 1
              AND a.validation_score IS NOT NULL AND a.prompt_version IS NOT NULL AND NOT a.observed
            GROUP BY 1, 2, t.analyzed_in_cycle
            ORDER BY 1, 2, t.analyzed_in_cycle"#,
        workflow_id,
        after_cycle
    )
    .fetch_all(executor)
    .await?;
    let versions = rows.chunk_by(|a, b| (&a.model, a.version) == (&b.model, b.version));
    Ok(versions
        .filter_map(|of_version| {
            let first = of_version.first()?;
            let windows: Vec<Window> = of_version
                .iter()
                .map(|row| Window {
                    count: row.count.unsigned_abs(),
                    sum: row.sum.unsigned_abs(),
                    sum_of_squares: row.sum_of_squares.unsigned_abs(),
                })
                .collect();
            let floor = NoiseFloor::of(&windows)?;
            Some(VersionNoise {
                model: first.model.clone(),
                version: first.version,
                floor,
                hides_ten_percent: floor.hides(HOPED_FOR_BASIS_POINTS),
            })
        })
        .collect())
}

/// A test with a verdict that rests on scores, as it was recorded.
#[derive(Debug, Clone)]
pub struct RecordedTest {
    /// The cycle.
    pub cycle: i64,
    /// The image model.
    pub model: String,
    /// The version that was tested.
    pub candidate_version: i32,
    /// What was decided.
    pub status: String,
    /// Control slots that went without a score.
    pub missed_control: i32,
    /// Candidate slots that went without a score.
    pub missed_candidate: i32,
    /// How many scores the test counted; what was scored beyond them is its probation's.
    pub test_scores: i32,
    /// The counted scores, in the order of their slots.
    pub scores: Vec<RecordedScore>,
}

/// One counted score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedScore {
    /// The block of its slot.
    pub block: i32,
    /// The arm of its slot.
    pub arm: Arm,
    /// The score.
    pub score: u16,
    /// The run that got it: task and run.
    pub holder: (String, String),
}

/// Every test of a workflow that was decided on scores, oldest first.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn recorded_tests(
    pool: &PgPool,
    workflow_id: i64,
) -> Result<Vec<RecordedTest>, StoreError> {
    // The slots of a probation follow those of its test, so the first so many scores are the test's.
    let rows = sqlx::query!(
        r#"SELECT e.cycle, e.model_name, e.candidate_version, e.status, e.missed_control,
                  e.missed_candidate,
                  (coalesce(e.control_count, 0) + coalesce(e.candidate_count, 0)) AS "test_scores!",
                  s.block, s.arm, s.score AS "score!", s.clickup_task_id AS "task!", s.run_id AS "run!"
             FROM experiments e
             JOIN deck_slots s
               ON s.workflow_id = e.workflow_id AND s.cycle = e.cycle AND s.model_name = e.model_name
            WHERE e.workflow_id = $1 AND e.status <> 'testing' AND s.state = 'scored'
            ORDER BY e.cycle, e.model_name, s.slot"#,
        workflow_id
    )
    .fetch_all(pool)
    .await?;
    let mut tests: Vec<RecordedTest> = Vec::new();
    for row in rows {
        let key = || format!("workflow {workflow_id} cycle {} {}", row.cycle, row.model_name);
        let score = RecordedScore {
            block: row.block,
            arm: row
                .arm
                .parse()
                .map_err(|cause| StoreError::corrupt("deck_slots", "arm", key(), cause))?,
            score: u16::try_from(row.score)
                .map_err(|cause| StoreError::corrupt("deck_slots", "score", key(), cause))?,
            holder: (row.task, row.run),
        };
        match tests.last_mut() {
            Some(test) if test.cycle == row.cycle && test.model == row.model_name => {
                test.scores.push(score);
            }
            _ => tests.push(RecordedTest {
                cycle: row.cycle,
                model: row.model_name,
                candidate_version: row.candidate_version,
                status: row.status,
                missed_control: row.missed_control,
                missed_candidate: row.missed_candidate,
                test_scores: row.test_scores,
                scores: vec![score],
            }),
        }
    }
    Ok(tests)
}
