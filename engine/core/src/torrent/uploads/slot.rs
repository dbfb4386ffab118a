//! How a peer uses its upload slot.

use crate::time::{Duration, Time};

/// How long a peer may leave its slot unused at least.
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// Else so many round trips.
const PATIENCE_ROUND_TRIPS: u32 = 4;
/// For how long an unused slot counts against a peer.
const UNUSED_COUNTS_FOR: Duration = Duration::from_secs(10);
/// A longer round trip is clamped to this.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// How a peer uses its upload slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its socket takes no more of what it asked for.
    pub(super) blocked: bool,
    /// How many times in a row it was unchoked and left that unused.
    pub(super) unused: u32,
    idle_since: Time,
    sent_at: Option<Time>,
    /// The shortest time from our UNCHOKE to its first request.
    round_trip: Option<Duration>,
    /// It has asked for something since it was unchoked.
    has_asked: bool,
}

impl Slot {
    pub(super) fn new(now: Time) -> Slot {
        Slot { blocked: false, unused: 0, idle_since: now, sent_at: None, round_trip: None, has_asked: false }
    }

    pub(super) fn on_choke_changed(&mut self, now: Time, choke: bool) {
        if !choke {
            self.unused = self.unused_lately(now);
        }
        (self.idle_since, self.has_asked) = (now, false);
    }

    pub(super) fn on_request(&mut self, now: Time, unchoked_at: Time) {
        if !std::mem::replace(&mut self.has_asked, true) {
            let took = now.since(unchoked_at).min(ROUND_TRIP_MAX);
            self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
        }
        if !self.blocked {
            self.idle_since = now;
        }
    }

    /// Its socket has taken a block.
    pub(super) fn on_sent(&mut self, now: Time) {
        (self.blocked, self.unused) = (false, 0);
        (self.idle_since, self.sent_at) = (now, Some(now));
    }

    /// Whether it is its turn to do something: to ask, or to read what it asked for. Until then it costs nothing.
    pub(super) fn is_waited_for(&self) -> bool {
        self.blocked || !self.has_asked
    }

    /// When its socket last took a block.
    pub(super) fn sent_at(&self) -> Option<Time> {
        self.sent_at
    }

    /// When it last took something, or asked for something that it could take.
    pub(super) fn idle_since(&self) -> Time {
        self.idle_since
    }

    /// How many times in a row it left a slot unused, as far as that counts while it is choked: it may have had nothing to ask for
    /// then, and must not be last for ever.
    pub(super) fn unused_lately(&self, now: Time) -> u32 {
        if now.since(self.idle_since) < UNUSED_COUNTS_FOR { self.unused } else { 0 }
    }

    /// How long it waits for the next slot at the least. No longer each time: it may have had nothing left to ask for, and want
    /// something again.
    pub(super) fn backoff(&self) -> Duration {
        if self.unused == 0 { Duration::ZERO } else { PATIENCE_MIN }
    }

    /// How long it may leave its slot unused while others wait.
    pub(super) fn grace(&self) -> Duration {
        PATIENCE_MIN.max(self.round_trip.unwrap_or_default() * PATIENCE_ROUND_TRIPS)
    }
}
