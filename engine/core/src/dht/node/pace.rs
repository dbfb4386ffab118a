//! How long answers take here, so that a lookup does not wait long for the dead.
//!
//! A query counts as slow once it has taken longer than nearly all that were answered: the mean and four mean
//! deviations, as TCP has it (RFC 6298). A lookup then asks somebody else besides; the answer may still come.

use crate::time::Duration;

/// No query is slow sooner.
pub const QUERY_SLOW_MIN: Duration = Duration::from_millis(200);
/// Every query is slow from then on.
pub const QUERY_SLOW_MAX: Duration = Duration::from_millis(700);

/// The time that answers take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The mean and the mean deviation, smoothed; `None` before the first answer.
    smoothed: Option<(Duration, Duration)>,
}

impl Pace {
    /// A query was answered after so long.
    pub(super) fn answered_after(&mut self, time: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (time, time / 2),
            Some((mean, deviation)) => ((mean * 7 + time) / 8, (deviation * 3 + mean.abs_diff(time)) / 4),
        });
    }

    /// When a query counts as slow.
    pub(super) fn slow_after(&self) -> Duration {
        let usual = self.smoothed.map(|(mean, deviation)| mean + deviation * 4);
        usual.unwrap_or(QUERY_SLOW_MAX).clamp(QUERY_SLOW_MIN, QUERY_SLOW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: impl IntoIterator<Item = u64>) -> Duration {
        let mut pace = Pace::default();
        answers.into_iter().for_each(|millis| pace.answered_after(Duration::from_millis(millis)));
        pace.slow_after()
    }

    #[test]
    fn what_is_slow_follows_from_what_is_usual() {
        assert_eq!(after([]), QUERY_SLOW_MAX, "nothing is known yet");
        assert_eq!(after([1; 50]), QUERY_SLOW_MIN, "the near make nobody impatient");
        assert_eq!(after([3_000; 50]), QUERY_SLOW_MAX);
        let usual = after((0..50).map(|n| 200 + n % 5 * 20));
        assert!((Duration::from_millis(260)..Duration::from_millis(500)).contains(&usual), "{usual:?}");
    }
}
