//! Keeping still for as long as a service asks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// The longest wait that is sat through; a longer one is the caller's to schedule.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// No header closes a service for longer: a wrong one must not stop the work for good.
const CLOSED_MAX: TimeDelta = TimeDelta::hours(1);

/// What is added to a wait by chance, at most, so that not all who waited call in the same moment.
const SPREAD: Duration = Duration::from_secs(1);

/// Whether calls of one service may leave, as its headers say; shared by everything that calls it.
///
/// Nothing is locked across a wait. A crash loses it, which costs one refused call.
pub struct Throttle {
    clock: Arc<dyn Clock>,
    chance: fn() -> f64,
    closed: Mutex<Option<Span>>,
}

/// The two moments tell a wait from a clock that was set back.
#[derive(Debug, Clone, Copy)]
struct Span {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// A service that wants no calls for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// When it opens again; the same for everybody who waits for it.
    pub until: DateTime<Utc>,
    /// How long that is from now.
    pub left: Duration,
}

impl Throttle {
    /// Open, and by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, chance: rand::random::<f64>, closed: Mutex::new(None) }
    }

    /// The same, with this for chance: a number from 0 up to, but not including, 1.
    #[must_use]
    pub fn with_chance(mut self, chance: fn() -> f64) -> Self {
        self.chance = chance;
        self
    }

    /// No call may leave for this long. An earlier, longer wait stands.
    pub fn close_for(&self, wait: Duration) {
        let since = self.clock.now();
        let wait = TimeDelta::from_std(wait).unwrap_or(CLOSED_MAX).min(CLOSED_MAX);
        let Some(until) = since.checked_add_signed(wait) else { return };
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.is_none_or(|closed| closed.until < until || since < closed.since) {
            *closed = Some(Span { since, until });
        }
    }

    /// How long it is until a moment that a service named; `None` once it has passed.
    ///
    /// `date` is the answer's own: read against it, a wrong clock on this side cannot stretch the wait.
    #[must_use]
    pub fn wait_until(&self, moment: DateTime<Utc>, date: Option<&str>) -> Option<Duration> {
        let now = date
            .and_then(|date| httpdate::parse_http_date(date.trim()).ok())
            .map_or_else(|| self.clock.now(), DateTime::<Utc>::from);
        (moment - now).to_std().ok().filter(|wait| !wait.is_zero())
    }

    /// Whether and for how long no call may leave; `None` if one may.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        let now = self.clock.now();
        let span = (*self.closed.lock().unwrap_or_else(PoisonError::into_inner))?;
        if now < span.since {
            return None;
        }
        let left = (span.until - now).to_std().ok().filter(|left| !left.is_zero())?;
        Some(Closed { until: span.until, left })
    }

    /// Returns when a call may leave.
    ///
    /// # Errors
    /// How long it would take, when that is longer than [`WAIT_MAX`].
    pub async fn ready(&self) -> Result<(), Duration> {
        let mut waited_until = None;
        loop {
            // A wait is over when it was waited for: a second look at the clock could only find it a hair too early.
            let closed = match self.closed() {
                Some(closed) if waited_until != Some(closed.until) => closed,
                _ => return Ok(()),
            };
            if closed.left > WAIT_MAX {
                return Err(closed.left);
            }
            let chance = (self.chance)().clamp(0.0, 1.0);
            self.clock.sleep(closed.left.saturating_add(SPREAD.mul_f64(chance))).await;
            waited_until = Some(closed.until);
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("closed", &self.closed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use proptest::prelude::*;

    /// A sleep moves it on.
    struct Slept(Mutex<DateTime<Utc>>);

    impl Clock for Slept {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
            *self.0.lock().unwrap() += duration;
            Box::pin(std::future::ready(()))
        }
    }

    fn start() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn throttle() -> (Throttle, Arc<Slept>) {
        let clock = Arc::new(Slept(Mutex::new(start())));
        (Throttle::new(Arc::clone(&clock) as Arc<dyn Clock>).with_chance(|| 0.5), clock)
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_short_wait_is_sat_through_with_a_little_more_by_chance() {
        let (throttle, clock) = throttle();
        assert_eq!(throttle.ready().await, Ok(()));
        assert_eq!(clock.now(), start());
        throttle.close_for(seconds(30));
        assert_eq!(throttle.ready().await, Ok(()));
        assert_eq!(clock.now(), start() + Duration::from_millis(30_500));
        assert_eq!(throttle.closed(), None);
    }

    #[tokio::test]
    async fn a_long_wait_is_handed_back() {
        let (throttle, clock) = throttle();
        throttle.close_for(seconds(31));
        assert_eq!(throttle.ready().await, Err(seconds(31)));
        assert_eq!(clock.now(), start());
    }

    #[test]
    fn the_longer_wait_stands_and_none_is_longer_than_an_hour() {
        let (throttle, _) = throttle();
        let left = || throttle.closed().map(|closed| closed.left);
        throttle.close_for(seconds(20));
        throttle.close_for(seconds(10));
        assert_eq!(left(), Some(seconds(20)));
        throttle.close_for(Duration::MAX);
        assert_eq!(left(), Some(Duration::from_hours(1)));
    }

    #[test]
    fn a_clock_that_is_set_back_opens_the_door() {
        let (throttle, clock) = throttle();
        throttle.close_for(seconds(20));
        *clock.0.lock().unwrap() -= TimeDelta::days(1);
        assert_eq!(throttle.closed(), None);
        throttle.close_for(seconds(5));
        assert_eq!(throttle.closed().map(|closed| closed.left), Some(seconds(5)));
    }

    #[test]
    fn a_moment_is_read_against_the_answers_own_date() {
        let (throttle, _) = throttle();
        let reset = start() + TimeDelta::seconds(60);
        assert_eq!(throttle.wait_until(reset, None), Some(seconds(60)));
        let date = Some("Sun, 22 Nov 2026 10:00:50 GMT");
        assert_eq!(throttle.wait_until(reset, date), Some(seconds(10)));
        assert_eq!(throttle.wait_until(reset, Some("soon")), Some(seconds(60)));
        assert_eq!(throttle.wait_until(start(), None), None);
    }

    proptest! {
        #[test]
        fn no_wait_makes_it_panic(wait: u64, back in 0_i64..1_000_000, unix_s: i64, date in ".*") {
            let (throttle, clock) = throttle();
            throttle.close_for(Duration::from_millis(wait));
            *clock.0.lock().unwrap() -= TimeDelta::seconds(back);
            let _ = throttle.closed();
            if let Some(moment) = DateTime::from_timestamp(unix_s, 0) {
                let _ = throttle.wait_until(moment, Some(&date));
            }
        }
    }
}
