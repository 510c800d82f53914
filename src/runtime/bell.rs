//! The watcher's bell: it says of which workflows there is news.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Whom a ring was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These workflows.
    Of(BTreeSet<i64>),
    /// Nobody knows which: every workflow is to be looked at.
    OfAny,
}

/// Rung by whoever changed something, heard by the watcher. Clones are one bell. It lives in memory: what was
/// rung and not heard when a process dies is found by the poll.
#[derive(Clone, Default)]
pub struct Bell {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Default)]
struct Waiting {
    of: BTreeSet<i64>,
    of_any: bool,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

impl Bell {
    /// There is news of one workflow.
    pub fn ring(&self, workflow_id: i64) {
        self.ring_each([workflow_id]);
    }

    /// There is news of each of these workflows.
    pub fn ring_each(&self, workflow_ids: impl IntoIterator<Item = i64>) {
        self.waiting().of.extend(workflow_ids);
        self.inner.rung.notify_one();
    }

    /// There may be news of any workflow.
    pub fn ring_any(&self) {
        self.waiting().of_any = true;
        self.inner.rung.notify_one();
    }

    /// Waits until it rings, and returns for whom since the last time. Nothing is lost by dropping the
    /// future.
    pub async fn heard(&self) -> News {
        loop {
            let waiting = std::mem::take(&mut *self.waiting());
            if waiting.of_any {
                return News::OfAny;
            }
            if !waiting.of.is_empty() {
                return News::Of(waiting.of);
            }
            self.inner.rung.notified().await;
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_before_it_is_heard_are_one_set_and_are_heard_once() {
        let bell = Bell::default();
        bell.ring(3);
        bell.clone().ring_each([1, 3]);
        assert_eq!(bell.heard().await, News::Of(BTreeSet::from([1, 3])));
        bell.ring(2);
        assert_eq!(bell.heard().await, News::Of(BTreeSet::from([2])), "the others were heard");
    }

    #[tokio::test]
    async fn a_ring_for_any_workflow_outweighs_those_for_some() {
        let bell = Bell::default();
        bell.ring(3);
        bell.ring_any();
        assert_eq!(bell.heard().await, News::OfAny);
    }
}
