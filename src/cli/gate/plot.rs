//! The operating characteristic as a picture: the chance of adoption over the true effect, one line a guard.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

use super::super::failure::Failure;

const SIZE_PIXELS: (u32, u32) = (760, 460);
/// Apart for those who see few colours as well; after Okabe and Ito.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// One guard's line.
pub struct Curve {
    /// The guard.
    pub label: &'static str,
    /// True effect and chance of adoption, both in percent, ascending.
    pub points: Vec<(f64, f64)>,
}

/// Writes the picture, or nothing.
///
/// # Errors
/// [`Failure`] when the file cannot be written.
pub fn write(path: &Path, title: &str, curves: &[Curve]) -> Result<(), Failure> {
    let wrong = |what: String| {
        Failure::failed(format!("the plot {} was not written: {what}", path.display()))
    };
    let svg = draw(title, curves).map_err(|error| wrong(error.to_string()))?;
    fs::write(path, svg).map_err(|error| wrong(error.to_string()))
}

fn draw(title: &str, curves: &[Curve]) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE_PIXELS).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("How often the gate adopts, on {title}"), ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .build_cartesian_2d(-20.0..30.0, 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc("true effect of the candidate, % of the mean score")
            .y_desc("adopted for good, % of tests")
            .x_labels(11)
            .y_labels(11)
            .x_label_formatter(&|effect| format!("{effect:+.0}"))
            .y_label_formatter(&|share| format!("{share:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
                .label(curve.label)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            let dots = curve.points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_has_its_line_in_the_picture() {
        let curve = |label| Curve { label, points: vec![(-20.0, 1.0), (0.0, 23.0), (30.0, 95.0)] };
        let svg = draw("scores & <more>", &[curve("off"), curve("probation")]).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<polyline").count(), svg.matches("<polyline").count().max(4));
        assert!(svg.contains("probation") && svg.contains("scores &amp; &lt;more&gt;"), "{svg}");
    }
}
