//! The round trip, and how long to wait for an acknowledgement (RFC 6298, with the least that BEP 29 gives).

use crate::time::Duration;

/// The least that is waited for an acknowledgement.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// The most, however often it has been doubled.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// While nothing has been measured.
pub const TIMEOUT_INITIAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Option<Duration>,
    doublings: u32,
}

impl RoundTrip {
    /// A packet that was sent once has been acknowledged after this time.
    pub(super) fn add(&mut self, sample: Duration) {
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(sample), sample / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest so far.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    /// How long to wait for an acknowledgement.
    pub(super) fn timeout(&self) -> Duration {
        let once = self
            .smoothed
            .map_or(TIMEOUT_INITIAL, |smoothed| (smoothed + self.variation * 4).max(TIMEOUT_MIN));
        (once * (1 << self.doublings.min(6))).min(TIMEOUT_MAX)
    }

    /// Nothing has come in that time.
    pub(super) fn back_off(&mut self) {
        self.doublings += 1;
    }

    /// Something new has been acknowledged. It ends all back-off, even where it was sent more than once: who only halves it
    /// stays slow for ever after one outage (freenet/freenet-core#2459).
    pub(super) fn progress(&mut self) {
        self.doublings = 0;
    }

    /// How often it has been doubled since something was acknowledged.
    pub(super) fn doublings(&self) -> u32 {
        self.doublings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_timeout_follows_the_round_trip_and_doubles() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.timeout(), TIMEOUT_INITIAL);
        round_trip.add(ms(400));
        assert_eq!(round_trip.timeout(), ms(400 + 4 * 200));
        (0..100).for_each(|_| round_trip.add(ms(400)));
        assert_eq!(round_trip.timeout(), TIMEOUT_MIN);
        round_trip.back_off();
        round_trip.back_off();
        assert_eq!(round_trip.timeout(), TIMEOUT_MIN * 4);
        (0..1000).for_each(|_| round_trip.back_off());
        assert_eq!(round_trip.timeout(), TIMEOUT_MAX);
        round_trip.progress();
        assert_eq!(round_trip.timeout(), TIMEOUT_MIN);
    }
}
