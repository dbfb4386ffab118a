//! Charts as SVG, for the reports of the simulators.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use std::ops::Range;

/// Width of a chart in pixels.
const WIDTH: u32 = 520;
/// Height of a chart in pixels.
const HEIGHT: u32 = 340;
/// Colours of the first series, the second and so on; chosen so that the colour-blind can tell them apart.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x55, 0x55, 0x55),
];

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Points joined by a line.
    Marked,
    /// Points alone.
    Marks,
    /// A line alone, for many points.
    Line,
    /// A thin grey line, to compare with.
    Reference,
}

/// One chart: lines over an axis.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Stands above it.
    pub title: String,
    /// Beside the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis, which starts at zero.
    pub y_label: String,
    /// Equal factors, not equal differences, are equally far apart on the horizontal axis.
    pub log_x: bool,
    /// Where the horizontal axis is labelled; it reaches from the first to the last.
    pub x_ticks: Vec<f64>,
    /// At most five are told apart by colour.
    pub series: Vec<Series>,
    /// Where the legend stands.
    pub legend: Corner,
}

/// A corner of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// For curves that rise late.
    UpperLeft,
    /// For curves that rise early.
    LowerRight,
}

/// Why there is no chart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw a chart: {0}")]
pub struct PlotError(String);

/// Charts side by side, as one SVG document.
///
/// # Errors
/// If a chart has no extent: fewer than two ticks.
pub fn svg(charts: &[Chart]) -> Result<String, PlotError> {
    let mut document = String::new();
    let columns = charts.len().max(1);
    {
        let area =
            SVGBackend::with_string(&mut document, (WIDTH * columns as u32, HEIGHT)).into_drawing_area();
        area.fill(&WHITE).map_err(error)?;
        for (chart, area) in charts.iter().zip(area.split_evenly((1, columns))) {
            draw(chart, &area)?;
        }
        area.present().map_err(error)?;
    }
    Ok(document)
}

fn draw(chart: &Chart, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError> {
    let x = |value: f64| if chart.log_x { value.log10() } else { value };
    let ticks: Vec<f64> = chart.x_ticks.iter().copied().map(x).collect();
    if ticks.len() < 2 {
        return Err(PlotError(format!("{:?} has fewer than two ticks", chart.title)));
    }
    let heights = chart.series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
    let highest = heights.fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.1;
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, ("sans-serif", 17))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(Axis(ticks), 0.0..highest)
        .map_err(error)?;
    let label = |at: &f64| number(if chart.log_x { 10_f64.powf(*at) } else { *at });
    context
        .configure_mesh()
        .x_desc(&chart.x_label)
        .y_desc(&chart.y_label)
        .x_label_formatter(&label)
        .y_label_formatter(&|y| number(*y))
        .y_labels(6)
        .light_line_style(WHITE)
        .draw()
        .map_err(error)?;
    for (series, colour) in chart.series.iter().zip(COLOURS.into_iter().cycle()) {
        let points: Vec<(f64, f64)> = series.points.iter().map(|(at, y)| (x(*at), *y)).collect();
        let (line, has_marks) = match series.style {
            Style::Marked => (Some(colour.stroke_width(2)), true),
            Style::Marks => (None, true),
            Style::Line => (Some(colour.stroke_width(2)), false),
            Style::Reference => (Some(COLOURS[4].stroke_width(1)), false),
        };
        if let Some(line) = line {
            let drawn = context.draw_series(LineSeries::new(points.iter().copied(), line)).map_err(error)?;
            if !has_marks {
                drawn
                    .label(&series.name)
                    .legend(move |(x, y)| PathElement::new([(x + 2, y), (x + 18, y)], line));
            }
        }
        if has_marks {
            context
                .draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))
                .map_err(error)?
                .label(&series.name)
                .legend(move |(x, y)| Circle::new((x + 10, y), 4, colour.filled()));
        }
    }
    context
        .configure_series_labels()
        .position(match chart.legend {
            Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
            Corner::LowerRight => SeriesLabelPosition::LowerRight,
        })
        .background_style(WHITE.mix(0.8))
        .border_style(COLOURS[4])
        .draw()
        .map_err(error)
}

/// A linear axis that is labelled at these places, of which there are at least two.
struct Axis(Vec<f64>);

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range();
        limit.0 + (f64::from(limit.1 - limit.0) * (value - start) / (end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.0.clone()
    }

    fn range(&self) -> Range<f64> {
        let [first, .., last] = self.0[..] else { return 0.0..1.0 };
        first..last
    }
}

/// A number as an axis says it: whole if it is, thousands apart.
fn number(value: f64) -> String {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    if rounded.fract() != 0.0 {
        return format!("{rounded}");
    }
    let digits = format!("{rounded:.0}");
    let whole = digits.trim_start_matches('-').len();
    let apart = |(at, digit): (usize, char)| {
        let left = digits.len() - at;
        [Some(digit), (left > 1 && left % 3 == 1 && left <= whole).then_some(',')]
    };
    digits.chars().enumerate().flat_map(apart).flatten().collect()
}

fn error(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        assert_eq!(
            [0.0, 12.0, 999.0, 1_000.0, 100_000.0, 1_234_567.0, 0.25, -2_500.0].map(number),
            ["0", "12", "999", "1,000", "100,000", "1,234,567", "0.25", "-2,500"]
        );
    }

    #[test]
    fn a_chart_says_what_it_shows() {
        let series =
            Series { name: "joined".into(), points: vec![(10.0, 2.0), (100.0, 4.0)], style: Style::Marked };
        let chart = Chart {
            title: "Hops".into(),
            x_label: "nodes".into(),
            y_label: "hops of a lookup".into(),
            log_x: true,
            x_ticks: vec![10.0, 100.0, 1_000.0],
            series: vec![series],
            legend: Corner::LowerRight,
        };
        let document = svg(&[chart.clone(), chart.clone()]).unwrap();
        for text in ["Hops", "nodes", "hops of a lookup", "joined", "1,000"] {
            assert!(document.contains(text), "{text}");
        }
        assert!(svg(&[Chart { x_ticks: vec![1.0], ..chart }]).is_err());
    }
}
