//! Hints to other processes that something of a workflow changed. Polling is the truth; a hint makes it quick.
//!
//! PostgreSQL hands notifications out in the order of their commits. So transactions that notify commit one after
//! another, and each waits for the disk by itself (`PreCommit_Notify` in its `async.c`). What commits often sends its hint
//! behind the commit, in a transaction that has nothing else and need not wait.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// The hints of a process that are not sent yet. Clones share them. Those that wait when a process dies are lost, and
/// others see at their next poll what they were about.
#[derive(Clone, Default)]
pub struct Hints {
    unsent: Arc<Mutex<Unsent>>,
}

#[derive(Default)]
struct Unsent {
    of: BTreeSet<i64>,
    is_sending: bool,
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

impl Hints {
    /// Tells other processes, and this one, soon. Those that come while one is under way go together.
    pub(super) fn send_soon(&self, pool: &PgPool, workflow_id: i64) {
        let mut unsent = self.unsent();
        unsent.of.insert(workflow_id);
        if !std::mem::replace(&mut unsent.is_sending, true) {
            tokio::spawn(self.clone().send_all(pool.clone()));
        }
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Vec<i64>> {
        let mut unsent = self.unsent();
        let of = std::mem::take(&mut unsent.of);
        unsent.is_sending = !of.is_empty();
        unsent.is_sending.then(|| of.into_iter().collect())
    }

    async fn send_all(self, pool: PgPool) {
        while let Some(workflow_ids) = self.next() {
            if let Err(error) = notify(&pool, &workflow_ids).await {
                tracing::debug!(error = %error, "hints were not sent; others see it at their next poll");
            }
        }
    }
}

async fn notify(pool: &PgPool, workflow_ids: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT pg_notify('mathesis', workflow_id::text) FROM unnest($1::bigint[]) AS changed (workflow_id)",
        workflow_ids
    )
    .fetch_all(pool)
    .await?;
    Ok(())
}

/// Sends a hint with the transaction that it is about: for what a person does, or what is seldom.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn hint(conn: &mut PgConnection, workflow_id: i64) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_notify('mathesis', $1::text)", workflow_id.to_string())
        .fetch_one(conn)
        .await?;
    Ok(())
}
