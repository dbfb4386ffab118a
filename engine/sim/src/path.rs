//! What befalls what is on its way over a connection: jitter and loss.
//!
//! A connection is a TCP stream. The delay of each message or block varies, but what was sent later does not
//! arrive earlier: it waits. Of whatever is lost, however long it is, the retransmission arrives max(200 ms, two
//! round trips) later, and so does what follows it on that connection. The sender's rate does not fall for
//! that; for what makes it fall, see [`crate::socket`].
//!
//! A message may overtake the one block that is just being sent when the message is handed over, as on an ideal
//! path, where messages never wait for blocks.

use swarm_core::id::PeerKey;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

/// The least time until a lost message has been sent again.
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);

/// How paths differ from ideal ones, which have one delay and lose nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathFaults {
    /// How much a delay may differ from its path's, either way; half of the path's delay at the most.
    pub jitter: Duration,
    /// Of a thousand messages or blocks, how many are lost on their first way.
    pub loss_permille: u32,
}

impl PathFaults {
    /// Whether there are any.
    pub fn is_none(self) -> bool {
        self == PathFaults::default()
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Nothing arrives before this.
    not_before: Time,
    /// When the last block has left, and when it arrives.
    block: (Time, Time),
}

/// The outgoing directions of a host's connections.
#[derive(Debug)]
pub(crate) struct Paths {
    faults: PathFaults,
    rng: Rng,
    /// By key, from zero.
    streams: Vec<Stream>,
}

impl Paths {
    pub(crate) fn new(faults: PathFaults, rng: Rng) -> Paths {
        Paths { faults, rng, streams: Vec::new() }
    }

    fn stream(&mut self, key: PeerKey) -> &mut Stream {
        let index = key.0 as usize;
        if index >= self.streams.len() {
            self.streams.resize(index + 1, Stream::default());
        }
        &mut self.streams[index]
    }

    /// How long something takes over a path of this delay, if nothing is before it.
    fn takes(&mut self, delay: Duration) -> Duration {
        let jitter = self.faults.jitter.min(delay / 2).as_micros() as u64;
        let varied = delay.as_micros() as u64 - jitter + self.rng.below(2 * jitter + 1);
        let is_lost = self.rng.below(1_000) < u64::from(self.faults.loss_permille);
        let again = if is_lost { RETRANSMISSION_MIN.max(delay * 4) } else { Duration::ZERO };
        Duration::from_micros(varied) + again
    }

    /// When a message that is sent now arrives.
    pub(crate) fn message(&mut self, key: PeerKey, now: Time, delay: Duration) -> Time {
        let at = now + self.takes(delay);
        let stream = self.stream(key);
        if stream.block.0 <= now {
            stream.not_before = stream.not_before.max(stream.block.1);
        }
        stream.not_before = stream.not_before.max(at);
        stream.not_before
    }

    /// When a block arrives whose last byte leaves at this time.
    pub(crate) fn block(&mut self, key: PeerKey, leaves: Time, delay: Duration) -> Time {
        let at = leaves + self.takes(delay);
        let stream = self.stream(key);
        let at = at.max(stream.not_before).max(stream.block.1);
        stream.block = (leaves, at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_vary_within_bounds_and_order_is_kept() {
        let faults = PathFaults { jitter: Duration::from_millis(10), loss_permille: 50 };
        let mut paths = Paths::new(faults, Rng::new(1));
        let delay = Duration::from_millis(20);
        let (mut last, mut early, mut late) = (Time::ZERO, false, false);
        for i in 0..2_000 {
            let now = Time::from_micros(i * 5_000);
            let at = match i % 3 {
                0 => paths.block(PeerKey(3), now, delay),
                _ => paths.message(PeerKey(3), now, delay),
            };
            assert!(at >= last && at >= now + delay / 2, "{at:?}");
            last = at;
            early |= at < now + delay;
            late |= at >= now + Duration::from_millis(200);
        }
        assert!(early && late);
    }

    #[test]
    fn jitter_never_takes_more_than_half_of_a_delay() {
        let faults = PathFaults { jitter: Duration::from_secs(1), loss_permille: 0 };
        let mut paths = Paths::new(faults, Rng::new(1));
        let delay = Duration::from_millis(4);
        for i in 0..1_000 {
            let now = Time::from_micros(i * 100_000);
            let took = paths.message(PeerKey(0), now, delay).since(now);
            assert!(took >= delay / 2 && took <= delay * 3 / 2, "{took:?}");
        }
    }
}
