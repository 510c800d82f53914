//! Sparklines and histograms: small pictures beside a number, without axes of their own.

use serde::Serialize;

const WIDTH: f64 = 132.0;
const HEIGHT: f64 = 34.0;
const EDGE: f64 = 4.0;

/// A line of a few values. The first half of the steps is one window, the second half the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spark {
    width: f64,
    height: f64,
    /// One path for each run of steps that were measured.
    lines: Vec<String>,
    /// Steps that stand alone, and the last one.
    dots: Vec<(f64, f64)>,
    /// Where the second window begins.
    split: f64,
}

/// Draws values in the order of their time; none where fewer than two were measured.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
pub fn line(values: &[Option<f64>]) -> Option<Spark> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    if known.len() < 2 {
        return None;
    }
    let low = known.iter().copied().fold(f64::INFINITY, f64::min);
    let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if high - low < 1e-9 { 1.0 } else { high - low };
    let pitch = (WIDTH - 2.0 * EDGE) / (values.len() - 1).max(1) as f64;
    let place = |(index, value): (usize, f64)| {
        let x = pitch.mul_add(index as f64, EDGE);
        let up = if high - low < 1e-9 { 0.5 } else { (value - low) / range };
        let y = (HEIGHT - 2.0 * EDGE).mul_add(-up, HEIGHT - EDGE);
        (tidy(x), tidy(y))
    };
    let places: Vec<Option<(f64, f64)>> = values
        .iter()
        .enumerate()
        .map(|(index, value)| value.map(|value| place((index, value))))
        .collect();
    let runs: Vec<&[Option<(f64, f64)>]> =
        places.split(Option::is_none).filter(|run| !run.is_empty()).collect();
    let lines = runs
        .iter()
        .filter(|run| run.len() > 1)
        .map(|run| {
            let points: Vec<String> =
                run.iter().flatten().map(|(x, y)| format!("{x},{y}")).collect();
            points.join(" ")
        })
        .collect();
    let alone = runs.iter().filter(|run| run.len() == 1).filter_map(|run| run[0]);
    let dots = alone.chain(places.iter().rev().copied().flatten().next()).collect();
    Some(Spark {
        width: WIDTH,
        height: HEIGHT,
        lines,
        dots,
        split: tidy(pitch.mul_add((values.len() as f64 - 1.0) / 2.0, EDGE)),
    })
}

/// How often each score was given, old above new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Histogram {
    id: String,
    description: String,
    width: i64,
    height: i64,
    bars: Vec<Bar>,
    ticks: Vec<(i64, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Bar {
    x: i64,
    y: i64,
    width: i64,
    height: i64,
    /// `old` or `new`.
    arm: &'static str,
}

const PLOT_WIDTH: i64 = 330;
const ARM_HEIGHT: i64 = 46;
const AXIS_HEIGHT: i64 = 20;
const TICKS_MAX: i64 = 11;

/// Draws two arms' scores over the scale from 0 to `score_max`: the old arm's bars stand on the
/// axis, the new arm's hang from it. None where there is no score yet.
#[must_use]
pub fn histogram(id: &str, score_max: u32, old: &[i32], new: &[i32]) -> Option<Histogram> {
    if old.is_empty() && new.is_empty() {
        return None;
    }
    let most = i64::from(score_max).max(1);
    // A scale with many scores is drawn in as many columns as there is room for.
    let columns = (most + 1).min(21);
    let column_of = |score: i64| (score.clamp(0, most) * columns) / (most + 1);
    let counted = |scores: &[i32]| {
        let mut counts = vec![0_i64; usize::try_from(columns).unwrap_or(1)];
        for &score in scores {
            let column = usize::try_from(column_of(i64::from(score))).unwrap_or(0);
            if let Some(count) = counts.get_mut(column) {
                *count += 1;
            }
        }
        counts
    };
    let (old_counts, new_counts) = (counted(old), counted(new));
    let highest = old_counts.iter().chain(&new_counts).copied().max().unwrap_or(1).max(1);
    let pitch = PLOT_WIDTH / columns;
    let bars = |counts: &[i64], arm: &'static str| {
        counts
            .iter()
            .zip(0_i64..)
            .filter(|(count, _)| **count > 0)
            .map(|(&count, column)| {
                let height = (count * ARM_HEIGHT / highest).max(3);
                let y = if arm == "old" { ARM_HEIGHT - height } else { ARM_HEIGHT + AXIS_HEIGHT };
                Bar { x: column * pitch + 2, y, width: (pitch - 4).max(2), height, arm }
            })
            .collect::<Vec<_>>()
    };
    let every = (most + TICKS_MAX - 1) / TICKS_MAX;
    let ticks = (0..=most)
        .filter(|score| score % every.max(1) == 0)
        .map(|score| (column_of(score) * pitch + pitch / 2, score.to_string()))
        .collect();
    Some(Histogram {
        id: id.to_owned(),
        description: format!("Old version: {}. New version: {}.", listed(old), listed(new)),
        width: PLOT_WIDTH,
        height: 2 * ARM_HEIGHT + AXIS_HEIGHT,
        bars: [bars(&old_counts, "old"), bars(&new_counts, "new")].concat(),
        ticks,
    })
}

fn listed(scores: &[i32]) -> String {
    if scores.is_empty() {
        return "no score yet".to_owned();
    }
    let mut scores = scores.to_vec();
    scores.sort_unstable();
    let runs = scores.chunk_by(|a, b| a == b);
    let told: Vec<String> = runs
        .filter_map(|run| run.first().map(|score| format!("{score} × {}", run.len())))
        .collect();
    told.join(", ")
}

fn tidy(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_breaks_where_nothing_was_measured() {
        let spark = line(&[Some(1.0), Some(2.0), None, Some(3.0)]).unwrap();
        assert_eq!((spark.lines.len(), spark.dots.len()), (1, 2), "{spark:?}");
        assert_eq!(line(&[None, Some(1.0)]), None);
        assert_eq!(spark.split, 66.0);
    }

    #[test]
    fn a_histogram_tells_its_scores_in_words() {
        let drawn = histogram("h", 10, &[7, 6, 7], &[]).unwrap();
        assert_eq!(drawn.description, "Old version: 6 × 1, 7 × 2. New version: no score yet.");
        assert_eq!(drawn.bars.len(), 2);
        assert_eq!(histogram("h", 10, &[], &[]), None);
    }

    proptest! {
        #[test]
        fn every_bar_lies_in_the_picture(
            score_max in 1_u32..=100,
            old in proptest::collection::vec(0_i32..=100, 0..40),
            new in proptest::collection::vec(0_i32..=100, 1..40),
        ) {
            let drawn = histogram("h", score_max, &old, &new).unwrap();
            for bar in &drawn.bars {
                prop_assert!(bar.x >= 0 && bar.x + bar.width <= drawn.width, "{bar:?}");
                prop_assert!(bar.y >= 0 && bar.y + bar.height <= drawn.height, "{bar:?}");
            }
        }

        #[test]
        fn every_point_lies_in_the_picture(values in proptest::collection::vec(proptest::option::of(-1e6_f64..1e6), 0..20)) {
            if let Some(spark) = line(&values) {
                for (x, y) in spark.dots {
                    prop_assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y));
                }
            }
        }
    }
}
