//! The charts, each for wide and for narrow screens.

use serde::Serialize;

use crate::dashboard::chart::{self, Chart, Mark, Plot, Point, Series};
use crate::store::analytics::{Analytics, TaskDay};

const WIDE: (f64, f64) = (960.0, 320.0);
const HALF: (f64, f64) = (464.0, 220.0);
const NARROW: (f64, f64) = (350.0, 240.0);

/// The same chart for wide and for narrow screens.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    wide: Chart,
    narrow: Chart,
}

#[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53, and it is a picture")]
pub(super) fn scores(id: &str, it: &Analytics, models: &[&str]) -> Option<Pair> {
    let series: Vec<Series> = models
        .iter()
        .map(|&model| Series {
            label: model.to_owned(),
            points: it
                .model_days
                .iter()
                .filter(|day| day.model == model)
                .map(|day| Point {
                    day: day.day,
                    sum: day.score_sum as f64,
                    count: day.scored as f64,
                })
                .collect(),
        })
        .collect();
    let marks = marks(it);
    let limits = (0.0, Some(f64::from(it.score_max)));
    pair(&format!("{id}-scores"), "Mean score by day", &series, &marks, limits, WIDE)
}

/// One mark a model and day, so that several changes of one day do not cover each other.
fn marks(it: &Analytics) -> Vec<Mark> {
    let mut marks: Vec<(&str, Mark)> = Vec::new();
    for change in it.activations.iter().filter(|change| change.kind != "first_start") {
        let same = |(model, mark): &&mut (&str, Mark)| {
            *model == change.model.as_str() && mark.day == change.day
        };
        match marks.iter_mut().find(same) {
            Some((_, mark)) => mark.label.push_str(&format!(", v{}", change.version)),
            None => {
                let label = format!("{} v{}", change.model, change.version);
                marks.push((change.model.as_str(), Mark { day: change.day, label }));
            }
        }
    }
    marks.into_iter().map(|(_, mark)| mark).collect()
}

/// A chart of one line; `of` gives a day's sum, what to divide it by for its unit, and its count.
#[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53, and it is a picture")]
pub(super) fn days(
    id: &str,
    title: &str,
    it: &Analytics,
    of: fn(&TaskDay) -> (i64, f64, i64),
) -> Option<Pair> {
    let point = |day: &TaskDay| {
        let (sum, unit, count) = of(day);
        Point { day: day.day, sum: sum as f64 / unit, count: count as f64 }
    };
    let series = [Series {
        label: "All models".to_owned(),
        points: it.task_days.iter().map(point).collect(),
    }];
    pair(id, title, &series, &[], (0.0, None), HALF)
}

fn pair(
    id: &str,
    title: &str,
    series: &[Series],
    marks: &[Mark],
    limits: (f64, Option<f64>),
    wide: (f64, f64),
) -> Option<Pair> {
    let plot = |suffix, (width, height)| Plot {
        id: format!("{id}-{suffix}"),
        title: title.to_owned(),
        series,
        marks,
        limits,
        width,
        height,
    };
    Some(Pair {
        wide: chart::draw(&plot("wide", wide))?,
        narrow: chart::draw(&plot("narrow", NARROW))?,
    })
}
