//! The pruner: removes old tasks in short transactions, and keeps what they amounted to.

use std::fmt;

use super::engine::Engine;
use super::registry::Workflow;
use crate::store::StoreError;
use crate::store::notifications;
use crate::store::pipeline::prune::prune as prune_pipeline;
use crate::store::retention::{self, Cleanup};

/// Tasks removed by one transaction.
const BATCH: i64 = 500;

/// What a cleanup removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Tasks with their attempts and event keys.
    pub tasks: i64,
    /// Completed tasks among them that no analysis had seen.
    pub unanalyzed: i64,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks removed", self.tasks)?;
        if self.unanalyzed > 0 {
            write!(f, ", {} of them never analysed", self.unanalyzed)?;
        }
        Ok(())
    }
}

/// Removes the workflow's tasks that are older than it keeps them, but for those that an open cycle
/// needs. A crash in the middle leaves whole tasks, and the next run goes on.
///
/// # Errors
/// [`StoreError`] when the database fails; what was removed by then stays removed and counted.
pub async fn prune(engine: &Engine, workflow: &Workflow) -> Result<Pruned, StoreError> {
    let pool = engine.store.pool();
    let days = i64::from(workflow.definition.retention.days);
    let now = engine.now();
    let cleanup = Cleanup {
        created_before: now - chrono::Duration::days(days),
        now,
        time_zone: workflow.definition.timezone,
        batch: BATCH,
    };
    let mut pruned = Pruned::default();
    loop {
        let step = retention::cleanup(pool, workflow.workflow_id, &cleanup).await?;
        pruned.tasks += step.removed;
        pruned.unanalyzed += step.unanalyzed;
        if !step.more {
            break;
        }
    }
    let before = cleanup.created_before;
    while retention::prune_assignments(pool, workflow.workflow_id, before, BATCH).await? > 0 {}
    while notifications::prune(pool, workflow.workflow_id, before, BATCH).await? > 0 {}
    while prune_pipeline(pool, workflow.workflow_id, before, BATCH).await? > 0 {}
    retention::prune_sessions(pool, engine.now()).await?;
    if pruned.unanalyzed > 0 {
        tracing::warn!(
            workflow.name = workflow.name(),
            tasks = pruned.unanalyzed,
            "the cleanup removed completed tasks that no analysis had seen"
        );
    }
    Ok(pruned)
}
