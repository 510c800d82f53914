//! How many predictions run at once. A slot is taken before one is asked for, and given back when it was waited for.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;

/// A prediction that nobody waits for, since its run was stopped, gives its slot back after this long.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Between two looks for forgotten ones.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The slots of one account. A crash frees them all, while what was asked for goes on: WaveSpeed's own limit holds then.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<String, Taken>>,
}

struct Taken {
    slot: Option<OwnedSemaphorePermit>,
    since: DateTime<Utc>,
}

impl Slots {
    pub(super) fn new(concurrent_max: NonZeroU32) -> Self {
        let most = usize::try_from(concurrent_max.get()).unwrap_or(usize::MAX);
        Self {
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            taken: Mutex::default(),
        }
    }

    /// Waits for a free slot. `None` only if there are no slots any more, which never is.
    pub(super) async fn take(&self, clock: &dyn Clock) -> Option<OwnedSemaphorePermit> {
        loop {
            self.forget(clock.now());
            tokio::select! {
                // A free slot is taken at once, whatever the clock does.
                biased;
                slot = Arc::clone(&self.free).acquire_owned() => return slot.ok(),
                () = clock.sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// The slot belongs to this prediction now.
    pub(super) fn keep(&self, id: &str, slot: Option<OwnedSemaphorePermit>, now: DateTime<Utc>) {
        self.lock().insert(id.to_owned(), Taken { slot, since: now });
    }

    /// The slot of a prediction, to be dropped when it has ended; none if it was asked for before a crash.
    pub(super) fn of(&self, id: &str) -> Option<OwnedSemaphorePermit> {
        self.lock().remove(id).and_then(|taken| taken.slot)
    }

    fn forget(&self, now: DateTime<Utc>) {
        self.lock().retain(|_, taken| now - taken.since < FORGOTTEN_AFTER);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
