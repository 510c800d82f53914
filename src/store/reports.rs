//! What the report of a cycle tells, read from what other files of this folder know.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::PgPool;

use super::analytics::Experiment;
use super::analytics::pages::experiments_of_cycle;
use super::{StoreError, claude_calls, cycles, holds, insights, versions};
use crate::cycle::{Event, ModelResult};
use crate::experiment::evidence::Evidence;
use crate::report::{Facts, Held, Noticed, Tried};

/// The workflow whose cycle is reported.
#[derive(Debug, Clone, Copy)]
pub struct Of<'w> {
    /// Its id.
    pub workflow_id: i64,
    /// Its name.
    pub workflow: &'w str,
    /// Its time zone.
    pub time_zone: Tz,
    /// The best possible score.
    pub score_max: u32,
    /// The time now.
    pub now: DateTime<Utc>,
}

/// Reads what a report tells of a cycle; none where there is no such cycle.
///
/// # Errors
/// [`StoreError`] when the database fails or a row cannot be read.
pub async fn load(pool: &PgPool, of: Of<'_>, cycle: i64) -> Result<Option<Facts>, StoreError> {
    let id = of.workflow_id;
    let Some(row) = cycles::find(pool, id, cycle).await? else { return Ok(None) };
    let analysis = insights::analysis(pool, id, cycle).await?;
    let mut found = insights::of_cycle(pool, id, cycle).await?;
    found.sort_by(|a, b| b.confidence_score.total_cmp(&a.confidence_score));
    let mut tried = Vec::new();
    for scored in experiments_of_cycle(pool, id, cycle, of.now).await? {
        let it = scored.experiment;
        let version = versions::find(pool, id, &it.model, it.new_version).await?;
        tried.push(candidate(it, version.map(|version| version.summary).unwrap_or_default()));
    }
    let calls = claude_calls::of_cycle(pool, id, cycle).await?;
    let state = row.snapshot.state.name();
    let standing = if state.is_terminal() {
        Vec::new()
    } else {
        holds::standing(&mut *pool.acquire().await?, id, cycle).await?
    };
    Ok(Some(Facts {
        workflow: of.workflow.to_owned(),
        cycle,
        state,
        opened_at: row.opened_at,
        ended_at: row.ended_at,
        time_zone: of.time_zone,
        score_max: of.score_max,
        tasks: analysis.map(|analysis| analysis.tasks_analyzed),
        noticed: found
            .into_iter()
            .map(|it| Noticed {
                model: it.model_name,
                claim: it.description,
                confidence: it.confidence_score,
            })
            .collect(),
        tried,
        without: without(pool, id, &row).await?,
        cost_usd: calls.iter().filter_map(|call| call.cost_usd).sum(),
        calls: calls.len(),
        cost_estimated: calls.iter().any(|call| call.cost_estimated == Some(true)),
        holds: standing
            .into_iter()
            .map(|hold| Held { kind: hold.kind, reason: hold.reason })
            .collect(),
    }))
}

/// Models without a candidate: from the outcome, or from the event that said so while there is none.
async fn without(
    pool: &PgPool,
    workflow_id: i64,
    row: &cycles::CycleRow,
) -> Result<Vec<(String, String)>, StoreError> {
    if let Some(outcome) = row.snapshot.state.outcome() {
        let none = outcome.models.iter().filter(|it| it.result == ModelResult::NoCandidate);
        let none: Vec<_> = none.map(|it| (it.model.clone(), it.reason.clone())).collect();
        if !none.is_empty() {
            return Ok(none);
        }
    }
    let history = cycles::history(pool, workflow_id, row.number).await?;
    let told = history.into_iter().find_map(|step| match step.event {
        Event::CandidatesGenerated { without, .. } => Some(without),
        _ => None,
    });
    let told = told.unwrap_or_default().into_iter();
    Ok(told.map(|it| (it.model, it.reason.as_str().to_owned())).collect())
}

fn candidate(it: Experiment, summary: String) -> Tried {
    let mean = |sum: Option<i32>, count: Option<i32>| {
        let (sum, count) = (sum?, count?);
        (count > 0).then(|| (f64::from(sum) / f64::from(count), count))
    };
    let evidence = it.evidence.and_then(|stored| serde_json::from_value::<Evidence>(stored).ok());
    Tried {
        old: mean(it.old_sum, it.old_count),
        new: mean(it.new_sum, it.new_count),
        likely: evidence.and_then(|evidence| evidence.posterior_mean),
        model: it.model,
        old_version: it.old_version,
        new_version: it.new_version,
        summary,
        status: it.status,
        reason: it.reason,
        probation: it.probation,
        improvement: it.improvement,
    }
}
