//! What quotes a task that is to be forgotten: answers of Claude, and what was learnt from them.
//!
//! Versions never change: the overfit guard kept the tasks' passages out of them. Requests are stored by their hash
//! alone, and an analysis plan holds row numbers.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::research::quotes::{FORGOTTEN, Quotes};
use crate::store::StoreError;

/// A task's words, and since when anything can quote them.
pub(super) struct Found {
    quotes: Quotes,
    since: Option<DateTime<Utc>>,
}

/// Reads every text of the runs.
pub(super) async fn read(
    conn: &mut PgConnection,
    workflow_id: i64,
    task: &str,
    ids: &[i64],
) -> Result<Found, StoreError> {
    let mut quotes = Quotes::of(task);
    let mut since: Option<DateTime<Utc>> = None;
    let runs = sqlx::query!(
        "SELECT original_prompt, task_name, feedback_comment, error, metadata, created_at
           FROM tasks WHERE workflow_id = $1 AND id = ANY($2)",
        workflow_id,
        ids
    )
    .fetch_all(&mut *conn)
    .await?;
    for run in runs {
        let own = [run.original_prompt, run.task_name, run.feedback_comment];
        own.iter().flatten().for_each(|text| quotes.add(text));
        run.error.iter().for_each(|text| quotes.add_long(text));
        add_each(&mut quotes, &run.metadata);
        since = Some(since.map_or(run.created_at, |earliest| earliest.min(run.created_at)));
    }
    let attempts = sqlx::query!(
        "SELECT original_prompt, enhanced_prompt, image_url, validation_issues, validation_reasoning, error,
                metadata
           FROM attempts WHERE workflow_id = $1 AND task_id = ANY($2)",
        workflow_id,
        ids
    )
    .fetch_all(conn)
    .await?;
    for attempt in attempts {
        let own = [attempt.original_prompt, attempt.enhanced_prompt, attempt.image_url];
        own.iter().flatten().for_each(|text| quotes.add(text));
        let said = [attempt.validation_reasoning, attempt.error];
        said.iter().flatten().for_each(|text| quotes.add_long(text));
        attempt.validation_issues.iter().for_each(|issues| add_each(&mut quotes, issues));
        add_each(&mut quotes, &attempt.metadata);
    }
    Ok(Found { quotes, since })
}

fn add_each(quotes: &mut Quotes, value: &Value) {
    match value {
        Value::String(text) => quotes.add_long(text),
        Value::Array(items) => items.iter().for_each(|item| add_each(quotes, item)),
        Value::Object(members) => members.values().for_each(|member| add_each(quotes, member)),
        _ => {}
    }
}

/// Takes the task's words out of everything that was said since it arrived. Returns how many rows that changed.
pub(super) async fn take_out(
    conn: &mut PgConnection,
    workflow_id: i64,
    found: &Found,
) -> Result<usize, StoreError> {
    // Nothing of a run that left before is there to be compared.
    let Some(since) = found.since else { return Ok(0) };
    let quotes = &found.quotes;
    let mended = of_answers(conn, workflow_id, quotes, since).await?
        + of_analyses(conn, workflow_id, quotes, since).await?
        + of_insights(conn, workflow_id, quotes, since).await?
        + of_judgements(conn, workflow_id, quotes, since).await?
        + of_candidates(conn, workflow_id, quotes, since).await?
        + of_failures(conn, workflow_id, quotes, since).await?;
    Ok(mended)
}

/// A sentence of the guard's shows an excerpt that is cut within its words, so all of it goes.
fn whole(quotes: &Quotes, text: &str) -> Option<String> {
    quotes.without(text).map(|_| "it quoted a task that was forgotten since".to_owned())
}

async fn of_answers(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "SELECT outcome_id, response_text, error_message FROM claude_call_outcomes
          WHERE workflow_id = $1 AND recorded_at >= $2",
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let answer = row.response_text.as_deref().and_then(|text| quotes.answer_without(text));
        let error = row.error_message.as_deref().and_then(|text| whole(quotes, text));
        if answer.is_none() && error.is_none() {
            continue;
        }
        mended += 1;
        sqlx::query!(
            "UPDATE claude_call_outcomes
                SET response_text = coalesce($3, response_text),
                    error_message = coalesce($4, error_message)
              WHERE workflow_id = $1 AND outcome_id = $2",
            workflow_id,
            row.outcome_id,
            answer,
            error
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(mended)
}

async fn of_analyses(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "SELECT cycle, summary, model_insights, recommendations FROM analyses
          WHERE workflow_id = $1 AND created_at >= $2",
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let summary = quotes.without(&row.summary);
        let models = quotes.json_without(&row.model_insights);
        let advice = quotes.json_without(&row.recommendations);
        if summary.is_none() && models.is_none() && advice.is_none() {
            continue;
        }
        mended += 1;
        sqlx::query!(
            "UPDATE analyses
                SET summary = coalesce($3, summary), model_insights = coalesce($4, model_insights),
                    recommendations = coalesce($5, recommendations)
              WHERE workflow_id = $1 AND cycle = $2",
            workflow_id,
            row.cycle,
            summary,
            models,
            advice
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(mended)
}

async fn of_insights(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, description, suggested_change FROM insights
          WHERE workflow_id = $1 AND created_at >= $2",
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let claim = quotes.without(&row.description);
        let change = quotes.without(&row.suggested_change);
        if claim.is_none() && change.is_none() {
            continue;
        }
        mended += 1;
        sqlx::query!(
            "UPDATE insights
                SET description = coalesce($3, description),
                    suggested_change = coalesce($4, suggested_change)
              WHERE workflow_id = $1 AND id = $2",
            workflow_id,
            row.id,
            claim,
            change
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(mended)
}

async fn of_judgements(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "SELECT cycle, insight_id, reason FROM insight_judgements
          WHERE workflow_id = $1 AND created_at >= $2",
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let Some(reason) = quotes.without(&row.reason) else { continue };
        mended += 1;
        sqlx::query!(
            "UPDATE insight_judgements SET reason = $4
              WHERE workflow_id = $1 AND cycle = $2 AND insight_id = $3",
            workflow_id,
            row.cycle,
            row.insight_id,
            reason
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(mended)
}

/// Candidates that were refused, often for the very reason that they quoted a task.
async fn of_candidates(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "SELECT cycle, model_name, ordinal, reason, summary, edits FROM refused_candidates
          WHERE workflow_id = $1 AND created_at >= $2",
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let reason = whole(quotes, &row.reason);
        let summary = quotes.without(&row.summary);
        let edits = quotes.json_without(&row.edits);
        if reason.is_none() && summary.is_none() && edits.is_none() {
            continue;
        }
        mended += 1;
        sqlx::query!(
            "UPDATE refused_candidates
                SET reason = coalesce($5, reason), summary = coalesce($6, summary),
                    edits = coalesce($7, edits)
              WHERE workflow_id = $1 AND cycle = $2 AND model_name = $3 AND ordinal = $4",
            workflow_id,
            row.cycle,
            row.model_name,
            row.ordinal,
            reason,
            summary,
            edits
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(mended)
}

/// What people are told of failures, in which an excerpt of the guard's may stand.
async fn of_failures(
    conn: &mut PgConnection,
    workflow_id: i64,
    quotes: &Quotes,
    since: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT 'hold' AS "of!", hold_id::text AS "id!", reason AS "words!" FROM holds
            WHERE workflow_id = $1 AND placed_at >= $2
           UNION ALL
           SELECT 'effect', effect_id::text, last_error FROM effects
            WHERE workflow_id = $1 AND created_at >= $2 AND last_error IS NOT NULL
           UNION ALL
           SELECT 'notification', notification_id::text, said FROM notifications
            WHERE workflow_id = $1 AND created_at >= $2"#,
        workflow_id,
        since
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut mended = 0;
    for row in rows {
        let Some(words) = whole(quotes, &row.words) else { continue };
        mended += 1;
        match row.of.as_str() {
            "hold" => {
                sqlx::query!(
                    "UPDATE holds SET reason = $3 WHERE workflow_id = $1 AND hold_id::text = $2",
                    workflow_id,
                    row.id,
                    words
                )
                .execute(&mut *conn)
                .await?
            }
            "effect" => {
                sqlx::query!(
                    "UPDATE effects SET last_error = $3 WHERE workflow_id = $1 AND effect_id::text = $2",
                    workflow_id,
                    row.id,
                    words
                )
                .execute(&mut *conn)
                .await?
            }
            _ => {
                sqlx::query!(
                    "UPDATE notifications SET said = $3
                      WHERE workflow_id = $1 AND notification_id::text = $2",
                    workflow_id,
                    row.id,
                    words
                )
                .execute(&mut *conn)
                .await?
            }
        };
    }
    Ok(mended)
}

/// Puts a plain word in the place of the task's id wherever it is evidence. Returns how many rows that changed.
pub(super) async fn drop_evidence(
    conn: &mut PgConnection,
    workflow_id: i64,
    task: &str,
) -> Result<usize, StoreError> {
    let insights = sqlx::query!(
        "UPDATE insights SET example_task_ids = array_replace(example_task_ids, $2, $3)
          WHERE workflow_id = $1 AND $2 = ANY(example_task_ids)",
        workflow_id,
        task,
        FORGOTTEN
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    let judgements = sqlx::query!(
        "UPDATE insight_judgements SET example_task_ids = array_replace(example_task_ids, $2, $3)
          WHERE workflow_id = $1 AND $2 = ANY(example_task_ids)",
        workflow_id,
        task,
        FORGOTTEN
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(usize::try_from(insights + judgements).unwrap_or(usize::MAX))
}
