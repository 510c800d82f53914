//! Cron expressions of a definition: five fields, read in the workflow's time zone.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

/// A cron expression of five fields (minute, hour, day of the month, month, day of the week) that falls due sometimes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronExpression {
    text: String,
    cron: Box<Cron>,
}

/// A text that is no usable cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a cron expression: {problem}")]
pub struct InvalidCron {
    text: String,
    problem: String,
}

impl InvalidCron {
    /// What is wrong, without the expression.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl CronExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`InvalidCron`] if it has not five fields, cannot be read, or never falls due (30 February).
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidCron> {
        let text = text.into();
        let refuse = |problem: String| InvalidCron { text: text.clone(), problem };
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.trim_start().starts_with('@') {
            return Err(refuse(format!("five fields are wanted, and it has {fields}")));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).map_err(|error| refuse(error.to_string()))?;
        // Any fixed day will do: croner looks centuries ahead before it gives up.
        let start = DateTime::<Utc>::UNIX_EPOCH;
        if cron.find_next_occurrence(&start, false).is_err() {
            return Err(refuse("it never falls due".to_owned()));
        }
        Ok(Self { text, cron: Box::new(cron) })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after `after` at which the expression falls due in `timezone`.
    ///
    /// `None` only at the end of the calendar.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        let local = timezone.from_utc_datetime(&after.naive_utc());
        self.cron.find_next_occurrence(&local, false).ok().map(|due| due.with_timezone(&Utc))
    }
}

impl fmt::Debug for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronExpression({:?})", self.text)
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronExpression {}

impl TryFrom<String> for CronExpression {
    type Error = InvalidCron;

    fn try_from(text: String) -> Result<Self, InvalidCron> {
        Self::new(text)
    }
}

impl FromStr for CronExpression {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        Self::new(text)
    }
}

impl From<CronExpression> for String {
    fn from(expression: CronExpression) -> String {
        expression.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn three_in_the_morning_is_three_in_athens_in_winter_and_in_summer() {
        let daily = CronExpression::new("0 3 * * *").unwrap();
        let athens = chrono_tz::Europe::Athens;
        assert_eq!(
            daily.next_after(at("2026-01-10T12:00:00Z"), athens),
            Some(at("2026-01-11T01:00:00Z"))
        );
        assert_eq!(
            daily.next_after(at("2026-07-10T12:00:00Z"), athens),
            Some(at("2026-07-11T00:00:00Z"))
        );
    }

    #[test]
    fn an_hour_that_falls_due_now_is_not_due_again_now() {
        let hourly = CronExpression::new("0 * * * *").unwrap();
        assert_eq!(
            hourly.next_after(at("2026-01-10T12:00:00Z"), Tz::UTC),
            Some(at("2026-01-10T13:00:00Z"))
        );
    }

    #[test]
    fn what_never_falls_due_or_cannot_be_read_is_refused() {
        for text in
            ["", "often", "0 * * *", "0 0 0 * * *", "61 * * * *", "0 0 30 2 *", "0 0 * * * 2030"]
        {
            assert!(CronExpression::new(text).is_err(), "{text:?} should be refused");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_expression_or_an_error(text in "[0-9*/,@LW# -]{0,24}|\\PC{0,24}") {
            let _ = CronExpression::new(text);
        }
    }
}
