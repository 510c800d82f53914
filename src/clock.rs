//! The clock as a parameter. Nothing else in the crate asks what time it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

/// What time it is, and how to wait.
pub trait Clock: Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> DateTime<Utc>;

    /// Waits for that long by this clock. Dropping the future ends the wait.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> DateTime<Utc> {
        wrong_by(Utc::now())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The time of a machine whose clock is wrong by as many seconds as the file says that
/// `MATHESIS_CLOCK_OFFSET_FILE` names: for the crash campaign, in which clocks jump while the program runs.
#[cfg(feature = "testing")]
fn wrong_by(now: DateTime<Utc>) -> DateTime<Utc> {
    static FILE: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("MATHESIS_CLOCK_OFFSET_FILE"));
    let seconds = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse().ok())
        .and_then(chrono::Duration::try_seconds);
    seconds.and_then(|by| now.checked_add_signed(by)).unwrap_or(now)
}

/// A build that is shipped has the machine's own time.
#[cfg(not(feature = "testing"))]
const fn wrong_by(now: DateTime<Utc>) -> DateTime<Utc> {
    now
}

#[cfg(feature = "testing")]
pub use hand_held::HandHeldClock;

#[cfg(feature = "testing")]
mod hand_held {
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use futures::future::BoxFuture;

    use super::Clock;

    /// A clock that stands still until a test moves it. Waiting on it returns at once.
    #[derive(Debug)]
    pub struct HandHeldClock {
        now: Mutex<DateTime<Utc>>,
    }

    impl HandHeldClock {
        /// A clock that stands at `now`.
        #[must_use]
        pub const fn at(now: DateTime<Utc>) -> Self {
            Self { now: Mutex::new(now) }
        }

        /// Moves the clock on.
        pub fn advance(&self, by: chrono::Duration) {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now += by;
        }

        /// Sets the clock, forwards or backwards.
        pub fn set(&self, to: DateTime<Utc>) {
            *self.now.lock().unwrap_or_else(PoisonError::into_inner) = to;
        }
    }

    impl Clock for HandHeldClock {
        fn now(&self) -> DateTime<Utc> {
            *self.now.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'_, ()> {
            Box::pin(tokio::task::yield_now())
        }
    }
}
