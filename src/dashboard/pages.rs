//! The pages beside the first one, one file each.

pub mod changes;
pub mod conflicts;
pub mod cycle;
pub mod cycles;
pub mod insights;
pub mod model;
pub mod report;
pub mod task;
pub mod tasks;
pub mod verdicts;
pub mod version;
pub mod why;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::table::Cell;
use super::words;

/// Where a page belongs: its workflow, and the zone of its times.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// The workflow's name.
    pub workflow: &'p str,
    /// The workflow's time zone.
    pub zone: Tz,
}

impl Place<'_> {
    fn moment(self, at: DateTime<Utc>) -> Cell {
        Cell::of(words::moment(at, self.zone), at.to_rfc3339())
    }

    fn moment_or_nothing(self, at: Option<DateTime<Utc>>) -> Cell {
        at.map_or_else(Cell::nothing, |at| self.moment(at))
    }
}
