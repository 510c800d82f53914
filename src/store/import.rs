//! Runs of the past, which no analysis is to take.

use sqlx::PgConnection;

use super::StoreError;
use crate::task_log::TaskChange;

/// Makes the rows of runs that are not there yet, marked as analysed in cycle 0, which no cycle is. The
/// upsert that follows in the same transaction merges into them. Rows that are there stay as they are.
///
/// A mark set after the commit would leave a moment in which a trigger takes the runs, and a crash in
/// that moment would leave them for it; a lock on the cycle would close the first gap and not the second.
///
/// Changes must be in key order, as everywhere in the task log.
pub(super) async fn begin_analysed(
    connection: &mut PgConnection,
    workflow_id: i64,
    changes: &[TaskChange<'_>],
) -> Result<(), StoreError> {
    let tasks: Vec<&str> = changes.iter().map(|change| change.task_id).collect();
    let runs: Vec<&str> = changes.iter().map(|change| change.run_id).collect();
    let created: Vec<_> = changes.iter().map(|change| change.created_at).collect();
    let last: Vec<_> = changes.iter().map(|change| change.last_event_at).collect();
    sqlx::query!(
        "INSERT INTO tasks (workflow_id, clickup_task_id, run_id, created_at, last_event_at,
                            analyzed_in_cycle)
         SELECT $1, new.task, new.run, new.created_at, new.last_event_at, 0
           FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
                WITH ORDINALITY AS new (task, run, created_at, last_event_at, place)
          ORDER BY new.place
         ON CONFLICT (workflow_id, clickup_task_id, run_id) DO NOTHING",
        workflow_id,
        tasks as _,
        runs as _,
        &created,
        &last
    )
    .execute(connection)
    .await?;
    Ok(())
}
