//! How much the system takes for a connection beyond what it has sent.
//!
//! What the system has taken can neither be overtaken nor taken back. A message waits behind it: with a megabyte in front and a
//! tenth of a 100 Mbit/s line, for most of a second, in which a peer that could have been served waits for its turn. And
//! where the peer's own line is crowded, a block that is taken for it idles while others could be sent at once. So the
//! system is told to take no more than leaves within some milliseconds, however fast the connection is.

use socket2::SockRef;
use swarm_core::time::{Duration, Time};
use tokio::net::TcpStream;

/// The least, in bytes: a block.
const AHEAD_MIN: u32 = 16 * 1024;
/// To begin with.
const AHEAD_INITIAL: u32 = 64 * 1024;
/// The most, in bytes: no limit in effect.
const AHEAD_MAX: u32 = 4 * 1024 * 1024;
/// The system asks for more when half of it is sent. If it does so sooner than this, it takes twice as much from then on:
/// we might not be there in time.
const REFILL_MIN: Duration = Duration::from_millis(3);
/// If it takes longer than this, half as much.
const REFILL_MAX: Duration = Duration::from_millis(12);

/// How much one connection's socket takes.
#[derive(Debug)]
pub(crate) struct Ahead {
    bytes: u32,
    blocked_at: Option<Time>,
}

impl Ahead {
    /// For a new connection.
    pub(crate) fn new(stream: &TcpStream) -> Ahead {
        let ahead = Ahead { bytes: AHEAD_INITIAL, blocked_at: None };
        ahead.apply(stream);
        ahead
    }

    /// The limit, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// The socket takes no more.
    pub(crate) fn on_blocked(&mut self, now: Time) {
        self.blocked_at.get_or_insert(now);
    }

    /// The socket takes more again.
    pub(crate) fn on_writable(&mut self, now: Time, stream: &TcpStream) {
        if self.adapt(now) {
            self.apply(stream);
        }
    }

    /// Whether the limit is another one from now on.
    fn adapt(&mut self, now: Time) -> bool {
        let Some(since) = self.blocked_at.take() else { return false };
        let bytes = match now.since(since) {
            took if took < REFILL_MIN => (self.bytes * 2).min(AHEAD_MAX),
            took if took > REFILL_MAX => (self.bytes / 2).max(AHEAD_MIN),
            _ => self.bytes,
        };
        std::mem::replace(&mut self.bytes, bytes) != bytes
    }

    /// Where the system knows no such limit, it takes what its buffers hold.
    fn apply(&self, stream: &TcpStream) {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(self.bytes) {
            tracing::debug!(%error, "cannot limit what the system takes ahead");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit once a connection that sends so many bytes a second has settled.
    fn settled(bytes_per_s: u64) -> u32 {
        let mut ahead = Ahead { bytes: AHEAD_INITIAL, blocked_at: None };
        let mut now = Time::from_micros(1);
        for _ in 0..100 {
            ahead.on_blocked(now);
            now += Duration::from_micros(u64::from(ahead.bytes / 2) * 1_000_000 / bytes_per_s);
            ahead.adapt(now);
        }
        ahead.bytes
    }

    #[test]
    fn a_limit_is_worth_milliseconds_at_any_rate_within_bounds() {
        assert_eq!(settled(100_000), AHEAD_MIN);
        for rate in [2_000_000, 12_500_000, 125_000_000] {
            let ms = u64::from(settled(rate)) * 1_000 / rate;
            assert!((6..=24).contains(&ms), "{ms} ms at {rate} bytes/s");
        }
        assert_eq!(settled(10_000_000_000), AHEAD_MAX);
    }

    #[test]
    fn who_was_not_blocked_is_not_limited_anew() {
        let mut ahead = Ahead { bytes: AHEAD_INITIAL, blocked_at: None };
        assert!(!ahead.adapt(Time::from_micros(5)));
    }
}
