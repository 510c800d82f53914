//! What the doctor says of what runs by the clock: when it ran last, what came of it, and when it is due.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::super::context::{Context, zone};
use super::super::output::time;
use super::{Finding, bad, good, note};
use crate::runtime::Workflow;
use crate::store::schedules::{self, ScheduleRow};

/// A running server does what is due within a minute; a claim of one that died stands for ten.
const LATE: TimeDelta = TimeDelta::minutes(30);

/// One finding for each schedule of the workflow.
pub(super) async fn of_schedules(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    match schedules::list(context.engine.store.pool(), workflow.workflow_id).await {
        Err(error) => {
            vec![bad(format!("schedules of {}", workflow.name()), error.to_string(), "")]
        }
        Ok(rows) => rows
            .into_iter()
            .map(|row| of_schedule(workflow.name(), &row, zone(workflow), context.engine.now()))
            .collect(),
    }
}

fn of_schedule(workflow: &str, row: &ScheduleRow, zone: Tz, now: DateTime<Utc>) -> Finding {
    let check = format!("{} of {workflow}", row.name);
    let last = match (row.last_run_at, &row.last_result) {
        (Some(at), Some(result)) => format!("last run at {}: {result}", time(at, zone)),
        (Some(at), None) => format!("last run at {}", time(at, zone)),
        (None, _) => "has not run yet".to_owned(),
    };
    let due = time(row.next_run_at, zone);
    if now - row.next_run_at > LATE {
        note(
            check,
            format!("{last}; due since {due}"),
            "A running server does it within a minute; start `mathesis serve` if none runs.",
        )
    } else {
        good(check, format!("{last}; next at {due}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_words;
    use super::*;

    #[test]
    fn what_ran_and_what_is_due_is_told_in_the_workflows_zone() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let next = "2026-11-27T01:00:00Z";
        let fresh = ScheduleRow {
            name: "cleanup".to_owned(),
            next_run_at: at(next),
            last_run_at: None,
            last_result: None,
        };
        let ran = ScheduleRow {
            last_run_at: Some(at("2026-11-26T01:00:07Z")),
            last_result: Some("3 tasks removed, 1 of them never analysed".to_owned()),
            ..fresh.clone()
        };
        let told = |row: &ScheduleRow, now: &str| {
            of_schedule("image-editing", row, chrono_tz::Europe::Athens, at(now))
        };
        let findings = [
            told(&fresh, "2026-11-26T12:00:00Z"),
            told(&ran, "2026-11-27T01:30:00Z"),
            told(&ran, "2026-11-27T01:30:01Z"),
        ];
        insta::assert_snapshot!(in_words(&findings));
    }
}
