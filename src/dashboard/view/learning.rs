//! Whether it learns: each measure of success with its answer, its sparkline and its windows.

use serde::Serialize;

use crate::dashboard::spark::{self, Spark};
use crate::dashboard::words;
use crate::store::analytics::{Learning, Measure, Span, Step};

#[derive(Debug, Serialize)]
pub(super) struct Compared {
    question: &'static str,
    /// The number of the latest days.
    latest: String,
    /// The answer, such as "Yes, up from 7.2".
    answer: String,
    /// `better`, `worse` or empty.
    verdict: &'static str,
    /// Which days are held against which.
    windows: String,
    spark: Option<Spark>,
}

struct Asked {
    question: &'static str,
    up_is_good: bool,
    text: fn(Option<f64>) -> String,
    measure: Measure,
    step: fn(&Step) -> Option<f64>,
}

pub(super) fn measures(learning: &Learning) -> Vec<Compared> {
    let asked = [
        Asked {
            question: "Scores up?",
            up_is_good: true,
            text: words::tenths,
            measure: learning.score,
            step: |step| step.score,
        },
        Asked {
            question: "Iterations down?",
            up_is_good: false,
            text: words::hundredths,
            measure: learning.iterations,
            step: |step| step.iterations,
        },
        Asked {
            question: "Choice of winner steadier?",
            up_is_good: false,
            text: words::bits,
            measure: learning.winner_entropy_bits,
            step: |step| step.winner_entropy_bits,
        },
        Asked {
            question: "Time a task down?",
            up_is_good: false,
            text: words::duration,
            measure: learning.processing_seconds,
            step: |step| step.processing_seconds,
        },
        Asked {
            question: "More pictures kept?",
            up_is_good: true,
            text: words::percent,
            measure: learning.kept,
            step: |step| step.kept,
        },
    ];
    let windows = windows(learning);
    asked
        .iter()
        .map(|asked| {
            let (answer, verdict) = answer(asked);
            let values: Vec<Option<f64>> = learning.steps.iter().map(asked.step).collect();
            Compared {
                question: asked.question,
                latest: (asked.text)(asked.measure.latest),
                answer,
                verdict,
                windows: windows.clone(),
                spark: spark::line(&values),
            }
        })
        .collect()
}

/// The answer in words, and whether it is good news.
fn answer(asked: &Asked) -> (String, &'static str) {
    let (Some(was), Some(is)) = (asked.measure.before, asked.measure.latest) else {
        return match (asked.measure.before, asked.measure.latest) {
            (None, Some(_)) => ("Not measured before".to_owned(), ""),
            (Some(was), None) => (format!("Not measured; {} before", (asked.text)(Some(was))), ""),
            _ => ("Not measured yet".to_owned(), ""),
        };
    };
    let before = (asked.text)(Some(was));
    // What reads the same has not moved.
    if before == (asked.text)(Some(is)) {
        return (format!("No, still {before}"), "");
    }
    let direction = if is > was { "up" } else { "down" };
    if (is > was) == asked.up_is_good {
        (format!("Yes, {direction} from {before}"), "better")
    } else {
        (format!("No, {direction} from {before}"), "worse")
    }
}

/// The days and tasks on both sides, in a few words.
fn windows(learning: &Learning) -> String {
    let side = |span: &Span| {
        let days = if span.from == span.to {
            words::short_day(span.to)
        } else {
            format!("{}–{}", words::short_day(span.from), words::short_day(span.to))
        };
        let tasks = if span.tasks == 1 { "task" } else { "tasks" };
        format!("{days} ({} {tasks})", words::count(span.tasks))
    };
    format!("{} against {}", side(&learning.latest), side(&learning.before))
}
