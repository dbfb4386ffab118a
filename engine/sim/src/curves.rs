//! A completion curve against the bound: what `simulate --report` draws.

use crate::plot::{Chart, Corner, PlotError, Series, Style, svg};
use crate::report::Outcome;
use swarm_core::time::Duration;

/// Axes have about so many labels.
const TICKS: f64 = 8.0;

/// What share of the honest peers is complete, and what share of their bytes is verified, against time, as an SVG document.
///
/// # Errors
/// If it took no time.
pub fn completion(title: &str, outcome: &Outcome) -> Result<String, PlotError> {
    let t_min = outcome.t_min.as_secs_f64();
    let t_end = outcome.t_last.as_secs_f64().max(t_min);
    let bound = |points| Series { name: "the bound, T_min".into(), points, style: Style::Reference };
    let x_ticks = ticks(t_end);
    let chart = |what: &str, y_label: &str, legend: Corner, series: Vec<Series>| Chart {
        title: format!("{title}: {what}"),
        x_label: "seconds".into(),
        y_label: y_label.into(),
        log_x: false,
        x_ticks: x_ticks.clone(),
        series,
        legend,
    };
    let line = |points| Series { name: "Swarm".into(), points, style: Style::Line };
    let complete = vec![line(completions(outcome, t_end)), bound(vec![(t_min, 0.0), (t_min, 1.0)])];
    let verified = vec![line(verifications(outcome)), bound(vec![(0.0, 0.0), (t_min, 1.0)])];
    svg(&[
        chart("bytes verified", "share of all bytes", Corner::LowerRight, verified),
        chart("peers complete", "share of all peers", Corner::UpperLeft, complete),
    ])
}

/// Steps up by one peer each, until `end`.
fn completions(outcome: &Outcome, end: f64) -> Vec<(f64, f64)> {
    let share = |count: usize| count as f64 / outcome.peers.max(1) as f64;
    let mut points = vec![(0.0, 0.0)];
    for (before, time) in outcome.times.iter().map(Duration::as_secs_f64).enumerate() {
        points.extend([(time, share(before)), (time, share(before + 1))]);
    }
    points.push((end, share(outcome.times.len())));
    points
}

fn verifications(outcome: &Outcome) -> Vec<(f64, f64)> {
    let all = outcome.bytes_wanted.max(1) as f64;
    let samples = outcome.progress.iter();
    let mut points: Vec<(f64, f64)> =
        samples.map(|sample| (sample.at.as_secs_f64(), sample.bytes as f64 / all)).collect();
    if outcome.complete {
        points.push((outcome.t_last.as_secs_f64(), 1.0));
    }
    points
}

/// Round numbers from zero to beyond `end`.
fn ticks(end: f64) -> Vec<f64> {
    let wanted = (end / TICKS).max(0.000_1);
    let mut step = 0.000_1;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if step >= wanted {
            break;
        }
        step *= factor;
    }
    (0..=(end / step).floor() as u64 + 1).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_beyond_the_end() {
        let round = |end| ticks(end).into_iter().map(|t| (t * 1_000.0).round()).collect::<Vec<_>>();
        assert_eq!(round(44.7), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        assert_eq!(round(1.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0, 1_200.0]);
        assert!(ticks(0.0).len() >= 2);
    }
}
