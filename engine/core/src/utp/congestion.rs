//! How much may be in flight: LEDBAT (RFC 6817), which yields to others as soon as a queue grows.

use crate::time::{Duration, Time};

/// The queue that we aim at (RFC 6817, `TARGET`).
pub const TARGET: Duration = Duration::from_millis(100);
/// By how many bytes the window grows in a round trip while there is no queue (RFC 6817, `GAIN`; BEP 29, and every uTP: two
/// packets).
pub const GAIN: u64 = 3000;
/// The window does not fall below so many packets (RFC 6817, `MIN_CWND`).
pub const WINDOW_MIN_PACKETS: u64 = 2;
/// The window of a new connection, in bytes (RFC 6928, with the packets that every path takes).
pub const WINDOW_INITIAL: u64 = 5280;
/// No window is larger.
pub const WINDOW_MAX: u64 = 64 << 20;

/// After a loss, another one says nothing new for so long, or for three round trips if those are shorter. libutp and libtorrent wait
/// as long; where losses come by chance and not from a queue, who waits less gets less.
const LOSS_INTERVAL: Duration = Duration::from_millis(100);

/// Parts of a byte, so that small growth is not lost.
const FRACTION: u64 = 1024;

/// What an acknowledgement says to the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    /// Bytes that it acknowledged.
    pub(super) bytes: u64,
    /// The queue on the way there, where it is known.
    pub(super) queue: Option<Duration>,
    /// The payload of a packet.
    pub(super) packet: u64,
    /// When the latest of what has arrived was sent.
    pub(super) sent_at: Time,
}

/// The congestion window.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    /// In parts of a byte.
    window: u64,
    /// Up to this window, it doubles in each round trip.
    slow_start_until: u64,
    /// Whether the window is what keeps us from sending more. Otherwise it has no reason to grow.
    is_limiting: bool,
    /// When it was made smaller: what was sent before then met a queue that this window did not make.
    shrunk_at: Option<Time>,
    /// When it was made smaller for a loss.
    lost_at: Option<Time>,
}

impl Congestion {
    pub(super) fn new() -> Congestion {
        let slow_start_until = WINDOW_MAX * FRACTION;
        Congestion {
            window: WINDOW_INITIAL * FRACTION,
            slow_start_until,
            is_limiting: false,
            shrunk_at: None,
            lost_at: None,
        }
    }

    /// How many bytes may be in flight.
    pub(super) fn window(&self) -> u64 {
        self.window / FRACTION
    }

    pub(super) fn is_slow_start(&self) -> bool {
        self.window < self.slow_start_until
    }

    /// Whether the window has kept something back, or there was nothing more to send.
    pub(super) fn set_limiting(&mut self, is_limiting: bool) {
        self.is_limiting = is_limiting;
    }

    pub(super) fn on_acked(&mut self, now: Time, acked: Acked) {
        let queue = acked.queue.unwrap_or_default();
        let is_answer = self.shrunk_at.is_none_or(|shrunk_at| acked.sent_at > shrunk_at);
        let bytes = acked.bytes * FRACTION;
        if self.is_slow_start() && queue * 4 > TARGET * 3 {
            // The queue is what the window of one round trip ago has made; since then it has doubled.
            self.shrink_to(now, self.window / 2, acked.packet);
            self.slow_start_until = self.window;
        } else if queue > TARGET {
            // Off by as much as the target again, it shrinks to half, once in a round trip (as in LEDBAT++): shrinking by no
            // more than it grows, as RFC 6817 has it at least, a large window would take minutes to make room for others.
            if is_answer {
                let (over, target) = (micros(queue - TARGET), micros(TARGET));
                let less = (u128::from(self.window) * u128::from(over) / u128::from(target)) as u64;
                self.shrink_to(now, self.window - less.min(self.window / 2), acked.packet);
            }
        } else if self.is_limiting {
            let more = if self.is_slow_start() {
                // No further than to where it ends.
                bytes.min(self.slow_start_until - self.window)
            } else {
                let (under, target) = (micros(TARGET - queue), micros(TARGET));
                let share = u128::from(GAIN * FRACTION) * u128::from(bytes) / u128::from(self.window.max(1));
                (share * u128::from(under) / u128::from(target)) as u64
            };
            self.window = (self.window + more).min(WINDOW_MAX * FRACTION);
        }
    }

    /// Something was lost, for the first time in this round trip, which takes so long.
    pub(super) fn on_loss(&mut self, now: Time, packet: u64, round_trip: Duration) {
        let interval = LOSS_INTERVAL.min(round_trip * 3);
        if self.lost_at.is_some_and(|lost_at| now.since(lost_at) < interval) {
            return;
        }
        self.lost_at = Some(now);
        self.shrink_to(now, self.window / 2, packet);
        self.slow_start_until = self.window;
    }

    /// Nothing was acknowledged for so long that all counts as lost. Only the first time-out says anything about how much the
    /// path takes.
    pub(super) fn on_timeout(&mut self, is_first: bool, packet: u64) {
        if is_first {
            self.slow_start_until = (self.window / 2).max(WINDOW_MIN_PACKETS * packet * FRACTION);
        }
        self.window = packet * FRACTION;
    }

    /// Nothing was sent for so many time-outs: what the path took then says little.
    pub(super) fn on_idle(&mut self, timeouts: u32) {
        let least = self.window.min(WINDOW_INITIAL * FRACTION);
        if self.window > least {
            self.slow_start_until = self.slow_start_until.min(self.window).max(self.window / 4 * 3);
            self.window = (self.window >> timeouts.min(32)).max(least);
        }
    }

    fn shrink_to(&mut self, now: Time, window: u64, packet: u64) {
        self.shrunk_at = Some(now);
        self.window = window.max(WINDOW_MIN_PACKETS * packet * FRACTION);
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// How many times `every` has passed since `since`.
pub(super) fn times_passed(now: Time, since: Time, every: Duration) -> u32 {
    u32::try_from(now.since(since).as_micros() / every.as_micros().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1000;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn acked(bytes: u64, queue_ms: u64) -> Acked {
        Acked { bytes, queue: Some(Duration::from_millis(queue_ms)), packet: PACKET, sent_at: at(0) }
    }

    /// A window of `bytes`, out of slow start.
    fn steady(bytes: u64) -> Congestion {
        Congestion {
            window: bytes * FRACTION,
            slow_start_until: 0,
            is_limiting: true,
            shrunk_at: None,
            lost_at: None,
        }
    }

    /// One round trip in which everything is acknowledged, packet by packet.
    fn round_trip(congestion: &mut Congestion, queue_ms: u64) {
        for _ in 0..congestion.window() / PACKET {
            congestion.on_acked(at(1), acked(PACKET, queue_ms));
        }
    }

    #[test]
    fn slow_start_doubles_and_ends_where_a_queue_begins() {
        let mut congestion = Congestion::new();
        congestion.set_limiting(true);
        round_trip(&mut congestion, 0);
        assert_eq!(congestion.window(), WINDOW_INITIAL + 5 * PACKET);
        for _ in 0..5 {
            round_trip(&mut congestion, 70);
        }
        let before = congestion.window();
        congestion.on_acked(at(1), acked(PACKET, 80));
        assert_eq!(congestion.window(), before / 2);
        assert!(!congestion.is_slow_start());
    }

    #[test]
    fn the_window_grows_by_the_gain_below_the_target_and_shrinks_by_its_share_above() {
        for (queue_ms, least, most) in [
            (0, 102_900, 103_000),
            (50, 101_400, 101_500),
            (100, 100_000, 100_000),
            (110, 90_000, 90_000),
            (200, 50_000, 50_000),
            (900, 50_000, 50_000),
        ] {
            let mut congestion = steady(100_000);
            (0..100).for_each(|_| congestion.on_acked(at(1), acked(PACKET, queue_ms)));
            let window = congestion.window();
            assert!((least..=most).contains(&window), "{window} after a round trip with {queue_ms} ms");
        }
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut congestion = steady(100_000);
        congestion.set_limiting(false);
        round_trip(&mut congestion, 0);
        assert_eq!(congestion.window(), 100_000);
        let mut congestion = Congestion::new();
        round_trip(&mut congestion, 0);
        assert_eq!(congestion.window(), WINDOW_INITIAL);
    }

    #[test]
    fn the_window_has_a_floor() {
        let mut congestion = steady(100_000);
        for ms in 1..100 {
            let sent_at = at(ms * 10 + 1);
            congestion.on_acked(at(ms * 10 + 10), Acked { sent_at, ..acked(PACKET, 1000) });
        }
        assert_eq!(congestion.window(), WINDOW_MIN_PACKETS * PACKET);
        congestion.on_loss(at(2000), PACKET, Duration::from_millis(40));
        assert_eq!(congestion.window(), WINDOW_MIN_PACKETS * PACKET);
    }

    #[test]
    fn losses_that_come_together_shrink_the_window_once() {
        for (round_trip_ms, later_ms, halves) in
            [(40, 99, 1), (40, 100, 2), (400, 99, 1), (10, 29, 1), (10, 30, 2)]
        {
            let mut congestion = steady(100_000);
            let round_trip = Duration::from_millis(round_trip_ms);
            congestion.on_loss(at(1000), PACKET, round_trip);
            congestion.on_loss(at(1000 + later_ms), PACKET, round_trip);
            assert_eq!(congestion.window(), 100_000 >> halves, "{later_ms} ms later, {round_trip_ms} ms");
        }
    }

    #[test]
    fn many_timeouts_in_a_row_do_not_forget_what_the_path_took() {
        let mut congestion = steady(100_000);
        congestion.on_timeout(true, PACKET);
        (0..5).for_each(|_| congestion.on_timeout(false, PACKET));
        assert_eq!(congestion.window(), PACKET);
        congestion.set_limiting(true);
        (0..9).for_each(|_| round_trip(&mut congestion, 0));
        assert!(congestion.window() >= 50_000, "{}", congestion.window());
    }
}
