//! The cycle as a drawn state chart: where it stands, and the way that it came.
//!
//! The places are chosen by hand, the arrows are held against the machine by a test. On a narrow
//! screen the same chart is drawn with its axes exchanged.

use serde::Serialize;

use crate::cycle::StateName;

/// Where each state stands: along the way of a cycle that goes well, and beside it.
const PLACES: [(StateName, f64, f64); 12] = [
    (StateName::Collecting, 0.0, 0.0),
    (StateName::Analyzing, 1.0, 0.0),
    (StateName::Generating, 2.0, 0.0),
    (StateName::Testing, 3.0, 0.0),
    (StateName::Deciding, 4.0, 0.0),
    (StateName::Applying, 5.0, 0.0),
    (StateName::Probation, 6.0, 0.0),
    (StateName::Applied, 7.0, 0.0),
    (StateName::Cancelled, 1.0, 1.0),
    (StateName::Rejected, 3.0, 1.0),
    (StateName::RolledBack, 5.0, 1.0),
    (StateName::Reverting, 6.0, 1.0),
];

/// Every arrow but those to Cancelled, which an operator reaches from anywhere and words tell.
const ARROWS: [(StateName, StateName); 17] = [
    (StateName::Collecting, StateName::Analyzing),
    (StateName::Analyzing, StateName::Generating),
    (StateName::Generating, StateName::Testing),
    (StateName::Generating, StateName::Rejected),
    (StateName::Testing, StateName::Deciding),
    (StateName::Testing, StateName::Rejected),
    (StateName::Deciding, StateName::Applying),
    (StateName::Deciding, StateName::Rejected),
    (StateName::Applying, StateName::Probation),
    (StateName::Applying, StateName::Applied),
    (StateName::Applying, StateName::RolledBack),
    (StateName::Applying, StateName::Reverting),
    (StateName::Probation, StateName::Applied),
    (StateName::Probation, StateName::Reverting),
    (StateName::Probation, StateName::RolledBack),
    (StateName::Reverting, StateName::Applied),
    (StateName::Reverting, StateName::RolledBack),
];

/// The same chart for wide and for narrow screens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateChart {
    wide: Drawn,
    narrow: Drawn,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Drawn {
    id: String,
    description: String,
    width: f64,
    height: f64,
    box_width: f64,
    box_height: f64,
    states: Vec<Placed>,
    arrows: Vec<Arrow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Placed {
    name: &'static str,
    /// The middle of its box.
    x: f64,
    y: f64,
    left: f64,
    top: f64,
    /// `now`, `passed`, `held` or empty.
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Arrow {
    path: String,
    passed: bool,
}

/// A grid: how far its places lie apart and how large the boxes on it are, along and across.
struct Grid {
    pitch: (f64, f64),
    half: (f64, f64),
    margin: (f64, f64),
    upright: bool,
}

const WIDE: Grid =
    Grid { pitch: (120.0, 92.0), half: (49.0, 17.0), margin: (56.0, 44.0), upright: false };
const NARROW: Grid =
    Grid { pitch: (58.0, 170.0), half: (17.0, 52.0), margin: (24.0, 84.0), upright: true };

/// Draws the chart of a cycle that stands in `state`, with the changes of state that it made.
/// `held` marks the state as standing still.
#[must_use]
pub fn draw(id: &str, state: &str, passed: &[(&str, &str)], held: bool) -> StateChart {
    let on = |grid: &Grid, suffix| {
        let (width, height) = grid.size();
        let (box_width, box_height) = grid.point(grid.half.0 * 2.0, grid.half.1 * 2.0);
        Drawn {
            id: format!("{id}-{suffix}"),
            description: describe(state, passed, held),
            width,
            height,
            box_width,
            box_height,
            states: PLACES.map(|place| grid.state(place, state, passed, held)).to_vec(),
            arrows: ARROWS.iter().filter_map(|arrow| grid.arrow(*arrow, passed)).collect(),
        }
    };
    StateChart { wide: on(&WIDE, "wide"), narrow: on(&NARROW, "narrow") }
}

fn describe(state: &str, passed: &[(&str, &str)], held: bool) -> String {
    let title = |name: &str| {
        name.parse::<StateName>().map_or_else(|_| name.to_owned(), |name| title(name).to_owned())
    };
    let way: Vec<String> = passed.iter().map(|(from, _)| title(from)).collect();
    let came = if way.is_empty() {
        String::new()
    } else {
        format!(" It came through {}.", way.join(", "))
    };
    let held = if held { ", on hold" } else { "" };
    format!("The cycle stands in {}{held}.{came}", title(state))
}

/// A state's name as the chart writes it.
#[must_use]
pub const fn title(name: StateName) -> &'static str {
    match name {
        StateName::RolledBack => "Rolled back",
        other => other.title(),
    }
}

impl Grid {
    fn size(&self) -> (f64, f64) {
        let along = self.pitch.0.mul_add(7.0, self.margin.0 * 2.0);
        self.point(along, self.margin.1.mul_add(2.0, self.pitch.1) - 18.0)
    }

    /// From along and across to x and y.
    const fn point(&self, along: f64, across: f64) -> (f64, f64) {
        if self.upright { (across, along) } else { (along, across) }
    }

    fn middle(&self, name: StateName) -> Option<(f64, f64)> {
        let (_, along, across) = PLACES.iter().find(|(known, _, _)| *known == name)?;
        Some((
            along.mul_add(self.pitch.0, self.margin.0),
            across.mul_add(self.pitch.1, self.margin.1),
        ))
    }

    fn state(
        &self,
        (name, along, across): (StateName, f64, f64),
        now: &str,
        passed: &[(&str, &str)],
        held: bool,
    ) -> Placed {
        let along = along.mul_add(self.pitch.0, self.margin.0);
        let across = across.mul_add(self.pitch.1, self.margin.1);
        let (x, y) = self.point(along, across);
        let (left, top) = self.point(along - self.half.0, across - self.half.1);
        let class = match name.as_str() {
            known if known == now && held => "now held",
            known if known == now => "now",
            known if passed.iter().any(|(from, _)| *from == known) => "passed",
            _ => "",
        };
        Placed { name: title(name), x, y, left, top, class }
    }

    /// Straight where two boxes are neighbours, else bent; always from edge to edge.
    fn arrow(&self, (from, to): (StateName, StateName), passed: &[(&str, &str)]) -> Option<Arrow> {
        let ((a, c), (b, d)) = (self.middle(from)?, self.middle(to)?);
        let (half_along, half_across) = self.half;
        let level = (c - d).abs() < 1.0;
        let neighbours = (b - a).abs() < self.pitch.0 * 1.5;
        let points = if level && neighbours {
            let side = half_along.copysign(b - a);
            vec![(a + side, c), (b - side, d)]
        } else if level {
            // Over the boxes between them.
            let over = c - half_across;
            let bend = over - 26.0;
            vec![(a, over), (a + 20.0, bend), (b - 20.0, bend), (b, over)]
        } else {
            let side = half_across.copysign(d - c);
            // Arrows that share a box end beside each other.
            let shift = ((a - b) / self.pitch.0).clamp(-1.0, 1.0) * half_along * 0.45;
            let middle = f64::midpoint(c, d);
            vec![
                (a - shift, c + side),
                (a - shift, middle),
                (b + shift, middle),
                (b + shift, d - side),
            ]
        };
        let points: Vec<String> = points
            .into_iter()
            .map(|(along, across)| {
                let (x, y) = self.point(along, across);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let (start, rest) = points.split_first()?;
        let curve = if rest.len() == 1 { "L" } else { "C" };
        Some(Arrow {
            path: format!("M{start} {curve}{}", rest.join(" ")),
            passed: passed.contains(&(from.as_str(), to.as_str())),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cycle;

    #[test]
    fn the_chart_has_every_arrow_of_the_machine_and_no_other() {
        let cancels = |(_, to): &(StateName, StateName)| *to != StateName::Cancelled;
        let machine: BTreeSet<_> = cycle::arrows().into_iter().filter(cancels).collect();
        assert_eq!(BTreeSet::from(ARROWS), machine);
        let placed: BTreeSet<_> = PLACES.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(placed, StateName::ALL.iter().copied().collect());
    }

    #[test]
    fn it_says_where_the_cycle_stands_and_how_it_came_there() {
        let chart = draw("c", "testing", &[("collecting", "analyzing")], true);
        assert_eq!(
            chart.wide.description,
            "The cycle stands in Testing, on hold. It came through Collecting."
        );
        let classes: Vec<_> =
            chart.wide.states.iter().filter(|state| !state.class.is_empty()).collect();
        assert_eq!((classes[0].name, classes[0].class), ("Collecting", "passed"));
        assert_eq!((classes[1].name, classes[1].class), ("Testing", "now held"));
        assert_eq!(chart.wide.arrows.iter().filter(|arrow| arrow.passed).count(), 1);
    }

    #[test]
    fn no_box_leaves_the_picture() {
        let chart = draw("c", "testing", &[], false);
        for drawn in [&chart.wide, &chart.narrow] {
            for state in &drawn.states {
                assert!(state.left >= 0.0 && state.left + drawn.box_width <= drawn.width);
                assert!(state.top >= 0.0 && state.top + drawn.box_height <= drawn.height);
            }
        }
        assert!(chart.narrow.width <= 350.0, "{}", chart.narrow.width);
    }
}
