//! Events of a file: each batch is one transaction, which also notes how far the file is done with.

use std::sync::Arc;

use sqlx::PgPool;

use super::event::TaskEvent;
use super::logger::{Checked, LogError, LogReport, LoggerLimits, WorkflowInfo};
use super::writer::repeated;
use crate::clock::Clock;
use crate::store::imports::Step;
use crate::store::task_log::record_import;

/// Takes events batch by batch, for one caller.
pub struct Importer {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    workflow: WorkflowInfo,
    learn: bool,
}

impl Importer {
    /// An importer into that workflow. Without `learn` the runs that it makes are history, which no
    /// analysis takes.
    #[must_use]
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, workflow: WorkflowInfo, learn: bool) -> Self {
        Self { pool, clock, workflow, learn }
    }

    /// Takes a batch, and with it the step that it is of its file.
    ///
    /// A crash leaves either nothing of the batch and of the step, or both: an import that goes on behind
    /// the last step sees no event twice.
    ///
    /// # Errors
    /// [`LogError`] when nothing of the batch is known to be stored; it is safe to take it again.
    pub async fn take(
        &self,
        events: Vec<TaskEvent>,
        step: Option<Step>,
    ) -> Result<LogReport, LogError> {
        let checked = Checked::of(&self.workflow, events.into_iter().map(Ok), self.clock.now());
        let refused = i64::try_from(checked.report.rejected.len()).unwrap_or(i64::MAX);
        let step = step.map(|step| Step { refused: step.refused + refused, ..step });
        let retries_max = LoggerLimits::default().retries_max;
        let recorded = repeated(self.clock.as_ref(), retries_max, || {
            record_import(
                &self.pool,
                self.workflow.workflow_id,
                &self.workflow.models,
                &checked.arrived,
                self.learn,
                step.as_ref(),
            )
        });
        let verdicts = recorded.await.map_err(|error| LogError::Store(Arc::new(error)))?;
        Ok(checked.reported(verdicts))
    }
}
