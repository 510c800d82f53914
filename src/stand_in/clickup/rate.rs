//! Requests in the running minute.

use chrono::{DateTime, Utc};

/// Counts them; the minutes are those of the clock.
#[derive(Debug, Default)]
pub(super) struct Rate {
    minute: i64,
    used: u32,
}

/// Where the limit stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) is_over: bool,
    pub(super) remaining: u32,
    /// Unix time in seconds at which the count begins anew.
    pub(super) reset: i64,
}

impl Rate {
    /// Counts a request.
    pub(super) fn count(&mut self, now: DateTime<Utc>, limit: u32) -> Standing {
        let minute = now.timestamp().div_euclid(60);
        if minute != self.minute {
            *self = Self { minute, used: 0 };
        }
        self.used = self.used.saturating_add(1);
        self.standing(limit)
    }

    /// Where the limit stands.
    pub(super) fn standing(&self, limit: u32) -> Standing {
        Standing {
            is_over: self.used > limit,
            remaining: limit.saturating_sub(self.used),
            reset: self.minute.saturating_add(1).saturating_mul(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_begins_anew_with_the_minute() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        let mut rate = Rate::default();
        assert_eq!(rate.count(at(61), 2).remaining, 1);
        assert!(!rate.count(at(62), 2).is_over);
        let third = rate.count(at(63), 2);
        assert!(third.is_over);
        assert_eq!(third.reset, 120);
        assert!(!rate.count(at(120), 2).is_over);
    }
}
