//! Sentences and numbers as the pages write them.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use crate::store::analytics::{Analytics, OpenCycle, Phase, RunningExperiment};

/// What stands where nothing was measured.
pub const NOTHING: &str = "–";

/// Scores that differ by less than this are said to hold.
const SCORE_MOVES: f64 = 0.1;

/// Where the cycle stands, in one sentence.
#[must_use]
pub fn standing(analytics: &Analytics) -> String {
    let Some(cycle) = &analytics.cycle else {
        return "No cycle is open yet: the first one opens when this workflow is served."
            .to_owned();
    };
    match cycle.state.as_str() {
        "collecting" => collecting(analytics, cycle),
        "analyzing" => {
            "Analyzing: Claude reads the completed tasks and looks for patterns.".to_owned()
        }
        "generating" => "Generating: Claude writes new prompts from the insights.".to_owned(),
        "testing" => decks("Testing", "the decks are being dealt", analytics, Phase::Test),
        "deciding" => "Deciding: the scores are in and the verdicts are being written.".to_owned(),
        "applying" => {
            "Applying: the adopted prompts are being written to the config files.".to_owned()
        }
        "probation" => {
            decks("Probation", "every adopted prompt has its answer", analytics, Phase::Watch)
        }
        "reverting" => "Reverting: the version before is being put back.".to_owned(),
        other => format!("The cycle is {other}."),
    }
}

fn collecting(analytics: &Analytics, cycle: &OpenCycle) -> String {
    let trigger = i64::from(cycle.trigger_tasks);
    if cycle.waiting_tasks >= trigger {
        return format!(
            "Collecting: {} completed tasks are waiting, {} are enough for an analysis.",
            count(cycle.waiting_tasks),
            count(trigger)
        );
    }
    let left = (trigger - cycle.waiting_tasks, cycle.waiting_lately);
    format!(
        "Collecting: {} of {} completed tasks for the next analysis{}.",
        count(cycle.waiting_tasks),
        count(trigger),
        at_this_rate(analytics, [(left, cycle.since)].into_iter())
    )
}

fn decks(title: &str, otherwise: &str, analytics: &Analytics, phase: Phase) -> String {
    let running = || analytics.running.iter().filter(|running| running.phase == phase);
    let decks: Vec<String> = running().map(deck).collect();
    if decks.is_empty() {
        return format!("{title}: {otherwise}.");
    }
    let left = running().map(|running| {
        let RunningExperiment { old, new, dealing_since, .. } = running;
        let open = old.slots + new.slots - old.scored - new.scored;
        ((open, old.dealt_lately + new.dealt_lately), *dealing_since)
    });
    format!("{title}: {}{}.", decks.join("; "), at_this_rate(analytics, left))
}

fn deck(running: &RunningExperiment) -> String {
    let RunningExperiment { model, old, new, .. } = running;
    format!("{model} {} of {} old, {} of {} new", old.scored, old.slots, new.scored, new.slots)
}

/// How long it takes, from what is left, what came in the latest day, and since when that counts. Empty
/// where nothing came or where everything stands still.
fn at_this_rate(
    analytics: &Analytics,
    parts: impl Iterator<Item = ((i64, i64), DateTime<Utc>)>,
) -> String {
    if !analytics.holds.is_empty() {
        return String::new();
    }
    let mut slowest = 0.0_f64;
    for ((left, lately), since) in parts {
        if left <= 0 {
            continue;
        }
        let hours = (analytics.generated_at - since).num_minutes().clamp(1, 24 * 60);
        let (Some(left), Some(pace)) = (ratio(left * hours, 60), ratio(lately, 1)) else {
            return String::new();
        };
        if pace <= 0.0 {
            return String::new();
        }
        slowest = slowest.max(left / pace);
    }
    if slowest <= 0.0 {
        return String::new();
    }
    format!("; about {} left at today's rate", hours(slowest))
}

#[expect(clippy::cast_precision_loss, reason = "it becomes a rough number of hours")]
fn ratio(sum: i64, count: i64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

/// A stretch of time, roughly: "20 minutes", "4 hours", "3 days".
fn hours(hours: f64) -> String {
    let (number, unit) = match hours {
        _ if hours < 0.75 => ((hours * 12.0).ceil() * 5.0, "minute"),
        _ if hours < 36.0 => (hours.round().max(1.0), "hour"),
        _ => ((hours / 24.0).round(), "day"),
    };
    format!("{number:.0} {unit}{}", if number > 1.0 { "s" } else { "" })
}

/// Why it is held, as a heading.
#[must_use]
pub fn hold(kind: &str) -> String {
    match kind {
        "operator" => "Paused".to_owned(),
        "effect_failed" => "A step failed".to_owned(),
        "approval" => "Waiting for approval".to_owned(),
        "automation_off" => "Automation is off".to_owned(),
        "budget_spent" => "The month's budget is spent".to_owned(),
        "config_conflict" => "A config file was edited by hand".to_owned(),
        other => title(other),
    }
}

/// Whether it learns, in one or two sentences.
#[must_use]
pub fn learning(analytics: &Analytics) -> String {
    let scores = analytics.learning.as_ref().and_then(|learning| {
        Some((learning.score.before?, learning.score.latest?, learning.latest))
    });
    let trend = match scores {
        None => "Too early to tell whether scores rise: it takes scores on two days.".to_owned(),
        Some((before, latest, span)) => {
            let days = (span.to - span.from).num_days() + 1;
            let verb = match latest - before {
                change if change >= SCORE_MOVES => "Scores rise",
                change if change <= -SCORE_MOVES => "Scores fall",
                _ => "Scores hold",
            };
            let (latest_days, before_days) = if days == 1 {
                ("on the latest day".to_owned(), "on the day before".to_owned())
            } else {
                (format!("over the latest {days} days"), format!("over the {days} before"))
            };
            format!("{verb}: {latest:.1} on average {latest_days}, {before:.1} {before_days}.")
        }
    };
    match (adopted(analytics), analytics.past.len()) {
        (_, 0) => trend,
        (adopted, 1) => format!(
            "{trend} The one tested prompt was {}.",
            if adopted == 1 { "adopted" } else { "not adopted" }
        ),
        (adopted, tested) => format!("{trend} {adopted} of {tested} tested prompts were adopted."),
    }
}

fn adopted(analytics: &Analytics) -> usize {
    analytics.past.iter().filter(|verdict| verdict.status == "adopted").count()
}

/// A stored name as a person reads it: `budget_spent` is "Budget spent".
#[must_use]
pub fn title(stored: &str) -> String {
    let spaced = stored.replace('_', " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A whole number with its thousands parted: 12,345.
#[must_use]
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "\u{2212}" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with one decimal place.
#[must_use]
pub fn tenths(number: Option<f64>) -> String {
    number.map_or_else(
        || NOTHING.to_owned(),
        |number| format!("{number:.1}").replace('-', "\u{2212}"),
    )
}

/// A number with two decimal places.
#[must_use]
pub fn hundredths(number: Option<f64>) -> String {
    number.map_or_else(
        || NOTHING.to_owned(),
        |number| format!("{number:.2}").replace('-', "\u{2212}"),
    )
}

/// An entropy in bits.
#[must_use]
pub fn bits(number: Option<f64>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| format!("{number:.2} bits"))
}

/// US dollars, to the cent.
#[must_use]
pub fn dollars(amount: Decimal) -> String {
    format!("${:.2}", amount.round_dp(2))
}

/// A share from 0 to 1 in whole per cent.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NOTHING.to_owned(), |share| format!("{:.0}%", share * 100.0))
}

/// A change in per cent with its sign: +12.9%.
#[must_use]
pub fn change(ratio: Option<f64>) -> String {
    ratio.map_or_else(
        || NOTHING.to_owned(),
        |ratio| format!("{:+.1}%", ratio * 100.0).replace('-', "\u{2212}"),
    )
}

/// Seconds as "48 s", "3 min 20 s" or "2 h 5 min".
#[must_use]
pub fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return NOTHING.to_owned();
    };
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of f64 saturates, and this is text for people"
    )]
    let whole = seconds.round() as i64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{} h {minutes} min", count(hours)),
    }
}

/// A moment in that time zone: 9 Nov 2026, 14:30.
#[must_use]
pub fn moment(at: DateTime<Utc>, time_zone: Tz) -> String {
    at.with_timezone(&time_zone).format("%-d %b %Y, %H:%M").to_string()
}

/// A day: 9 Nov 2026.
#[must_use]
pub fn day(day: NaiveDate) -> String {
    day.format("%-d %b %Y").to_string()
}

/// A day of this year, or of any: 9 Nov.
#[must_use]
pub fn short_day(day: NaiveDate) -> String {
    day.format("%-d %b").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            [count(0), count(999), count(12_345), count(-1_000_000)],
            ["0", "999", "12,345", "\u{2212}1,000,000"]
        );
        assert_eq!([tenths(Some(7.25)), tenths(None)], ["7.2", "–"]);
        assert_eq!([change(Some(0.129)), change(Some(-0.2))], ["+12.9%", "\u{2212}20.0%"]);
        assert_eq!(percent(Some(0.666)), "67%");
        assert_eq!(title("budget_spent"), "Budget spent");
    }

    #[test]
    fn durations_use_the_unit_that_fits() {
        let text = [1.25, 48.0, 200.0, 180.0, 7500.0].map(|seconds| duration(Some(seconds)));
        assert_eq!(text, ["1.2 s", "48 s", "3 min 20 s", "3 min", "2 h 5 min"]);
    }

    #[test]
    fn a_rough_stretch_of_time_is_one_number() {
        let text = [0.05, 0.5, 0.8, 4.2, 30.0, 80.0].map(hours);
        assert_eq!(text, ["5 minutes", "30 minutes", "1 hour", "4 hours", "30 hours", "3 days"]);
    }

    #[test]
    fn a_moment_is_told_in_the_workflows_zone() {
        let at = "2026-11-09T22:30:00Z".parse().unwrap();
        assert_eq!(moment(at, Tz::Europe__Athens), "10 Nov 2026, 00:30");
    }
}
