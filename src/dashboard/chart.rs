//! Line charts over days, as SVG without script or inline style.

use std::ops::RangeInclusive;

use chrono::NaiveDate;
use serde::Serialize;

use super::words;

/// A line: its name and its values by day, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it shows.
    pub label: String,
    /// Values by day.
    pub points: Vec<Point>,
}

/// One day's value: a mean, kept as a sum over a count so that days can be pooled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The day.
    pub day: NaiveDate,
    /// What was measured, added up.
    pub sum: f64,
    /// How often it was measured.
    pub count: f64,
}

/// A day worth marking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The day.
    pub day: NaiveDate,
    /// What happened, in a few letters.
    pub label: String,
}

/// What to draw, and how large.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot<'a> {
    /// Unique in the page; title and description are found by it.
    pub id: String,
    /// What the chart is, for those who do not see it.
    pub title: String,
    /// The lines.
    pub series: &'a [Series],
    /// The marks.
    pub marks: &'a [Mark],
    /// The lowest and highest value that may ever be; the axis shows what is needed of it.
    pub limits: (f64, Option<f64>),
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
}

/// A chart, placed and ready for its template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    id: String,
    title: String,
    description: String,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    ticks: Vec<Label>,
    days: Vec<Label>,
    lines: Vec<Line>,
    marks: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Label {
    x: f64,
    y: f64,
    text: String,
    anchor: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    /// Which of the six colours, from 0.
    colour: usize,
    label: String,
    path: String,
    dots: Vec<(f64, f64)>,
    last: (f64, f64),
}

const LEFT: f64 = 34.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const MARK_ROW: f64 = 15.0;
const MARK_ROWS: usize = 3;
/// Width of a letter of a label, roughly.
const LETTER: f64 = 6.4;
const BOTTOM: f64 = 26.0;
/// Days that one point of the line pools: its own and those before it.
const POOLED_DAYS: i64 = 7;
/// From this many days on the line is pooled; below it is each day's own mean.
const POOLED_FROM_DAYS: i64 = 14;
/// Colours in the stylesheet.
pub const COLOURS: usize = 6;

/// Places the lines; none where there is nothing to draw.
#[must_use]
pub fn draw(plot: &Plot<'_>) -> Option<Chart> {
    let all =
        || plot.series.iter().flat_map(|series| &series.points).filter(|point| point.count > 0.0);
    let first = all().map(|point| point.day).min()?;
    let last = all().map(|point| point.day).max()?;
    let days = (last - first).num_days();
    let pooled = days + 1 >= POOLED_FROM_DAYS;
    // The axis fits the lines; a single day that lies beyond it is left out, not moved.
    let (low, high, step) =
        axis(plot.series.iter().flat_map(|series| values(series, pooled)), plot.limits);
    let rows = MARK_ROWS.min(plot.marks.len());
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows, a few thousand days")]
    let (top, span) = (TOP + MARK_ROW * rows as f64, days.max(1) as f64);
    let (right, bottom) = (plot.width - RIGHT, plot.height - BOTTOM);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand days")]
    let x = |day: NaiveDate| {
        let along = if days == 0 { 0.5 } else { (day - first).num_days() as f64 / span };
        tidy((right - LEFT).mul_add(along, LEFT))
    };
    let y = |value: f64| tidy((bottom - top).mul_add(-(value - low) / (high - low), bottom));

    let lines: Vec<Line> = plot
        .series
        .iter()
        .enumerate()
        .filter_map(|(index, series)| line(index, series, pooled, &(top..=bottom), &x, &y))
        .collect();
    Some(Chart {
        id: plot.id.clone(),
        title: plot.title.clone(),
        description: describe(plot.series, first, last, pooled),
        width: plot.width,
        height: plot.height,
        left: LEFT,
        right,
        top,
        bottom,
        ticks: ticks(low, high, step)
            .map(|value| Label { x: LEFT - 8.0, y: y(value), text: short(value), anchor: "end" })
            .collect(),
        days: day_labels(first, last, plot.width, &x, plot.height - 6.0),
        lines,
        marks: mark_labels(plot.marks, first, last, &x),
    })
}

fn line(
    index: usize,
    series: &Series,
    pooled: bool,
    frame: &RangeInclusive<f64>,
    x: &impl Fn(NaiveDate) -> f64,
    y: &impl Fn(f64) -> f64,
) -> Option<Line> {
    let measured = series.points.iter().filter(|point| point.count > 0.0);
    let places: Vec<(f64, f64)> = measured
        .clone()
        .zip(values(series, pooled))
        .map(|(point, value)| (x(point.day), y(value)))
        .collect();
    let dots = measured
        .map(|point| (x(point.day), y(point.sum / point.count)))
        .filter(|dot| frame.contains(&dot.1))
        .collect();
    let last = *places.last()?;
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x},{y}")).collect();
    Some(Line {
        colour: index % COLOURS,
        label: series.label.clone(),
        path: path.join(" "),
        dots,
        last,
    })
}

/// The line's values: each measured day's own mean, or the mean of the week up to it.
fn values(series: &Series, pooled: bool) -> impl Iterator<Item = f64> {
    let measured = series.points.iter().filter(|point| point.count > 0.0);
    measured.map(
        move |point| {
            if pooled { pool(&series.points, point.day) } else { point.sum / point.count }
        },
    )
}

/// The mean over the days up to and with `day`.
fn pool(points: &[Point], day: NaiveDate) -> f64 {
    let (sum, count) = points
        .iter()
        .filter(|point| (0..POOLED_DAYS).contains(&(day - point.day).num_days()))
        .fold((0.0, 0.0), |(sum, count), point| (sum + point.sum, count + point.count));
    sum / count
}

/// The axis: its lowest and highest value and its step, around what is drawn and within what may be.
fn axis(values: impl Iterator<Item = f64>, (least, most): (f64, Option<f64>)) -> (f64, f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let step = step(high - low);
    let low = ((low / step).floor() * step).max(least);
    let high = ((high / step).ceil() * step).max(step.mul_add(2.0, low));
    match most {
        Some(most) if high > most => (low.min(step.mul_add(-2.0, most)).max(least), most, step),
        _ => (low, high, step),
    }
}

/// A step of 1, 2 or 5 times a power of ten, so that an axis has two to five of them.
fn step(range: f64) -> f64 {
    let rough = (range / 3.0).max(0.2);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power)
}

fn ticks(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..12_u32)
        .map(move |index| step.mul_add(f64::from(index), low))
        .take_while(move |value| *value <= high + step / 100.0)
}

fn day_labels(
    first: NaiveDate,
    last: NaiveDate,
    width: f64,
    x: &impl Fn(NaiveDate) -> f64,
    y: f64,
) -> Vec<Label> {
    let days = (last - first).num_days();
    let labels = if width < 500.0 { 3 } else { 5 }.min(days + 1);
    (0..labels)
        .filter_map(|index| {
            let offset = if labels == 1 { 0 } else { days * index / (labels - 1) };
            let day = first.checked_add_signed(chrono::Duration::days(offset))?;
            let anchor = match index {
                _ if labels == 1 => "middle",
                0 => "start",
                _ if index == labels - 1 => "end",
                _ => "middle",
            };
            Some(Label { x: x(day), y, text: day.format("%-d %b").to_string(), anchor })
        })
        .collect()
}

/// Labels in rows, each in the first row where it covers no other. Where all rows are taken, the line
/// stands without its label; the table of the versions has them all.
fn mark_labels(
    marks: &[Mark],
    first: NaiveDate,
    last: NaiveDate,
    x: &impl Fn(NaiveDate) -> f64,
) -> Vec<Label> {
    let mut rows: [Vec<(f64, f64)>; MARK_ROWS] = std::array::from_fn(|_| Vec::new());
    let shown = marks.iter().filter(|mark| (first..=last).contains(&mark.day));
    shown
        .map(|mark| {
            let x = x(mark.day);
            #[expect(clippy::cast_precision_loss, reason = "a label has a few letters")]
            let length = (mark.label.chars().count() as f64).mul_add(LETTER, 8.0);
            let anchor = if x > LEFT + length { "end" } else { "start" };
            let span = if anchor == "end" { (x - length, x) } else { (x, x + length) };
            let free = (0_u32..)
                .zip(&mut rows)
                .find(|(_, taken)| taken.iter().all(|(from, to)| span.1 < *from || *to < span.0));
            let (row, text) = match free {
                Some((row, taken)) => {
                    taken.push(span);
                    (row, mark.label.clone())
                }
                None => (0, String::new()),
            };
            let y = MARK_ROW.mul_add(f64::from(row), TOP - 2.0);
            Label { x, y, text, anchor }
        })
        .collect()
}

fn describe(series: &[Series], first: NaiveDate, last: NaiveDate, pooled: bool) -> String {
    let lines: Vec<String> = series
        .iter()
        .filter_map(|series| {
            let mut points = series.points.iter().filter(|point| point.count > 0.0);
            let (from, to) = (points.next()?, points.next_back());
            let from_mean = from.sum / from.count;
            Some(to.map_or_else(
                || format!("{}: {from_mean:.1}", series.label),
                |to| {
                    format!(
                        "{}: {from_mean:.1} on the first day, {:.1} on the last",
                        series.label,
                        to.sum / to.count
                    )
                },
            ))
        })
        .collect();
    let how = if pooled { " Dots are days, lines the mean of seven days." } else { "" };
    format!("{} to {}. {}.{how}", words::day(first), words::day(last), lines.join("; "))
}

fn short(value: f64) -> String {
    if (value - value.round()).abs() < 0.01 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn tidy(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(offset: i64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Duration::days(offset)
    }

    fn plot<'a>(series: &'a [Series], marks: &'a [Mark]) -> Plot<'a> {
        Plot {
            id: "c".to_owned(),
            title: "Scores".to_owned(),
            series,
            marks,
            limits: (0.0, Some(10.0)),
            width: 400.0,
            height: 200.0,
        }
    }

    fn series(points: Vec<Point>) -> Series {
        Series { label: "nano".to_owned(), points }
    }

    #[test]
    fn nothing_measured_is_no_chart() {
        assert_eq!(draw(&plot(&[], &[])), None);
        let unscored = [series(vec![Point { day: day(0), sum: 0.0, count: 0.0 }])];
        assert_eq!(draw(&plot(&unscored, &[])), None);
    }

    #[test]
    fn a_line_of_many_days_pools_a_week_by_its_counts() {
        let points = [
            Point { day: day(0), sum: 9.0, count: 9.0 },
            Point { day: day(6), sum: 10.0, count: 1.0 },
        ];
        assert_eq!((pool(&points, day(6)), pool(&points, day(7))), (1.9, 10.0));
    }

    #[test]
    fn labels_of_near_days_do_not_cover_each_other() {
        let days = [10, 11, 12, 13, 39]
            .map(|offset| Mark { day: day(offset), label: format!("nano-banana v{offset}") });
        let x = |at: NaiveDate| (at - day(0)).num_days() as f64 * 8.0 + LEFT;
        let labels = mark_labels(&days, day(0), day(40), &x);
        let told: Vec<_> = labels.iter().map(|label| (label.text.as_str(), label.y)).collect();
        assert_eq!(
            told,
            [
                ("nano-banana v10", 12.0),
                ("nano-banana v11", 27.0),
                ("nano-banana v12", 42.0),
                ("", 12.0),
                ("nano-banana v39", 12.0)
            ]
        );
    }

    proptest! {
        #[test]
        fn everything_lies_inside_the_frame(means in proptest::collection::vec((0_i64..900, 0.0_f64..=10.0), 1..60)) {
            let mut means = means;
            means.sort_by_key(|(offset, _)| *offset);
            means.dedup_by_key(|(offset, _)| *offset);
            let points = means.iter().map(|(offset, mean)| Point { day: day(*offset), sum: *mean, count: 1.0 }).collect();
            let marks = [Mark { day: day(means[0].0), label: "v2".to_owned() }];
            let chart = draw(&plot(&[series(points)], &marks)).unwrap();
            for (x, y) in &chart.lines[0].dots {
                prop_assert!((chart.left..=chart.right).contains(x) && (chart.top..=chart.bottom).contains(y), "{x} {y}");
            }
            prop_assert!(chart.ticks.len() >= 2, "{:?}", chart.ticks);
            for tick in &chart.ticks {
                prop_assert!((chart.top - 0.1..=chart.bottom + 0.1).contains(&tick.y), "{:?}", tick);
            }
        }
    }
}
