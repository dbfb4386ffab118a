//! Rates over time as paths of an SVG.

use super::format;
use super::history::{INTERVAL, SAMPLES_MAX, Sample};
use std::fmt::Write as _;

/// The drawing's own units, whatever its size on the screen.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// A drawing.
#[derive(Debug, Default)]
pub struct Graph {
    /// The line of what was received.
    pub down: String,
    /// The area below it.
    pub down_area: String,
    /// The line of what was sent.
    pub up: String,
    /// The rate at the top.
    pub top: String,
    /// The rate at half the height.
    pub middle: String,
    /// What it shows, in words.
    pub words: String,
    /// Whether nothing has moved.
    pub is_empty: bool,
    /// How many minutes it shows.
    pub minutes: u64,
}

/// Draws samples, the newest at the right.
pub fn draw(samples: &[Sample]) -> Graph {
    let peak = samples.iter().map(|(down, up)| *down.max(up)).max().unwrap_or(0);
    let top = nice(u64::from(peak));
    let line = |of: fn(&Sample) -> u32| {
        let mut path = String::new();
        for (nth, sample) in samples.iter().enumerate() {
            let from_end = (samples.len() - 1 - nth) as f64;
            let x = WIDTH - from_end * WIDTH / (SAMPLES_MAX - 1) as f64;
            let y = HEIGHT - f64::from(of(sample)) * HEIGHT / top as f64;
            let _ = write!(path, "{}{x:.1} {y:.1}", if nth == 0 { 'M' } else { 'L' });
        }
        path
    };
    let down = line(|sample| sample.0);
    let start = WIDTH - samples.len().saturating_sub(1) as f64 * WIDTH / (SAMPLES_MAX - 1) as f64;
    let down_area = match samples.len() {
        0 => String::new(),
        _ => format!("{down}L{WIDTH} {HEIGHT}L{start:.1} {HEIGHT}Z"),
    };
    let (now_down, now_up) = samples.last().copied().unwrap_or_default();
    let minutes = INTERVAL.as_secs() * SAMPLES_MAX as u64 / 60;
    Graph {
        down_area,
        down,
        up: line(|sample| sample.1),
        top: format::rate(top),
        middle: format::rate(top / 2),
        words: format!(
            "The last {minutes} minutes: {} received and {} sent now, at most {}.",
            format::rate(now_down.into()),
            format::rate(now_up.into()),
            format::rate(peak.into())
        ),
        is_empty: peak == 0,
        minutes,
    }
}

/// A round rate at or above this one.
fn nice(peak: u64) -> u64 {
    let mut unit = 1_024_u64;
    loop {
        for step in [1, 2, 4, 10, 20, 40, 100, 200, 400] {
            let top = unit.saturating_mul(step);
            if top >= peak {
                return top;
            }
        }
        unit = unit.saturating_mul(1_024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_at_the_right_and_the_highest_within() {
        let graph = draw(&[(0, 0), (1_024, 0), (512, 1_024)]);
        assert!(graph.down.ends_with("L600.0 60.0") && graph.up.ends_with("L600.0 0.0"), "{graph:?}");
        assert_eq!((&*graph.top, &*graph.middle), ("1 KiB/s", "512 B/s"));
        assert!(graph.words.contains("512 B/s received") && !graph.is_empty);
        let nothing = draw(&[]);
        assert!(nothing.is_empty && nothing.down_area.is_empty());
    }

    #[test]
    fn a_scale_is_round_and_not_below_the_peak() {
        assert_eq!((nice(0), nice(1_025), nice(500_000)), (1_024, 2_048, 1_048_576));
        assert_eq!(nice(150 << 20), 200 << 20);
        assert!(nice(u64::from(u32::MAX)) >= u64::from(u32::MAX));
    }
}
