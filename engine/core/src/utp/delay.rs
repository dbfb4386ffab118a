//! How much of the delay is a queue that we fill: what each packet took, above the least that one took lately.

use crate::time::{Duration, Time};

/// Of how many steps the least is kept (RFC 6817, `BASE_HISTORY`).
const HISTORY_LEN: usize = 10;
const HISTORY_STEP: Duration = Duration::from_secs(60);
/// The least of so many measurements counts as the present one (RFC 6817, `CURRENT_FILTER`).
const FILTER_LEN: usize = 4;

/// The least of the values of the last ten minutes. Values wrap, and only their differences mean something: they come from
/// two clocks that do not agree.
#[derive(Clone, Debug, Default)]
struct Base {
    steps: [u32; HISTORY_LEN],
    len: usize,
    newest: usize,
    step_ends: Time,
}

/// Whether `a` lies before `b` on a circle of 2³² values.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Base {
    /// Takes a value and returns how far it is above the base.
    fn add(&mut self, now: Time, value: u32) -> u32 {
        if self.len == 0 || now >= self.step_ends {
            self.newest = if self.len == 0 { 0 } else { (self.newest + 1) % HISTORY_LEN };
            self.len = (self.len + 1).min(HISTORY_LEN);
            self.steps[self.newest] = value;
            self.step_ends = now + HISTORY_STEP;
        } else if is_before(value, self.steps[self.newest]) {
            self.steps[self.newest] = value;
        }
        let known = &self.steps[..self.len];
        let base = known.iter().copied().reduce(|a, b| if is_before(b, a) { b } else { a });
        value.wrapping_sub(base.unwrap_or(value))
    }
}

/// The queue in one direction of a connection.
///
/// A clock that jumps, or one that goes faster than ours, makes the one-way delay say anything. The round trip, measured by
/// our clock alone, bounds it: a queue holds up a packet by no more than its round trip was longer than the shortest.
#[derive(Clone, Debug, Default)]
pub(super) struct QueueDelay {
    one_way: Base,
    round_trip: Base,
    latest: [u32; FILTER_LEN],
    count: usize,
}

impl QueueDelay {
    /// What the other side measured of a packet of ours (`timestamp_difference`), with the round trip of the packet that
    /// was acknowledged together with it.
    pub(super) fn add(&mut self, now: Time, difference: u32, round_trip: Duration) {
        let round_trip = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX / 4).min(u32::MAX / 4);
        let longer = self.round_trip.add(now, round_trip);
        let queue = self.one_way.add(now, difference).min(longer);
        self.latest[self.count % FILTER_LEN] = queue;
        self.count += 1;
    }

    /// The present queue; unknown before the first measurement.
    pub(super) fn current(&self) -> Option<Duration> {
        let known = &self.latest[..self.count.min(FILTER_LEN)];
        known.iter().min().map(|micros| Duration::from_micros(u64::from(*micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u32 = 1000;

    fn at(s: u64) -> Time {
        Time::from_micros(s * 1_000_000)
    }

    fn rtt(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Adds the same measurement until the filter holds nothing else.
    fn settle(queue: &mut QueueDelay, now: Time, difference: u32, round_trip: Duration) -> u64 {
        (0..FILTER_LEN).for_each(|_| queue.add(now, difference, round_trip));
        queue.current().unwrap().as_millis() as u64
    }

    #[test]
    fn the_queue_is_what_is_above_the_least() {
        // Clocks that differ so that the differences wrap.
        for offset in [0u32, 5, u32::MAX - 30 * MS, u32::MAX / 2] {
            let mut queue = QueueDelay::default();
            let mut after =
                |ms: u32| settle(&mut queue, at(1), offset.wrapping_add(ms * MS), rtt(40 + u64::from(ms)));
            assert_eq!(after(20), 0);
            assert_eq!(after(120), 100);
            assert_eq!(after(10), 0);
            assert_eq!(after(120), 110);
        }
    }

    #[test]
    fn one_late_packet_is_no_queue() {
        let mut queue = QueueDelay::default();
        settle(&mut queue, at(1), 20 * MS, rtt(40));
        queue.add(at(1), 500 * MS, rtt(520));
        assert_eq!(queue.current(), Some(Duration::ZERO));
    }

    #[test]
    fn a_route_that_gets_longer_becomes_the_base() {
        let mut queue = QueueDelay::default();
        settle(&mut queue, at(0), 20 * MS, rtt(40));
        assert_eq!(settle(&mut queue, at(60), 80 * MS, rtt(100)), 60);
        for minute in 2..=10 {
            settle(&mut queue, at(60 * minute), 80 * MS, rtt(100));
        }
        assert_eq!(settle(&mut queue, at(601), 80 * MS, rtt(100)), 0);
    }

    #[test]
    fn a_clock_that_jumps_makes_no_queue() {
        let mut queue = QueueDelay::default();
        settle(&mut queue, at(1), 20 * MS, rtt(40));
        // Ten minutes ahead, back again, and an hour ahead, which is back on the circle.
        assert_eq!(settle(&mut queue, at(2), 600_020 * MS, rtt(45)), 5);
        assert_eq!(settle(&mut queue, at(3), 20 * MS, rtt(45)), 0);
        assert_eq!(settle(&mut queue, at(4), 3_600_020 * MS, rtt(45)), 0);
        assert_eq!(settle(&mut queue, at(5), 20 * MS, rtt(45)), 5);
    }
}
